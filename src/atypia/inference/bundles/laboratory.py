"""A decision fitted to one laboratory, changed only as far as a few of its labelled figures justify it.

The network is not changed. Its decision was fitted on a *reference*; the laboratory's log odds are mapped to the
reference's by ``factor · u + offset`` (:mod:`atypia.statistics.laboratories`), so that threshold, operating points and
calibration have the same meaning in the laboratory as in the reference. The map is changed only if

1. either class has at least :data:`LEAST` figures, and the model tells the classes of its reference apart
   (:data:`APART`): if it hardly does, no threshold is much better than another;
2. the shift of the point between the classes is larger than :data:`EVIDENCE` times its error, the posterior standard
   deviations of both classes' shifts added as if independent;
3. balanced accuracy on the laboratory's own labelled figures does not fall by more than chance explains (:data:`CHANCE`), each case
   being decided by what the other cases are reason to (:data:`PARTS` parts of the cases).

The effect of these rules on laboratories that were left out of trainings: ``docs/results/calibration.md``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must
from atypia.inference.bundles.calibration import Calibration, Floats, Isotonic, Platt, Temperature, sigmoid
from atypia.inference.bundles.conformal import Conformal, fit_conformal
from atypia.inference.bundles.decision import Decision
from atypia.inference.bundles.novelty import Novelty
from atypia.inference.bundles.reference import CLASSES_KEY, classes_from_dict, log_odds
from atypia.statistics.laboratories import (
    NO_SHIFT,
    AffineMap,
    Classes,
    ClassScores,
    LaboratoryPrior,
    Shift,
    affine,
    check_reference,
    class_scores,
    posterior,
)

LEAST: Final = 5
"""Figures of either class below which nothing is changed."""
APART: Final = 1.0
"""Distance of the reference's means, in their standard deviations, below which nothing is moved (an AUROC of 0.76)."""
PARTS: Final = 5
EVIDENCE: Final = 1.0
"""The point between the classes is moved where its shift is this many times its error. The classes' shifts go together, so that
the posterior standard deviation of the point is up to a fifth larger than this error; the rule was measured as it is here
(``docs/results/calibration.md``)."""
CHANCE: Final = 2.0
"""Standard errors by which balanced accuracy may fall on cases left out."""
TINY: Final = 1e-9
"""Falls that differ by less are one: by rounding."""
SETS_FROM: Final = 30
"""Figures of a class from which its limit of the prediction sets is its own; before, it is the moved one."""
NOVELTY_FROM: Final = 25
"""Figures from which the limit of the novelty may be raised."""
MOST_MORE: Final = 20
"""Times as many figures, up to which it is worth to say how many more would tell."""
LABORATORIES_KEY: Final = "laboratories"
"""Key among a decision's facts: how laboratories differ by it."""
DEFAULT_PRIOR: Final = Path(__file__).with_name("laboratories.json")
"""How much laboratories differ for classifiers without a record of their own, with its source."""

TOO_FEW: Final = "too few"
NO_EVIDENCE: Final = "no evidence"
CONTRADICTED: Final = "contradicted"
NOT_TOLD_APART: Final = "not told apart"
UNCHECKED: Final = "unchecked"
"""By ``atypia calibrate``: no case can be left out to check a change on."""
MOVED: Final = "moved"


@dataclass(frozen=True, eq=False)
class Own:
    """A laboratory's labelled figures.

    Attributes:
        labels: Shape (n,), 1 = atypical, 0 = normal.
        scores: Shape (n,), log odds of the calibrated probability of atypical.
        cases: Shape (n,), the case of each; a figure without one is a case of its own.
    """

    labels: npt.NDArray[np.bool_]
    scores: Floats
    cases: npt.NDArray[np.str_]

    def take(self, rows: npt.NDArray[Any]) -> Own:
        """Some of the figures."""
        return Own(self.labels[rows], self.scores[rows], self.cases[rows])

    def balanced_accuracy(self, threshold: float) -> float:
        """At a threshold on the score; NaN where a class is absent."""
        decided = self.scores >= threshold
        parts = (
            [np.mean(decided[self.labels]), np.mean(~decided[~self.labels])]
            if 0 < self.labels.sum() < len(self.labels)
            else [math.nan]
        )
        return float(np.mean(parts))


