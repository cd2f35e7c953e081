"""What generated figures gain, as forest plots: one row a row of the study, one series a part of the data."""

from __future__ import annotations

from collections.abc import Sequence

from atypia.reports.drawing.plots import MOST_SERIES, Forest, ForestRow, Point, zero_forest
from atypia.reports.study.benchmark import PART_WORDS
from atypia.reports.study.plots import slug
from atypia.statistics.metrics import METRICS
from atypia.studies.findings.gains import Gain


def gain_charts(gains: Sequence[Gain]) -> list[Forest]:
    """One chart a metric, rows in the order of the study.

    Args:
        gains: As :func:`atypia.studies.findings.gains.study_gains` gives them.
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
            f"{next(iter(found.values())).n_positives:.0f} positives a fold",
            [Point(found[p].mean, found[p].low, found[p].high) if p in found else None for p in places],
        )
        for row, found in by_row.items()
    ]
    return zero_forest(
        f"gain-{slug(metric)}",
        f"What generated figures gain, {METRICS[metric].short}",
        "with less without, mean over paired folds, 95 % interval",
        [f"{dataset}, {PART_WORDS.get(part, part)}" for dataset, part in places],
        rows,
    )
