"""How a square crop is cut from an image: size of the field, number of pixels.

Positions are continuous: pixel *i* covers the interval from *i* to *i + 1*, so the centre of an
image of width *w* is *w / 2*. A field of *s* pixels centred on *x* starts at the whole pixel
nearest to *x - s / 2*.
"""

from __future__ import annotations

import math
import operator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Final, Literal, SupportsIndex

import numpy as np
import numpy.typing as npt
from PIL import Image

from atypia.base.artifacts import fingerprint
from atypia.base.errors import DataError, InputError, must
from atypia.data.images.stain import check_stain, normalised

MIN_SIDE_PX = 8
"""Smallest field and smallest crop, in pixels: with fewer no nucleus is visible."""
MAX_SIDE_PX = 8192
"""Largest field in pixels (201 MB of RGB): limits the memory for one crop."""
MAX_OUT_PX = 4096
REFUSED: Final = "refuse"
"""What becomes of a position outside of its image, unless it is asked for otherwise: it gives no crop."""
MAX_REFLECTION = 2
"""A field may be this many times as large as its image; beyond that, most of it would be mirrored."""


@dataclass(frozen=True)
class CropGeometry:
    """The field shown in a crop and the size of the stored crop.

    At most one of ``side_um`` and ``side_px`` may be given. With neither, the field is the whole
    crop image, or its central square if it is not square.

    Attributes:
        out_px: Side of the stored crop, from 8 to 4096 px.
        side_um: Side of the field on the tissue, in µm; needs each figure's µm/px.
        side_px: Side of the field in pixels of the source image.
        outside: What becomes of a position outside of its slide, of which the field shows some tissue: ``refuse`` takes
            it for a mistake, ``mirror`` cuts it, with the slide reflected beyond its border as for any other crop. It is asked of
            published sets; positions that a user gives for prediction are refused in any case.
        stain: Normalisation of the crop's colours (:data:`atypia.data.images.stain.STAINS`); None for none. It belongs to
            how a crop is cut, so that whatever is trained on such crops predicts on such crops.

    Raises:
        InputError: A value is out of range, both sides are given, or there is no such normalisation.
    """

    out_px: int = 128
    side_um: float | None = None
    side_px: int | None = None
    outside: Literal["refuse", "mirror"] = REFUSED
    stain: str | None = None

    def __post_init__(self) -> None:
        if self.side_um is not None and self.side_px is not None:
            got = f"side_um={self.side_um} and side_px={self.side_px}"
            raise InputError(must("side_um", "given without side_px", got, "choose one unit"))
        object.__setattr__(self, "out_px", _whole("out_px", self.out_px, MAX_OUT_PX))
        if self.side_px is not None:
            object.__setattr__(self, "side_px", _whole("side_px", self.side_px, MAX_SIDE_PX))
        if self.side_um is not None:
            object.__setattr__(self, "side_um", _length("side_um", self.side_um))
        if self.stain is not None:
            check_stain(self.stain)

    @cached_property
    def fingerprint(self) -> str:
        """Content hash of the values, 32 hex digits; ``outside`` and ``stain`` count where they are not the default."""
        asked = [] if self.outside == REFUSED else [self.outside]
        asked += [] if self.stain is None else [f"stain {self.stain}"]
        return fingerprint("crop-geometry", self.out_px, self.side_um, self.side_px, *asked)

    def as_dict(self) -> dict[str, Any]:
        """The values as files keep them: ``outside`` and ``stain``, which earlier versions do not know, where they are not
        the default."""
        defaults = {"outside": REFUSED, "stain": None}
        return {name: value for name, value in asdict(self).items() if name not in defaults or value != defaults[name]}

    def finish(self, square: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The crop that a field becomes: its size, then its colours.

        Args:
            square: RGB, shape (side, side, 3).

        Returns:
            RGB, shape (out_px, out_px, 3).
        """
        return normalised(resize(square, self.out_px), self.stain)

    @property
    def is_whole(self) -> bool:
        """Whether the field is the whole crop image."""
        return self.side_um is None and self.side_px is None

    def with_field(self, field_um: float) -> CropGeometry:
        """This geometry where the scale is known: the field of that size in place of the whole crop image.

        >>> CropGeometry(64).with_field(32.0).side_um, CropGeometry(64, side_px=80).with_field(32.0).side_um
        (32.0, None)
        """
        return replace(self, side_um=field_um) if self.is_whole else self

    def source_side_px(self, mpp: float | None = None) -> int | None:
        """Side of the field in source pixels, rounded to a whole number.

        Args:
            mpp: µm/px of the source image; used with ``side_um`` only.

        Returns:
            Pixels, or None if the field is the whole crop image.

        Raises:
            DataError: ``side_um`` is given and ``mpp`` is unknown or not positive, or the field
                has fewer than 8 or more than 8192 pixels.

        >>> CropGeometry(side_um=32.0).source_side_px(0.25)
        128
        """
        if self.side_um is None:
            return self.side_px
        if mpp is None or not math.isfinite(mpp) or mpp <= 0:
            got = "unknown" if mpp is None or math.isnan(mpp) else mpp
            raise DataError(must("mpp", "known where side_um is set", got, "fill the column `mpp`, or set side_px"))
        side = self.side_um / mpp
        if not MIN_SIDE_PX - 0.5 <= side < MAX_SIDE_PX + 0.5:
            expected = f"{MIN_SIDE_PX} to {MAX_SIDE_PX} px ({self.side_um:g} µm at {mpp:g} µm/px)"
            raise DataError(must("side_um", expected, f"{side:g} px", "correct side_um or the column `mpp`"))
        return math.floor(side + 0.5)


def apply(image: npt.NDArray[np.uint8], geometry: CropGeometry, mpp: float | None = None) -> npt.NDArray[np.uint8]:
    """Cuts the crop from an image that is centred on the figure.

    Args:
        image: RGB, shape (height, width, 3).
        geometry: The field and the side of the crop.
        mpp: µm/px of the image.

    Returns:
        RGB, shape (out_px, out_px, 3). Source pixels are unchanged if the field has ``out_px`` pixels.
        Beyond the image's border the field is filled by reflection.

    Raises:
        DataError: The image is smaller than 8 px, the field is more than twice as large as the
            image, or as :meth:`CropGeometry.source_side_px`.
    """
    height, width = _checked_shape(image)
    side = geometry.source_side_px(mpp)
    if side is None:
        side = min(height, width)
    check_field(side, width, height)
    return geometry.finish(mirrored_square(image, width / 2, height / 2, side))


def check_field(side_px: int, width_px: int, height_px: int) -> None:
    """Raises unless an image is large enough for a field.

    Raises:
        DataError: The image is smaller than 8 px, or the field more than twice as large as it.
    """
    smaller = min(width_px, height_px)
    if smaller < MIN_SIDE_PX:
        got = f"{width_px} × {height_px} px"
        raise DataError(must("image", f"at least {MIN_SIDE_PX} px wide and high", got, "leave it out"))
    if side_px > MAX_REFLECTION * smaller:
        expected = f"at most {MAX_REFLECTION} times the image's shorter side ({smaller} px)"
        raise DataError(
            must(
                "field",
                expected,
                f"{side_px} px",
                "check the µm/px, give larger images, or a smaller field (side_um, side_px)",
            )
        )


def start_px(centre: float, side_px: int) -> int:
    """First pixel of a field of ``side_px`` centred on a continuous position.

    >>> start_px(64.0, 128), start_px(10.5, 3)
    (0, 9)
    """
    return math.floor(centre - side_px / 2 + 0.5)


def mirrored(start: int, count: int, size: int) -> npt.NDArray[np.int64]:
    """Source positions, on an axis of ``size`` pixels, of ``count`` pixels from ``start``.

    Outside the axis its content is reflected about the outermost pixel (which is not repeated),
    as often as needed.

    >>> mirrored(-2, 7, 4).tolist()
    [2, 1, 0, 1, 2, 3, 2]
    """
    if size == 1:
        return np.zeros(count, dtype=np.int64)
    period = 2 * (size - 1)
    folded = np.arange(start, start + count, dtype=np.int64) % period
    return np.where(folded < size, folded, period - folded)


def mirrored_square(image: npt.NDArray[np.uint8], x_px: float, y_px: float, side_px: int) -> npt.NDArray[np.uint8]:
    """The square of ``side_px`` centred on a position, reflected beyond the image's border.

    Args:
        image: RGB, shape (height, width, 3).
        x_px: Centre, to the right.
        y_px: Centre, down.
        side_px: Side of the square.

    Returns:
        RGB, shape (side_px, side_px, 3); a view of the image if it lies inside.
    """
    height, width = image.shape[:2]
    left, top = start_px(x_px, side_px), start_px(y_px, side_px)
    if left >= 0 and top >= 0 and left + side_px <= width and top + side_px <= height:
        return image[top : top + side_px, left : left + side_px]
    columns, rows = mirrored(left, side_px, width), mirrored(top, side_px, height)
    return image[rows[:, None], columns[None, :]]


def resize(square: npt.NDArray[np.uint8], out_px: int) -> npt.NDArray[np.uint8]:
    """Antialiased bilinear resampling of a square; the array itself if sizes agree.

    The kernel is a triangle that widens with the reduction, so no detail aliases.

    Args:
        square: RGB, shape (side, side, 3).
        out_px: Side of the result.
    """
    if square.shape[0] == out_px:
        return square
    picture = Image.fromarray(np.ascontiguousarray(square))
    return np.asarray(picture.resize((out_px, out_px), Image.Resampling.BILINEAR))


def _checked_shape(image: npt.NDArray[np.uint8]) -> tuple[int, int]:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        got = f"shape {image.shape}, {image.dtype}"
        raise DataError(must("image", "RGB of shape (height, width, 3), uint8", got, "read it with read_rgb"))
    return image.shape[0], image.shape[1]


def _whole(name: str, value: SupportsIndex, largest: int) -> int:
    expected = f"a whole number from {MIN_SIDE_PX} to {largest}"
    try:
        number = operator.index(value)
    except TypeError:
        raise InputError(must(name, expected, value, "give pixels")) from None
    if isinstance(value, bool) or not MIN_SIDE_PX <= number <= largest:
        raise InputError(must(name, expected, value, "give pixels"))
    return number


def _length(name: str, value: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool | str) or not (math.isfinite(number) and number > 0):
        raise InputError(must(name, "a positive length in µm", value, "for instance 32.0"))
    return number
