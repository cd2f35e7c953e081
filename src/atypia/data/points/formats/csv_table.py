"""Tables with one line per figure: plain tables, QuPath's measurement exports, tables of boxes.

For the meaning of the columns see :mod:`atypia.data.points.columns`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

import numpy as np

from atypia.base import records as r
from atypia.base.errors import DataError, must
from atypia.data.points import columns as c
from atypia.data.points.base import (
    BOUNDS,
    CANVAS,
    NO_MARK,
    POINT_FORMATS,
    BoxFormat,
    Collector,
    Mark,
    PointFormat,
    PointReading,
    Points,
    ScaleError,
)
from atypia.data.points.boxes import AUTO, CXCYWH, XYWH, XYXY, decide_centre, shape_of
from atypia.data.points.formats.geojson import object_kind
from atypia.data.points.scores import SCORES
from atypia.data.points.shapes import Shape, dot
from atypia.data.points.units import AUTO_UNIT, px_per_unit
from atypia.data.textfiles import TextTable, cleaned_text, number

ORIGIN = "origin"
"""A column of Atypia's own results: the origin of their positions."""
Cells = dict[str, str]
ShapeOf = Callable[[Cells, str], Shape | str]

_NOT_FIGURES = frozenset({"root", "tile", "tma_core", "tmacore"})
_LINES = frozenset({"line", "polyline"})
_PAIR = re.compile(r"(?:point)?\s*z?\s*[(\[]?\s*([^\s,;()\[\]]+)\s*[,;\s]\s*([^\s,;()\[\]]+)\s*[)\]]?", re.IGNORECASE)
_THREE_DIGITS = re.compile(r"-?[1-9]\d{0,2},\d{3}")
_THOUSANDS = ((re.compile(r"-?\d{1,3}(\.\d{3})+,\d+"), "."), (re.compile(r"-?\d{1,3}(,\d{3})+\.\d+"), ","))


def read(table: TextTable, reading: PointReading) -> Points:
    """Reads a table delimited by commas, semicolons or tabs.

    Positions in pixels take precedence over those in µm or mm, a centre before a box; the size is that of the box where there is
    one, else that of QuPath's area and perimeter. Other columns are not looked at. Lines of tiles, cores, lines and
    sets of several points, which have no one position, are left out and counted.

    Raises:
        DataError: No columns of positions (names those that are there), no header, two columns of one name, a cell
            that is not a finite number, positions that may be a corner or a centre, or as :meth:`Collector.points`.
        ScaleError: Only positions in µm or mm, and no µm/px is given.
    """
    columns = c.plain_columns(table)
    collector = Collector(reading, notes=list(table.notes), origin=_origin(table, columns))
    shape = _shape_reader(table, columns, reading, collector)
    figure, image, named = (c.first_column(columns, names) for names in (c.IDS, c.IMAGES, c.CLASSES))
    kind, name, roi, count = (c.first_column(columns, names) for names in (c.KINDS, c.NAMES, c.ROIS, c.COUNTS))
    planes = [columns[plane] for plane in c.PLANES if plane in columns]
    measured, scored = _measured(columns, reading), c.first_column(columns, SCORES)
    marked = any((kind, roi, planes))
    for row, line in zip(table.rows, table.lines, strict=True):
        where = f"{table.path.name}, line {line}"
        drawn = object_kind(row[kind]) if kind else ""
        form = row[roi].casefold() if roi else ""
        if drawn in _NOT_FIGURES:
            collector.skip(
                "tile, core or other object that is no figure", "tiles, cores and other objects that are no figures"
            )
            continue
        if form in _LINES:
            collector.skip("line")
            continue
        if form == "points" and count and row[count] not in ("", "1", "1.0"):
            middle = "of which the table has the middle only (export them as GeoJSON)"
            collector.skip(f"set of several points, {middle}", f"sets of several points, {middle}")
            continue
        found = shape(row, where)
        if isinstance(found, str):
            collector.refuse(f"line {line}, {found}")
            continue
        if math.isnan(found[2]) and measured is not None and form not in ("point", "points"):
            found = (found[0], found[1], *measured(row))
        mark = Mark(
            drawn or None,
            None if math.isnan(found[2]) else form if form in ("rectangle", "ellipse") else "shape",
            " ".join(row[plane] for plane in planes) or None,
            row[name] if name and not row[name].startswith("Path") else None,
        )
        own, on, called = (row[column] if column else None for column in (figure, image, named))
        collector.add(where, found, own, on, called, mark if marked or mark.form else NO_MARK,
                      score=row[scored] if scored else None)  # fmt: skip
    return collector.points()


