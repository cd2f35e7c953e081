"""Scores each row of a study on each place: intervals over cases, confusion matrix, curves, domains."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from atypia.statistics.casestats import CaseStatistic, Sums, divide
from atypia.statistics.confusion import FloatArray
from atypia.statistics.delong import DELONG_LOGIT, auroc_covariance, auroc_interval
from atypia.statistics.intervals import Bootstrap, Interval, bootstrap_intervals
from atypia.statistics.metrics import METRICS, UndefinedMetricWarning, auroc, average_precision, ece, roc_curve
from atypia.statistics.resampling import metric_statistic
from atypia.studies.findings.pooling import ManifestFigures, RowPredictions
from atypia.studies.findings.schema import (
    RELIABILITY_BINS,
    RELIABILITY_FEWEST,
    Curves,
    DomainScore,
    Line,
    PlaceScore,
)

BA, SENSITIVITY, SPECIFICITY, AUROC = "balanced_accuracy", "sensitivity", "specificity", "auroc"
RATES: Final = (BA, SENSITIVITY, SPECIFICITY)
"""Metrics that are functions of the shares decided positive and negative."""

DRAWN: Final = 6
"""Number of rows with curves and domains on a place: the best, and the baseline."""
DETAILED: Final = 12
"""Rows of a place whose AUROC is bootstrapped and whose models' mean gets an interval."""
CURVE_POINTS: Final = 160
DOMAINS: Final = 24
"""Largest number of domains per place: the largest ones."""
LEVEL: Final = 0.95
NOT_COMPUTED: Final = "none"
DRAWS: Final = 2000
FEWEST_DRAWS: Final = 400
BUDGET: Final = 4e8
"""Budget of case weights drawn and summed for all rows of a place: a few seconds on one core."""
RANK_BUDGET: Final = 4e6
"""Figures times rows up to which every row's mean AUROC has an interval."""
AUROC_BUDGET: Final = 1.5e8
"""The same for ranks of figures, which cost more; above it, AUROC intervals use DeLong's formula."""


@dataclass(frozen=True, eq=False)
class ScoredRow:
    """A row that is scored on a place.

    Attributes:
        series: Position of the row.
        sample: Its predictions.
        several: Whether the mean of its models' values is reported in addition to the pooled probabilities.
        order: Value of the metric by which rows are ordered; −1 where undefined.
    """

    series: int
    sample: RowPredictions
    several: bool
    order: float


def scored_row(series: int, sample: RowPredictions, common: bool, metric: str = BA) -> ScoredRow:
    """A row on a place, with the value of the metric (balanced accuracy or AUROC) that it is ordered by."""
    several = common and sample.each is not None and len(sample.each) > 1
    if metric == AUROC:
        scores = sample.each if several and sample.each is not None else [sample.p]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UndefinedMetricWarning)
            value = float(np.mean([auroc(sample.labels, p) for p in scores]))
    else:
        statistic = _of_sample(BA, sample, np.zeros(len(sample.rows), np.int64), several)
        value = float(statistic.of(np.ones((1, 1)))[0])
    return ScoredRow(series, sample, several, -1.0 if math.isnan(value) else value)


def rate_statistic(
    metric: str,
    labels: npt.NDArray[np.bool_],
    said: npt.NDArray[Any],
    codes: npt.NDArray[np.int64],
    models: int = 1,
) -> CaseStatistic:
    """Sensitivity, specificity or their mean as a function of case weights; the mean over models.

    All are linear in the decisions, so models need not be distinguished and m cost as much as one. Sums are
    whole numbers: draws that equal the estimate do so exactly, as the bootstrap's bias correction counts them.

    Args:
        metric: One of :data:`RATES`.
        labels: Shape (n,).
        said: Shape (n,), number of models with a positive decision.
        codes: Shape (n,), the figures' cases, from 0.
        models: Number of models.
    """
    count = int(codes.max()) + 1
    said = np.asarray(said, dtype=np.int64)
    columns = (labels * said, labels * models, ~labels * (models - said), ~labels * models)
    sums = np.stack([np.bincount(codes, column, count) for column in columns], axis=1).astype(np.float64)
    if metric == SENSITIVITY:
        return Sums(sums[:, :2], lambda s: divide(s[:, 0], s[:, 1]))
    if metric == SPECIFICITY:
        return Sums(sums[:, 2:], lambda s: divide(s[:, 0], s[:, 1]))
    return Sums(sums, lambda s: (divide(s[:, 0], s[:, 1]) + divide(s[:, 2], s[:, 3])) / 2)


