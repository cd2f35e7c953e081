"""Rank tests of two groups of results: Wilcoxon's signed-rank and the Mann-Whitney U test.

The exact forms are exact given the ties, too: they count how the ranks that occurred could have
fallen, equal values sharing the mean of their ranks.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from atypia.confusion import FloatArray
from atypia.errors import InputError, must
from atypia.metrics import UndefinedMetricWarning

SIGNED_RANK: Final = "Wilcoxon signed-rank"
RANK_SUM: Final = "Mann-Whitney U"
MOST_EXACT: Final = 500
"""Values up to which the exact distributions are counted."""


@dataclass(frozen=True)
class RankTest:
    """Outcome of a rank test.

    Attributes:
        test: :data:`SIGNED_RANK` or :data:`RANK_SUM`.
        statistic: Signed rank: the smaller rank sum. U: number of pairs in which the first group's
            value is higher, equal ones counting half.
        p: Two-sided p-value; NaN, with a warning, where no value is left to rank.
        n_first: Values of the first group (signed rank: pairs that differ).
        n_second: Values of the second group (signed rank: the same).
        zeros: Pairs without a difference, which Wilcoxon's test leaves out.
        method: ``exact`` or ``asymptotic``.
    """

    test: str
    statistic: float
    p: float
    n_first: int
    n_second: int
    zeros: int
    method: str


def signed_rank(first: npt.ArrayLike, second: npt.ArrayLike) -> RankTest:
    """Exact two-sided Wilcoxon signed-rank test of pairs (Wilcoxon, Biometrics Bulletin 1945).

    The differences' absolute values are ranked; under the hypothesis each rank is positive or negative
    with probability ½. p = 2 P(rank sum ≤ the smaller one), at most 1.

    Args:
        first: Shape (n,), finite.
        second: Shape (n,), the partner of each.

    Returns:
        The outcome.

    Raises:
        InputError: Lengths differ, a value is not finite, or there are more than 500 pairs.
    """
    from scipy.stats import rankdata

    a, b = _values("first", first), _values("second", second)
    if len(a) != len(b):
        raise InputError(must("second", f"as long as `first` ({len(a)})", len(b), "align the pairs"))
    # Rounded far below what is ever printed, so that equal printed differences tie.
    gaps = np.round(a - b, 12)
    gaps, zeros = gaps[gaps != 0], int((gaps == 0).sum())
    n = len(gaps)
    _check_size(n)
    if n == 0:
        _undefined(SIGNED_RANK, "no pair differs")
        return RankTest(SIGNED_RANK, math.nan, math.nan, 0, 0, zeros, "exact")
    ranks = rankdata(np.abs(gaps))
    smaller = min(float(ranks[gaps > 0].sum()), float(ranks[gaps < 0].sum()))
    shares = _sum_distribution(_doubled(ranks))
    p = min(1.0, 2 * float(shares[: round(2 * smaller) + 1].sum()))
    return RankTest(SIGNED_RANK, smaller, p, n, n, zeros, "exact")


def rank_sum(first: npt.ArrayLike, second: npt.ArrayLike, method: Literal["exact", "asymptotic"] = "exact") -> RankTest:
    """Two-sided Mann-Whitney U test of two independent groups (Ann. Math. Stat. 1947).

    ``exact`` counts all ways to choose the first group among the values, and adds up those whose U
    is at least as far from its mean; ``asymptotic`` uses the normal distribution with corrections for
    ties and for continuity, as SciPy's ``mannwhitneyu`` does.

    Args:
        first: Shape (m,), finite.
        second: Shape (n,), finite.
        method: ``exact`` or ``asymptotic``.

    Returns:
        The outcome.

    Raises:
        InputError: A value is not finite, the method is unknown, or ``exact`` has more than 500 values.
    """
    from scipy.stats import mannwhitneyu, rankdata

    if method not in ("exact", "asymptotic"):
        raise InputError(must("method", "exact or asymptotic", method, "name one of them"))
    a, b = np.round(_values("first", first), 12), np.round(_values("second", second), 12)
    m, n = len(a), len(b)
    if m == 0 or n == 0:
        _undefined(RANK_SUM, "a group is empty")
        return RankTest(RANK_SUM, math.nan, math.nan, m, n, 0, method)
    ranks = rankdata(np.concatenate([a, b]))
    u = float(ranks[:m].sum()) - m * (m + 1) / 2
    if method == "asymptotic":
        p = float(mannwhitneyu(a, b, alternative="two-sided", method="asymptotic", use_continuity=True).pvalue)
        return RankTest(RANK_SUM, u, p, m, n, 0, method)
    _check_size(m + n)
    shares = _subset_distribution(_doubled(ranks), m)
    sums = np.arange(len(shares)) / 2
    mean = m * (m + n + 1) / 2
    far = np.abs(sums - mean) >= abs(float(ranks[:m].sum()) - mean) - 1e-9
    return RankTest(RANK_SUM, u, min(1.0, float(shares[far].sum())), m, n, 0, method)


def _sum_distribution(doubled: npt.NDArray[np.int64]) -> FloatArray:
    """Distribution of the sum of a random subset (each in with probability ½), by twice the rank sum."""
    shares = np.zeros(int(doubled.sum()) + 1)
    shares[0] = 1.0
    for rank in doubled.tolist():
        shares *= 0.5
        shares[rank:] += shares[:-rank].copy()
    return shares


def _subset_distribution(doubled: npt.NDArray[np.int64], size: int) -> FloatArray:
    """Distribution of the sum of a random subset of a given size, by twice the rank sum."""
    counts = np.zeros((size + 1, int(doubled.sum()) + 1))
    counts[0, 0] = 1.0
    for rank in doubled.tolist():
        counts[1:, rank:] += counts[:-1, :-rank].copy()
    return counts[size] / counts[size].sum()


def _doubled(ranks: FloatArray) -> npt.NDArray[np.int64]:
    return np.rint(2 * ranks).astype(np.int64)  # a mean of ranks is a multiple of ½


def _values(name: str, values: npt.ArrayLike) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not bool(np.isfinite(array).all()):
        got = f"shape {array.shape}" if array.ndim != 1 else "NaN or ∞"
        raise InputError(must(name, "finite values of shape (n,)", got, "leave undefined results out of both groups"))
    return array


def _check_size(n: int) -> None:
    if n > MOST_EXACT:
        raise InputError(must("values", f"at most {MOST_EXACT} for an exact test", n, "compare means over models"))


def _undefined(test: str, why: str) -> None:
    warnings.warn(f"{test} test is undefined: {why}", UndefinedMetricWarning, stacklevel=3)