@dataclass(frozen=True)
class Judged:
    """The change that a laboratory's figures justify.

    Attributes:
        outcome: :data:`MOVED`, or why nothing is: :data:`TOO_FEW`, :data:`NO_EVIDENCE`, :data:`CONTRADICTED`,
            :data:`NOT_TOLD_APART`, :data:`UNCHECKED`.
        map: From the laboratory's log odds to the reference's; the identity where nothing is moved.
        shift: Where the laboratory's classes lie; None where they have too few figures.
        evidence: Shift of the point between the classes by its error, as :data:`EVIDENCE` takes it, ≥ 0.
        more: Normal and atypical figures that are missing, as far as that can be told; 0 where it is not figures.
    """

    outcome: str
    map: AffineMap
    shift: Shift | None
    evidence: float
    more: tuple[int, int]


def judge(own: Own, reference: Classes, threshold: float, prior: LaboratoryPrior) -> Judged:
    """Decides whether a laboratory's figures justify moving the decision, and how far.

    Args:
        own: The laboratory's figures.
        reference: Log odds of the classes that the decision was fitted on.
        threshold: Log odds of the decision's threshold.
        prior: How much laboratories differ.

    Raises:
        InputError: The reference has no two classes, or a score is not finite.
    """
    check_reference(reference)
    mine = class_scores(own.labels, own.scores, own.cases, prior.case_share)
    missing = (max(LEAST - mine[0].figures, 0), max(LEAST - mine[1].figures, 0))
    if any(missing):
        return Judged(TOO_FEW, NO_SHIFT, None, 0.0, missing)
    shift = posterior(reference, mine, prior)
    found = affine(reference, shift)
    if found is None or mine[1].mean <= mine[0].mean or _apart(reference) < APART:
        return Judged(NOT_TOLD_APART, NO_SHIFT, shift, 0.0, (0, 0))
    evidence = _evidence(reference, shift)
    if evidence < EVIDENCE:
        return Judged(NO_EVIDENCE, NO_SHIFT, shift, evidence, _more(mine, reference, prior))
    gain, error = _held_out(own, reference, threshold, prior)
    if gain < -CHANCE * error - TINY:
        return Judged(CONTRADICTED, NO_SHIFT, shift, evidence, (0, 0))
    return Judged(MOVED, found, shift, evidence, (0, 0))


def _held_out(own: Own, reference: Classes, threshold: float, prior: LaboratoryPrior) -> tuple[float, float]:
    """Gain in balanced accuracy where each part of the cases is decided by the others, and its standard error.

    Of one case by itself. The error is that of paired differences: only figures between the two thresholds are decided otherwise,
    and one of them more or less says little.
    """
    names, of = np.unique(own.cases, return_inverse=True)
    part = of % PARTS  # by the order of the names, so that the order of the figures does not matter
    moved = np.full(len(of), threshold)
    for number in range(min(PARTS, len(names))):
        rest = part != number if len(names) > 1 else part == number
        mine = class_scores(own.labels[rest], own.scores[rest], own.cases[rest], prior.case_share)
        found = affine(reference, posterior(reference, mine, prior))
        if found is not None:
            moved[part == number] = moved_threshold(threshold, found)
    right = [np.asarray((own.scores >= at) == own.labels, dtype=np.float64) for at in (moved, threshold)]
    better = [(right[0] - right[1])[own.labels == positive] for positive in (False, True)]
    gain = float(np.mean([b.mean() for b in better]))
    return gain, math.sqrt(sum(float(b.var(ddof=1)) / len(b) for b in better)) / 2


def moved_threshold(threshold: float, found: AffineMap) -> float:
    """The score of the laboratory that is mapped on the reference's threshold."""
    return (threshold - found.offset) / found.factor


def _apart(reference: Classes) -> float:
    zero, one = reference
    return (one.mean - zero.mean) / math.sqrt((zero.sd**2 + one.sd**2) / 2)


def _evidence(reference: Classes, shift: Shift) -> float:
    sds = np.array([c.sd for c in reference])
    moved, error = float(np.dot(shift.shifts, sds)), float(np.hypot(*(np.array(shift.errors) * sds)))
    return abs(moved) / error if error > 0 else 0.0