def coordinate(row: Cells, column: str, where: str, decimal_comma: bool = False) -> float:
    """Reads a finite number from a cell.

    Raises:
        DataError: Not a finite number; states line and column.
    """
    text = row[column]
    for form, thousands in _THOUSANDS:
        if form.fullmatch(text):
            text = text.replace(thousands, "")
            decimal_comma = True
    if "," in text and text.count(",") == 1 and decimal_comma:
        text = text.replace(",", ".")
    elif text.count(",") == 1 and text.replace(",", "").removeprefix("-").isdecimal():
        fix = "write decimals with a point"
        raise DataError(f"{where}: {must(column, 'a number', repr(text), fix)}")
    value = number(text, column, where)
    if not math.isfinite(value):
        raise DataError(f"{where}: {must(column, 'a finite number', repr(text), 'correct the cell or drop the line')}")
    return value


def decimal_commas(table: TextTable, columns: Sequence[str]) -> bool:
    """Whether numbers are written with a decimal comma.

    A comma is a decimal comma if it is not followed by exactly three digits, or preceded by more than three: then
    it cannot stand for thousands.

    Raises:
        DataError: All numbers with a comma could be thousands as well (``1,720``).
    """
    cells = [(row[column], line) for row, line in zip(table.rows, table.lines, strict=True) for column in columns]
    commas = [(text, line) for text, line in cells if "," in text and "." not in text]
    if not commas or any(not _THREE_DIGITS.fullmatch(text) for text, _ in commas):
        return bool(commas)
    text, line = commas[0]
    what = must(
        columns[0], "a number", f"{text!r}, which is with thousands or with decimals", "write decimals with a point"
    )
    raise DataError(f"{table.path.name}, line {line}: {what}")


def _shape_reader(table: TextTable, columns: dict[str, str], reading: PointReading, collector: Collector) -> ShapeOf:
    corners, sizes = c.find(columns, c.CORNERS), c.find(columns, c.SIZES)
    certain, maybe = c.find(columns, c.CENTRES), c.find(columns, c.BARE)
    unit = _unit_column(table, columns)
    if certain is not None:
        box = (corners, XYXY) if corners is not None else (_joined(certain, sizes), CXCYWH)
        return _centres(table, certain, box, reading, unit, collector)
    top_left = c.find(columns, c.TOP_LEFT)
    if corners is None and top_left is not None and sizes is not None and maybe is None:
        return _boxes(table, _pair(top_left, sizes), XYWH, reading, unit, collector)
    if maybe is not None and (corners is not None or sizes is None):
        return _centres(table, maybe, (corners, XYXY), reading, unit, collector)
    if corners is not None:
        return _boxes(table, corners, XYXY, reading, unit, collector)
    either = c.find(columns, c.MAYBE_CORNERS)
    if either is not None and sizes is not None:
        both = _pair(either, sizes)
        return _boxes(table, both, _corner_or_centre(table, columns, both, reading), reading, unit, collector)
    rows_first = c.find(columns, (c.ROWS_FIRST,))
    if rows_first is not None:
        names = f"`{rows_first.columns[1]}`, `{rows_first.columns[0]}`"
        collector.notes.append(f"{names} are read as row and column (y and x), as in scikit-image")
        return _centres(table, rows_first, (None, XYXY), reading, unit, collector)
    pair = c.first_column(columns, c.PAIRS)
    if pair is not None:
        return _pairs(pair, collector)
    raise DataError(_no_positions(table, either or top_left))


def _no_positions(table: TextTable, corner: c.FoundColumns | None) -> str:
    name = table.path.name
    if not table.has_header:
        first = ",".join(["x", "y", *(f"column{n}" for n in range(3, len(table.columns) + 1))])
        return (
            f"{name} has no header line, it begins with numbers; fix: write one that names the columns, for "
            f"instance `{first}` where the first two are x and y"
        )
    if corner is not None:
        names = " and ".join(f"`{column}`" for column in corner.columns)
        fix = "add the columns width and height, or name them x and y if they are centres"
        return f"{name}: {names} are a corner of a box and its size is not there; fix: {fix}"
    there = ", ".join(column for column in table.columns if column) or "none with a name"
    if {c.plain(column) for column in table.columns} >= {"slide", "points"}:
        return f"{name} is a list of slides, not of points; fix: pass it as --slides, with a folder as --out"
    return (
        f"{name}: no columns of positions; there are: {there}; "
        f"fix: name them `{r.X_PX}` and `{r.Y_PX}`, or xmin, ymin, xmax, ymax"
    )


