"""The matrix of a cross-domain study as heat maps: trained on one domain, tested on another."""

from __future__ import annotations

import math
from typing import Final

from atypia.evaluation import rows as e
from atypia.reports.drawing.plots import Heat, padded_range
from atypia.reports.drawing.tables import Spread, Table
from atypia.reports.study.plots import BA, shortened, slug
from atypia.statistics.metrics import METRICS

MOST_MODELS: Final = 6


def heat_charts(table: Table | None) -> list[Heat]:
    """Balanced accuracy by training and test domain, one map per model; none without such a table.

    Args:
        table: From From :func:`atypia.reports.study.tables.matrix_table`.
    """
    if table is None or not table.rows:
        return []
    at = {column.name: number for number, column in enumerate(table.columns)}
    values: dict[tuple[str, str], dict[tuple[str, str], float]] = {}
    for row in table.rows:
        cell = row[at[BA]]
        pair = (str(row[at["trained_on"]]), str(row[at["tested_on"]]))
        of_model = values.setdefault((str(row[at[e.MODEL]]), str(row[at[e.TRAIN_DATA]])), {})
        of_model[pair] = cell.mean if isinstance(cell, Spread) else math.nan
    every = [value for cells in values.values() for value in cells.values()]
    datasets = {dataset for _, dataset in values}
    charts = []
    for (model, dataset), cells in list(values.items())[:MOST_MODELS]:
        trained = sorted({one for one, _ in cells})
        tested = sorted({other for _, other in cells})
        short = shortened(sorted({*trained, *tested}))
        name = f"{model}, {dataset}" if len(datasets) > 1 else model
        charts.append(
            Heat(
                f"matrix-{slug(name)}",
                f"{METRICS[BA].title} between domains: {name}",
                [short[one] for one in trained],
                [short[other] for other in tested],
                "trained on",
                "tested on",
                [[cells.get((one, other), math.nan) for other in tested] for one in trained],
                padded_range(every, ends=(0.0, 1.0)),
            )
        )
    return charts
