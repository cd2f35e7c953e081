"""Rank tests of two groups of results: Wilcoxon's signed-rank and the Mann-Whitney U test.

The exact tests are also exact with ties: they enumerate how the observed ranks could have been
assigned, tied values sharing their mean rank. Where that would take too long (see
:data:`MOST_SIGNED` and :data:`MOST_PAIRS`) the normal approximation is used, and the outcome says so.
It changes p by less than 0.001 for the signed-rank test and by less than 0.005 for U, but by up to 0.12 where
a group has fewer than :data:`FEW` values.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must
from atypia.statistics.confusion import FloatArray
from atypia.statistics.metrics import UndefinedMetricWarning

SIGNED_RANK: Final = "Wilcoxon signed-rank"
RANK_SUM: Final = "Mann-Whitney U"
EXACT: Final = "exact"
ASYMPTOTIC: Final = "asymptotic"
MOST_SIGNED: Final = 500
"""Up to this number of pairs, the signed-rank distribution is exact."""
MOST_PAIRS: Final = 10_000
"""Up to this product of the two group sizes, the distribution of U is exact."""

FEW: Final = 12
"""With fewer values in a group, the normal approximation of U is poor, however large the other group is."""


@dataclass(frozen=True)
class RankTest:
    """Outcome of a rank test.

    Attributes:
        test: :data:`SIGNED_RANK` or :data:`RANK_SUM`.
        statistic: Signed rank: the smaller rank sum. U: number of pairs in which the first group's
            value is higher, ties counting half.
        p: Two-sided p-value; NaN, with a warning, where no value is left to rank.
        n_first: Values of the first group (signed rank: pairs that differ).
        n_second: Values of the second group (signed rank: the same).
        zeros: Pairs without a difference, which Wilcoxon's test leaves out.
        method: ``exact`` or ``asymptotic``, as it was computed.
        note: Why the normal approximation replaced the exact test that was asked for; else empty.
    """

    test: str
    statistic: float
    p: float
    n_first: int
    n_second: int
    zeros: int
    method: str
    note: str = ""


def signed_rank(first: npt.ArrayLike, second: npt.ArrayLike) -> RankTest:
    """Exact two-sided Wilcoxon signed-rank test of pairs (Wilcoxon, Biometrics Bulletin 1945).

    The differences' absolute values are ranked; under the hypothesis each rank is positive or negative
    with probability ½. p = 2 P(rank sum ≤ the smaller one), at most 1 (without ties by SciPy's ``wilcoxon``).
    Of more than :data:`MOST_SIGNED` pairs that differ: the normal distribution with corrections for ties and for continuity.

    Args:
        first: Shape (n,), finite.
        second: Shape (n,), paired with ``first``.

    Returns:
        The outcome.

    Raises:
        InputError: Lengths differ, or a value is not finite.
    """
    from scipy.stats import rankdata, wilcoxon

    a, b = _values("first", first), _values("second", second)
    if len(a) != len(b):
        raise InputError(must("second", f"as long as `first` ({len(a)})", len(b), "align the pairs"))
    # Rounded far below printed precision, so that differences printed alike are ties.
    gaps = np.round(a - b, 12)
    gaps, zeros = gaps[gaps != 0], int((gaps == 0).sum())
    n = len(gaps)
    if n == 0:
        _undefined(SIGNED_RANK, "no pair differs")
        return RankTest(SIGNED_RANK, math.nan, math.nan, 0, 0, zeros, EXACT)
    ranks = rankdata(np.abs(gaps))
    smaller = min(float(ranks[gaps > 0].sum()), float(ranks[gaps < 0].sum()))
    outcome: Any
    if n > MOST_SIGNED:
        outcome = wilcoxon(gaps, method="asymptotic", correction=True)
        p = float(outcome.pvalue)
        return RankTest(SIGNED_RANK, smaller, p, n, n, zeros, ASYMPTOTIC, _too_many(f"{n} pairs"))
    if len(np.unique(ranks)) == n:
        outcome = wilcoxon(gaps, method="exact")
        return RankTest(SIGNED_RANK, smaller, float(outcome.pvalue), n, n, zeros, EXACT)
    shares = _sum_distribution(_doubled(ranks))
    p = min(1.0, 2 * float(shares[: round(2 * smaller) + 1].sum()))
    return RankTest(SIGNED_RANK, smaller, p, n, n, zeros, EXACT)


def rank_sum(first: npt.ArrayLike, second: npt.ArrayLike, method: Literal["exact", "asymptotic"] = "exact") -> RankTest:
    """Two-sided Mann-Whitney U test of two independent groups (Ann. Math. Stat. 1947).

    ``exact`` enumerates all ways to choose the first group among the values, and counts those whose U
    is at least as far from its mean (without ties: SciPy's ``mannwhitneyu``); ``asymptotic`` uses the
    normal distribution with corrections for ties and for continuity, as SciPy does, and replaces
    ``exact`` where m · n is above :data:`MOST_PAIRS`.

    Args:
        first: Shape (m,), finite.
        second: Shape (n,), finite.
        method: ``exact`` or ``asymptotic``.

    Returns:
        The outcome.

    Raises:
        InputError: A value is not finite, or the method is unknown.
    """
    from scipy.stats import mannwhitneyu, rankdata

    if method not in (EXACT, ASYMPTOTIC):
        raise InputError(must("method", "exact or asymptotic", method, "name one of them"))
    a, b = np.round(_values("first", first), 12), np.round(_values("second", second), 12)
    m, n = len(a), len(b)
    if m == 0 or n == 0:
        _undefined(RANK_SUM, "a group is empty")
        return RankTest(RANK_SUM, math.nan, math.nan, m, n, 0, method)
    ranks = rankdata(np.concatenate([a, b]))
    u = float(ranks[:m].sum()) - m * (m + 1) / 2
    large = method == EXACT and m * n > MOST_PAIRS
    tied = len(np.unique(ranks)) < m + n
    if method == ASYMPTOTIC or large or not tied:
        used = ASYMPTOTIC if large else method
        p = float(mannwhitneyu(a, b, alternative="two-sided", method=used, use_continuity=True).pvalue)
        poor = f", poor for fewer than {FEW} values" if min(m, n) < FEW else ""
        return RankTest(RANK_SUM, u, p, m, n, 0, used, _too_many(f"{m} and {n} values") + poor if large else "")
    # The rank sums of both groups are equally far from their means; the smaller group is faster to count.
    fewer = ranks[:m] if m <= n else ranks[m:]
    shares = _subset_distribution(_doubled(ranks), len(fewer))
    sums = np.arange(len(shares)) / 2
    mean = len(fewer) * (m + n + 1) / 2
    far = np.abs(sums - mean) >= abs(float(fewer.sum()) - mean) - 1e-9
    return RankTest(RANK_SUM, u, min(1.0, float(shares[far].sum())), m, n, 0, method)


def _sum_distribution(doubled: npt.NDArray[np.int64]) -> FloatArray:
    """Distribution of the sum of a random subset (each in with probability ½), indexed by twice the rank sum."""
    shares = np.zeros(int(doubled.sum()) + 1)
    shares[0] = 1.0
    for rank in doubled.tolist():
        shares *= 0.5
        shares[rank:] += shares[:-rank].copy()
    return shares


def _subset_distribution(doubled: npt.NDArray[np.int64], size: int) -> FloatArray:
    """Distribution of the sum of a random subset of a given size, indexed by twice the rank sum."""
    ordered = np.sort(doubled)
    counts = np.zeros((size + 1, int(ordered[len(ordered) - size :].sum()) + 1))
    counts[0, 0] = 1.0
    for seen, rank in enumerate(ordered.tolist()):
        most = min(seen + 1, size)  # largest subset of the values so far; its sum is at most `most` × rank
        end = min(counts.shape[1], most * rank + 1)
        counts[1 : most + 1, rank:end] += counts[:most, : end - rank].copy()
    return counts[size] / counts[size].sum()


def _doubled(ranks: FloatArray) -> npt.NDArray[np.int64]:
    return np.rint(2 * ranks).astype(np.int64)  # mean ranks are multiples of ½


def _values(name: str, values: npt.ArrayLike) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not bool(np.isfinite(array).all()):
        got = f"shape {array.shape}" if array.ndim != 1 else "NaN or ∞"
        raise InputError(must(name, "finite values of shape (n,)", got, "leave undefined results out of both groups"))
    return array


def _too_many(what: str) -> str:
    return f"{what} are too many to count all arrangements: normal approximation, corrected for ties and continuity"


def _undefined(test: str, why: str) -> None:
    warnings.warn(f"{test} test is undefined: {why}", UndefinedMetricWarning, stacklevel=3)
