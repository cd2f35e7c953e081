"""Two classifiers on the same figures: McNemar's test, and a permutation test over cases.

McNemar's test assumes independent figures. Figures of one case are not independent, so report :func:`swap_test`,
whose unit is the case, beside it wherever cases have several figures.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must
from atypia.base.seeds import generator
from atypia.statistics.casestats import RESOLUTION, CaseStatistic, Combination, chunks
from atypia.statistics.confusion import check_binary, check_length
from atypia.statistics.metrics import METRICS, UndefinedMetricWarning
from atypia.statistics.resampling import PredictedLabels, case_codes, metric_statistic, statistics_of

McNemarMethod = Literal["exact", "mid-p", "corrected", "asymptotic"]


@dataclass(frozen=True)
class McNemar:
    """Outcome of McNemar's test.

    Attributes:
        only_first: Figures that the first decided correctly and the second wrongly.
        only_second: The reverse.
        statistic: χ² with one degree of freedom; NaN for the exact and mid-p forms.
        p: Two-sided p-value in [0, 1]; 1 where the two never differ.
        method: How it was computed.
    """

    only_first: int
    only_second: int
    statistic: float
    p: float
    method: str


@dataclass(frozen=True)
class SwapTest:
    """Outcome of a permutation test of one metric.

    Attributes:
        difference: Metric of the first − metric of the second.
        p: Two-sided p-value, (1 + draws at least as extreme) / (1 + draws); NaN where undefined.
        draws: Random swaps.
        n_cases: Number of cases.
    """

    difference: float
    p: float
    draws: int
    n_cases: int


def mcnemar(
    labels: npt.ArrayLike, first: npt.ArrayLike, second: npt.ArrayLike, method: McNemarMethod = "exact"
) -> McNemar:
    """McNemar's test of two classifiers' decisions on the same figures (Psychometrika 1947).

    With b figures that only the first got right and c that only the second got right, under equal
    accuracy b follows Binomial(b + c, ½). ``exact``: twice the smaller tail, at most 1; ``mid-p``: the
    same less P(b) once (Fagerland, Lydersen & Laake, BMC Med Res Methodol 2013), less conservative;
    ``corrected``: χ² = max(|b − c| − 1, 0)² / (b + c) (Edwards 1948); ``asymptotic``: (b − c)² / (b + c).

    The test compares accuracies, which the larger class dominates. Pass only the positives to compare
    sensitivities, only the negatives to compare specificities.

    Args:
        labels: Shape (n,), 0 or 1.
        first: Decisions of the first classifier, shape (n,), 0 or 1.
        second: Decisions of the second, same figures in the same order.
        method: One of these four.

    Returns:
        The outcome.

    Raises:
        InputError: Shapes differ, a value is neither 0 nor 1, or the method is unknown.

    >>> mcnemar([1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]).p
    0.25
    """
    y = check_binary("labels", labels)
    a, b = check_binary("first", first), check_binary("second", second)
    check_length(y, "first", a)
    check_length(y, "second", b)
    return mcnemar_counts(int(((a == y) & (b != y)).sum()), int(((a != y) & (b == y)).sum()), method)


def mcnemar_counts(only_first: int, only_second: int, method: McNemarMethod = "exact") -> McNemar:
    """McNemar's test of the two discordant counts; see :func:`mcnemar`."""
    from scipy.stats import binom, chi2

    total, gap = only_first + only_second, abs(only_first - only_second)
    if min(only_first, only_second) < 0:
        raise InputError(must("counts", "at least 0", (only_first, only_second), "count figures"))
    statistic = math.nan
    if method in ("exact", "mid-p"):
        fewer = min(only_first, only_second)
        p = 2 * float(binom.cdf(fewer, total, 0.5))
        if method == "mid-p":
            p -= float(binom.pmf(fewer, total, 0.5))
        p = min(1.0, p) if gap else 1.0
    elif method in ("corrected", "asymptotic"):
        step = max(gap - 1, 0) if method == "corrected" else gap
        statistic = step**2 / total if total else 0.0
        p = float(chi2.sf(statistic, 1))
    else:
        raise InputError(must("method", "exact, mid-p, corrected or asymptotic", method, "name one of them"))
    return McNemar(only_first, only_second, statistic, p, method)