def _pair(start: c.FoundColumns, sizes: c.FoundColumns) -> c.FoundColumns:
    return c.FoundColumns((*start.columns, *sizes.columns), start.unit or sizes.unit)


def _joined(centre: c.FoundColumns, sizes: c.FoundColumns | None) -> c.FoundColumns | None:
    """A centre with its size; none where the size may be in another unit."""
    return None if sizes is None or centre.unit not in ("", sizes.unit) else _pair(centre, sizes)


def _unit_column(table: TextTable, columns: dict[str, str]) -> str:
    """The unit stated for all lines in a column ``unit``; empty if there is none."""
    column = c.first_column(columns, ("unit", "units"))
    if column is None:
        return ""
    stated = {unit for row in table.rows if (unit := c.split_unit(f"x_{c.plain(row[column])}")[1])}
    if len(stated) > 1:
        got = " and ".join(sorted(stated))
        raise DataError(f"{table.path.name}: {must(column, 'one unit', got, 'write all positions in pixels')}")
    return next(iter(stated), "")


def _scale(table: TextTable, found: c.FoundColumns, reading: PointReading, stated: str) -> float:
    """Divisor that converts numbers of these columns to pixels."""
    unit = found.unit or stated
    if reading.unit != AUTO_UNIT:
        if unit not in ("", reading.unit):
            got, fix = f"{reading.unit}, and `{found.columns[0]}` is in {unit}", "leave it out"
            raise DataError(f"{table.path.name}: {must('--unit', f'auto or {unit}', got, fix)}")
        return 1 / px_per_unit(reading)
    if unit == "share":
        got = "shares of the image"
        fix = "multiply them by the image's width and height"
        raise DataError(f"{table.path.name}: {must(found.columns[0], 'in pixels, µm or mm', got, fix)}")
    if unit in ("", c.PX):
        return 1.0
    if reading.mpp is None:
        what = f"`{found.columns[0]}` is in {unit.replace('um', 'µm')} and the slide's µm/px is not known"
        raise ScaleError(f"{table.path.name}: {what}; fix: give mpp, for instance 0.25")
    return reading.mpp / c.UM_IN[unit]


def _centres(
    table: TextTable, found: c.FoundColumns, box: tuple[c.FoundColumns | None, BoxFormat], reading: PointReading, unit: str,
    collector: Collector,
) -> ShapeOf:  # fmt: skip
    """Reads centres; their size is that of a box if the table has one too."""
    scale, commas = _scale(table, found, reading, unit), decimal_commas(table, found.columns)
    drawn = None if box[0] is None else _boxes(table, box[0], box[1], reading, unit, collector)

    def shape(row: Cells, where: str) -> Shape:
        x, y = (coordinate(row, column, where, commas) / scale for column in found.columns)
        around = drawn(row, where) if drawn is not None else ""
        if isinstance(around, str):
            return dot(x, y)
        if abs(x - around[0]) > around[2] / 2 or abs(y - around[1]) > around[3] / 2:
            names = "` and `".join(found.columns)
            got = f"({x:g}, {y:g}), and the box is around ({around[0]:g}, {around[1]:g})"
            raise DataError(f"{where}: {must(names, 'inside the box', got, 'keep the columns of one of the two')}")
        return x, y, around[2], around[3]

    return shape


def _boxes(
    table: TextTable, found: c.FoundColumns, written: BoxFormat, reading: PointReading, unit: str, collector: Collector
) -> ShapeOf:
    scale, commas = _scale(table, found, reading, unit), decimal_commas(table, found.columns)
    if reading.box_format not in (AUTO, written):
        got = f"{reading.box_format}, and {', '.join(found.columns)} are {written}"
        raise DataError(f"{table.path.name}: {must('box_format', f'{AUTO} or {written}', got, 'leave it out')}")
    names = f"{found.columns[2]}` and `{found.columns[3]}"
    if written == XYXY and len(table.rows) > 0:
        sides = [_numbers(row, found.columns, commas) for row in table.rows]
        if sum(right < left or bottom < top for left, top, right, bottom in sides) * 2 > len(sides):
            fix = "give corners, or name them width and height"
            got = "smaller in most lines"
            raise DataError(f"{table.path.name}: {must(names, 'at least the other corner', got, fix)}")

    def shape(row: Cells, where: str) -> Shape | str:
        sides = [coordinate(row, column, where, commas) / scale for column in found.columns]
        return shape_of((sides[0], sides[1], sides[2], sides[3]), written)

    return shape


