"""The origin of positions on a slide.

Some slides (MIRAX, Leica SCN, sparse TIFF) have a picture, the *canvas*, that is larger than the scanned
area, their *bounds*. OpenSlide and tools built on it count from the corner of the canvas; QuPath shows the
scanned area only and counts from its corner. The same position is a different cell in each.

A slide that was converted and cropped has lost its canvas: ``offset_px`` states by how much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from atypia.base.errors import DataError, InputError, must
from atypia.data.points.base import BOUNDS, CANVAS, Points
from atypia.data.slides.regions import Bounds, Slide

Origin = Literal["auto", "canvas", "bounds"]
AUTO: Final = "auto"
ORIGINS: Final = (AUTO, CANVAS, BOUNDS)
NO_OFFSET: Final = (0.0, 0.0)
_MOST, _FEW = 0.9, 0.5


@dataclass(frozen=True)
class Zero:
    """The origin of given positions.

    Attributes:
        origin: ``canvas`` or ``bounds``; None if both are the same for the slide.
        x_px: Its position on the canvas, added to a given position before reading.
        y_px: Likewise, downwards.
        note: The decision and its reason; None if there was nothing to decide.
    """

    origin: str | None = None
    x_px: float = 0.0
    y_px: float = 0.0
    note: str | None = None


def check_origin(origin: str) -> None:
    """Checks that a word is one of :data:`ORIGINS`.

    Raises:
        InputError: It is not.
    """
    if origin not in ORIGINS:
        raise InputError(must("--origin", f"one of {', '.join(ORIGINS)}", origin, "name one"))


def offset_of(text: str | None) -> tuple[float, float]:
    """The two numbers of ``--offset X,Y``; None or an empty text means no offset.

    Raises:
        InputError: They are not two finite numbers.

    >>> offset_of("-1200,300")
    (-1200.0, 300.0)
    """
    if not text:
        return NO_OFFSET
    try:
        x, y = (float(part) for part in text.replace(";", ",").split(","))
    except ValueError:
        x = y = float("nan")
    if not np.isfinite([x, y]).all():
        raise InputError(must("--offset", "two numbers of pixels, X,Y", repr(text), "for instance --offset=-1200,300"))
    return x, y


def zero_of(slide: Slide, points: Points, origin: str = AUTO, offset_px: tuple[float, float] = NO_OFFSET) -> Zero:
    """Determines the origin of positions on a slide.

    ``auto``: a reading in which points lie outside the scanned area, and the other has none there, is
    excluded; else what wrote the file decides (:attr:`Points.origin`).

    Args:
        slide: The slide.
        points: The positions.
        origin: One of :data:`ORIGINS`.
        offset_px: Added to the positions, in pixels of level 0, before anything else.

    Raises:
        InputError: ``origin`` is another word.
        DataError: The slide has a scanned area within a larger canvas, and the origin cannot be determined.
    """
    check_origin(origin)
    across, down = offset_px
    bounds = slide.facts.bounds
    if bounds is None:
        return Zero(None, across, down)
    where = f"the scanned area begins at ({bounds.x_px}, {bounds.y_px}) of the canvas"
    taken, why = (origin, "as --origin says") if origin != AUTO else _told(slide, points, bounds, offset_px, where)
    words = "that area (as in QuPath)" if taken == BOUNDS else "the canvas (as in OpenSlide)"
    note = f"{where}; positions count from {words}, {why}"
    if taken == BOUNDS:
        across, down = across + bounds.x_px, down + bounds.y_px
    return Zero(taken, across, down, note)


def inside(x_px: npt.NDArray[np.float64], y_px: npt.NDArray[np.float64], area: Bounds) -> npt.NDArray[np.bool_]:
    """Which positions on the canvas lie in an area, shape (n,)."""
    across, down = x_px - area.x_px, y_px - area.y_px
    return (across >= 0) & (across < area.width_px) & (down >= 0) & (down < area.height_px)


def _told(slide: Slide, points: Points, bounds: Bounds, offset_px: tuple[float, float], where: str) -> tuple[str, str]:
    x, y = points.x_px + offset_px[0], points.y_px + offset_px[1]
    shares = {
        CANVAS: float(inside(x, y, bounds).mean()),
        BOUNDS: float(inside(x + bounds.x_px, y + bounds.y_px, bounds).mean()),
    }
    for one, other in ((CANVAS, BOUNDS), (BOUNDS, CANVAS)):
        if shares[one] == 1 and shares[other] < 1:
            outside = round((1 - shares[other]) * len(points))
            return one, f"as {outside} of {len(points)} would lie outside it otherwise"
    if points.origin is not None and shares[points.origin] > 0:
        return points.origin, "by the program that wrote the file of points"
    for one, other in ((CANVAS, BOUNDS), (BOUNDS, CANVAS)):
        if points.origin is None and shares[one] >= _MOST and shares[other] <= _FEW:
            return one, f"as {shares[one]:.0%} of the points lie in it so, and {shares[other]:.0%} otherwise"
    counts = ", ".join(f"{share:.0%} with {one}" for one, share in shares.items())
    raise DataError(
        must("--origin", f"canvas or bounds for {slide.name}, as {where}", f"auto, which cannot decide (points inside: {counts})",
             "--origin bounds for points from QuPath, --origin canvas for points from OpenSlide and tools built on it")
    )  # fmt: skip
