"""AUROC with its variance by a formula: one classifier, or several on the same figures.

DeLong, DeLong & Clarke-Pearson (Biometrics 1988), computed from midranks (Sun & Xu, IEEE Signal
Processing Letters 2014) in O(n log n). Where figures come in cases, Obuchowski's form for clustered
data (Biometrics 1997), which is DeLong's where each figure is its own case.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from atypia.confusion import FloatArray, IntArray, check_binary
from atypia.errors import InputError, must
from atypia.evaluation.intervals import Interval
from atypia.evaluation.resampling import case_codes
from atypia.metrics import UndefinedMetricWarning

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
        cases: Shape (n,), the case of each figure; None: each figure its own.
        level: Nominal coverage, in (0, 1).
        logit: Whether to work on the logit scale.

    Returns:
        The interval; its ends are NaN with a warning where a class is in fewer than two cases, or,
        on the logit scale, where the AUROC is 0 or 1.
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
    elif not logit:
        low, high = max(0.0, area - z * se), min(1.0, area + z * se)
    elif 0 < area < 1:
        half = z * se / (area * (1 - area))
        centre = math.log(area / (1 - area))
        low, high = float(expit(centre - half)), float(expit(centre + half))
    else:
        _warn(f"the AUROC is {area:g} and has no logit")
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
        cases: Shape (n,), the case of each figure; None: each figure its own.
        level: Nominal coverage of the interval, in (0, 1).

    Returns:
        The comparison; all NaN but the difference, with a warning, where the variance is unknown or 0.
    """
    from scipy.special import ndtr, ndtri

    if not 0 < level < 1:
        raise InputError(must("level", "between 0 and 1", level, "use 0.95"))
    both = [np.asarray(first), np.asarray(second)]
    if both[0].shape != both[1].shape:
        got = f"shapes {both[0].shape} and {both[1].shape}"
        raise InputError(must("scores", "of the same figures", got, "align them by figure"))
    areas, covariance, n_cases = _covariance(labels, np.stack(both), cases)
    gap = float(areas[0] - areas[1])
    variance = math.nan
    if covariance is not None:
        variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    n = np.size(first)
    # Equal rankings give a variance that is 0 up to rounding.
    if math.isnan(variance) or variance <= 1e-15:
        _warn("a class is in fewer than two cases" if math.isnan(variance) else "the two rankings do not differ")
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
        cases: Shape (n,), the case of each figure; None: each figure its own.

    Returns:
        AUROCs of shape (classifiers,) and covariance of shape (classifiers, classifiers); NaN with a
        warning where a class is absent or in fewer than two cases.
    """
    areas, covariance, _ = _covariance(labels, np.asarray(scores), cases)
    if covariance is None:
        _warn("a class is in fewer than two cases")
        return areas, np.full((len(areas), len(areas)), np.nan)
    return areas, covariance


def _covariance(
    labels: npt.ArrayLike, scores: npt.NDArray[Any], cases: Sequence[Any] | npt.NDArray[Any] | None
) -> tuple[FloatArray, FloatArray | None, int]:
    y = check_binary("labels", labels)
    if scores.ndim != 2 or scores.shape[1] != len(y):
        got = f"shape {scores.shape[-1:] if scores.shape[0] == 1 else scores.shape}"
        raise InputError(must("scores", f"one a figure ({len(y)})", got, "align them by figure"))
    if scores.dtype.kind not in "biuf" or not bool(np.isfinite(scores.astype(np.float64)).all()):
        raise InputError(must("scores", "finite numbers", "NaN, ∞ or no numbers", "drop figures without a score"))
    codes, n_cases = (np.arange(len(y)), len(y)) if cases is None else case_codes(cases, len(y))
    p, n = int(y.sum()), int((~y).sum())
    if p == 0 or n == 0:
        return np.full(len(scores), np.nan), None, n_cases
    wins, losses = _placements(y, scores.astype(np.float64))
    areas = wins.mean(axis=1)
    # Each case's share of the deviations, shape (classifiers, cases).
    of_positives = _by_case(wins - areas[:, None], codes[y], n_cases)
    of_negatives = _by_case(losses - areas[:, None], codes[~y], n_cases)
    with_positives, with_negatives = len(np.unique(codes[y])), len(np.unique(codes[~y]))
    if with_positives < 2 or with_negatives < 2:
        return areas, None, n_cases
    within_p = of_positives @ of_positives.T * with_positives / ((with_positives - 1) * p)
    within_n = of_negatives @ of_negatives.T * with_negatives / ((with_negatives - 1) * n)
    across = of_positives @ of_negatives.T * n_cases / (n_cases - 1)
    return areas, within_p / p + within_n / n + (across + across.T) / (p * n), n_cases


def _placements(y: npt.NDArray[np.bool_], scores: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Share of negatives below each positive, and of positives above each negative; equal ones count half.

    A midrank among all, less the midrank in one's own class, is the number of the other class below.
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
