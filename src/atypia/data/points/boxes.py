"""Determines what the four numbers of a box mean, from what is possible for most boxes of a file.

Single boxes that are flat, swapped or damaged never determine how the others are read; they are refused individually.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from atypia.data.points.base import BoxFormat
from atypia.data.points.shapes import Shape, box

XYWH: Final[BoxFormat] = "xywh"
XYXY: Final[BoxFormat] = "xyxy"
CXCYWH: Final[BoxFormat] = "cxcywh"
AUTO: Final[BoxFormat] = "auto"

AREA_SHARE: Final = 1e-3
BEYOND_PX: Final = 64
"""Tolerance in pixels by which boxes may extend beyond the image under either reading."""
SAME_SIZE: Final = 0.01
"""Boxes that differ by at most this share count as equal in size."""

Numbers = npt.NDArray[np.float64]


def corners(boxes: Numbers, box_format: BoxFormat) -> Numbers:
    """Left, top, right, bottom of boxes, shape (n, 4); NaN and wrong order are kept."""
    if box_format == XYXY:
        return boxes
    start, size = boxes[:, :2], boxes[:, 2:]
    if box_format == CXCYWH:
        start = start - size / 2
    return np.column_stack([start, start + size])


def shape_of(numbers: tuple[float, float, float, float], box_format: BoxFormat) -> Shape | str:
    """The shape of one box, or what is wrong with it.

    >>> shape_of((400, 300, 64, 48), "xywh"), shape_of((1, 1, 1, 5), "xyxy")
    ((432.0, 324.0, 64.0, 48.0), 'a box of 0 × 4 px')
    """
    left, top, right, bottom = corners(np.array([numbers], np.float64), box_format)[0].tolist()
    if not all(math.isfinite(side) for side in (left, top, right, bottom)):
        return "a box that is not four finite numbers"
    if right <= left or bottom <= top:
        return f"a box of {right - left:g} × {bottom - top:g} px"
    return box(left, top, right, bottom)


def decide(boxes: Numbers, areas: Numbers, images: Numbers, marked: bool) -> BoxFormat | None:
    """Whether boxes are (left, top, width, height) or (left, top, right, bottom).

    A box supports one reading if the other gives it no size, an area other than the stated one, or a position
    outside its image. In this order:

    1. most of these boxes support (left, top, right, bottom);
    2. at least half of all boxes support (left, top, width, height);
    3. more than half of at least three boxes have equal size under one reading only;
    4. all categories are those of the MIDOG sets: (left, top, right, bottom).

    Args:
        boxes: Four numbers each, shape (n, 4); rows with NaN are ignored.
        areas: Stated areas, shape (n,); NaN if none is.
        images: Width and height of each box's image, shape (n, 2); NaN if unknown.
        marked: Whether all categories are those of the MIDOG sets.

    Returns:
        None if nothing decides.
    """
    whole = np.isfinite(boxes).all(axis=1)
    boxes, areas, images = boxes[whole], areas[whole], images[whole]
    fits: dict[BoxFormat, npt.NDArray[np.bool_]] = {
        reading: _fits(corners(boxes, reading), areas, images) for reading in (XYWH, XYXY)
    }
    # A box without width or height under one reading may be flat under the right one, so it is ignored.
    ordered = corners(boxes, XYXY)
    flat = (ordered[:, 2:] == ordered[:, :2]).any(axis=1) | (boxes[:, 2:] == 0).any(axis=1)
    only_xywh = int(np.count_nonzero(fits[XYWH] & ~fits[XYXY] & ~flat))
    only_xyxy = int(np.count_nonzero(fits[XYXY] & ~fits[XYWH] & ~flat))
    either = int(np.count_nonzero(fits[XYXY] & fits[XYWH] & ~flat))
    if only_xyxy > only_xywh:
        return XYXY
    same: list[BoxFormat] = [reading for reading in (XYWH, XYXY) if _one_size(corners(boxes[~flat], reading))]
    if only_xywh > only_xyxy and only_xywh > either:
        return XYWH
    if len(same) == 1:
        return same[0]
    if only_xywh > only_xyxy and only_xywh == either:
        # With equal counts nothing is decided: in a small file one swapped box is enough for a tie.
        spread = {reading: _spread(corners(boxes[~flat], reading)) for reading in (XYWH, XYXY)}
        if not marked or spread[XYWH] <= spread[XYXY]:
            return XYWH
    return XYXY if marked else None


def decide_centre(boxes: Numbers, images: Numbers) -> BoxFormat | None:
    """Whether x and y beside a width and a height are the upper left corner or the centre.

    A figure's centre lies in its image; a box may leave it. So a negative x supports the corner, and a corner whose
    centre would lie outside supports the centre. None if nothing decides, or boxes contradict each other.
    """
    start, size = boxes[:, :2], boxes[:, 2:]
    for_corner = (start < 0) | (start > images)
    middle = start + size / 2
    for_centre = (middle < 0) | (middle > images)
    corner, centre = (bool((votes.any(axis=1) & ~other.any(axis=1)).any()) for votes, other in
                      ((for_corner, for_centre), (for_centre, for_corner)))  # fmt: skip
    if corner == centre:
        return None
    return XYWH if corner else CXCYWH


def _fits(sides: Numbers, areas: Numbers, images: Numbers) -> npt.NDArray[np.bool_]:
    size = sides[:, 2:] - sides[:, :2]
    ordered = (size > 0).all(axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        own = ~(np.abs(np.prod(size, axis=1) - areas) > AREA_SHARE * areas)
        inside = ~(sides[:, 2:] > images + BEYOND_PX).any(axis=1)
    return ordered & own & inside


def _one_size(sides: Numbers) -> bool:
    """Whether more than half of the boxes, and three at least, have one size, at different places.

    Boxes at one place have one size under either reading.
    """
    if len(sides) < 3:
        return False
    size = sides[:, 2:] - sides[:, :2]
    middle = np.median(size, axis=0)
    allowed = SAME_SIZE * np.abs(middle)
    close = (np.abs(size - middle) <= allowed).all(axis=1) & (size > 0).all(axis=1)
    count = int(np.count_nonzero(close))
    if count * 2 <= len(sides) or count < 3:
        return False
    return bool((np.ptp(sides[close, :2], axis=0) > 4 * allowed + 1).all())


def _spread(sides: Numbers) -> float:
    """Variation of box sizes: standard deviation of the logarithm of the sides."""
    size = np.abs(sides[:, 2:] - sides[:, :2])
    return float(np.log(np.maximum(size, 1e-3)).std())
