"""Many comparisons at once: Holm's correction, and mean ranks of many models with a critical difference."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must
from atypia.statistics.confusion import FloatArray
from atypia.statistics.metrics import UndefinedMetricWarning


def holm(p: npt.ArrayLike) -> FloatArray:
    """Holm's step-down correction (Scand. J. Statistics 1979): the family-wise error rate stays at most α.

    The i-th smallest of m p-values becomes max over j ≤ i of min(1, (m − j + 1) p₍ⱼ₎). It needs no
    independence.

    Args:
        p: Any shape, in [0, 1]; NaN is a test that was not done: it stays NaN and is not counted in m.

    Returns:
        Adjusted p-values, same shape, float64.

    Raises:
        InputError: A value is outside [0, 1].

    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    given = np.asarray(p, dtype=np.float64)
    flat = given.ravel()
    wrong = (flat < 0) | (flat > 1)
    if bool(wrong.any()):
        raise InputError(must("p", "between 0 and 1", float(flat[wrong][0]), "pass p-values"))
    adjusted = np.full(len(flat), np.nan)
    made = np.flatnonzero(~np.isnan(flat))
    order = made[np.argsort(flat[made], kind="stable")]
    adjusted[order] = np.maximum.accumulate(np.minimum(1.0, flat[order] * np.arange(len(order), 0, -1)))
    return adjusted.reshape(given.shape)


@dataclass(frozen=True)
class Ranking:
    """Many models ranked on several independent data sets or domains.

    Attributes:
        names: Models, best mean rank first.
        mean_ranks: Mean rank of each, 1 is best, equal values share the mean of their ranks.
        n_blocks: Number of data sets.
        chi2: Friedman's statistic, corrected for ties.
        p: Its p-value from χ² with k − 1 degrees of freedom.
        f: Iman and Davenport's statistic, which is less conservative.
        p_f: Its p-value.
        alpha: Level of the critical difference.
        critical_difference: Nemenyi's: two models differ if their mean ranks are at least this far apart.
        groups: Largest sets of neighbouring models without a difference, each as (first, last) position in ``names``.
    """

    names: tuple[str, ...]
    mean_ranks: tuple[float, ...]
    n_blocks: int
    chi2: float
    p: float
    f: float
    p_f: float
    alpha: float
    critical_difference: float
    groups: tuple[tuple[int, int], ...]


def rank_models(
    scores: npt.ArrayLike, names: Sequence[str], higher_is_better: bool = True, alpha: float = 0.05
) -> Ranking:
    """Ranks models and tests whether they differ (Friedman 1937; Iman & Davenport 1980; Demšar, JMLR 2006).

    χ² = (k − 1) Σⱼ (Rⱼ − N (k + 1)/2)² / (Σ r² − N k (k + 1)²/4), which holds with ties,
    with r the ranks inside a data set and Rⱼ their sums; F = (N − 1) χ² / (N (k − 1) − χ²).

    Args:
        scores: Shape (N data sets, k models), finite. The rows must be independent: test sets or
            domains, not folds of one training set.
        names: The k models.
        higher_is_better: Whether the highest score gets rank 1.
        alpha: Level of the critical difference, in (0, 1).

    Returns:
        The ranking. Statistics are NaN, with a warning, where all scores in each row are equal.

    Raises:
        InputError: Fewer than two rows or models, a value that is not finite, a wrong number of names.
    """
    from scipy.stats import chi2 as chi2_distribution
    from scipy.stats import f as f_distribution
    from scipy.stats import rankdata

    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 2 or min(values.shape) < 2 or not bool(np.isfinite(values).all()):
        got = f"shape {values.shape}" if values.ndim != 2 or min(values.shape) < 2 else "NaN or ∞"
        raise InputError(must("scores", "finite, (data sets ≥ 2, models ≥ 2)", got, "leave incomplete rows out"))
    n, k = values.shape
    if len(names) != k:
        raise InputError(must("names", f"one per model ({k})", len(names), "name each column"))
    # Rounded far below printed precision, as in the rank tests, so that values printed alike are ties.
    ranks = rankdata(np.round(-values if higher_is_better else values, 12), axis=1)
    between = float(((ranks.sum(axis=0) - n * (k + 1) / 2) ** 2).sum())
    within = float((ranks**2).sum()) - n * k * (k + 1) ** 2 / 4
    chi2 = f = p = p_f = math.nan
    if within > 0:
        chi2 = (k - 1) * between / within
        rest = n * (k - 1) - chi2
        f = (n - 1) * chi2 / rest if rest > 1e-12 * n * (k - 1) else math.inf
        p = float(chi2_distribution.sf(chi2, k - 1))
        p_f = float(f_distribution.sf(f, k - 1, (k - 1) * (n - 1))) if math.isfinite(f) else 0.0
    else:
        warnings.warn("Friedman test is undefined: no model differs", UndefinedMetricWarning, stacklevel=2)
    means = ranks.mean(axis=0)
    order = sorted(range(k), key=lambda model: float(means[model]))
    difference = critical_difference(k, n, alpha)
    return Ranking(
        tuple(names[i] for i in order),
        tuple(means[order].tolist()),
        n,
        chi2,
        p,
        f,
        p_f,
        alpha,
        difference,
        _groups(means[order], difference),
    )


def critical_difference(k: int, n_blocks: int, alpha: float = 0.05) -> float:
    """Nemenyi's critical difference of mean ranks: q_α √(k (k + 1) / (6 N)).

    q_α is the upper α point of the studentised range of k groups with infinite degrees of freedom,
    divided by √2 (Nemenyi 1963; Demšar, JMLR 2006, table 5).

    Args:
        k: Number of models, at least 2.
        n_blocks: Number of data sets N, at least 1.
        alpha: Level, in (0, 1).

    Returns:
        The critical difference of mean ranks.
    """
    if k < 2 or n_blocks < 1 or not 0 < alpha < 1:
        got = f"k = {k}, N = {n_blocks}, α = {alpha}"
        raise InputError(must("ranking", "of k ≥ 2 models on N ≥ 1 data sets at 0 < α < 1", got, "correct it"))
    return _studentised(k, alpha) * math.sqrt(k * (k + 1) / (6 * n_blocks))


@lru_cache(maxsize=256)
def _studentised(k: int, alpha: float) -> float:
    from scipy.stats import studentized_range

    return float(studentized_range.ppf(1 - alpha, k, np.inf)) / math.sqrt(2)


def _groups(means: FloatArray, difference: float) -> tuple[tuple[int, int], ...]:
    found: list[tuple[int, int]] = []
    for first in range(len(means)):
        last = int(np.flatnonzero(means - means[first] < difference)[-1])
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return tuple(found)
