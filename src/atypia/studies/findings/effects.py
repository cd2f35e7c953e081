"""Effects of a study's factors: the mean difference made by each factor level, all else equal."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from atypia.statistics.casestats import CaseStatistic, Combination
from atypia.statistics.intervals import Bootstrap, bootstrap_intervals
from atypia.statistics.metrics import METRICS, UndefinedMetricWarning
from atypia.statistics.resampling import metric_statistic
from atypia.studies.findings.pooling import ManifestFigures
from atypia.studies.findings.schema import Effect, Series
from atypia.studies.findings.scoring import AUROC, AUROC_BUDGET, BA, ScoredRow, codes_of, draws_for, rate_statistic

ADAPTATION, BACKBONE, DECISION = "adaptation", "backbone", "decision"
"""Factors of every study, in addition to its own."""
GROUP: Final = ""
"""Pseudo-factor for the group (no factor has this name): rows of two groups are never a pair."""
PROBE: Final = "probe"
MOST_PAIRS: Final = 200
"""Largest number of pairs averaged for an effect: the first ones."""


def place_effects(
    place: int,
    entries: Sequence[ScoredRow],
    series: Sequence[Series],
    figures: ManifestFigures,
    limits: list[str],
    name: str,
) -> list[Effect]:
    """Main effects on a place: for each level the mean over pairs of rows that differ in nothing else.

    The reference of a factor is its first level in the order of the study; of the adaptation, the probe. All
    pairs of an effect are drawn together, so that an interval is about their mean; rows of other figures than
    the most are left out.

    Args:
        place: Its position.
        entries: Rows, best first.
        series: All rows.
        figures: Of the place's manifest.
        limits: Notes on omitted work are appended here.
        name: Of the place, for messages.

    Returns:
        Balanced accuracy, and AUROC for all but the decision, which does not move it; none where the study
        crosses no factors.
    """
    members = _of_same_figures(entries)
    if not members:
        return []
    levels = {number: levels_of(series[number]) for number in sorted(members)}
    codes, n_cases = codes_of(figures.cases[next(iter(members.values())).sample.rows])
    found: list[Effect] = []
    for metric in (BA, AUROC):
        # AUROC is the same for every decision: without that factor, the first of such rows stands for all.
        hidden = DECISION if metric == AUROC else None
        pairs = pairs_of({row: {k: v for k, v in own.items() if k != hidden} for row, own in levels.items()})
        if any(len(some) > MOST_PAIRS for some in pairs.values()):
            limits.append(f"{name}: effects over the first {MOST_PAIRS} pairs")
        pairs = {key: some[:MOST_PAIRS] for key, some in pairs.items()}
        found += _effects(place, metric, pairs, members, codes, n_cases)
    return found


def levels_of(series: Series) -> dict[str, str]:
    """Level of every factor of a row: the study's own factors, backbone, adaptation, decision, group."""
    own = dict(series.factors)
    return {
        **own,
        ADAPTATION: series.adaptation,
        BACKBONE: series.backbone,
        DECISION: series.decision,
        GROUP: series.group,
    }


def pairs_of(levels: Mapping[int, Mapping[str, str]]) -> dict[tuple[str, str, str], list[tuple[int, int]]]:
    """Pairs of rows that differ in only one factor.

    Args:
        levels: Row to its levels, in the order of the study.

    Returns:
        (factor, level, reference level) to pairs of the row with the level and the row with the reference. A
        factor that no two rows differ in alone is left out; of rows that have all levels in common the first counts.
    """
    found: dict[tuple[str, str, str], list[tuple[int, int]]] = {}
    factors = list(dict.fromkeys(name for own in levels.values() for name in own if name != GROUP))
    for factor in factors:
        first: dict[tuple[tuple[str, str], ...], dict[str, int]] = {}
        for row, own in levels.items():
            if factor in own:
                rest = tuple(sorted((name, level) for name, level in own.items() if name != factor))
                first.setdefault(rest, {}).setdefault(own[factor], row)
        order = list(dict.fromkeys(own[factor] for own in levels.values() if factor in own))
        if factor == ADAPTATION and PROBE in order:  # the only one that every backbone has
            order = [PROBE, *(level for level in order if level != PROBE)]
        for block in first.values():
            for level in order[1:]:
                if level in block and order[0] in block:
                    key = (factor, level, order[0])
                    found.setdefault(key, []).append((block[level], block[order[0]]))
    return found


def _of_same_figures(entries: Sequence[ScoredRow]) -> dict[int, ScoredRow]:
    """Rows that scored the figures that most rows scored, by their positions."""
    groups: dict[bytes, dict[int, ScoredRow]] = {}
    for one in entries:
        groups.setdefault(one.sample.rows.tobytes(), {})[one.series] = one
    return max(groups.values(), key=len, default={})


def _effects(
    place: int,
    metric: str,
    pairs: Mapping[tuple[str, str, str], Sequence[tuple[int, int]]],
    members: Mapping[int, ScoredRow],
    codes: np.ndarray,
    n_cases: int,
) -> list[Effect]:
    if not pairs:
        return []
    n = len(codes)
    of_row = _cached(metric, members, codes)
    count = sum(2 * len(some) for some in pairs.values())
    draws = draws_for(n_cases, count)
    if metric == AUROC:  # ranks cost by the figure
        draws = int(min(draws, max(200, AUROC_BUDGET / (n * count) // 100 * 100)))
    gaps = {
        key: Combination(
            tuple(of_row(row) for pair in some for row in pair), (1 / len(some), -1 / len(some)) * len(some)
        )
        for key, some in pairs.items()
    }
    whole = np.ones((1, n_cases))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)  # shows as n/a
        values = bootstrap_intervals(gaps, n, n_cases, Bootstrap(draws=draws))
        single = {row: float(of_row(row).of(whole)[0]) for some in pairs.values() for pair in some for row in pair}
    return [
        Effect(
            place,
            metric,
            *key,
            len(some),
            values[key],
            min(single[a] - single[b] for a, b in some),
            max(single[a] - single[b] for a, b in some),
        )
        for key, some in pairs.items()
    ]


def _cached(metric: str, members: Mapping[int, ScoredRow], codes: np.ndarray) -> Callable[[int], CaseStatistic]:
    known: dict[int, CaseStatistic] = {}

    def of_row(row: int) -> CaseStatistic:
        if row not in known:
            sample = members[row].sample
            known[row] = (
                rate_statistic(BA, sample.labels, sample.decisions, codes)
                if metric == BA
                else metric_statistic(METRICS[AUROC], sample.labels, sample.p, codes)
            )
        return known[row]

    return of_row
