"""Meaning of the columns of a table of points: centres, corners, boxes, and their units."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from atypia.base import records as r
from atypia.base.errors import DataError
from atypia.data.textfiles import TextTable

# Column names are compared without case and brackets, with «_» for spaces and hyphens and «um» for µm.
CENTRES: Final = (
    (r.X_PX, r.Y_PX),
    ("centroid_x", "centroid_y"),
    ("x_centroid", "y_centroid"),
    ("center_x", "center_y"),
    ("centre_x", "centre_y"),
    ("x_center", "y_center"),
    ("x_centre", "y_centre"),
    ("cx", "cy"),
    ("xc", "yc"),
    ("coordinatex", "coordinatey"),
    ("coordinate_x", "coordinate_y"),
    ("x_coordinate", "y_coordinate"),
    ("x_coord", "y_coord"),
    ("pos_x", "pos_y"),
    ("x_pos", "y_pos"),
    ("x_position", "y_position"),
)
"""Names that always mean centres."""
BARE: Final = (("x", "y"),)
"""Names for centres; with a width and a height possibly a corner."""
PAIRS: Final = ("centroid", "center", "centre", "position", "coordinates")
"""One column with «x, y»."""
ROWS_FIRST: Final = ("centroid_1", "centroid_0")
"""scikit-image numbers its axes: 0 is the row (y), 1 the column (x)."""
CORNERS: Final = (
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("x1", "y1", "x2", "y2"),
    ("x0", "y0", "x1", "y1"),
    ("left", "top", "right", "bottom"),
    ("minx", "miny", "maxx", "maxy"),
    ("min_x", "min_y", "max_x", "max_y"),
    ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2"),
    ("bbox_xmin", "bbox_ymin", "bbox_xmax", "bbox_ymax"),
)
"""Left, top, right, bottom."""
TOP_LEFT: Final = (
    ("left", "top"),
    ("xmin", "ymin"),
    ("x_min", "y_min"),
    ("minx", "miny"),
    ("min_x", "min_y"),
    ("x1", "y1"),
    ("x0", "y0"),
    ("bbox_left", "bbox_top"),
)
"""Names that always mean a corner; used only with a width and a height."""
MAYBE_CORNERS: Final = (*BARE, ("bbox_x", "bbox_y"), ("box_x", "box_y"), ("bx", "by"))
"""Names that, with a width and a height, mean a corner in most tools and the centre in some."""
SIZES: Final = (
    ("width", "height"),
    ("w", "h"),
    ("bbox_width", "bbox_height"),
    ("bbox_w", "bbox_h"),
    ("box_width", "box_height"),
    ("bw", "bh"),
    ("box_w", "box_h"),
)
IMAGE_SIZES: Final = (("image_width", "image_height"), ("img_width", "img_height"), ("imagewidth", "imageheight"))
IDS: Final = (r.FIGURE_ID, "object_id", "unique_identifier", "id")
IMAGES: Final = (r.IMAGE, "image_name", "filename", "file_name", "slide", "slide_name", r.SLIDE_ID)
CLASSES: Final = (
    "class", "classification", "class_name", "annotation_type", "category", "category_name", "label_name", r.LABEL,
)  # fmt: skip
KINDS: Final = ("object_type",)
NAMES: Final = ("name",)
ROIS: Final = ("roi", "roi_type")
COUNTS: Final = ("num_points",)
PLANES: Final = ("z", "z_index", "t", "t_index")

UM_IN: Final = {"um": 1.0, "mm": 1000.0, "cm": 10_000.0, "nm": 0.001}
"""Units of length in µm."""
PX: Final = "px"
_UNITS = {
    "um": "um", "micron": "um", "microns": "um", "micrometer": "um", "micrometre": "um", "micrometers": "um",
    "micrometres": "um", "mm": "mm", "millimeter": "mm", "millimetre": "mm", "cm": "cm", "nm": "nm", "px": PX,
    "pixel": PX, "pixels": PX, "norm": "share", "normalized": "share", "normalised": "share", "rel": "share",
    "relative": "share", "frac": "share", "fraction": "share", "share": "share", "percent": "share", "%": "share",
    "pct": "share",
}  # fmt: skip


def plain(column: str) -> str:
    """Normalised name of a column, for comparison.

    >>> plain("Centroid X µm"), plain(" X (mm)"), plain("x-px")
    ('centroid_x_um', 'x_mm', 'x_px')
    """
    # NFKC makes the micro sign a Greek mu; «Âµ» results from a wrong decoding.
    name = unicodedata.normalize("NFKC", column).casefold().replace("âμ", "μ").replace("μm", "um")
    return re.sub(r"[\s_\-()\[\]]+", "_", name.strip()).strip("_")


def plain_columns(table: TextTable) -> dict[str, str]:
    """The table's columns by their plain names.

    Raises:
        DataError: Two columns have the same plain name.
    """
    columns: dict[str, str] = {}
    for column in table.columns:
        name = plain(column)
        if name in columns and name:
            twice = f"`{columns[name]}` and `{column}`"
            raise DataError(f"{table.path.name}: the columns {twice} have one meaning; fix: keep one")
        columns[name] = column
    return columns


def first_column(columns: dict[str, str], names: Sequence[str]) -> str | None:
    """The first of these names that the table has, in the table's spelling."""
    return next((columns[name] for name in names if name in columns), None)


@dataclass(frozen=True)
class FoundColumns:
    """A set of matching columns.

    Attributes:
        columns: Names as spelled in the table.
        unit: ``px``, a unit of length, ``share``, or empty if the names tell none.
    """

    columns: tuple[str, ...]
    unit: str


def find(
    columns: dict[str, str], sets: Sequence[Sequence[str]], units: Sequence[str] | None = None
) -> FoundColumns | None:
    """The first complete set of columns in the table, all in one unit.

    Args:
        columns: By plain name.
        sets: Plain names without a unit, or with it.
        units: Units that count; None for all. Pixels take precedence over lengths.
    """
    by_base: dict[tuple[str, str], str] = {}
    for name, column in columns.items():
        base, unit = split_unit(name)
        by_base.setdefault((base, unit), column)
        by_base.setdefault((name, ""), column)
    for unit in ("", PX, *UM_IN, "share") if units is None else units:
        for names in sets:
            if all((name, unit) in by_base for name in names):
                own = unit or (PX if all(name.endswith("_px") for name in names) else "")
                return FoundColumns(tuple(by_base[(name, unit)] for name in names), own)
    return None


def split_unit(name: str) -> tuple[str, str]:
    """A plain name without its unit, and the unit; empty if it names none.

    >>> split_unit("centroid_x_um"), split_unit("x"), split_unit("xmin_mm")
    (('centroid_x', 'um'), ('x', ''), ('xmin', 'mm'))
    """
    base, _, last = name.rpartition("_")
    unit = _UNITS.get(last, "")
    return (base, unit) if base and unit else (name, "")
