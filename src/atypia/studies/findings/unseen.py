"""Results on domains left out one at a time: each domain, the mean over all, and its difference from the baseline.

The pooled result of such a study weighs domains by their figures, and ranks the probabilities of different
trainings against each other. Here the question is how well a classifier works in a laboratory that it never saw:
each domain separately, the mean with equal weights, and the worst domain.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from atypia.base import records as r
from atypia.base import runs
from atypia.statistics.casestats import Among, CaseStatistic, Combination
from atypia.statistics.confusion import IntArray
from atypia.statistics.intervals import Bootstrap, Interval, bootstrap_intervals
from atypia.statistics.metrics import METRICS, UndefinedMetricWarning
from atypia.statistics.resampling import metric_statistic
from atypia.studies.findings.comparisons import is_baseline
from atypia.studies.findings.keys import PlaceKey
from atypia.studies.findings.pooling import ManifestFigures, Pool, RowPredictions
from atypia.studies.findings.schema import LeftOut, Series, Unseen
from atypia.studies.findings.scoring import (
    AUROC,
    AUROC_BUDGET,
    LEVEL,
    NOT_COMPUTED,
    RATES,
    codes_of,
    draws_for,
    rate_statistic,
)
from atypia.studies.shift import LODO

SHOWN: Final = (AUROC, *RATES)
"""Metrics of a left-out domain."""


@dataclass(frozen=True, eq=False)
class _Row:
    """A row with the statistics of its means.

    Attributes:
        unseen: Its results so far.
        means: Metric to its mean over domains, as a function of the weights of ``cases``.
        cases: Codes of the cases of all domains, ascending.
        domains: Metric to the names of the domains where it is defined.
        figures: Positions of all figures.
    """

    unseen: Unseen
    means: Mapping[str, CaseStatistic]
    cases: IntArray
    domains: Mapping[str, tuple[str, ...]]
    figures: IntArray


def unseen_domains(pool: Pool, places: Sequence[PlaceKey], series: Sequence[Series], limits: list[str]) -> list[Unseen]:
    """Every row on the left-out domains, in the order of the study; empty for other protocols.

    Args:
        pool: The study's predictions.
        places: Manifest and part of each place, in the order of the findings.
        series: The study's rows, in the order of :meth:`atypia.studies.findings.pooling.Pool.series`.
        limits: What was left out is added here.
    """
    protocol, options = pool.plan.protocol
    if protocol != LODO:
        return []
    column = str(options.get("by", r.DOMAIN))
    found: list[Unseen] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)  # a domain without one of the classes: n/a
        for place, key in enumerate(places):
            figures = pool.figures(key.manifest)
            names = figures.manifest.table[column]
            rows = []
            for number, row in enumerate(pool.series() if key.part == runs.TEST else ()):
                parts = {str(names[int(one.rows[0])].as_py()): one for one in pool.parts(row, key)}
                if parts:
                    rows.append(_row(number, place, dict(sorted(parts.items())), figures, limits))
            found += [_gained(row, rows, series, pool.plan.baseline, limits) for row in rows]
    return found


def _row(
    series: int, place: int, parts: Mapping[str, RowPredictions], figures: ManifestFigures, limits: list[str]
) -> _Row:
    domains: list[LeftOut] = []
    wholes: dict[str, dict[str, CaseStatistic]] = {metric: {} for metric in SHOWN}
    every = np.sort(np.concatenate([sample.rows for sample in parts.values()]))
    cases = np.unique(figures.cases[every])
    for name, sample in parts.items():
        codes, n_cases = codes_of(figures.cases[sample.rows])
        where = np.searchsorted(cases, np.unique(figures.cases[sample.rows]))
        n, models = len(codes), len(sample.thresholds)
        statistics = {metric: _statistic(metric, sample, codes) for metric in SHOWN}
        values = _drawn(statistics, n, n_cases, models, limits)
        positives, threshold = int(sample.labels.sum()), float(sample.thresholds.mean())
        domains.append(LeftOut(name, n, positives, n_cases, models, threshold, values))
        for metric, statistic in statistics.items():
            if not math.isnan(values[metric].estimate):
                wholes[metric][name] = Among(statistic, where, len(cases))
    means = {
        metric: Combination(tuple(some.values()), (1 / len(some),) * len(some))
        for metric, some in wholes.items()
        if some
    }
    mean = _drawn(means, len(every), len(cases), max(one.n_models for one in domains), limits)
    known = {metric: tuple(some) for metric, some in wholes.items()}
    return _Row(Unseen(series, place, tuple(domains), mean), means, cases, known, every)


def _gained(
    row: _Row, rows: Sequence[_Row], series: Sequence[Series], baseline: str | None, limits: list[str]
) -> Unseen:
    """The row with what its means gain over the baseline's at the same decision, where that scored the same figures."""
    own = series[row.unseen.series]
    for other in rows:
        about = series[other.unseen.series]
        if baseline is None or other is row or not is_baseline(about, baseline):
            continue
        if (about.group, about.decision) != (own.group, own.decision) or not np.array_equal(other.figures, row.figures):
            continue
        gains = {
            metric: Combination((mean, other.means[metric]), (1.0, -1.0))
            for metric, mean in row.means.items()
            if row.domains[metric] == other.domains[metric]
        }
        models = max(one.n_models for each in (row, other) for one in each.unseen.domains)
        gain = _drawn(gains, len(row.figures), len(row.cases), 2 * models, limits)
        return replace(row.unseen, reference=other.unseen.series, gain=gain)
    return row.unseen


def _statistic(metric: str, sample: RowPredictions, codes: IntArray) -> CaseStatistic:
    """The mean over models, on one domain's figures only."""
    each = sample.p[None] if sample.each is None else sample.each
    if metric == AUROC:
        return metric_statistic(METRICS[AUROC], sample.labels, each, codes)
    said = (each >= sample.thresholds[:, None]).sum(axis=0)
    return rate_statistic(metric, sample.labels, said, codes, len(each))


def _drawn(
    statistics: Mapping[str, CaseStatistic], n: int, n_cases: int, models: int, limits: list[str]
) -> dict[str, Interval]:
    """Intervals over cases on shared draws; AUROC has none if its draws would cost too much."""
    draws = draws_for(n_cases, max(1, len(statistics)))
    costly = draws * n * models > AUROC_BUDGET
    wanted = {name: statistic for name, statistic in statistics.items() if name != AUROC or not costly}
    found = bootstrap_intervals(wanted, n, n_cases, Bootstrap(draws=draws))
    if costly and AUROC in statistics:
        limits.append("domains left out: AUROC without intervals")
        value = float(statistics[AUROC].of(np.ones((1, n_cases)))[0])
        found = {AUROC: Interval(value, math.nan, math.nan, LEVEL, NOT_COMPUTED, math.nan, n, n_cases), **found}
    return found
