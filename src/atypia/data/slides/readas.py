"""How a figure was read: its µm/px, the origin of its position, and a check that an image shows one figure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from atypia.base.errors import DataError, must
from atypia.data.images.geometry import CropGeometry

ASSUMED: Final = "assumed"
"""First word of the source of an assumed µm/px."""

MAX_UNKNOWN_PX: Final = 384
"""Longest side of a crop whose µm/px is not known. At the usual 0.25 µm/px that is 96 µm, three times the field of
the published crops; a larger image may be a region, which only its µm/px can show."""
MAX_FIELDS: Final = 4
"""Longest side of a crop of known µm/px, in fields of the model: 128 µm for a field of 32 µm. A figure is in the
middle of its crop; a larger image has more than one figure."""
MAX_ASPECT: Final = 1.5
"""Longest side over shortest: crops cut by a border are less elongated, two crops side by side are more."""


@dataclass(frozen=True)
class ReadAs:
    """Scale and origin with which a figure was read.

    Attributes:
        mpp: µm/px of its image at full resolution; NaN if unknown.
        mpp_source: Its source; None if unknown.
        origin: Origin of its position: ``canvas`` or ``bounds`` (the scanned area); None if the
            image makes no difference between them.
        origin_x_px: Position of the origin in the image, in px; NaN for its corner.
        origin_y_px: Likewise, downwards.
    """

    mpp: float = math.nan
    mpp_source: str | None = None
    origin: str | None = None
    origin_x_px: float = math.nan
    origin_y_px: float = math.nan


UNKNOWN: Final = ReadAs()


def read_crop_as(
    width_px: int,
    height_px: int,
    geometry: CropGeometry,
    mpp: float | None,
    given_as: str,
    assumed_um: float | None,
) -> ReadAs:
    """The scale with which a crop image is read.

    Args:
        width_px: Width of the image.
        height_px: Its height.
        geometry: The field that is cut from it.
        mpp: Its µm/px; None if unknown.
        given_as: How the user gave it.
        assumed_um: The field that a whole crop is taken for; None if the model does not say.
    """
    if mpp is not None:
        return ReadAs(mpp, given_as)
    if not geometry.is_whole or assumed_um is None:
        return UNKNOWN
    return ReadAs(assumed_um / min(width_px, height_px), f"{ASSUMED} ({assumed_um:g} µm field)")


def check_one_figure(name: str, width_px: int, height_px: int, geometry: CropGeometry, mpp: float | None) -> None:
    """Refuses an image that is not a crop of one figure.

    Args:
        name: Its name in messages.
        width_px: Its width.
        height_px: Its height.
        geometry: The field that is cut from it.
        mpp: Its µm/px; None if unknown.

    Raises:
        DataError: It is far from square, or much larger than a figure's surroundings.
    """
    longest, shortest = max(width_px, height_px), min(width_px, height_px)
    got, points = f"{width_px:,} × {height_px:,} px", "give the positions of its figures (--points)"
    if longest > MAX_ASPECT * shortest:
        expected = f"the crop of one figure (at most {MAX_ASPECT:g} times as long as wide)"
        raise DataError(must(name, expected, got, points))
    field = geometry.source_side_px(mpp)
    if field is None:
        if longest > MAX_UNKNOWN_PX:
            expected = f"the crop of one figure (at most {MAX_UNKNOWN_PX} px per side where its µm/px is not known)"
            raise DataError(must(name, expected, got, f"give --mpp or --magnification, or {points}"))
    elif longest > MAX_FIELDS * field + 1:
        size = "" if mpp is None else f" ({longest * mpp:.0f} µm at {mpp:g} µm/px)"
        expected = f"the crop of one figure (at most {MAX_FIELDS * field} px per side, {MAX_FIELDS} fields)"
        raise DataError(must(name, expected, got + size, points))