def _more(mine: Classes, reference: Classes, prior: LaboratoryPrior) -> tuple[int, int]:
    """Figures that would be evidence if they went on as these; 0 where even many times as many would not."""
    for times in np.geomspace(1.1, MOST_MORE, 60):
        grown = tuple(replace(c, figures=math.ceil(c.figures * times), worth=c.worth * times) for c in mine)
        if _evidence(reference, posterior(reference, (grown[0], grown[1]), prior)) >= EVIDENCE:
            return grown[0].figures - mine[0].figures, grown[1].figures - mine[1].figures
    return 0, 0


# What a decision knows of its reference and of laboratories -----------------------------------


def reference_of(decision: Decision) -> tuple[Classes, bool] | None:
    """Log odds of the classes that a decision was fitted on, and whether they are exact.

    A decision that does not say them is read by the limits of its prediction sets: the quantiles 0.5 and 0.84 of either
    class, on the side of the other one, are its mean and a standard deviation from it where the class is normal.

    Returns:
        None where the decision was not fitted.
    """
    facts = decision.fitted.get(CLASSES_KEY)
    if facts is not None:
        return classes_from_dict(facts), True
    if decision.conformal is None:
        return None
    middle, tail = (decision.conformal.limits(share) for share in (0.5, 0.84))
    at = np.array([[middle[0], tail[0]], [1 - middle[1], 1 - tail[1]]])
    if not bool(np.isfinite(at).all()):
        return None
    odds = log_odds(at.ravel()).reshape(2, 2)
    sds = np.abs(odds[:, 1] - odds[:, 0]) / _Z84
    counts = (decision.conformal.n_normal, decision.conformal.n_atypical)
    zero, one = (ClassScores(float(odds[c, 0]), float(sds[c]), counts[c], float(counts[c])) for c in range(2))
    return check_reference((zero, one)), False


_Z84: Final = 0.9944578832097532
"""Quantile 0.84 of the standard normal distribution."""


def prior_from_dict(values: Mapping[str, Any]) -> LaboratoryPrior:
    """Reads a prior; what else the mapping holds (where it is known from) is left alone.

    Raises:
        InputError: A value is missing or out of range.
    """
    try:
        return LaboratoryPrior(*(values[key] for key in ("location", "together", "scale", "case_share")))
    except KeyError as error:
        raise InputError(
            must("prior", "with location, together, scale and case_share", f"no {error}", "estimate it")
        ) from None


def prior_for(decision: Decision) -> tuple[LaboratoryPrior, str]:
    """How much laboratories differ for a classifier, and the source of this: its own prior, else the default one."""
    own = decision.fitted.get(LABORATORIES_KEY)
    if own is not None:
        return prior_from_dict(own), f"of the model: {own.get('from', 'laboratories that were left out')}"
    values = json.loads(DEFAULT_PRIOR.read_text("utf-8"))
    return prior_from_dict(values), f"the default: {values['from']}"


def prior_as_dict(prior: LaboratoryPrior, known_from: str) -> dict[str, Any]:
    """JSON form of a prior for a decision's facts."""
    return {**asdict(prior), "from": known_from}


# The decision --------------------------------------------------------------------------------


def moved_calibration(calibration: Calibration, found: AffineMap) -> Calibration:
    """The calibration whose log odds are ``factor · u + offset`` of the given one's u.

    Of an isotonic one the knots are moved; between them it is linear in the probability, as before.

    >>> moved_calibration(Platt(2.0, 1.0), AffineMap(0.5, -1.0))
    Platt(slope=1.0, bias=-0.5)
    """
    if found == NO_SHIFT:
        return calibration
    if isinstance(calibration, Isotonic):
        moved = sigmoid(found.factor * log_odds(np.array(calibration.probabilities)) + found.offset)
        return replace(calibration, probabilities=tuple(float(p) for p in moved))
    if isinstance(calibration, Temperature):
        return Platt(found.factor / calibration.temperature, found.offset)
    if isinstance(calibration, Platt):
        return Platt(found.factor * calibration.slope, found.factor * calibration.bias + found.offset)
    raise InputError(must("calibration", "platt, temperature or isotonic", calibration.kind, "fit one of them"))


