"""The headline of a study: one line per row, with its main results side by side."""

from __future__ import annotations

import math
from typing import Final

from atypia.base import runs
from atypia.reports.drawing.tables import Column, Table
from atypia.reports.drawing.values import Spread, Value
from atypia.reports.study.statistics import interval_text, place_name
from atypia.studies.findings.schema import Findings, PlaceScore

HEADLINE_NAME: Final = "headline"
MOST_PLACES: Final = 6
WIDE_PLACES: Final = 2
"""Up to this number of places, AUROC and intervals are shown beside the balanced accuracy; with more there is no room."""
BA, AUROC = "balanced_accuracy", "auroc"


def headline_table(found: Findings, title: str = "") -> Table:
    """One line per row: balanced accuracy (with interval and AUROC if there is room) on each place.

    Rows are sorted by descending balanced accuracy on the first place. Validation parts are shown only if
    there is nothing else.
    """
    places = [n for n, place in enumerate(found.places) if place.part != runs.VALIDATION]
    places = (places or list(range(len(found.places))))[:MOST_PLACES]
    wide = len(places) <= WIDE_PLACES
    by = {(score.series, score.place): score for score in found.scores}
    columns = [Column("model", "model")]
    for number in places:
        name, key = place_name(found.places[number]), f"place{number + 1}"
        columns.append(Column(f"BA: {name}", f"{key}_ba", "right", best="max", spread=True, sd="sd_ddof0"))
        if wide:
            columns.append(Column("95 %", f"{key}_ba_interval", "right"))
            columns.append(Column(f"AUROC: {name}", f"{key}_auroc", "right", best="max", spread=True, sd="sd_ddof0"))
    rows: list[list[Value]] = []
    for series in range(len(found.series)):
        row: list[Value] = [found.series[series].label]
        for number in places:
            score = by.get((series, number))
            row.append(_spread(score, BA))
            if wide:
                row += [None if score is None else interval_text(score.interval(BA)), _spread(score, AUROC)]
        rows.append(row)
    rows.sort(key=_order)
    notes = [
        "BA: balanced accuracy; mean ± population sd (ddof 0) over a row's runs; 95 %: interval over cases",
        *(["intervals and AUROC are in the tables below"] if not wide else []),
    ]
    hidden = sum(place.part != runs.VALIDATION for place in found.places) - len(places)
    if hidden > 0:
        notes.append(f"{hidden} more parts and data sets are below")
    return Table(title, columns, rows, notes)


def _spread(score: PlaceScore | None, metric: str) -> Value:
    if score is None:
        return None
    known = score.runs.get(metric)
    return Spread(score.value(metric), math.nan) if known is None else Spread(known.mean, known.sd)


def _order(row: list[Value]) -> tuple[bool, float]:
    value = next((one.mean for one in row[1:] if isinstance(one, Spread)), math.nan)
    return math.isnan(value), -value
