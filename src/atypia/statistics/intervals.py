"""Confidence intervals of metrics and of paired differences by a bootstrap of cases.

Cases are drawn with replacement, each with all its figures: figures of a case resemble each other,
and drawing single figures would give intervals that are too narrow. Two classifiers are compared
on the same draws, so that differences in difficulty between cases cancel.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must
from atypia.base.seeds import generator
from atypia.statistics.casestats import RESOLUTION, CaseStatistic, Combination, chunks, scale_of
from atypia.statistics.confusion import FloatArray, IntArray, check_binary
from atypia.statistics.metrics import UndefinedMetricWarning
from atypia.statistics.resampling import PredictedLabels, case_codes, statistics_of

BCA = "bca"
PERCENTILE = "percentile"
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes:
        estimate: Value on the original figures.
        low: Lower end; NaN where the interval is undefined.
        high: Upper end.
        level: Nominal coverage, in (0, 1).
        method: How it was computed: ``bca``, ``percentile``, ``delong``, ``delong-logit``.
        se: Standard error (bootstrap: sd of the draws, ddof 1).
        n: Number of figures.
        n_cases: Number of cases; equal to ``n`` where each figure is its own case.
        draws: Bootstrap draws; 0 for an analytic interval.
        undefined: Draws in which the metric was undefined; they are left out.
    """

    estimate: float
    low: float
    high: float
    level: float
    method: str
    se: float
    n: int
    n_cases: int
    draws: int = 0
    undefined: int = 0


@dataclass(frozen=True)
class Bootstrap:
    """Options of the bootstrap.

    Attributes:
        draws: Number of draws, at least 100. At 2,000, the ends of a 95 % interval vary by about 2 % of its width.
        level: Nominal coverage, in (0, 1).
        method: ``bca`` (bias-corrected and accelerated) or ``percentile``.
        seed: Master seed; the same seed and number of cases give the same draws for every metric and classifier.
        most_undefined: Share of undefined draws above which there is no interval, in [0, 1].
    """

    draws: int = 2000
    level: float = 0.95
    method: Literal["bca", "percentile"] = BCA
    seed: int = 0
    most_undefined: float = 0.05

    def __post_init__(self) -> None:
        if self.draws < 100:
            raise InputError(must("draws", "at least 100", self.draws, "use 2000"))
        if not 0 < self.level < 1:
            raise InputError(must("level", "between 0 and 1", self.level, "use 0.95"))
        if self.method not in (BCA, PERCENTILE):
            raise InputError(must("method", f"{BCA} or {PERCENTILE}", self.method, f"use {BCA}"))
        if not 0 <= self.most_undefined <= 1:
            raise InputError(must("most_undefined", "between 0 and 1", self.most_undefined, "use 0.05"))


def metric_intervals(
    labels: npt.ArrayLike,
    predicted: PredictedLabels,
    cases: Sequence[Any] | npt.NDArray[Any],
    names: Iterable[str] | None = None,
    options: Bootstrap | None = None,
) -> dict[str, Interval]:
    """Intervals of a classifier's metrics.

    Args:
        labels: Shape (n,), 0 or 1.
        predicted: The classifier's predictions; with several models, the mean of their metrics.
        cases: Shape (n,), the case of each figure.
        names: Metrics of :data:`atypia.statistics.metrics.METRICS`; None: all.
        options: Bootstrap options.

    Returns:
        Metric name to interval. It covers the variation between cases, not the variation between
        repeated trainings.

    Raises:
        InputError: Shapes differ, a value is out of range, a metric is unknown.
    """
    y, codes, n_cases = _figures(labels, cases)
    return bootstrap_intervals(statistics_of(y, predicted, codes, names), len(y), n_cases, options)


def difference_intervals(
    labels: npt.ArrayLike,
    first: PredictedLabels,
    second: PredictedLabels,
    cases: Sequence[Any] | npt.NDArray[Any],
    names: Iterable[str] | None = None,
    options: Bootstrap | None = None,
) -> dict[str, Interval]:
    """Intervals of the difference «first − second» of two classifiers on the same figures.

    Args:
        labels: Shape (n,), 0 or 1.
        first: Predictions of the first classifier.
        second: Predictions of the second, same figures in the same order; it may have another number of models.
        cases: Shape (n,), the case of each figure.
        names: Metrics; None: all.
        options: Bootstrap options.

    Returns:
        Metric name to interval of the difference; an interval without 0 means a difference at level 1 − ``level``.

    Raises:
        InputError: As :func:`metric_intervals`.
    """
    y, codes, n_cases = _figures(labels, cases)
    names = None if names is None else list(names)
    ours, theirs = (statistics_of(y, predicted, codes, names) for predicted in (first, second))
    differences = {name: Combination((ours[name], theirs[name]), (1.0, -1.0)) for name in ours}
    return bootstrap_intervals(differences, len(y), n_cases, options)


def _figures(
    labels: npt.ArrayLike, cases: Sequence[Any] | npt.NDArray[Any]
) -> tuple[npt.NDArray[np.bool_], IntArray, int]:
    """Labels, the code of each figure's case, and how many cases there are."""
    y = check_binary("labels", labels)
    codes, n_cases = case_codes(cases, len(y))
    if not len(y):
        raise InputError(must("labels", "of at least one figure", "none", "choose another part"))
    return y, codes, n_cases


