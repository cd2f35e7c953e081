"""Operating points: thresholds chosen on validation figures.

A figure is decided atypical if p ≥ threshold. A threshold lies in the middle between two
neighbouring scores, never at one, so that another runtime's rounding does not change a decision.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must
from atypia.inference.bundles.calibration import Floats
from atypia.statistics.confusion import IntArray, check_probabilities

MISSED, FALSE_ALARMS = "missed", "false-alarms"
RISKS: Final = (MISSED, FALSE_ALARMS)
"""Errors whose expected rate :func:`risk_point` limits."""
BALANCED: Final = "balanced"
"""Name of the point of the best balanced accuracy."""


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, with sensitivity and specificity on the figures that it was chosen on.

    Attributes:
        name: ``balanced``, ``sensitivity-0.90``, ``specificity-0.95``.
        threshold: On the calibrated probability of atypical, in (0, 1).
        sensitivity: Share of the atypical figures with p ≥ threshold.
        specificity: Share of the normal figures with p < threshold.
    """

    name: str
    threshold: float
    sensitivity: float
    specificity: float

    @property
    def balanced_accuracy(self) -> float:
        """Mean of sensitivity and specificity."""
        return (self.sensitivity + self.specificity) / 2

    def as_dict(self) -> dict[str, Any]:
        """JSON form, with the balanced accuracy, without the name."""
        values = {**asdict(self), "balanced_accuracy": self.balanced_accuracy}
        del values["name"]
        return values


@dataclass(frozen=True, eq=False)
class _Curve:
    """Every threshold that can matter, ascending.

    Attributes:
        thresholds: Shape (m,), one a gap between neighbouring scores, and both ends.
        lower: Score or end below each.
        upper: Score or end above each.
        tp: Atypical figures at or above each.
        tn: Normal figures below each.
        positives: Atypical figures.
        negatives: Normal figures.
    """

    thresholds: Floats
    lower: Floats
    upper: Floats
    tp: IntArray
    tn: IntArray
    positives: int
    negatives: int

    def point(self, name: str, index: int, threshold: float | None = None) -> OperatingPoint:
        chosen = float(self.thresholds[index]) if threshold is None else threshold
        return OperatingPoint(name, chosen, int(self.tp[index]) / self.positives, int(self.tn[index]) / self.negatives)


