"""The matrix of a cross-domain study as heat maps: trained on one domain, tested on another."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Final

from atypia.evaluation import rows as e
from atypia.reports.drawing.names import short_domains
from atypia.reports.drawing.plots import HeatMap, padded_range
from atypia.reports.drawing.tables import Table
from atypia.reports.drawing.values import Spread
from atypia.reports.study.plots import BA, metric_title, slug

MOST_MODELS: Final = 6


def heat_maps(table: Table | None, metric: str = BA, every: bool = False) -> list[HeatMap]:
    """A metric by training and test domain, one map a model, the best mean over all pairs first; none without a table.

    Args:
        table: :func:`atypia.reports.study.tables.matrix_table`.
        metric: One of its metrics.
        every: Whether every model is drawn; else the best :data:`MOST_MODELS`.
    """
    if table is None or not table.rows:
        return []
    at = {column.name: number for number, column in enumerate(table.columns)}
    values: dict[tuple[str, str], dict[tuple[str, str], float]] = {}
    for row in table.rows:
        cell = row[at[metric]]
        pair = (str(row[at["trained_on"]]), str(row[at["tested_on"]]))
        of_model = values.setdefault((str(row[at[e.MODEL]]), str(row[at[e.TRAIN_DATA]])), {})
        of_model[pair] = cell.mean if isinstance(cell, Spread) else math.nan
    known = [value for cells in values.values() for value in cells.values()]
    datasets = {dataset for _, dataset in values}
    charts = []
    ranked = sorted(values, key=lambda key: _rank(values[key].values()))
    for model, dataset in ranked if every else ranked[:MOST_MODELS]:
        cells = values[model, dataset]
        trained = sorted({one for one, _ in cells})
        tested = sorted({other for _, other in cells})
        short = short_domains(sorted({*trained, *tested}))
        name = f"{model}, {dataset}" if len(datasets) > 1 else model
        charts.append(
            HeatMap(
                f"matrix-{slug(name)}",
                f"{metric_title(metric)} between domains: {name}",
                [short[one] for one in trained],
                [short[other] for other in tested],
                "trained on",
                "tested on",
                [[cells.get((one, other), math.nan) for other in tested] for one in trained],
                padded_range(known, ends=(0.0, 1.0)),
            )
        )
    return charts


def _rank(values: Collection[float]) -> float:
    """Highest mean first; models without any value last."""
    known = [value for value in values if not math.isnan(value)]
    return -sum(known) / len(known) if known else math.inf
