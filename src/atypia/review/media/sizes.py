"""Scale and physical width of displayed crops, if known."""

from __future__ import annotations

import math

from atypia.base.errors import DataError
from atypia.review.figures.figures import FIELD_PX, FIELD_UM, ReviewFigures
from atypia.review.media.slides import OpenSlides


def scale(
    figures: ReviewFigures, shelf: OpenSlides, index: int, until: float = math.inf
) -> tuple[float | None, float | None]:
    """µm/px of a figure's image, and the physical width of the crop shown; None if unknown.

    No slide is opened after ``until`` on the clock of ``time.monotonic``.
    """
    mpp = finite_or_none(figures.mpp[index])
    if figures.cut[index]:
        if mpp is None:
            mpp = shelf.mpp(int(figures.slide[index]), until)
        return mpp, None if mpp is None else FIELD_UM
    side = finite_or_none(figures.side_px[index])
    return mpp, None if mpp is None or side is None else mpp * side


def beyond(figures: ReviewFigures, shelf: OpenSlides, index: int, until: float = math.inf) -> bool:
    """Whether the field around a figure on a slide reaches beyond the slide; False where that is not known in time."""
    if not figures.cut[index]:
        return False
    slide = int(figures.slide[index])
    mpp, _ = scale(figures, shelf, index, until)
    try:
        size = shelf.known(slide, until)
    except DataError:
        return False
    if size is None:
        return False
    half = (FIELD_PX if mpp is None else FIELD_UM / mpp) / 2
    x, y = float(figures.x_px[index]), float(figures.y_px[index])
    return x < half or y < half or x > size.width_px - half or y > size.height_px - half


def finite_or_none(value: float) -> float | None:
    """The number; None for NaN and infinity, which JSON lacks."""
    number = float(value)
    return number if math.isfinite(number) else None
