"""Shapes of figures: a point, a box, outlines; each has a position that lies on the figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from shapely import Geometry, Polygon

Shape = tuple[float, float, float, float]
"""x and y of the position, width, height; the last two are NaN where only a point was drawn."""

SMALL_PART: Final = 0.1
"""Parts of less than this share of the largest one's area do not move the position."""
APART: Final = 6.0
"""Two parts belong to one cell in division while their centres are no more than this many times the square root
of the larger one's area apart: the plates of an anaphase or telophase are about three times apart."""


def dot(x: float, y: float) -> Shape:
    """The shape of a point."""
    return x, y, math.nan, math.nan


def box(left: float, top: float, right: float, bottom: float) -> Shape:
    """The shape of a box given by its corners.

    >>> box(10, 20, 30, 60)
    (20.0, 40.0, 20, 40)
    """
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


def polygons(shapes: Sequence[Sequence[npt.NDArray[np.float64]]]) -> Shape:
    """The shape of polygons that are one figure: a position and their common extent.

    The position is the centre of area where that lies inside. Where it does not (crescents, rings, outlines that
    cross themselves), it is a point inside the largest part. The even-odd rule determines what is inside.
    Two parts of a cell in division (an anaphase, a telophase) have their common centre, between them.

    Args:
        shapes: For each polygon its rings, shape (k, 2), the first the outline, others holes.
            A ring may repeat its first vertex at its end; its direction does not count.

    Returns:
        The position and the extent; the middle of the extent where there is no area, NaN if a vertex is not finite.

    >>> square = np.array([[0, 0], [4, 0], [4, 4], [0, 4]], dtype=float)
    >>> polygons([[square, square / 4]])
    (2.1, 2.1, 4.0, 4.0)
    """
    outline = np.concatenate([rings[0] for rings in shapes])
    (left, top), (right, bottom) = outline.min(axis=0), outline.max(axis=0)
    width, height = float(right - left), float(bottom - top)
    if not all(np.isfinite(ring).all() for rings in shapes for ring in rings) or not math.isfinite(width * height):
        return math.nan, math.nan, width, height
    middle = np.array([(left + right) / 2, (top + bottom) / 2])
    # Around 0, where far positions lose no digits.
    x, y = _position([_valid([ring - middle for ring in rings]) for rings in shapes])
    return float(x + middle[0]), float(y + middle[1]), width, height


def _position(areas: Sequence[Geometry]) -> tuple[float, float]:
    from shapely import MultiPolygon, Polygon, union_all

    if len(areas) == 1 and isinstance(areas[0], Polygon) and areas[0].contains(own := areas[0].centroid):
        return own.x, own.y  # nearly all
    whole = areas[0] if len(areas) == 1 else union_all(list(areas))
    parts = sorted(_parts(whole), key=lambda part: -part.area)
    if not parts:
        return 0.0, 0.0
    centre = MultiPolygon(parts).centroid
    if any(part.contains(centre) for part in parts) or (len(areas) > 1 and _in_division(parts)):
        return centre.x, centre.y
    own = parts[0].centroid
    inside = own if parts[0].contains(own) else parts[0].representative_point()
    return inside.x, inside.y


def _in_division(parts: Sequence[Polygon]) -> bool:
    """Whether parts that lie apart, the largest first, are one dividing cell."""
    large = [part for part in parts if part.area >= SMALL_PART * parts[0].area]
    return len(large) == 2 and large[0].centroid.distance(large[1].centroid) <= APART * math.sqrt(large[0].area)


def _valid(rings: Sequence[npt.NDArray[np.float64]]) -> Geometry:
    """The area within a ring and outside its holes."""
    from shapely import MultiPolygon, Polygon, make_valid

    closed = [ring for ring in rings if len(ring) >= 3]
    if len(rings[0]) < 3:
        return MultiPolygon()
    area = Polygon(closed[0], closed[1:])
    if area.is_valid:
        return area
    # Ring by ring, each by the even-odd rule: holes that touch the outline count as holes.
    first, *holes = [MultiPolygon(_parts(make_valid(Polygon(ring)))) for ring in closed]
    for hole in holes:
        first = first.difference(hole)
    return first


def _parts(area: Geometry) -> list[Polygon]:
    """The polygons of a geometry that have an area."""
    from shapely import Polygon, get_parts

    waiting, found = [area], []
    while waiting:
        one = waiting.pop()
        if isinstance(one, Polygon):
            if one.area > 0:
                found.append(one)
        elif hasattr(one, "geoms"):
            waiting.extend(get_parts(one).tolist())
    return found
