"""Annotation stores of TIAToolbox (SQLite, ``.db``), which its detectors and KongNet's own scripts write.

One row of the table ``annotations`` is one object: ``cx, cy`` its centre in pixels of full resolution, ``geometry`` its
outline as (compressed) well-known binary where it is no point, ``properties`` JSON with the class (``type``) and the
score (``probability`` or ``prob``).
"""

from __future__ import annotations

import sqlite3
import zlib
from contextlib import closing
from typing import Any, Final

import numpy as np

from atypia.base.errors import DataError
from atypia.base.files.structured import parse_json
from atypia.data.points.base import CANVAS, POINT_FORMATS, Collector, Mark, PointFormat, PointReading, Points
from atypia.data.points.databases import open_database
from atypia.data.points.scores import score_in
from atypia.data.points.shapes import Shape, dot, polygons

MAX_OUTLINE_BYTES: Final = 1 << 22
_TABLE = "annotations"
_NEEDED = ("key", "cx", "cy", "geometry", "properties")
_CLASS_NAMES = ("type", "class", "label", "name")


def read(_: object, reading: PointReading) -> Points:
    """Reads the table ``annotations``.

    Raises:
        DataError: The database is damaged or no annotation store, or as :meth:`Collector.points`.
    """
    path = reading.path
    # TIAToolbox reads slides with OpenSlide, which counts from the canvas.
    collector = Collector(reading, origin=CANVAS)
    try:
        with closing(open_database(path)) as database:
            columns = {row[1] for row in database.execute(f"PRAGMA table_info({_TABLE})")}
            missing = [column for column in _NEEDED if column not in columns]
            if missing:
                there = ", ".join(sorted(columns))
                fix = "save it with TIAToolbox 1.0 or later"
                raise DataError(f"{path.name}: no column {_TABLE}.{missing[0]}; there are: {there}; fix: {fix}")
            for row in database.execute("SELECT id, key, cx, cy, geometry, properties FROM annotations ORDER BY id"):
                _add(collector, f"{path.name}, annotation {row[0]}", row[1:])
    except sqlite3.Error as error:
        raise DataError(f"{path.name} is damaged or no annotation store ({error}); fix: save it again") from error
    return collector.points()


def _add(collector: Collector, where: str, row: tuple[Any, ...]) -> None:
    key, x, y, geometry, text = row
    values = parse_json(text, where) if text else {}
    values = values if isinstance(values, dict) else {}
    named = next((values[name] for name in _CLASS_NAMES if values.get(name) is not None), None)
    shape = _shape(geometry, float(x), float(y), where)
    if shape is None:
        collector.skip("line")
        return
    mark = Mark(form=None if shape[2] != shape[2] else "outline")
    collector.add(where, shape, None if key is None else str(key), None, named, mark, score_in(values))


def _shape(data: Any, x: float, y: float, where: str) -> Shape | None:
    """A point where there is no outline, else the outline's; None for lines."""
    if data is None:
        return dot(x, y)
    from shapely import MultiPolygon, Point, Polygon, from_wkb
    from shapely.errors import ShapelyError

    if not isinstance(data, bytes):
        raise DataError(f"{where}: its outline is text, not binary; fix: save it with TIAToolbox again")
    try:
        if data[:1] not in (b"\0", b"\1"):  # the byte order that well-known binary begins with
            unpacking = zlib.decompressobj()
            data = unpacking.decompress(data, MAX_OUTLINE_BYTES)
            if unpacking.unconsumed_tail:
                raise DataError(f"{where}: its outline has more than {MAX_OUTLINE_BYTES:,} bytes; fix: leave it out")
        found = from_wkb(data)
    except (zlib.error, ShapelyError, ValueError) as error:
        raise DataError(f"{where}: its outline is damaged ({error}); fix: save it again") from error
    if isinstance(found, Point):
        return dot(found.x, found.y)
    parts = list(found.geoms) if isinstance(found, MultiPolygon) else [found] if isinstance(found, Polygon) else []
    parts = [part for part in parts if not part.is_empty]
    if not parts:
        return None
    rings = [
        [np.asarray(ring.coords, np.float64)[:, :2] for ring in (part.exterior, *part.interiors)] for part in parts
    ]
    return polygons(rings)


def _takes(tables: frozenset[str]) -> bool:
    return _TABLE in tables


POINT_FORMATS.add(
    "annotation-store",
    PointFormat("annotation-store", "sqlite", "TIAToolbox's annotation stores (.db), also KongNet's", _takes, read),
)
