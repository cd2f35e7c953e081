"""How good a detector is: hits by one-to-one matching, precision, recall and F1 as MIDOG scores them, and FROC.

A detection is a hit of a target within a radius (MIDOG: 7.5 µm, which are 30 px at 0.25 µm/px); each target and each
detection counts once, so that a second detection of the same figure is a false positive. Counts are summed over all slides
before a ratio is formed.

MIDOG's evaluation takes the targets in the order of the file, and for each the nearest detection that is still free
(``evalutils.scorers.score_detection``). Where several lie within one radius that order may cost a hit; here the number of
hits is the largest that any one-to-one matching has. Elsewhere both are the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must
from atypia.statistics.casestats import Sums
from atypia.statistics.confusion import FloatArray
from atypia.statistics.intervals import Bootstrap, Interval, bootstrap_intervals

RADIUS_UM: Final = 7.5
"""MIDOG's radius of a hit."""
FROC_RATES: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""False positives per mm² at which the FROC is read."""


@dataclass(frozen=True, eq=False)
class SlideHits:
    """Detections on one slide, compared with its targets.

    Attributes:
        scores: Of the detections, shape (n,), in descending order.
        adds: Whether a detection adds a hit to those of higher scores, shape (n,), bool: its cumulative sum is the number
            of hits at each score.
        targets: Number of targets.
        mm2: Area that was searched; NaN if it is not known.
    """

    scores: FloatArray
    adds: npt.NDArray[np.bool_]
    targets: int
    mm2: float = math.nan

    def counts(self, least: float = -math.inf) -> tuple[int, int, int]:
        """Hits, false positives and missed targets of the detections with at least a score."""
        taken = self.scores >= least
        hits = int(self.adds[taken].sum())
        return hits, int(taken.sum()) - hits, self.targets - hits


def match_detections(
    places: FloatArray, scores: FloatArray, targets: FloatArray, radius: float, mm2: float = math.nan
) -> SlideHits:
    """Compares the detections of one slide with its targets.

    Detections are taken by descending score. One adds a hit if it can be matched to a target, where earlier
    detections may be moved to others (Kuhn's augmenting paths); so the hits down to any score are the largest
    number that a one-to-one matching has.

    Args:
        places: Detections, x and y, shape (n, 2), in the unit of ``radius``.
        scores: One a detection, shape (n,), finite.
        targets: True figures, shape (m, 2).
        radius: Largest distance of a hit, above 0.
        mm2: Area that was searched.

    Raises:
        InputError: Shapes do not fit, a value is not finite, or the radius is not positive.

    >>> found = match_detections(np.array([[0, 0], [3, 0]]), np.array([0.9, 0.8]), np.array([[1, 0]]), 2.0)
    >>> found.counts()
    (1, 1, 0)
    """
    from scipy.spatial import KDTree

    places, targets = (np.asarray(one, np.float64).reshape(-1, 2) for one in (places, targets))
    scores = np.asarray(scores, np.float64)
    if scores.shape != (len(places),):
        raise InputError(must("scores", f"one a detection ({len(places)})", f"shape {scores.shape}", "align them"))
    if not (np.isfinite(places).all() and np.isfinite(targets).all() and np.isfinite(scores).all()):
        raise InputError(must("positions and scores", "finite", "NaN or infinity", "leave those detections out"))
    if not (math.isfinite(radius) and radius > 0):
        raise InputError(must("radius", "a positive number", radius, "MIDOG takes 7.5 µm"))
    order = np.argsort(-scores, kind="stable")
    adds = np.zeros(len(places), bool)
    if len(places) and len(targets):
        distances, near = KDTree(targets), KDTree(places[order])
        reached = near.query_ball_tree(distances, radius)
        matched: dict[int, int] = {}
        for row, choices in enumerate(reached):
            adds[row] = bool(choices) and _augment(row, reached, matched)
    return SlideHits(scores[order], adds, len(targets), mm2)


def _augment(start: int, reached: Sequence[Sequence[int]], matched: dict[int, int]) -> bool:
    """Matches a detection, moving others where needed; False where no target is left for it."""
    came_from: dict[int, int] = {}  # target: the detection that asks for it
    held: dict[int, int] = {}  # detection that may be moved: the target that it has
    waiting = [start]
    for detection in waiting:
        for target in reached[detection]:
            if target in came_from:
                continue
            came_from[target] = detection
            if target in matched:
                held[matched[target]] = target
                waiting.append(matched[target])
                continue
            while True:  # back along the path: each takes the target that it asked for
                asking = came_from[target]
                matched[target] = asking
                if asking == start:
                    return True
                target = held[asking]
    return False


@dataclass(frozen=True)
class DetectionQuality:
    """What detections are worth, over all slides.

    Attributes:
        slides: Number of slides.
        hits: Detections that are figures.
        false_positives: Detections that are none, or of a figure that another detection has.
        missed: Figures without a detection.
        precision: hits / detections, in [0, 1]; NaN without detections.
        recall: hits / figures, in [0, 1]; NaN without figures.
        f1: 2 hits / (2 hits + false positives + missed), in [0, 1]; NaN where nothing is there and nothing was found.
        interval: Of F1 over slides; None with one slide.
        sensitivities: Recall at each of ``rates``, by lowering the least score; NaN where the area is not known.
        rates: False positives per mm².
        froc: Their mean.
    """

    slides: int
    hits: int
    false_positives: int
    missed: int
    precision: float
    recall: float
    f1: float
    interval: Interval | None
    sensitivities: tuple[float, ...]
    rates: tuple[float, ...] = FROC_RATES

    @property
    def froc(self) -> float:
        """Mean of the sensitivities."""
        return float(np.mean(self.sensitivities))


def detection_quality(
    slides: Sequence[SlideHits], least: float = -math.inf, rates: Sequence[float] = FROC_RATES,
    options: Bootstrap | None = None,
) -> DetectionQuality:  # fmt: skip
    """Precision, recall, F1 and FROC over slides.

    Args:
        slides: Each slide's comparison, all with the same radius.
        least: Detections with a smaller score do not count, but for the FROC.
        rates: False positives per mm² at which the FROC is read.
        options: Of the bootstrap over slides.

    Raises:
        InputError: There are no slides.
    """
    if not slides:
        raise InputError(must("slides", "at least one", "none", "name a slide with its figures"))
    per_slide = np.array([one.counts(least) for one in slides], np.float64)
    hits, false, missed = (int(total) for total in per_slide.sum(axis=0))
    interval = None
    if len(slides) > 1:
        interval = bootstrap_intervals({"F1": Sums(per_slide, _f1)}, hits + missed, len(slides), options)["F1"]
    rate, sensitivity = froc_curve(slides)
    return DetectionQuality(
        len(slides), hits, false, missed,
        hits / (hits + false) if hits + false else math.nan,
        hits / (hits + missed) if hits + missed else math.nan,
        float(_f1(per_slide.sum(axis=0)[None])[0]),
        interval,
        tuple(_read_at(rate, sensitivity, one) for one in rates),
        tuple(rates),
    )  # fmt: skip


def _f1(sums: FloatArray) -> FloatArray:
    whole = 2 * sums[:, 0] + sums[:, 1] + sums[:, 2]
    return np.divide(2 * sums[:, 0], whole, out=np.full(len(sums), np.nan), where=whole > 0)


def froc_curve(slides: Sequence[SlideHits]) -> tuple[FloatArray, FloatArray]:
    """The free-response curve: what lowering the least score gains, and what it costs.

    Returns:
        False positives per mm² (NaN where an area is not known) and recall (NaN without targets), shape (k + 1,): for
        nothing detected, and for each of the k different scores in descending order.
    """
    scores = np.concatenate([one.scores for one in slides])
    adds = np.concatenate([one.adds for one in slides])
    order = np.argsort(-scores, kind="stable")
    scores, adds = scores[order], adds[order]
    last = np.flatnonzero(np.diff(scores, append=-np.inf) != 0) if len(scores) else np.zeros(0, np.int64)
    hits = np.concatenate([[0], np.cumsum(adds)[last]]).astype(np.float64)
    false = np.concatenate([[0], np.cumsum(~adds)[last]]).astype(np.float64)
    targets, mm2 = sum(one.targets for one in slides), sum(one.mm2 for one in slides)
    return false / mm2 if mm2 > 0 else np.full_like(false, np.nan), hits / targets if targets else np.full_like(
        hits, np.nan
    )


def _read_at(rate: FloatArray, sensitivity: FloatArray, at: float) -> float:
    within = np.flatnonzero(rate <= at)
    return float(sensitivity[within[-1]]) if len(within) else math.nan
