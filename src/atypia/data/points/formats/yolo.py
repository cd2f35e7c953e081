"""Text files of YOLO detectors: ``class x y width height [score]`` in shares of the image, with spaces between."""

from __future__ import annotations

import math

import numpy as np

from atypia.base.errors import DataError, must
from atypia.data.points.base import POINT_FORMATS, Collector, Mark, PointFormat, PointReading, Points
from atypia.data.points.shapes import Shape, dot, polygons
from atypia.data.textfiles import TextTable

_BOX, _SCORED = 5, 6
_FIRST_OUTLINE = 7


def read(table: TextTable, reading: PointReading) -> Points:
    """Reads lines of a box (its centre and size), or of an outline (``class x1 y1 x2 y2 x3 y3 …``).

    Classes are numbers, as in the file. Shares are converted with the image's width and height, which the file does not
    state: it must be of the whole image, not of a tile.

    Raises:
        DataError: The size of the image is not known, a line is no box, a number is no share, or as
            :meth:`Collector.points`.
    """
    name, about = reading.path.name, reading.about()
    if about is None:
        fix = "name the image that the detector saw"
        raise DataError(must(name, "given with its image, whose size YOLO's shares are of", "points alone", fix))
    size = np.array([about.width_px, about.height_px], np.float64)
    collector = Collector(reading)
    collector.notes.append(f"{name}: shares of YOLO are of the whole image, {about.width_px} × {about.height_px} px")
    texts = [table.columns[0], *(row[table.columns[0]] for row in table.rows)]
    for line, text in zip((1, *table.lines), texts, strict=True):
        where = f"{name}, line {line}"
        numbers = [_number(part, where) for part in text.split()]
        named, values = numbers[0], numbers[1:]
        score = values.pop() if len(numbers) == _SCORED or (len(numbers) > _SCORED and len(values) % 2) else None
        if len(values) < _BOX - 1 or len(values) % 2 or not named.is_integer():
            raise DataError(
                f"{where}: {must('line', 'class x y width height [score]', repr(text[:80]), 'export it again')}"
            )
        if not all(0 <= value <= 1 for value in (*values, *([] if score is None else [score]))):
            got = f"{text[:80]!r}"
            fix = "export normalised labels, or name the columns of a table in pixels"
            raise DataError(f"{where}: {must('numbers', 'shares of the image, 0 to 1', got, fix)}")
        places = np.array(values).reshape(-1, 2) * size
        collector.add(
            where,
            _shape(places),
            None,
            None,
            f"{named:.0f}",
            Mark(form="box" if len(values) == 4 else "outline"),
            score,
        )
    return collector.points()


def _shape(places: np.ndarray) -> Shape:
    if len(places) == 2:
        (x, y), (width, height) = places.tolist()
        return dot(x, y) if width == 0 or height == 0 else (x, y, width, height)
    return polygons([[places]])


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where}: {must('line', 'numbers with spaces between', repr(text[:40]), 'export it again')}")
    return value


def _takes(table: TextTable) -> bool:
    if len(table.columns) != 1:
        return False
    parts = table.columns[0].split()
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        return False
    outline = len(numbers) >= _FIRST_OUTLINE
    return (len(numbers) in (_BOX, _SCORED) or outline) and numbers[0].is_integer() and parts[0].isdigit()


POINT_FORMATS.add(
    "yolo", PointFormat("yolo", "table", "text files of YOLO, with the image's size", _takes, read, own_unit=True)
)
