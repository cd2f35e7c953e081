"""Scale and physical width of displayed crops, if known."""

from __future__ import annotations

import math

from atypia.review.figures.figures import FIELD_UM, ReviewFigures
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


def finite_or_none(value: float) -> float | None:
    """The number; None for NaN and infinity, which JSON lacks."""
    number = float(value)
    return number if math.isfinite(number) else None