def _numbers(row: Cells, columns: Sequence[str], commas: bool) -> tuple[float, ...]:
    try:
        return tuple(coordinate(row, column, "", commas) for column in columns)
    except DataError:
        return (math.nan,) * len(columns)  # refused with its place when it is read


def _corner_or_centre(
    table: TextTable, columns: dict[str, str], found: c.FoundColumns, reading: PointReading
) -> BoxFormat:
    """Whether x and y beside a width and a height are a corner or the centre.

    Raises:
        DataError: It cannot be determined.
    """
    if reading.box_format != AUTO:
        if reading.box_format == XYXY:
            got = f"xyxy, and the columns are named {', '.join(found.columns)}"
            raise DataError(f"{table.path.name}: {must('box_format', 'xywh or cxcywh', got, 'give one of these')}")
        return reading.box_format
    commas = decimal_commas(table, found.columns)
    boxes = np.array([_numbers(row, found.columns, commas) for row in table.rows], np.float64).reshape(-1, 4)
    sizes = c.find(columns, c.IMAGE_SIZES)
    images = np.full((len(boxes), 2), np.nan)
    if sizes is not None:
        images = np.array([_numbers(row, sizes.columns, commas) for row in table.rows], np.float64).reshape(-1, 2)
    decided = decide_centre(boxes, images)
    if decided is None:
        names = f"`{found.columns[0]}`, `{found.columns[1]}` beside `{found.columns[2]}`, `{found.columns[3]}`"
        raise DataError(
            f"{table.path.name}: it cannot be determined whether {names} are the upper left corner or the centre of a box; "
            "fix: pass --box-format xywh (corner) or --box-format cxcywh (centre)"
        )
    return decided


def _pairs(column: str, collector: Collector) -> ShapeOf:
    """Reads a column with both coordinates: «(12, 34)», «[12, 34]», «12 34», «POINT (12 34)»."""
    collector.notes.append(f"`{column}` is read as (x, y)")

    def shape(row: Cells, where: str) -> Shape:
        found = _PAIR.fullmatch(row[column])
        if found is None:
            got, fix = repr(row[column][:80]), "write the columns x and y"
            raise DataError(f"{where}: {must(column, 'a position like (12, 34)', got, fix)}")
        return dot(*(coordinate({column: text}, column, where) for text in found.groups()))

    return shape


def _measured(columns: dict[str, str], reading: PointReading) -> Callable[[Cells], tuple[float, float]] | None:
    """The size of a shape from QuPath's measurements: the rectangle of the same area and perimeter, in px."""
    unit = next((unit for unit in (c.PX, *c.UM_IN) if f"area_{unit}^2" in columns), None)
    if unit is None:
        return None
    mpp = 1.0 if unit == c.PX else reading.mpp
    if mpp is None:
        return None
    scale = mpp / c.UM_IN.get(unit, 1.0)
    area, perimeter = columns[f"area_{unit}^2"], columns.get(f"perimeter_{unit}")

    def size(row: Cells) -> tuple[float, float]:
        covered = _measurement(row, area) / scale**2
        if not covered > 0:
            return math.nan, math.nan
        half = math.nan if perimeter is None else _measurement(row, perimeter) / scale / 2
        root = half**2 / 4 - covered  # of the sides' equation: their sum is half, their product the area
        if not root >= 0:
            return math.sqrt(covered), math.sqrt(covered)
        return half / 2 + math.sqrt(root), half / 2 - math.sqrt(root)

    return size


def _measurement(row: Cells, column: str) -> float:
    text = cleaned_text(row[column])
    try:
        return math.nan if text is None else float(text.replace(",", "."))
    except ValueError:
        return math.nan


def _origin(table: TextTable, columns: dict[str, str]) -> str | None:
    """Origin of positions, from Atypia's own column or from QuPath's column names."""
    said = {row[columns[ORIGIN]] for row in table.rows} if ORIGIN in columns else set()
    if len(said) == 1 and said <= {CANVAS, BOUNDS}:
        return said.pop()
    return BOUNDS if any("centroid_x_" in name for name in columns) else None


def _takes(table: TextTable) -> bool:
    return "vector" not in c.plain_columns(table)


POINT_FORMATS.add(
    "csv",
    PointFormat(
        "csv",
        "table",
        "tables with a line a figure, among them QuPath's measurement exports",
        _takes,
        read,
        general=True,
        own_unit=True,
    ),
)
