"""Compares rows of a study with a reference on each place: on the same figures, with cases as the unit."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from atypia.statistics.casestats import Combination
from atypia.statistics.delong import compare_aurocs
from atypia.statistics.differences.multiple import holm
from atypia.statistics.differences.paired import mcnemar, swap_test
from atypia.statistics.intervals import Bootstrap, bootstrap_intervals
from atypia.statistics.metrics import UndefinedMetricWarning
from atypia.statistics.resampling import PredictedLabels
from atypia.studies.findings.pooling import ManifestFigures, RowPredictions
from atypia.studies.findings.schema import Difference, Series
from atypia.studies.findings.scoring import (
    AUROC,
    BA,
    DRAWS,
    FEWEST_DRAWS,
    ScoredRow,
    codes_of,
    draws_for,
    rate_statistic,
)

SWAPS: Final = "swaps of cases"
DELONG: Final = "DeLong"
COMPARED: Final = 40
"""Largest number of rows compared with a reference on a place: the best ones."""
PER_ROW: Final = 6
"""Cost of a comparison: two statistics for the interval, and swaps, which are drawn for each row."""
SWAP_BUDGET: Final = 6e8


def reference_of(entries: Sequence[ScoredRow], series: Sequence[Series], baseline: str | None) -> dict[str, ScoredRow]:
    """The reference row of each group: the baseline, else the best.

    Args:
        entries: Rows on a place, best first.
        series: All rows.
        baseline: The study's row that is its baseline; None without one.
    """
    found: dict[str, ScoredRow] = {}
    for one in entries:
        about = series[one.series]
        if baseline is None or is_baseline(about, baseline):
            found.setdefault(about.group, one)
    for one in entries:  # a group without the baseline's runs
        found.setdefault(series[one.series].group, one)
    return found


def is_baseline(series: Series, baseline: str) -> bool:
    """Whether a row is the baseline, with any decision threshold."""
    return series.row == baseline


def place_differences(
    place: int,
    entries: Sequence[ScoredRow],
    references: dict[str, ScoredRow],
    series: Sequence[Series],
    figures: ManifestFigures,
    limits: list[str],
    name: str,
) -> list[Difference]:
    """Differences of rows from their group's reference, with uncorrected p-values.

    Args:
        place: Its position.
        entries: Rows, best first.
        references: Group to its reference.
        series: All rows.
        figures: Of the place's manifest.
        limits: What was left out is added here.
        name: Of the place, for messages.
    """
    others = [one for one in entries if references[series[one.series].group] is not one]
    if len(others) > COMPARED:
        limits.append(f"{name}: differences of the best {COMPARED} of {len(others)} rows")
    found: list[Difference] = []
    for one in others[:COMPARED]:
        found += _compared(place, one, references[series[one.series].group], figures, min(len(others), COMPARED))
    drawn = {d.value.draws for d in found if d.metric == BA}
    if drawn and min(drawn) < DRAWS:
        limits.append(f"{name}: differences from {min(drawn):,} draws instead of {DRAWS:,}")
    return found


def corrected(differences: Sequence[Difference]) -> tuple[Difference, ...]:
    """The same differences with Holm's correction over all of them."""
    adjusted = holm([d.p for d in differences]) if differences else []
    return tuple(replace(d, p_holm=float(p)) for d, p in zip(differences, adjusted, strict=True))


def _compared(place: int, one: ScoredRow, other: ScoredRow, figures: ManifestFigures, rows: int) -> list[Difference]:
    a, b = aligned(one.sample, other.sample)
    if a is None or b is None:
        return []
    codes, n_cases = codes_of(figures.cases[a.rows])
    y, n = a.labels, len(a.rows)
    draws = draws_for(n_cases, PER_ROW * rows)
    first, second = (rate_statistic(BA, y, s.decisions, codes) for s in (a, b))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)  # shows as n/a
        gap = Combination((first, second), (1.0, -1.0))
        value = bootstrap_intervals({BA: gap}, n, n_cases, Bootstrap(draws=draws))[BA]
        swaps = int(min(DRAWS, max(FEWEST_DRAWS, SWAP_BUDGET / (rows * n_cases) // 100 * 100)))
        said = [PredictedLabels(s.p, s.decisions.astype(np.int64)) for s in (a, b)]
        p = math.nan
        if not math.isnan(value.estimate):
            p = swap_test(y, said[0], said[1], codes, [BA], draws=swaps)[BA].p
        by_figure = mcnemar(y, said[0].decisions, said[1].decisions, "mid-p")
        counts = (by_figure.only_first, by_figure.only_second, by_figure.p)
        found = [Difference(one.series, other.series, place, BA, value, p, math.nan, SWAPS, *counts)]
        if y.any() and not y.all():
            areas = compare_aurocs(y, a.p, b.p, codes)
            found.append(
                Difference(one.series, other.series, place, AUROC, areas.difference, areas.p, math.nan, DELONG, *counts)
            )
    return found


def aligned(first: RowPredictions, second: RowPredictions) -> tuple[RowPredictions, RowPredictions] | tuple[None, None]:
    """Both samples restricted to the figures that both scored; None if there are none."""
    if np.array_equal(first.rows, second.rows):
        return first, second
    _, ours, theirs = np.intersect1d(first.rows, second.rows, assume_unique=True, return_indices=True)
    if not len(ours):
        return None, None
    return _taken(first, ours), _taken(second, theirs)


def _taken(sample: RowPredictions, kept: np.ndarray) -> RowPredictions:
    return replace(
        sample,
        rows=sample.rows[kept],
        labels=sample.labels[kept],
        p=sample.p[kept],
        decisions=sample.decisions[kept],
        each=None if sample.each is None else sample.each[:, kept],
    )