def draws_for(n_cases: int, statistics: int) -> int:
    """Bootstrap draws that keep within :data:`BUDGET`, from :data:`FEWEST_DRAWS` to :data:`DRAWS`."""
    affordable = BUDGET / max(1, n_cases * statistics)
    return int(min(DRAWS, max(FEWEST_DRAWS, affordable // 100 * 100)))


def affordable_rows(n_cases: int, statistics: int) -> int:
    """Number of rows for which the fewest draws are affordable, at least 3."""
    return max(3, int(BUDGET / (FEWEST_DRAWS * max(1, n_cases) * statistics)))


def place_scores(
    place: int,
    entries: Sequence[ScoredRow],
    figures: ManifestFigures,
    drawn: frozenset[int],
    limits: list[str],
    name: str,
) -> list[PlaceScore]:
    """Scores all rows of a place.

    Args:
        place: Its position.
        entries: Rows, best first.
        figures: Of the place's manifest.
        drawn: Positions of rows that get curves and domains.
        limits: What was left out is added here.
        name: Of the place, for messages.
    """
    intervals = _place_intervals(entries, figures, limits, name)
    found = []
    for number, one in enumerate(entries):
        sample = one.sample
        pooled, each = intervals[number]
        y, d = sample.labels, sample.decisions
        counts = tuple(int(np.count_nonzero(part)) for part in (y & d, y & ~d, ~y & d, ~y & ~d))
        show = one.series in drawn
        found.append(
            PlaceScore(
                one.series,
                place,
                len(sample.thresholds),
                len(sample.rows),
                float(sample.thresholds.mean()),
                pooled,
                each,
                (counts[0], counts[1], counts[2], counts[3]),
                _by_domain(sample, figures) if show else (),
                curves_of(sample) if show else None,
            )
        )
    return found


def codes_of(cases: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], int]:
    """Cases numbered from 0, and their count."""
    names, codes = np.unique(cases, return_inverse=True)
    return codes.astype(np.int64), len(names)


def _place_intervals(
    entries: Sequence[ScoredRow], figures: ManifestFigures, limits: list[str], name: str
) -> list[tuple[dict[str, Interval], dict[str, Interval]]]:
    """Pooled and mean-of-models intervals of each row; rows that scored the same figures share the draws.

    Where several models scored the same figures every row has both, so that rows can be compared; the pooled ones
    of rows below the first :data:`DETAILED` are estimates alone.
    """
    found: list[tuple[dict[str, Interval], dict[str, Interval]]] = [({}, {}) for _ in entries]
    groups: dict[bytes, list[int]] = {}
    for number, one in enumerate(entries):
        groups.setdefault(one.sample.rows.tobytes(), []).append(number)
    for members in groups.values():
        rows = [entries[number] for number in members]
        codes, n_cases = codes_of(figures.cases[rows[0].sample.rows])
        for number, intervals in zip(members, _group_intervals(rows, codes, n_cases, limits, name), strict=True):
            found[number] = intervals
    return found


def _group_intervals(
    rows: Sequence[ScoredRow], codes: npt.NDArray[np.int64], n_cases: int, limits: list[str], name: str
) -> list[tuple[dict[str, Interval], dict[str, Interval]]]:
    """The same for rows that scored the same figures."""
    n = len(codes)
    # Draws are shared, so that only sums are paid for each row.
    most = affordable_rows(n_cases, len(RATES))
    draws = draws_for(n_cases, len(RATES) * (min(len(rows), most) + min(len(rows), DETAILED)))
    ranked = draws * n * min(len(rows), DETAILED) <= AUROC_BUDGET
    means = sum(one.sample.each is not None and one.several for one in rows) * n <= RANK_BUDGET
    if len(rows) > most:
        limits.append(f"{name}: intervals of the best {most} of {len(rows)} rows")
    if draws < DRAWS:
        limits.append(f"{name}: {draws:,} bootstrap draws instead of {DRAWS:,}")
    if not ranked:
        limits.append(f"{name}: intervals of AUROC by DeLong's formula instead of bootstrap")
    if not means:
        limits.append(f"{name}: intervals of the mean AUROC of the best {DETAILED} rows")
    statistics: dict[tuple[int, bool, str], CaseStatistic] = {}
    for number, one in enumerate(rows[:most]):
        for several in {one.several, False} if number < DETAILED else {one.several}:
            for metric in RATES:
                statistics[number, several, metric] = _of_sample(metric, one.sample, codes, several)
        if ranked and number < DETAILED:
            area = metric_statistic(METRICS[AUROC], one.sample.labels, one.sample.p, codes)
            statistics[number, False, AUROC] = area
    found: list[tuple[dict[str, Interval], dict[str, Interval]]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)  # shows as n/a
        drawn = bootstrap_intervals(statistics, n, n_cases, Bootstrap(draws=draws))
        for number, one in enumerate(rows):
            kinds: tuple[dict[str, Interval], dict[str, Interval]] = ({}, {})
            for several in (False, True) if one.several else (False,):
                for metric in RATES:
                    known = drawn.get((number, several, metric))
                    kinds[several][metric] = known or _bare(one.sample, metric, several, n_cases)
            y, area = one.sample.labels, drawn.get((number, False, AUROC))
            kinds[False][AUROC] = area or auroc_interval(y, one.sample.p, codes)
            if one.several and one.sample.each is not None:
                mean = mean_auroc_interval(y, one.sample.each, codes, n_cases, means or number < DETAILED)
                kinds[True][AUROC] = mean
            found.append(kinds)
    return found


def _bare(sample: RowPredictions, metric: str, several: bool, n_cases: int) -> Interval:
    """An estimate without an interval, which was not computed."""
    n = len(sample.rows)
    statistic = _of_sample(metric, sample, np.zeros(n, np.int64), several)
    value = float(statistic.of(np.ones((1, 1)))[0])
    return Interval(value, math.nan, math.nan, LEVEL, NOT_COMPUTED, math.nan, n, n_cases)


def mean_auroc_interval(
    labels: npt.ArrayLike, scores: FloatArray, cases: npt.NDArray[np.int64], n_cases: int, whole: bool = True
) -> Interval:
    """Interval of the mean AUROC of several models on the same figures.

    The variance of the mean is the mean of DeLong's covariance matrix (with cases, Obuchowski's); the interval is
    symmetric on the logit scale, as in :func:`atypia.statistics.delong.auroc_interval`.

    Args:
        labels: Shape (n,).
        scores: Shape (models, n).
        cases: Shape (n,).
        n_cases: Number of cases.
        whole: Whether to compute the ends, which costs sorting and memory; else only the estimate.
    """
    from scipy.special import expit, logit, ndtri

    if not whole:
        value = float(np.mean([auroc(labels, row) for row in scores]))
        return Interval(value, math.nan, math.nan, LEVEL, NOT_COMPUTED, math.nan, scores.shape[1], n_cases)
    areas, covariance = auroc_covariance(labels, scores, cases)
    area, se = float(areas.mean()), math.sqrt(max(float(covariance.mean()), 0.0))
    low = high = math.nan
    if 0 < area < 1 and se > 0:  # NaN if a class is in one case only, 0 if no model tells any two figures apart
        half = float(ndtri((1 + LEVEL) / 2)) * se / (area * (1 - area))
        low, high = float(expit(logit(area) - half)), float(expit(logit(area) + half))
    return Interval(area, low, high, LEVEL, DELONG_LOGIT, se, scores.shape[1], n_cases)


def _of_sample(metric: str, sample: RowPredictions, codes: npt.NDArray[np.int64], several: bool) -> CaseStatistic:
    """The metric of the pooled probabilities, or the mean over the models."""
    if several and sample.each is not None:
        said = (sample.each >= sample.thresholds[:, None]).sum(axis=0)
        return rate_statistic(metric, sample.labels, said, codes, len(sample.each))
    return rate_statistic(metric, sample.labels, sample.decisions, codes)


def _by_domain(sample: RowPredictions, figures: ManifestFigures) -> tuple[DomainScore, ...]:
    domains = figures.domains[sample.rows]
    present, counts = np.unique(domains[domains >= 0], return_counts=True)
    kept = sorted(present[np.argsort(-counts, kind="stable")[:DOMAINS]].tolist())
    found = []
    for domain in kept:
        mask = domains == domain
        y, n = sample.labels[mask], int(mask.sum())
        codes, n_cases = codes_of(figures.cases[sample.rows[mask]])
        statistic = rate_statistic(BA, y, sample.decisions[mask], codes)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UndefinedMetricWarning)  # a domain without one of the classes: n/a
            options = Bootstrap(draws=draws_for(n_cases, DRAWN))
            value = bootstrap_intervals({BA: statistic}, n, n_cases, options)[BA]
            area = auroc_interval(y, sample.p[mask], codes)
        found.append(DomainScore(figures.domain_names[domain], n, int(y.sum()), n_cases, value, area))
    return tuple(found)


def curves_of(sample: RowPredictions) -> Curves | None:
    """ROC, precision-recall and reliability of the pooled probabilities; None if a class is absent."""
    y, p = sample.labels, sample.p
    if y.all() or not y.any():
        return None
    fpr, tpr, _ = roc_curve(y, p)
    positives, negatives = int(y.sum()), int((~y).sum())
    true, false = tpr * positives, fpr * negatives
    found = true + false
    precision = np.divide(true, found, out=np.ones_like(true), where=found > 0)
    first = int(np.argmax(true > 0))  # before this, no positive is found and recall stays 0
    bins = np.minimum((p * RELIABILITY_BINS).astype(np.int64), RELIABILITY_BINS - 1)
    counts = np.bincount(bins, minlength=RELIABILITY_BINS)
    shown = counts >= RELIABILITY_FEWEST
    mean = np.bincount(bins, p, RELIABILITY_BINS)[shown] / counts[shown]
    share = np.bincount(bins, y, RELIABILITY_BINS)[shown] / counts[shown]
    return Curves(
        thinned(fpr, tpr),
        thinned(tpr[first:], precision[first:]),
        Line(tuple(mean.round(4).tolist()), tuple(share.round(4).tolist())),
        average_precision(y, p),
        ece(y, p),
    )


def thinned(x: FloatArray, y: FloatArray, points: int = CURVE_POINTS) -> Line:
    """At most ``points`` points of a curve, evenly spaced along it, including both ends; rounded to 1e-4."""
    if len(x) > points:
        way = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
        wanted = np.linspace(0, way[-1], points)
        kept = np.unique(np.clip(np.searchsorted(way, wanted), 0, len(x) - 1))
        kept[0], kept[-1] = 0, len(x) - 1
        x, y = x[kept], y[kept]
    return Line(tuple(np.round(x, 4).tolist()), tuple(np.round(y, 4).tolist()))