def own_sets(conformal: Conformal, labels: npt.NDArray[np.bool_], p: Floats) -> tuple[Conformal, tuple[bool, bool]]:
    """Prediction sets with the limits of a laboratory's own figures, for each class that has :data:`SETS_FROM` of them.

    Args:
        conformal: The limits of the reference.
        labels: Shape (n,).
        p: Probability by the moved calibration, shape (n,).

    Returns:
        The sets, and whether *normal* and *atypical* have limits of their own.
    """
    fitted = fit_conformal(labels, p, conformal.coverages)
    own = (fitted.n_normal >= SETS_FROM, fitted.n_atypical >= SETS_FROM)
    zero, one = (fitted if mine else conformal for mine in own)
    return Conformal(conformal.coverages, zero.normal, one.atypical, zero.n_normal, one.n_atypical), own


def own_novelty(novelty: Novelty, values: Floats) -> Novelty:
    """A novelty whose limit a laboratory's own figures do not pass; never a lower limit than before.

    Somebody has labelled them, so they are figures, and refusing more of them than the limit allows (1 − quantile) is
    wrong. If more are refused than chance explains (binomial, 1 %), the limit becomes the quantile of a log-normal
    distribution with the median and the median absolute deviation of their novelty, so that one outlier cannot raise it.
    """
    from scipy.stats import binom, norm

    refused = int(np.count_nonzero(values > novelty.limit))
    if len(values) < NOVELTY_FROM or binom.sf(refused - 1, len(values), 1 - novelty.quantile) >= 0.01:
        return novelty
    logs = np.log(np.maximum(values, np.finfo(np.float64).tiny))
    spread = float(np.median(np.abs(logs - np.median(logs)))) / float(norm.ppf(0.75))
    limit = math.exp(float(np.median(logs)) + float(norm.ppf(novelty.quantile)) * spread)
    return replace(novelty, limit=max(novelty.limit, limit))


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A decision for one laboratory.

    Attributes:
        decision: The new decision; the given one where nothing changed.
        judged: What the figures were reason to do.
        sets: Whether *normal* and *atypical* have prediction sets by the laboratory's own figures.
        novelty: Whether the limit of the novelty was raised.
    """

    decision: Decision
    judged: Judged
    sets: tuple[bool, bool]
    novelty: bool

    @property
    def changed(self) -> bool:
        """Whether anything was changed."""
        return self.judged.outcome == MOVED or any(self.sets) or self.novelty


def fit_laboratory(
    decision: Decision,
    logits: npt.ArrayLike,
    labels: npt.NDArray[np.bool_],
    cases: Sequence[str] | npt.NDArray[np.str_],
    reference: Classes,
    prior: LaboratoryPrior,
    features: npt.NDArray[Any] | None = None,
) -> Calibrated:
    """Fits a decision to a laboratory.

    Args:
        decision: As the model carries it.
        logits: Of the laboratory's figures as the network gives them, shape (n,).
        labels: Shape (n,), True = atypical.
        cases: Shape (n,).
        reference: Log odds of the classes that the decision was fitted on.
        prior: How much laboratories differ.
        features: As the network gives them, shape (n, d); None: the novelty stays.

    Raises:
        InputError: Shapes differ, or a value is not finite.
    """
    own = Own(labels, log_odds(decision.calibration.apply(logits)), np.asarray(cases, dtype=np.str_))
    judged = judge(own, reference, float(log_odds([decision.threshold])[0]), prior)
    if judged.outcome in (TOO_FEW, NOT_TOLD_APART):
        return Calibrated(decision, judged, (False, False), False)
    calibration = moved_calibration(decision.calibration, judged.map)
    new, sets, raised = replace(decision, calibration=calibration), (False, False), False
    if decision.conformal is not None:
        conformal, sets = own_sets(decision.conformal, labels, calibration.apply(logits))
        new = replace(new, conformal=conformal)
    if decision.novelty is not None and features is not None:
        novelty = own_novelty(decision.novelty, decision.novelty.apply(features))
        raised = novelty.limit != decision.novelty.limit
        new = replace(new, novelty=novelty)
    return Calibrated(new, judged, sets, raised)
