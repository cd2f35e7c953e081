"""Databases of the annotation tool SlideRunner (SQLite), opened read-only."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atypia.base.errors import DataError
from atypia.data.points.base import POINT_FORMATS, Collector, PointFormat, PointReading, Points
from atypia.data.points.databases import open_database
from atypia.data.points.shapes import Shape, box, dot, polygons

_TABLES = {
    "Slides": ("uid", "filename"),
    "Annotations": ("uid", "slide", "type", "agreedClass"),
    "Annotations_coordinates": ("annoId", "coordinateX", "coordinateY", "orderIdx"),
    "Classes": ("uid", "name"),
}
_KEPT = "COALESCE(a.deleted, 0) = 0"
_POLYGON = 3
_WHOLE_IMAGE = 6


def read(_: object, reading: PointReading) -> Points:
    """Reads the tables Slides, Annotations, Annotations_coordinates and Classes.

    Spots are points; areas and circles are boxes; polygons count at their centre of area. The
    class is the agreed one. Ids are the global ones where every annotation has one, else the
    database's own. Deleted annotations and labels of whole images are left out and counted.

    Raises:
        DataError: The database is damaged, is not SlideRunner's, or as :meth:`Collector.points`.
    """
    path = reading.path
    collector = Collector(reading)
    try:
        with closing(open_database(path)) as database:
            columns = _checked(database, path)
            for annotation, rows in groupby(_rows(database, columns), key=lambda row: row[:5]):
                _add(collector, annotation, [row[5:] for row in rows], path.name)
            _count_deleted(collector, database, columns)
    except sqlite3.Error as error:
        raise DataError(f"{path.name} is damaged or no SlideRunner database ({error}); fix: save it again") from error
    return collector.points()


def _checked(database: sqlite3.Connection, path: Path) -> frozenset[str]:
    """The columns of the table Annotations, once all that is needed is known to be there."""
    tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    columns: frozenset[str] = frozenset()
    for table, needed in _TABLES.items():
        if table not in tables:
            there = ", ".join(sorted(tables)) or "none"
            raise DataError(f"{path.name}: no table {table}; there are: {there}; fix: give a SlideRunner database")
        found = frozenset(row[1] for row in database.execute(f"PRAGMA table_info({table})"))
        missing = [column for column in needed if column not in found]
        if missing:
            there = ", ".join(sorted(found))
            raise DataError(f"{path.name}: no column {table}.{missing[0]}; there are: {there}; fix: save it again")
        if table == "Annotations":
            columns = found
    return columns


def _rows(database: sqlite3.Connection, columns: frozenset[str]) -> Iterator[tuple[Any, ...]]:
    """Id, slide, class, type and uid of each annotation, with one of its vertices a row, in order."""
    kept = _KEPT if "deleted" in columns else "1"
    figure = "a.uid"
    if "guid" in columns:
        count, named, different = database.execute(
            f"SELECT COUNT(*), COUNT(NULLIF(guid, '')), COUNT(DISTINCT guid) FROM Annotations a WHERE {kept}"  # noqa: S608
        ).fetchone()
        if count == named == different:
            figure = "a.guid"
    return database.execute(
        f"SELECT {figure}, s.filename, k.name, a.type, a.uid, c.coordinateX, c.coordinateY "  # noqa: S608
        "FROM Annotations a JOIN Slides s ON s.uid = a.slide "
        "LEFT JOIN Annotations_coordinates c ON c.annoId = a.uid "
        "LEFT JOIN Classes k ON k.uid = a.agreedClass "
        f"WHERE {kept} ORDER BY a.uid, c.orderIdx"
    )


def _add(collector: Collector, annotation: tuple[Any, ...], vertices: list[tuple[Any, Any]], name: str) -> None:
    figure, slide, named, kind, uid = annotation
    if kind == _WHOLE_IMAGE:
        collector.skip("label of a whole image", "labels of whole images")
        return
    if vertices == [(None, None)]:
        collector.skip("annotation without a position", "annotations without a position")
        return
    try:
        shape = _shape(kind, np.array(vertices, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}, annotation {uid}: a coordinate is not a number ({error}); fix: correct it") from error
    collector.add(f"{name}, annotation {uid}", shape, str(figure), None if slide is None else str(slide), named)


def _shape(kind: Any, vertices: npt.NDArray[np.float64]) -> Shape:
    if len(vertices) == 1:
        return dot(*vertices[0].tolist())
    if kind == _POLYGON:
        return polygons([[vertices]])
    return box(*vertices.min(axis=0).tolist(), *vertices.max(axis=0).tolist())


def _count_deleted(collector: Collector, database: sqlite3.Connection, columns: frozenset[str]) -> None:
    if "deleted" not in columns:
        return
    deleted = database.execute(f"SELECT COUNT(*) FROM Annotations a WHERE NOT {_KEPT}").fetchone()[0]  # noqa: S608
    if deleted:
        collector.skip("deleted annotation", count=deleted)


def _takes(tables: frozenset[str]) -> bool:
    return bool({"Slides", "Annotations"} & tables)


POINT_FORMATS.add("sliderunner", PointFormat("sliderunner", "sqlite", "SlideRunner's databases", _takes, read))
