"""Statistics as functions of case weights: one class for each way in which a metric adds up over cases."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from atypia.statistics.confusion import FloatArray, IntArray
from atypia.statistics.metrics import UndefinedMetricWarning

CHUNK_ELEMENTS = 1 << 21
"""Most numbers in one array of a chunk of draws (16 MB), whatever the number of figures."""


class CaseStatistic(Protocol):
    """A statistic of a fixed set of figures as a function of the weights of their cases."""

    def of(self, weights: FloatArray) -> FloatArray:
        """Values for many draws.

        Args:
            weights: Shape (draws, cases), float64 holding whole numbers ≥ 0: how often each case counts.

        Returns:
            Shape (draws,), float64; NaN where the statistic is undefined for that draw.
        """
        ...

    def without_each(self) -> FloatArray:
        """Jackknife values: the statistic with each case left out once, shape (cases,)."""
        ...


@dataclass(frozen=True, eq=False)
class Combination:
    """A weighted sum of statistics: a mean over models, a difference of classifiers.

    Attributes:
        parts: The statistics, of the same cases.
        coefficients: One per part.
    """

    parts: tuple[CaseStatistic, ...]
    coefficients: tuple[float, ...]

    def of(self, weights: FloatArray) -> FloatArray:
        """See :class:`CaseStatistic`; NaN where any part is NaN."""
        return np.sum([c * part.of(weights) for c, part in zip(self.coefficients, self.parts, strict=True)], axis=0)

    def without_each(self) -> FloatArray:
        """See :class:`CaseStatistic`."""
        return np.sum([c * part.without_each() for c, part in zip(self.coefficients, self.parts, strict=True)], axis=0)


@dataclass(frozen=True, eq=False)
class Among:
    """A statistic of some of the cases, indexed over all of them; used for one domain in means over domains.

    Attributes:
        part: The statistic of these cases alone.
        where: Their positions among all cases, ascending, shape (k,).
        cases: Number of all cases.
    """

    part: CaseStatistic
    where: IntArray
    cases: int

    def of(self, weights: FloatArray) -> FloatArray:
        """See :class:`CaseStatistic`."""
        return self.part.of(weights[:, self.where])

    def without_each(self) -> FloatArray:
        """See :class:`CaseStatistic`; leaving out a case outside the subset changes nothing."""
        values = np.repeat(self.part.of(np.ones((1, len(self.where)))), self.cases)
        values[self.where] = self.part.without_each()
        return values


@dataclass(frozen=True, eq=False)
class Sums:
    """A statistic that is a function of sums over figures.

    Attributes:
        per_case: Shape (cases, k), each case's contribution to the k sums.
        combine: Sums of shape (draws, k) to values of shape (draws,).
    """

    per_case: FloatArray
    combine: Callable[[FloatArray], FloatArray]

    def of(self, weights: FloatArray) -> FloatArray:
        """See :class:`CaseStatistic`."""
        return self.combine(weights @ self.per_case)

    def without_each(self) -> FloatArray:
        """See :class:`CaseStatistic`."""
        return self.combine(self.per_case.sum(axis=0) - self.per_case)


@dataclass(frozen=True, eq=False)
class Auroc:
    """AUROC: for each positive, the weight of the negatives that score lower plus half the weight of its ties.

    Attributes:
        positives: Cases of the positives, shape (P,), in ascending order of score.
        negatives: Cases of the negatives, shape (N,), in ascending order of score.
        below: For each positive the number of negatives with a lower score, shape (P,).
        upto: The same with a score at most as high.
        cases: Number of cases.
    """

    positives: IntArray
    negatives: IntArray
    below: IntArray
    upto: IntArray
    cases: int

    def of(self, weights: FloatArray) -> FloatArray:
        """See :class:`CaseStatistic`."""
        own = weights[:, self.positives]
        lower = cumulative_sums(weights[:, self.negatives])
        u = ((lower[:, self.below] + lower[:, self.upto]) * own).sum(axis=1) / 2
        return divide(u, own.sum(axis=1) * lower[:, -1])

    def without_each(self) -> FloatArray:
        """See :class:`CaseStatistic`.

        U without a case is U, minus the wins of its positives, minus the losses of its negatives, plus the
        pairs inside the case, which were subtracted twice.
        """
        p, n = len(self.positives), len(self.negatives)
        wins = (self.below + self.upto) / 2
        # Sorted by score: how many positives lie above each negative is a count of crossings.
        not_above = np.cumsum(np.bincount(self.below, minlength=n + 1))[:n]
        below_it = np.cumsum(np.bincount(self.upto, minlength=n + 1))[:n]
        losses = p - (not_above + below_it) / 2
        u = wins.sum() - np.bincount(self.positives, wins, self.cases) - np.bincount(self.negatives, losses, self.cases)
        own_p = np.bincount(self.positives, minlength=self.cases)
        own_n = np.bincount(self.negatives, minlength=self.cases)
        return divide(u + self._inside(), ((p - own_p) * (n - own_n)).astype(np.float64))

    def _inside(self) -> FloatArray:
        """U among each case's own figures, shape (cases,)."""
        inside = np.zeros(self.cases)
        position = np.arange(len(self.negatives))
        by_case = np.argsort(self.negatives, kind="stable")
        edges = np.searchsorted(self.negatives[by_case], np.arange(self.cases + 1))
        order = np.argsort(self.positives, kind="stable")
        starts = np.searchsorted(self.positives[order], np.arange(self.cases + 1))
        both = np.flatnonzero((np.diff(edges) > 0) & (np.diff(starts) > 0))
        for case in both:
            own = position[by_case[edges[case] : edges[case + 1]]]
            mine = order[starts[case] : starts[case + 1]]
            # A negative at position j is below a positive where j < below, and its equal where j < upto.
            wins = np.searchsorted(own, self.below[mine]) + np.searchsorted(own, self.upto[mine])
            inside[case] = wins.sum() / 2
        return inside