def balanced_point(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> OperatingPoint:
    """The threshold of the best balanced accuracy: the middle of the widest range of thresholds that reach it.

    Args:
        labels: Shape (n,), 1 = atypical, 0 = normal; both must be there.
        probabilities: Shape (n,), in [0, 1], of atypical.

    Raises:
        InputError: A class is absent, or the arguments are not labels and probabilities.

    >>> balanced_point([0, 0, 1, 1], [0.1, 0.3, 0.7, 0.9]).threshold
    0.5
    """
    curve = _curve(labels, probabilities)
    # Whole numbers, as (TP / P + TN / N) · P · N: equal values are equal exactly.
    gain = curve.tp * curve.negatives + curve.tn * curve.positives
    best = np.flatnonzero(gain == gain.max())
    runs = np.split(best, np.flatnonzero(np.diff(best) > 1) + 1)
    widest = max(runs, key=lambda run: curve.upper[run[-1]] - curve.lower[run[0]])
    middle = float(curve.lower[widest[0]] + curve.upper[widest[-1]]) / 2
    index = int(next(at for at in widest if curve.upper[at] >= middle))
    # The middle of a range of several gaps may be a score, or hardly differ from one: then the middle of its gap.
    clear = curve.lower[index] < middle < curve.upper[index]
    return curve.point(BALANCED, index, middle if clear else None)


def sensitivity_point(labels: npt.ArrayLike, probabilities: npt.ArrayLike, target: float) -> OperatingPoint:
    """The most specific threshold whose sensitivity reaches ``target``.

    Args:
        labels: Shape (n,), 1 = atypical, 0 = normal; both must be there.
        probabilities: Shape (n,), in [0, 1], of atypical.
        target: In (0, 1].

    Raises:
        InputError: The target is out of range or cannot be reached, a class is absent, or the
            arguments are no labels and probabilities.
    """
    curve = _curve(labels, probabilities)
    enough = curve.tp >= _needed("sensitivity", target, curve.positives)
    return _best(curve, f"sensitivity-{_share(target)}", enough, curve.tn, curve.tp)


def specificity_point(labels: npt.ArrayLike, probabilities: npt.ArrayLike, target: float) -> OperatingPoint:
    """The most sensitive threshold whose specificity reaches ``target``; as :func:`sensitivity_point`."""
    curve = _curve(labels, probabilities)
    enough = curve.tn >= _needed("specificity", target, curve.negatives)
    return _best(curve, f"specificity-{_share(target)}", enough, curve.tp, curve.tn)


def risk_point(labels: npt.ArrayLike, probabilities: npt.ArrayLike, at_most: float, of: str = MISSED) -> OperatingPoint:
    """The threshold that keeps an error's expected rate on new figures within a limit, by conformal risk control.

    With the rate R(t) of misses among n atypical figures, t is the largest threshold with (n R(t) + 1) / (n + 1) ≤ limit;
    on further figures from where these came from (exchangeable with them), the expected share of misses is then at most
    the limit, whatever the classifier. Of false alarms: the smallest threshold, by the normal figures. Angelopoulos et
    al., «Conformal Risk Control», ICLR 2024, equation 4 with B = 1. A point that merely reached a sensitivity on these
    figures promises nothing of the next ones.

    Args:
        labels: Shape (n,), 1 = atypical, 0 = normal; both must be there.
        probabilities: Shape (n,), in [0, 1], of atypical.
        at_most: The limit, in (0, 1).
        of: :data:`MISSED` (atypical figures called normal) or :data:`FALSE_ALARMS` (normal ones called atypical).

    Raises:
        InputError: The limit or the error is none, there are too few figures for any promise, a class is absent, or the
            arguments are no labels and probabilities.

    >>> risk_point([0] * 9 + [1] * 9, [*(x / 20 for x in range(9)), *(x / 20 for x in range(10, 19))], 0.2).sensitivity
    0.8888888888888888
    """
    if of not in RISKS:
        raise InputError(must("risk", f"one of {', '.join(RISKS)}", of, "name one of them"))
    if not 0 < at_most < 1:
        raise InputError(must(of, "between 0 and 1", at_most, "give a share such as 0.1"))
    curve = _curve(labels, probabilities)
    figures = curve.positives if of == MISSED else curve.negatives
    allowed = math.floor(at_most * (figures + 1) - 1 + 1e-9)
    name = f"{of}-{_share(at_most)}"
    if allowed < 0:
        expected = f"at least {math.ceil(1 / at_most - 1e-9) - 1} figures of its class for {name}"
        raise InputError(must("validation part", expected, figures, "raise the limit, or validate on more figures"))
    # Thresholds ascend: the largest that misses few enough, the smallest that calls few enough.
    rows = (
        np.flatnonzero(curve.tp >= figures - allowed) if of == MISSED else np.flatnonzero(curve.tn >= figures - allowed)
    )
    if not len(rows):
        raise InputError(must(name, "within reach", "probabilities of exactly 0 or 1", "choose a higher limit"))
    return curve.point(name, int(rows[-1] if of == MISSED else rows[0]))


def _best(curve: _Curve, name: str, enough: npt.NDArray[np.bool_], first: IntArray, second: IntArray) -> OperatingPoint:
    rows = np.flatnonzero(enough)
    if not len(rows):
        raise InputError(must(name, "within reach", "probabilities of exactly 0 or 1", "choose a lower target"))
    # Neighbouring thresholds differ in at least one count, so the best pair of counts is one threshold's alone.
    return curve.point(name, int(max(rows, key=lambda row: (first[row], second[row]))))


def _needed(what: str, target: float, figures: int) -> int:
    if not 0 < target <= 1:
        raise InputError(must(what, "above 0 and at most 1", target, "give a share such as 0.9"))
    return math.ceil(target * figures - 1e-9)  # 0.07 · 100 is a little more than 7


def _share(target: float) -> str:
    text = f"{target:.2f}"
    return text if float(text) == target else f"{target:g}"


def _curve(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> _Curve:
    y, p = check_probabilities(labels, probabilities)
    positives = int(y.sum())
    negatives = len(y) - positives
    if not positives or not negatives:
        got = f"{positives} atypical, {negatives} normal"
        raise InputError(must("labels", "of both classes", got, "choose a validation part that has both"))
    scores, which = np.unique(p, return_inverse=True)
    atypical = np.bincount(which[y], minlength=len(scores))
    normal = np.bincount(which[~y], minlength=len(scores))
    edges = np.concatenate([[0.0], scores, [1.0]])
    lower, upper = edges[:-1], edges[1:]
    middle = (lower + upper) / 2
    # Between neighbouring floating-point numbers there is none; p ≥ upper then divides them as well.
    thresholds = np.where(middle > lower, middle, upper)
    tp = positives - np.concatenate([[0], np.cumsum(atypical)])
    tn = np.concatenate([[0], np.cumsum(normal)])
    usable = (thresholds > 0) & (thresholds < 1)
    # An end beside a score of exactly 0 or 1 is no threshold: nothing lies between them.
    usable[0] &= scores[0] > 0
    usable[-1] &= scores[-1] < 1
    return _Curve(thresholds[usable], lower[usable], upper[usable], tp[usable], tn[usable], positives, negatives)
