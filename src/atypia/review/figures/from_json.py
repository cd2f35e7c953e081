"""Results of ``atypia predict`` as JSON, JSON lines or GeoJSON, read back as a table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from atypia.base import records as r
from atypia.base.errors import DataError
from atypia.base.files.regularfiles import open_regular
from atypia.base.files.structured import parse_json
from atypia.data.points.base import BOUNDS
from atypia.inference import results as res

JSON_RESULTS: Final = (".json", ".jsonl", ".geojson")
FIX: Final = "open what `atypia predict --out` wrote; to classify points, `atypia predict SLIDE --points FILE`"


def read_json_results(path: Path) -> pa.Table:
    """Results in one of the three forms.

    GeoJSON has positions that count from the corner of the scanned area, and no µm/px.

    Raises:
        DataError: The file is damaged, or holds something else.
    """
    with open_regular(path) as file:
        data = file.read()
    if path.suffix.lower() == ".jsonl":
        lines = [line for line in data.splitlines() if line.strip()]
        found: Any = [parse_json(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]
    else:
        found = parse_json(data, str(path))
    rows = [_of_feature(one) for one in found.get("features") or ()] if isinstance(found, Mapping) else found
    needed = {r.FIGURE_ID, r.IMAGE, res.CALL, r.THRESHOLD, res.MODEL}
    if (
        not isinstance(rows, list)
        or not rows
        or not all(isinstance(one, Mapping) and needed <= one.keys() for one in rows)
    ):
        raise DataError(f"{path} holds no results of `atypia predict`; fix: {FIX}")
    try:
        columns = {
            field.name: pa.array([row.get(field.name) for row in rows], field.type) for field in res.RESULTS_SCHEMA
        }
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} holds results with a value of another type ({reason}); fix: predict again") from error
    return pa.table(columns, res.RESULTS_SCHEMA)


def _of_feature(feature: Any) -> dict[str, Any]:
    """A row of results from a feature that ``atypia predict`` wrote; an empty one from any other."""
    try:
        properties, geometry = feature["properties"], feature["geometry"]
        measured, stated = properties["measurements"], properties["metadata"]
        corners = geometry["coordinates"]
        points = [corners] if geometry["type"] == "Point" else corners[0][:-1]
        p, threshold = measured.get(r.P_ATYPICAL), measured[r.THRESHOLD]
        return {
            r.FIGURE_ID: properties["name"],
            r.IMAGE: stated[r.IMAGE],
            r.X_PX: sum(x for x, _ in points) / len(points),
            r.Y_PX: sum(y for _, y in points) / len(points),
            res.CLASS: stated.get(res.CLASS),
            r.P_ATYPICAL: p,
            r.DECISION: None if p is None else int(p >= threshold),
            res.CALL: properties["classification"]["name"],
            res.NOVELTY: measured.get(res.NOVELTY),
            r.THRESHOLD: threshold,
            res.REASON: stated.get(res.REASON),
            res.MODEL: stated[res.MODEL],
            res.ORIGIN: BOUNDS,
        }
    except (KeyError, TypeError, IndexError, ValueError, AttributeError, ZeroDivisionError):
        return {}
