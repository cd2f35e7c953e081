"""The gain by generated figures, as forest plots: one row per row of the study, one series per part of the data."""

from __future__ import annotations

from collections.abc import Sequence

from atypia.reports.drawing.plots import MOST_SERIES, ForestPlot, ForestRow, PlottedEstimate, zero_forest
from atypia.reports.study.benchmark import PART_WORDS
from atypia.reports.study.plots import slug
from atypia.statistics.metrics import METRICS
from atypia.studies.findings.synthetic_gain import SyntheticGain


def synthetic_gain_plots(gains: Sequence[SyntheticGain]) -> list[ForestPlot]:
    """One plot per metric, rows in the order of the study.

    Args:
        gains: From :func:`atypia.studies.findings.synthetic_gain.synthetic_gains`.
    """
    return [
        _forest(metric, [one for one in gains if one.metric == metric])
        for metric in dict.fromkeys(one.metric for one in gains)
    ]


def _forest(metric: str, gains: Sequence[SyntheticGain]) -> ForestPlot:
    places = list(dict.fromkeys((one.dataset, one.part) for one in gains))[:MOST_SERIES]
    by_row: dict[str, dict[tuple[str, str], SyntheticGain]] = {}
    for one in gains:
        by_row.setdefault(one.row, {})[one.dataset, one.part] = one
    rows = [
        ForestRow(
            row,
            f"{next(iter(found.values())).n_positives:.0f} positives per fold",
            [PlottedEstimate(found[p].mean, found[p].low, found[p].high) if p in found else None for p in places],
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
