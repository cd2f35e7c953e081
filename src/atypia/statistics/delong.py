"""AUROC with analytic variance: of one classifier, or of several on the same figures.

DeLong, DeLong & Clarke-Pearson (Biometrics 1988), computed from midranks (Sun & Xu, IEEE Signal
Processing Letters 2014) in O(n log n). With several figures per case, Obuchowski's extension to clustered
data (Biometrics 1997) is used; it equals DeLong's where each figure is its own case.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must
from atypia.statistics.casestats import RESOLUTION
from atypia.statistics.confusion import FloatArray, IntArray, check_binary
from atypia.statistics.intervals import Interval
from atypia.statistics.metrics import UndefinedMetricWarning
from atypia.statistics.resampling import case_codes

DELONG = "delong"
DELONG_LOGIT = "delong-logit"


@dataclass(frozen=True)
class AurocComparison:
    """Two AUROCs on the same figures.

    Attributes:
        difference: First − second, with the interval of the difference.
        z: Difference over its standard error; NaN where that is 0.
        p: Two-sided p-value of the normal distribution.
    """

    difference: Interval
    z: float
    p: float


def auroc_interval(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    cases: Sequence[Any] | npt.NDArray[Any] | None = None,
    level: float = 0.95,
    logit: bool = True,
) -> Interval:
    """Interval of one AUROC by DeLong's variance.

    With ``logit`` the interval is symmetric in log(A/(1 − A)), whose standard error is
    se/(A (1 − A)) (Pepe 2003, section 5.2.4), and stays inside (0, 1); else it is A ± z·se cut to [0, 1].

    Args:
        labels: Shape (n,), 0 or 1.
        scores: Shape (n,), finite, higher means more positive.
        cases: Shape (n,), the case of each figure; None: each figure is its own case.
        level: Nominal coverage, in (0, 1).
        logit: Whether to work on the logit scale.

    Returns:
        The interval; its ends are NaN with a warning where a class is in fewer than two cases, where the
        variance is 0 (the classes do not overlap, or all scores are equal; a zero variance estimate does
        not mean that the AUROC has no error), or, on the logit scale, where the AUROC is 0 or 1.
    """
    from scipy.special import expit, ndtri

    if not 0 < level < 1:
        raise InputError(must("level", "between 0 and 1", level, "use 0.95"))
    method = DELONG_LOGIT if logit else DELONG
    areas, covariance, n_cases = _covariance(labels, np.asarray(scores)[None], cases)
    area, se = float(areas[0]), math.sqrt(max(float(covariance[0, 0]), 0.0)) if covariance is not None else math.nan
    n, z = np.size(scores), float(ndtri((1 + level) / 2))
    low = high = math.nan
    if math.isnan(se):
        _warn("a class is in fewer than two cases")
    elif logit and not 0 < area < 1:
        _warn(f"the AUROC is {area:g} and has no logit")
    elif se == 0:
        _warn("its variance is 0, as where all scores are equal or the classes do not overlap")
    elif not logit:
        low, high = max(0.0, area - z * se), min(1.0, area + z * se)
    else:
        half = z * se / (area * (1 - area))
        centre = math.log(area / (1 - area))
        low, high = float(expit(centre - half)), float(expit(centre + half))
    return Interval(area, low, high, level, method, se, n, n_cases)


def compare_aurocs(
    labels: npt.ArrayLike,
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    cases: Sequence[Any] | npt.NDArray[Any] | None = None,
    level: float = 0.95,
) -> AurocComparison:
    """Compares the AUROCs of two classifiers on the same figures.

    z = (A₁ − A₂) / √(V₁₁ + V₂₂ − 2 V₁₂), against the normal distribution, two-sided.

    Args:
        labels: Shape (n,), 0 or 1.
        first: Scores of the first classifier, shape (n,).
        second: Scores of the second, same figures in the same order.
        cases: Shape (n,), the case of each figure; None: each figure is its own case.
        level: Nominal coverage of the interval, in (0, 1).

    Returns:
        The comparison; all NaN except the difference, with a warning, where the variance is unknown or 0.
    """
    from scipy.special import ndtr, ndtri

    if not 0 < level < 1:
        raise InputError(must("level", "between 0 and 1", level, "use 0.95"))
    both = [np.asarray(first), np.asarray(second)]
    if both[0].shape != both[1].shape:
        got = f"shapes {both[0].shape} and {both[1].shape}"
        raise InputError(must("scores", "of the same figures", got, "align them by figure"))
    areas, spread, n_cases = _spread(labels, np.stack(both), cases)
    gap, n = float(areas[0] - areas[1]), np.size(first)
    # The variance of the differences per figure, not V₁₁ + V₂₂ − 2 V₁₂, where nearly equal numbers would cancel:
    # equal rankings then give exactly 0, and rankings that differ in one of a million pairs give more.
    variance = math.nan if spread is None else float(spread.contrast(0, 1).covariance()[0, 0])
    if not variance > 0:
        why = "the two rankings do not differ" if gap == 0 else "the difference is the same at every figure"
        _warn("a class is in fewer than two cases" if math.isnan(variance) else why)
        se = math.nan if math.isnan(variance) else 0.0
        return AurocComparison(Interval(gap, math.nan, math.nan, level, DELONG, se, n, n_cases), math.nan, math.nan)
    se, half = math.sqrt(variance), float(ndtri((1 + level) / 2)) * math.sqrt(variance)
    interval = Interval(gap, max(-1.0, gap - half), min(1.0, gap + half), level, DELONG, se, n, n_cases)
    return AurocComparison(interval, gap / se, float(2 * ndtr(-abs(gap / se))))


def auroc_covariance(
    labels: npt.ArrayLike, scores: npt.ArrayLike, cases: Sequence[Any] | npt.NDArray[Any] | None = None
) -> tuple[FloatArray, FloatArray]:
    """AUROCs of several classifiers on the same figures and their covariance matrix.

    Args:
        labels: Shape (n,), 0 or 1.
        scores: Shape (classifiers, n), finite, higher means more positive.
        cases: Shape (n,), the case of each figure; None: each figure is its own case.

    Returns:
        AUROCs of shape (classifiers,) and covariance of shape (classifiers, classifiers); NaN with a
        warning where a class is absent or in fewer than two cases.
    """
    areas, covariance, _ = _covariance(labels, np.asarray(scores), cases)
    if covariance is None:
        _warn("a class is in fewer than two cases")
        return areas, np.full((len(areas), len(areas)), np.nan)
    return areas, covariance


@dataclass(frozen=True, eq=False)
class _Spread:
    """What the variance of AUROCs is computed from: the deviations of the placements, summed over each case.

    Attributes:
        positives: Sums over a case's positives, shape (classifiers, cases).
        negatives: Sums over its negatives, same shape.
        p: Positive figures.
        n: Negative figures.
        with_positives: Cases with a positive, at least 2.
        with_negatives: Cases with a negative, at least 2.
    """

    positives: FloatArray
    negatives: FloatArray
    p: int
    n: int
    with_positives: int
    with_negatives: int

    def contrast(self, first: int, second: int) -> _Spread:
        """The same for the difference of two classifiers."""
        gaps = [without_rounding(side[[first]] - side[[second]]) for side in (self.positives, self.negatives)]
        return replace(self, positives=gaps[0], negatives=gaps[1])

    def covariance(self) -> FloatArray:
        """Shape (classifiers, classifiers)."""
        cases = self.positives.shape[1]
        within_p = self.positives @ self.positives.T * self.with_positives / ((self.with_positives - 1) * self.p)
        within_n = self.negatives @ self.negatives.T * self.with_negatives / ((self.with_negatives - 1) * self.n)
        across = self.positives @ self.negatives.T * cases / (cases - 1)
        return within_p / self.p + within_n / self.n + (across + across.T) / (self.p * self.n)


def without_rounding(deviations: FloatArray) -> FloatArray:
    """Deviations of placements, which lie in [−1, 1], with those that are only rounding error set to 0.

    The smallest real deviation is half a figure of the other class, 5e-10 with a billion of them.
    """
    return np.where(np.abs(deviations) <= RESOLUTION, 0.0, deviations)


def _covariance(
    labels: npt.ArrayLike, scores: npt.NDArray[Any], cases: Sequence[Any] | npt.NDArray[Any] | None
) -> tuple[FloatArray, FloatArray | None, int]:
    areas, spread, n_cases = _spread(labels, scores, cases)
    return areas, None if spread is None else spread.covariance(), n_cases


def _spread(
    labels: npt.ArrayLike, scores: npt.NDArray[Any], cases: Sequence[Any] | npt.NDArray[Any] | None
) -> tuple[FloatArray, _Spread | None, int]:
    y = check_binary("labels", labels)
    if scores.ndim != 2 or scores.shape[1] != len(y):
        got = f"shape {scores.shape[-1:] if scores.shape[0] == 1 else scores.shape}"
        raise InputError(must("scores", f"one per figure ({len(y)})", got, "align them by figure"))
    if scores.dtype.kind not in "biuf" or not bool(np.isfinite(scores.astype(np.float64)).all()):
        raise InputError(must("scores", "finite numbers", "NaN, ∞ or no numbers", "drop figures without a score"))
    codes, n_cases = (np.arange(len(y)), len(y)) if cases is None else case_codes(cases, len(y))
    p, n = int(y.sum()), int((~y).sum())
    if p == 0 or n == 0:
        return np.full(len(scores), np.nan), None, n_cases
    wins, losses = _placements(y, scores.astype(np.float64))
    areas = wins.mean(axis=1)
    with_positives, with_negatives = len(np.unique(codes[y])), len(np.unique(codes[~y]))
    if with_positives < 2 or with_negatives < 2:
        return areas, None, n_cases
    of_positives = _by_case(without_rounding(wins - areas[:, None]), codes[y], n_cases)
    of_negatives = _by_case(without_rounding(losses - areas[:, None]), codes[~y], n_cases)
    return areas, _Spread(of_positives, of_negatives, p, n, with_positives, with_negatives), n_cases


def _placements(y: npt.NDArray[np.bool_], scores: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Share of negatives below each positive, and of positives above each negative; ties count half.

    Midrank among all figures minus midrank within the own class = number of figures of the other class below.
    """
    from scipy.stats import rankdata

    p, n = int(y.sum()), int((~y).sum())
    together = rankdata(scores, axis=1)
    wins = (together[:, y] - rankdata(scores[:, y], axis=1)) / n
    losses = 1 - (together[:, ~y] - rankdata(scores[:, ~y], axis=1)) / p
    return wins, losses


def _by_case(values: FloatArray, codes: IntArray, n_cases: int) -> FloatArray:
    return np.stack([np.bincount(codes, row, n_cases).astype(np.float64) for row in values])


def _warn(why: str) -> None:
    warnings.warn(f"interval of AUROC is undefined: {why}", UndefinedMetricWarning, stacklevel=3)
