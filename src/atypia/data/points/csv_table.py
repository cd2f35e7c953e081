"""Tables with a line a figure: plain ones, QuPath's measurement exports, tables of boxes."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Sequence

from atypia import records as r
from atypia.data.points.base import (
    BOUNDS,
    CANVAS,
    POINT_FORMATS,
    Collector,
    PointFormat,
    Points,
    Reading,
    ScaleError,
    Shape,
    box,
    dot,
)
from atypia.data.textfiles import TextTable, number
from atypia.errors import DataError, must

# Column names are compared without case, with «_» for spaces and hyphens and «um» for µm.
POSITIONS_PX = (
    (r.X_PX, r.Y_PX),
    ("x", "y"),
    ("centroid_x_px", "centroid_y_px"),
    ("coordinatex", "coordinatey"),
)
POSITIONS_UM = (("x_um", "y_um"), ("centroid_x_um", "centroid_y_um"))
BOXES = (
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("x1", "y1", "x2", "y2"),
    ("left", "top", "right", "bottom"),
)
IDS = (r.FIGURE_ID, "object_id", "unique_identifier", "id")
IMAGES = (r.IMAGE, "image_name", "filename", "file_name", "slide", "slide_name", r.SLIDE_ID)
ORIGIN = "origin"
"""A column of Atypia's own results: what their positions count from."""
CLASSES = ("class", "classification", "class_name", "annotation_type", "category", r.LABEL)

Cells = dict[str, str]


def read(table: TextTable, reading: Reading) -> Points:
    """Reads a table delimited by commas, semicolons or tabs.

    Positions in pixels go before those in µm, a centre before a box; the size is that of the box
    where there is one. Other columns are not looked at.

    Raises:
        DataError: No columns of positions (names those that are there), two columns of one
            name, a cell that is no finite number, or as :meth:`Collector.points`.
        ScaleError: Only positions in µm, and no µm/px is given.
    """
    columns = plain_columns(table)
    shape = _shape_reader(table, columns, reading)
    figure, image, named = (first_column(columns, names) for names in (IDS, IMAGES, CLASSES))
    collector = Collector(reading, origin=_origin(table, columns))
    for row, line in zip(table.rows, table.lines, strict=True):
        where = f"{table.path.name}, line {line}"
        collector.add(where, shape(row, where), *(row[column] if column else None for column in (figure, image, named)))
    return collector.points()


def plain_columns(table: TextTable) -> dict[str, str]:
    """The table's columns by their plain names.

    Raises:
        DataError: Two columns have the same plain name.
    """
    columns: dict[str, str] = {}
    for column in table.columns:
        name = _plain(column)
        if name in columns and name:
            twice = f"`{columns[name]}` and `{column}`"
            raise DataError(f"{table.path.name}: the columns {twice} have one meaning; fix: keep one")
        columns[name] = column
    return columns


def first_column(columns: dict[str, str], names: Sequence[str]) -> str | None:
    """The first of these that the table has, as the table spells it."""
    return next((columns[name] for name in names if name in columns), None)


def coordinate(row: Cells, column: str, where: str) -> float:
    """A finite number of a cell.

    Raises:
        DataError: It is none; names line and column.
    """
    text = row[column]
    if text.count(",") == 1 and text.replace(",", "").removeprefix("-").isdecimal():
        fix = "write decimals with a point"
        raise DataError(f"{where}: {must(column, 'a number', repr(text), fix)}")
    value = number(text, column, where)
    if not math.isfinite(value):
        raise DataError(f"{where}: {must(column, 'a finite number', repr(text), 'correct the cell or drop the line')}")
    return value


def _plain(column: str) -> str:
    # NFKC makes the micro sign a Greek mu; «Âµ» is what a wrong decoding makes of it.
    name = unicodedata.normalize("NFKC", column).casefold().replace("âμ", "μ").replace("μm", "um")
    return name.strip().replace(" ", "_").replace("-", "_")


def _shape_reader(table: TextTable, columns: dict[str, str], reading: Reading) -> Callable[[Cells, str], Shape]:
    centre, in_um, corners = (_all_of(columns, sets) for sets in (POSITIONS_PX, POSITIONS_UM, BOXES))
    scale = 1.0
    if centre is None and corners is None:
        if in_um is None:
            there = ", ".join(column for column in table.columns if column) or "none with a name"
            raise DataError(
                f"{table.path.name}: no columns of positions; there are: {there}; "
                f"fix: name them `{r.X_PX}` and `{r.Y_PX}`, or xmin, ymin, xmax, ymax"
            )
        if reading.mpp is None:
            what = f"`{in_um[0]}` is in µm and the slide's µm/px is not known"
            raise ScaleError(f"{table.path.name}: {what}; fix: give mpp, for instance 0.25")
        centre, scale = in_um, reading.mpp

    def shape(row: Cells, where: str) -> Shape:
        drawn = None
        if corners is not None:
            left, top, right, bottom = (coordinate(row, column, where) for column in corners)
            for name, low, high in ((corners[2], left, right), (corners[3], top, bottom)):
                if high < low:
                    fix = "give corners, not width and height"
                    raise DataError(f"{where}: {must(name, f'at least {low:g}', f'{high:g}', fix)}")
            drawn = box(left, top, right, bottom)
        if centre is None and drawn is not None:
            return drawn
        assert centre is not None
        x, y = (coordinate(row, column, where) / scale for column in centre)
        return dot(x, y) if drawn is None else (x, y, drawn[2], drawn[3])

    return shape


def _all_of(columns: dict[str, str], sets: Sequence[tuple[str, ...]]) -> tuple[str, ...] | None:
    found = next((names for names in sets if all(name in columns for name in names)), None)
    return None if found is None else tuple(columns[name] for name in found)


def _origin(table: TextTable, columns: dict[str, str]) -> str | None:
    """What positions count from: by their column, which is Atypia's, or by the names that QuPath gives."""
    said = {row[columns[ORIGIN]] for row in table.rows} if ORIGIN in columns else set()
    if len(said) == 1 and said <= {CANVAS, BOUNDS}:
        return said.pop()
    return BOUNDS if any("centroid_x_" in name for name in columns) else None


def _takes(table: TextTable) -> bool:
    return "vector" not in plain_columns(table)


POINT_FORMATS.add(
    "csv",
    PointFormat("csv", "table", "tables with a line a figure, among them QuPath's measurement exports", _takes, read),
)
