"""Missed mitoses that raters added on the review page: the decisions file of ``atypia serve`` (SQLite, version 2).

The model has said nothing about them; given as points, they are classified like any others. Figures that were
withdrawn are left out, as are all that the opened data had already.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Final

from atypia.base import records as r
from atypia.base.errors import DataError
from atypia.base.files.structured import parse_json
from atypia.data.points.base import CANVAS, POINT_FORMATS, Collector, PointFormat, PointReading, Points
from atypia.data.points.databases import open_database
from atypia.data.points.shapes import dot

_TABLES: Final = frozenset({"about", "raters", "log"})
_ADDED: Final = """SELECT figure_id, value FROM log WHERE kind = ?
    AND id NOT IN (SELECT undoes FROM log WHERE kind = ? AND undoes IS NOT NULL) ORDER BY id"""


def read(_: object, reading: PointReading) -> Points:
    """Reads the additions of the log; also while the page is open.

    Raises:
        DataError: The database is damaged, of an earlier version, or no figure was added.
    """
    path = reading.path
    collector = Collector(reading, origin=CANVAS)
    try:
        with closing(open_database(path)) as database:
            if "value" not in {row[1] for row in database.execute("PRAGMA table_info(log)")}:
                rows = []  # of version 1, which could not add figures
            else:
                rows = database.execute(_ADDED, (r.ADDED_EVENT, r.UNDO_EVENT)).fetchall()
    except sqlite3.Error as error:
        fix = f"`atypia serve WHAT --rescue {path} --to NEW.sqlite`"
        raise DataError(f"{path.name} is a damaged decisions file ({error}); fix: {fix}") from error
    if not rows:
        fix = "add missed mitoses on the review page (M), or name a file of points"
        raise DataError(f"{path.name} is a decisions file to which no figure was added; fix: {fix}")
    for figure, value in rows:
        where = f"{path.name}, {figure}"
        place = parse_json(value or "{}", where)
        collector.add(where, dot(float(place["x_px"]), float(place["y_px"])), str(figure), str(place["slide"]))
    return collector.points()


def _takes(tables: frozenset[str]) -> bool:
    return tables >= _TABLES


POINT_FORMATS.add(
    "review-additions",
    PointFormat("review-additions", "sqlite", "missed mitoses added on the review page (decisions file)", _takes, read),
)
