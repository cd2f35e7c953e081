"""Tables that the annotation server EXACT exports: each line's shape is JSON in the column ``vector``."""

from __future__ import annotations

from typing import Any

import numpy as np

from atypia.base import records as r
from atypia.base.errors import DataError, must
from atypia.base.files.structured import parse_json
from atypia.data.points.base import POINT_FORMATS, Collector, PointFormat, PointReading, Points
from atypia.data.points.columns import IDS, first_column, plain_columns
from atypia.data.points.shapes import Shape, box, dot, polygons
from atypia.data.textfiles import TextTable, cleaned_text

VECTOR = "vector"
# One object has a line for each person who labelled it, so its own identifier may repeat.
_IDS = (r.FIGURE_ID, "id", *IDS)
_IMAGES = ("image_name", "image__name", "filename", "file_name", r.IMAGE)
_CLASSES = ("annotation_type_name", "annotation_type__name", "annotation_type", "type", r.LABEL, "class")
_TRUE = ("true", "1", "t", "yes")


def read(table: TextTable, reading: PointReading) -> Points:
    """Reads a table with the column ``vector``: ``{"x1": …, "y1": …, "x2": …, "y2": …}``.

    One vertex is a point, two are the corners of a box or of a circle's box, more are a polygon.
    Deleted lines and those without a shape, which label a whole image, are left out and counted.

    Raises:
        DataError: Not a vector, or as :meth:`Collector.points`.
    """
    columns = plain_columns(table)
    if VECTOR not in columns:
        raise DataError(f"{table.path.name}: no column `{VECTOR}`; there are: {', '.join(table.columns)}; fix: name it")
    vector, deleted = columns[VECTOR], columns.get("deleted")
    figure, image, named = (first_column(columns, names) for names in (_IDS, _IMAGES, _CLASSES))
    collector = Collector(reading, notes=list(table.notes))
    for row, line in zip(table.rows, table.lines, strict=True):
        where = f"{table.path.name}, line {line}"
        if deleted is not None and row[deleted].casefold() in _TRUE:
            collector.skip("deleted line")
            continue
        shape = _shape(row[vector], where)
        if shape is None:
            collector.skip("line without a shape", "lines without a shape")
            continue
        own, on, called = (row[column] if column else None for column in (figure, image, named))
        collector.add(where, shape, own, on, called)
    return collector.points()


def _shape(text: str, where: str) -> Shape | None:
    if cleaned_text(text) is None or text == "{}":
        return None
    try:
        # Exports that went through a data frame have the quotes of Python.
        vector: Any = parse_json(text.replace("'", '"'), VECTOR)
        count = len(vector) // 2
        names = [(f"x{n}", f"y{n}") for n in range(1, count + 1)]
        vertices = np.array([[float(vector[x]), float(vector[y])] for x, y in names], dtype=np.float64)
    except (ValueError, TypeError, KeyError) as error:
        expected = 'JSON like {"x1": 1, "y1": 2, "x2": 3, "y2": 4}'
        raise DataError(f"{where}: {must(VECTOR, expected, repr(text[:80]), 'export the table again')}") from error
    if count == 0:
        return None
    if count == 1:
        return dot(*vertices[0].tolist())
    if count == 2:
        return box(*vertices.min(axis=0).tolist(), *vertices.max(axis=0).tolist())
    return polygons([[vertices]])


def _takes(table: TextTable) -> bool:
    return VECTOR in plain_columns(table)


POINT_FORMATS.add("exact", PointFormat("exact", "table", "tables of the annotation server EXACT", _takes, read))