@dataclass(frozen=True, eq=False)
class AveragePrecision:
    """Average precision: the mean over positives of the precision at their score.

    Attributes:
        positives: Cases of the positives, shape (P,), in descending order of score.
        negatives: Cases of the negatives, shape (N,), in descending order of score.
        found: For each positive the number of positives with a score at least as high, shape (P,).
        wrong: For each positive the number of negatives with a score at least as high, shape (P,).
        cases: Number of cases.
    """

    positives: IntArray
    negatives: IntArray
    found: IntArray
    wrong: IntArray
    cases: int

    def of(self, weights: FloatArray) -> FloatArray:
        """See :class:`CaseStatistic`."""
        own = weights[:, self.positives]
        true = cumulative_sums(own)
        found, wrong = true[:, self.found], cumulative_sums(weights[:, self.negatives])[:, self.wrong]
        precision = np.divide(found, found + wrong, out=np.zeros_like(found), where=found > 0)
        return divide((own * precision).sum(axis=1), true[:, -1])

    def without_each(self) -> FloatArray:
        """See :class:`CaseStatistic`."""
        return jackknife_values(self, self.cases, len(self.positives) + len(self.negatives))


@dataclass(frozen=True, eq=False)
class Repeated:
    """Any metric: computed for each draw on figures repeated as often as they were drawn.

    Attributes:
        function: ``function(labels, values) -> float``.
        labels: Shape (n,), bool.
        values: Shape (n,).
        codes: Shape (n,), the case of each figure.
        cases: Number of cases.
    """

    function: Callable[[npt.ArrayLike, npt.ArrayLike], float]
    labels: npt.NDArray[np.bool_]
    values: FloatArray
    codes: IntArray
    cases: int

    def of(self, weights: FloatArray) -> FloatArray:
        """See :class:`CaseStatistic`."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UndefinedMetricWarning)  # NaN is counted by the caller
            return np.array([self._draw(row) for row in weights])

    def _draw(self, weights: FloatArray) -> float:
        picked = np.repeat(np.arange(len(self.labels)), weights[self.codes].astype(np.int64))
        return self.function(self.labels[picked], self.values[picked])

    def without_each(self) -> FloatArray:
        """See :class:`CaseStatistic`."""
        return jackknife_values(self, self.cases, len(self.labels))


RESOLUTION = 1e-12
"""Two values of a statistic that differ by less than this share of its scale count as equal (rounding error): sums
of some thousand shares in double precision are good to about 1e-13, and one figure changes a metric by far more."""


def scale_of(statistic: CaseStatistic, cases: int) -> float:
    """The size of the numbers that a statistic is computed from.

    The difference of two metrics of about 0.8 is rounded at the scale of 0.8, however small it is.

    Args:
        statistic: A metric, or a combination of metrics.
        cases: Number of cases.

    Returns:
        Σ |coefficient| · scale of the part; of a single metric its value on all cases, 0 where that is NaN.
    """
    if isinstance(statistic, Combination):
        parts = zip(statistic.coefficients, statistic.parts, strict=True)
        return float(sum(abs(c) * scale_of(part, cases) for c, part in parts))
    value = abs(float(statistic.of(np.ones((1, cases)))[0]))
    return 0.0 if np.isnan(value) else value


def jackknife_values(statistic: CaseStatistic, cases: int, figures: int) -> FloatArray:
    """Jackknife values, computed by leaving out each case in turn, shape (cases,); memory is bounded.

    Args:
        statistic: What to compute.
        cases: Number of cases.
        figures: Number of figures.
    """
    values = np.empty(cases)
    for start, stop in chunks(cases, cases, figures):
        weights = np.ones((stop - start, cases))
        weights[np.arange(stop - start), np.arange(start, stop)] = 0.0
        values[start:stop] = statistic.of(weights)
    return values


def chunks(draws: int, cases: int, figures: int) -> Iterator[tuple[int, int]]:
    """Ranges of draws small enough to hold in memory at once."""
    rows = max(1, CHUNK_ELEMENTS // max(cases, figures, 1))
    for start in range(0, draws, rows):
        yield start, min(start + rows, draws)


def cumulative_sums(weights: FloatArray) -> FloatArray:
    """Cumulative sums: the first 0, 1, …, n columns, shape (draws, n + 1)."""
    sums = np.zeros((weights.shape[0], weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums


def divide(part: FloatArray, whole: FloatArray) -> FloatArray:
    """Part over whole, shape (draws,); NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
