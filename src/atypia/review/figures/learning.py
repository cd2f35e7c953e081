"""Which figures an expert should look at next: the most informative ones, and labels that are likely wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must
from atypia.base.extras import require
from atypia.base.records import ATYPICAL_TASK, CLASS_NAMES, DEFAULT_THRESHOLD
from atypia.review.figures.features import Values
from atypia.review.figures.figures import UNKNOWN_LABEL, ReviewFigures
from atypia.statistics.labelling import spread_over_scores

POOL: Final = 2000
"""Number of most uncertain figures from which a queue is chosen."""
REMEMBERED: Final = 500
"""Number of decided figures, sampled evenly, that a queue stays away from."""

Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Queue:
    """Figures to look at, most useful first.

    Attributes:
        indices: Which figures.
        reasons: Reason for each figure, one text per figure.
        note: How they were chosen.
    """

    indices: Indices
    reasons: list[str]
    note: str


def value_queue(figures: ReviewFigures, features: Values | None, decided: Bools, limit: int) -> Queue:
    """The figures whose labels would help a classifier most.

    With features: a greedy k-centre choice (Gonzalez 1985; as a core set for active learning: Sener and
    Savarese 2018) in which distances are multiplied by uncertainty, as diverse batches are weighted in
    Zhdanov 2019. Of the :data:`POOL` most uncertain figures without a decision, the next is always the
    one with the largest ``u · d``: u the binary entropy of its probability in bits, d the Euclidean
    distance of its standardised features from the nearest figure that was chosen or decided before.
    If nothing is decided yet, the first is the most uncertain. Without features: by uncertainty alone.

    Args:
        figures: The figures.
        features: Shape (rows of the data set, d); None if unknown.
        decided: Which figures the rater has decided, shape (n,).
        limit: How many to choose.

    Raises:
        InputError: No figure has a probability.
    """
    if not figures.has("p"):
        raise InputError(must("probabilities", "known for a queue by value", "none", "open predictions or a training"))
    u = figures.uncertainty
    candidates = np.flatnonzero(np.isfinite(u) & ~decided)
    pool = candidates[np.lexsort((candidates, -u[candidates]))][: max(POOL, limit)]
    known = None if features is None else _usable(figures, features)
    if known is None or features is None:
        chosen = pool[:limit]
        reasons = [_how_sure(figures, i) for i in chosen]
        return Queue(chosen, reasons, "the figures of which the model is least sure, first")
    pool = pool[known[pool]]
    done = np.flatnonzero(decided & known)
    done = done[np.linspace(0, len(done) - 1, min(len(done), REMEMBERED)).astype(np.int64)]
    together = features[figures.rows[np.concatenate([pool, done])]].astype(np.float32)
    spread = together.std(axis=0)
    together = (together - together.mean(axis=0)) / np.where(spread > 0, spread, 1)
    picks, distances = weighted_k_centre(together[: len(pool)], u[pool], together[len(pool) :], limit)
    chosen = pool[picks]
    reasons = [
        _how_sure(figures, i) + (", unlike the figures before it" if np.isfinite(d) else ", a first one")
        for i, d in zip(chosen, distances, strict=True)
    ]
    return Queue(chosen, reasons, "figures of which the model is not sure and that differ most from those before them")


def _how_sure(figures: ReviewFigures, index: int) -> str:
    limit = "" if figures.threshold is None else f", limit {figures.threshold:.2f}"
    return f"probability {figures.p[index]:.2f}{limit}"


def calibration_queue(figures: ReviewFigures, decided: Bools, limit: int) -> Queue:
    """The figures from whose labels ``atypia calibrate`` learns most of how the scores lie here.

    They are spread over the scores (:mod:`atypia.statistics.labelling`): the uncertain ones alone would bias it.

    Args:
        figures: The figures.
        decided: Which figures the rater has decided, shape (n,).
        limit: How many to choose.

    Raises:
        InputError: No figure has a probability.
    """
    if not figures.has("p"):
        raise InputError(must("probabilities", "known for a queue to calibrate by", "none", "open results of a model"))
    threshold = figures.threshold if figures.threshold is not None else DEFAULT_THRESHOLD
    chosen = spread_over_scores(figures.p, limit, threshold, decided)
    reasons = [f"one of {len(chosen)} spread over all probabilities; here {figures.p[i]:.2f}" for i in chosen]
    return Queue(chosen, reasons, "spread over all probabilities, for atypia calibrate: decide them in this order")


def weighted_k_centre(
    points: npt.NDArray[np.floating], weights: npt.NDArray[np.floating], before: npt.NDArray[np.floating], limit: int
) -> tuple[Indices, npt.NDArray[np.float64]]:
    """Greedy choice of points by weight times distance from those chosen before.

    Args:
        points: Shape (n, d).
        weights: Shape (n,), not negative.
        before: Points chosen earlier, shape (m, d); without any, the first is the one with the largest weight.
        limit: How many to choose.

    Returns:
        Rows in the order in which they were chosen, and the distance of each from the nearest one before it
        (infinite for a first one).

    >>> rows, _ = weighted_k_centre(np.array([[0.0], [0.1], [5.0]]), np.array([1.0, 0.9, 0.5]), np.empty((0, 1)), 2)
    >>> rows.tolist()
    [0, 2]
    """
    nearest = np.full(len(points), np.inf)
    for point in before:
        np.minimum(nearest, np.linalg.norm(points - point, axis=1), out=nearest)
    free = np.ones(len(points), bool)
    chosen: list[int] = []
    distances: list[float] = []
    for _ in range(min(limit, len(points))):
        gain = weights if np.isinf(nearest[free]).all() else weights * nearest
        row = int(np.argmax(np.where(free, gain, -np.inf)))
        free[row] = False
        chosen.append(row)
        distances.append(float(nearest[row]))
        np.minimum(nearest, np.linalg.norm(points - points[row], axis=1), out=nearest)
    return np.array(chosen, np.int64), np.array(distances)


def _usable(figures: ReviewFigures, features: Values) -> Bools | None:
    """Which figures have features; None if no figure has."""
    rows = figures.rows
    inside = (rows >= 0) & (rows < len(features))
    known = inside.copy()
    known[inside] = np.isfinite(features[rows[inside], 0])  # rows are either completely NaN or not at all
    return known if known.any() else None


@dataclass(frozen=True, eq=False)
class LabelErrors:
    """Labels that are likely wrong, most likely first.

    Attributes:
        indices: Which figures.
        quality: The model's probability of each figure's label, in [0, 1].
    """

    indices: Indices
    quality: npt.NDArray[np.float64]


def label_errors(figures: ReviewFigures) -> LabelErrors:
    """Likely label errors by confident learning (Northcutt, Jiang and Chuang 2021), with cleanlab.

    Sound only if no probability comes from a model trained on the same figure: predictions of
    trainings and studies are for their validation and test parts.

    Raises:
        InputError: Labels or probabilities are unknown, or all labels are of one class.
        AbsentError: cleanlab is not installed.
    """
    usable = np.flatnonzero((figures.label != UNKNOWN_LABEL) & np.isfinite(figures.p))
    labels = figures.label[usable].astype(np.int64)
    if len(np.unique(labels)) < 2:
        got = "none" if not len(usable) else "one class"
        fix = "open a training or a study, or predictions with --data"
        raise InputError(must("labels and probabilities", "known, of both classes", got, fix))
    require("the search for label errors", "cleanlab")
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    p = figures.p[usable]
    both = np.stack([1 - p, p], axis=1)
    found = find_label_issues(labels, both, return_indices_ranked_by="self_confidence", n_jobs=1)
    quality = np.asarray(get_label_quality_scores(labels, both, method="self_confidence"))
    rows = np.asarray(found, np.int64)
    return LabelErrors(usable[rows], quality[rows])


def label_error_queue(figures: ReviewFigures, errors: LabelErrors, decided: Bools, limit: int) -> Queue:
    """The likely label errors among the figures that the rater has not decided."""
    open_ones = np.flatnonzero(~decided[errors.indices])[:limit]
    chosen = errors.indices[open_ones]
    names = CLASS_NAMES[ATYPICAL_TASK]
    reasons = [
        f"labelled {names[int(figures.label[i])]}, probability of atypical {figures.p[i]:.2f}" for i in chosen.tolist()
    ]
    note = f"{len(errors.indices)} labels are likely wrong, by cleanlab on "
    note += "held-out predictions" if figures.held_out else "predictions that may not be held out"
    return Queue(chosen, reasons, note)