def bootstrap_intervals(
    statistics: Mapping[K, CaseStatistic], n: int, n_cases: int, options: Bootstrap | None = None
) -> dict[K, Interval]:
    """Intervals of statistics of the same cases, on the same draws.

    Percentile: the quantiles (1 ∓ level)/2 of the draws, interpolated linearly. BCa (Efron 1987;
    Efron & Tibshirani 1993, eq. 14.9 to 14.15): the quantiles are moved to Φ(z₀ + (z₀ + z)/(1 − a (z₀ + z))),
    where z = Φ⁻¹((1 ∓ level)/2), Φ(z₀) is the share of draws below the estimate (equal ones count
    half) and a = Σ d³ / (6 (Σ d²)^1.5) with d = jackknife mean − jackknife value over cases.

    Args:
        statistics: Name to statistic; any dictionary key; shown in warnings.
        n: Number of figures.
        n_cases: Number of cases.
        options: Bootstrap options.

    Returns:
        Name to interval. Its ends are NaN, with an :class:`atypia.statistics.metrics.UndefinedMetricWarning`, where
        there is one case only, too many draws are undefined, all draws are equal, or BCa has no answer.

    Values that differ by less than :data:`atypia.statistics.casestats.RESOLUTION` of the statistic's scale count
    as equal: the difference of two identical classifiers is 0, without rounding error.
    """
    options = options or Bootstrap()
    rng = generator(options.seed, "case bootstrap", n_cases)
    values = {name: np.empty(options.draws) for name in statistics}
    for start, stop in chunks(options.draws, n_cases, n):
        weights = _draw(rng, stop - start, n_cases)
        for name, statistic in statistics.items():
            values[name][start:stop] = statistic.of(weights)
    return {
        name: _interval(name, statistic, values[name], n, n_cases, options) for name, statistic in statistics.items()
    }


def _draw(rng: np.random.Generator, rows: int, n_cases: int) -> FloatArray:
    picked = rng.integers(0, n_cases, size=(rows, n_cases))
    picked += np.arange(rows)[:, None] * n_cases
    return np.bincount(picked.ravel(), minlength=rows * n_cases).reshape(rows, n_cases).astype(np.float64)


def _interval(
    name: Hashable, statistic: CaseStatistic, values: FloatArray, n: int, n_cases: int, options: Bootstrap
) -> Interval:
    defined = values[~np.isnan(values)]
    undefined = len(values) - len(defined)
    same = RESOLUTION * max(scale_of(statistic, n_cases), float(np.abs(defined).max(initial=0.0)))
    estimate = _rounded(float(statistic.of(np.ones((1, n_cases)))[0]), same)
    low = high = math.nan
    se = _rounded(float(np.std(defined, ddof=1)), same) if len(defined) > 1 else math.nan
    why = None
    if math.isnan(estimate):
        why = "the metric itself is undefined"
    elif n_cases < 2:
        why = "there is one case only, so the spread between cases is unknown"
    elif undefined > options.most_undefined * options.draws:
        why = f"it is undefined in {undefined} of {options.draws} draws: a class is in too few cases"
    elif defined.max() - defined.min() <= same:
        why = "all draws are equal"
    else:
        tails = np.array([(1 - options.level) / 2, (1 + options.level) / 2])
        if options.method == BCA:
            tails = _bca_tails(tails, estimate, defined, statistic.without_each(), same)
        if np.isnan(tails).any():
            why = f"{BCA} has no answer here; fix: use {PERCENTILE}"
        else:
            low, high = (_rounded(float(end), same) for end in np.quantile(defined, tails))
    if why is not None:
        if n_cases < 2:
            se = math.nan
        warnings.warn(f"interval of {name} is undefined: {why}", UndefinedMetricWarning, stacklevel=4)
    return Interval(estimate, low, high, options.level, options.method, se, n, n_cases, options.draws, undefined)


def _rounded(value: float, same: float) -> float:
    """The value, or 0 where it differs from 0 only by rounding; NaN stays NaN."""
    return 0.0 if abs(value) <= same else value


def _bca_tails(tails: FloatArray, estimate: float, draws: FloatArray, jackknife: FloatArray, same: float) -> FloatArray:
    from scipy.special import ndtr, ndtri

    share = (np.mean(draws < estimate - same) + np.mean(draws <= estimate + same)) / 2
    gaps = jackknife.mean() - jackknife  # NaN where a class is in one case only: BCa is then undefined
    gaps[np.abs(gaps) <= same] = 0.0
    spread = np.sum(gaps**2)
    bias = ndtri(share)
    acceleration = np.sum(gaps**3) / (6 * spread**1.5) if spread > 0 else 0.0
    if not np.isfinite(bias) or math.isnan(acceleration) or math.isnan(spread):
        return np.full(2, np.nan)
    shifted = bias + ndtri(tails)
    room = 1 - acceleration * shifted
    if bool((room <= 0).any()):  # beyond the pole of the correction
        return np.full(2, np.nan)
    return ndtr(bias + shifted / room)
