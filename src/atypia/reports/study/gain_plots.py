"""The gain by generated figures, as forest plots: one row per row of the study, one series per part of the data."""

from __future__ import annotations

from collections.abc import Sequence

from atypia.reports.drawing.plots import MOST_SERIES, Forest, ForestRow, Point, zero_forest
from atypia.reports.study.benchmark import PART_WORDS
from atypia.reports.study.plots import slug
from atypia.statistics.metrics import METRICS
from atypia.studies.findings.gains import Gain


def gain_charts(gains: Sequence[Gain]) -> list[Forest]:
    """One plot per metric, rows in the order of the study.

    Args:
        gains: From :func:`atypia.studies.findings.gains.study_gains`.
    """
    return [
        _forest(metric, [one for one in gains if one.metric == metric])
        for metric in dict.fromkeys(one.metric for one in gains)
    ]


def _forest(metric: str, gains: Sequence[Gain]) -> Forest:
    places = list(dict.fromkeys((one.dataset, one.part) for one in gains))[:MOST_SERIES]
    by_row: dict[str, dict[tuple[str, str], Gain]] = {}
    for one in gains:
        by_row.setdefault(one.row, {})[one.dataset, one.part] = one
    rows = [
        ForestRow(
            row,
            f"{next(iter(found.values())).n_positives:.0f} positives per fold",
            [Point(found[p].mean, found[p].low, found[p].high) if p in found else None for p in places],
        )
        for row, found in by_row.items()
    ]
    return zero_forest(
        f"gain-{slug(metric)}",
        f"Gain by generated figures, {METRICS[metric].short}",
        "with minus without, mean over paired folds, 95 % interval",
        [f"{dataset}, {PART_WORDS.get(part, part)}" for dataset, part in places],
        rows,
    )