def swap_test(
    labels: npt.ArrayLike,
    first: PredictedLabels,
    second: PredictedLabels,
    cases: Sequence[Any] | npt.NDArray[Any],
    names: Iterable[str] | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> dict[str, SwapTest]:
    """Permutation test of two classifiers: swaps their predictions of whole cases.

    If the two classifiers are exchangeable, swapping all their predictions for a case changes the result only
    by chance. Each draw swaps every case with probability ½; the p-value counts draws whose difference
    is at least as far from 0 (Good, Permutation, Parametric and Bootstrap Tests, 2005; the added 1
    after Phipson & Smyth 2010).

    Args:
        labels: Shape (n,), 0 or 1.
        first: Predictions of the first classifier.
        second: Predictions of the second, same figures in the same order; as many models, taken in pairs.
        cases: Shape (n,), the case of each figure.
        names: Metrics; None: all.
        draws: Random swaps, at least 100.
        seed: Master seed.

    Returns:
        Metric name to outcome. With k cases no p-value can be below 2^(1 − k).

    Raises:
        InputError: As :func:`atypia.statistics.intervals.metric_intervals`, or the numbers of models differ.
    """
    if draws < 100:
        raise InputError(must("draws", "at least 100", draws, "use 2000"))
    y = check_binary("labels", labels)
    codes, n_cases = case_codes(cases, len(y))
    if not len(y):
        raise InputError(must("labels", "of at least one figure", "none", "choose another part"))
    chosen = list(METRICS if names is None else names)
    for predicted in (first, second):
        statistics_of(y, predicted, codes, chosen)  # for its checks
    statistics = {name: _stacked(name, y, (first, second), codes, n_cases) for name in chosen}
    rng = generator(seed, "case swaps", n_cases)
    kept = np.zeros((1, n_cases))
    found = {name: _gap(statistic, kept) for name, statistic in statistics.items()}
    values = {name: np.empty(draws) for name in chosen}
    for start, stop in chunks(draws, 2 * n_cases, 2 * len(y)):
        swapped = rng.integers(0, 2, size=(stop - start, n_cases)).astype(np.float64)
        for name, statistic in statistics.items():
            values[name][start:stop] = _gap(statistic, swapped)
    return {name: _outcome(name, float(found[name][0]), values[name], n_cases) for name in chosen}


def _stacked(
    name: str,
    y: npt.NDArray[np.bool_],
    both: tuple[PredictedLabels, PredictedLabels],
    codes: npt.NDArray[np.int64],
    n_cases: int,
) -> CaseStatistic:
    """The metric over both classifiers' predictions; those of the second count as separate cases."""
    metric = METRICS[name]
    rows = [
        np.atleast_2d(np.asarray(p.decisions if metric.needs == "decisions" else p.probabilities, dtype=np.float64))
        for p in both
    ]
    if rows[0].shape != rows[1].shape:
        got = f"{len(rows[0])} and {len(rows[1])}"
        raise InputError(must("models", "as many of the first as of the second", got, "pair them by fold"))
    twice = np.concatenate([codes, codes + n_cases])
    parts = [
        metric_statistic(metric, np.concatenate([y, y]), np.concatenate(pair), twice)
        for pair in zip(*rows, strict=True)
    ]
    return Combination(tuple(parts), (1 / len(parts),) * len(parts))


def _gap(statistic: CaseStatistic, swapped: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return statistic.of(np.hstack([1 - swapped, swapped])) - statistic.of(np.hstack([swapped, 1 - swapped]))


def _outcome(name: str, difference: float, values: npt.NDArray[np.float64], n_cases: int) -> SwapTest:
    if math.isnan(difference) or bool(np.isnan(values).any()):
        warnings.warn(f"test of {name} is undefined: the metric is undefined", UndefinedMetricWarning, stacklevel=3)
        return SwapTest(difference, math.nan, len(values), n_cases)
    # Differences that are equal up to rounding count as equal; metrics are about 1.
    difference = 0.0 if abs(difference) <= RESOLUTION else difference
    extreme = int(np.count_nonzero(np.abs(values) >= abs(difference) - RESOLUTION))
    return SwapTest(difference, (1 + extreme) / (1 + len(values)), len(values), n_cases)
