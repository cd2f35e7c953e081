"""An open image from which square regions are read, independent of the reader."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from atypia.base.errors import DataError, must
from atypia.data.images.geometry import MAX_SIDE_PX, REFUSED, check_field, mirrored, start_px
from atypia.data.slides.scale import Statement, agreed_mpp

if TYPE_CHECKING:
    from openslide import OpenSlide


class Bounds(NamedTuple):
    """The scanned area of a slide whose picture (the canvas) is larger, in pixels of level 0."""

    x_px: int
    y_px: int
    width_px: int
    height_px: int


@dataclass(frozen=True)
class ImageFileFacts:
    """Facts that a file states about its image.

    Attributes:
        statements: Its µm/px, from every place in the file that states it.
        bounds: The scanned area; None if it begins at the canvas's own corner, or is not stated.
        notes: What else is in the file, and how it was read.
    """

    statements: tuple[Statement, ...] = ()
    bounds: Bounds | None = None
    notes: tuple[str, ...] = ()


class Slide(ABC):
    """An open image from which square regions are read. Use it in a ``with`` block.

    Attributes:
        name: Its name in messages.
        width_px: Width at full resolution.
        height_px: Height at full resolution.
        facts: Facts stated in the file.
        mpp: µm/px at full resolution; None if the file does not say, contradicts itself, or says
            something that no microscope gives.
        openslide: What OpenSlide opened, where it reads this image: it has the image's levels too. Used and closed
            like the slide itself.
    """

    openslide: OpenSlide | None = None

    def __init__(self, name: str, width_px: int, height_px: int, facts: ImageFileFacts) -> None:
        self.name = name
        self.width_px = width_px
        self.height_px = height_px
        self.facts = facts
        self.mpp = agreed_mpp(facts.statements).mpp

    def read(
        self, x_px: float, y_px: float, side_px: int, outside: Literal["refuse", "mirror"] = REFUSED
    ) -> npt.NDArray[np.uint8]:
        """Reads the square centred on a point; beyond the border the image is reflected.

        Args:
            x_px: Centre, from 0 to below the width.
            y_px: Centre, from 0 to below the height.
            side_px: Side of the square, up to 8192 px and twice the image's shorter side.
            outside: With ``mirror`` the centre may lie beyond the border, by less than half of the square's side.

        Returns:
            RGB, shape (side_px, side_px, 3).

        Raises:
            DataError: The point lies outside the image, the square is too large, or the file
                is damaged there.
        """
        for axis, value, size in (("x_px", x_px, self.width_px), ("y_px", y_px, self.height_px)):
            beyond = 0.0 if outside == REFUSED else side_px / 2
            if not (0 <= value < size or -beyond < value < size + beyond):
                expected = f"inside {self.name} (from {0 - beyond:g} to below {size + beyond:g})"
                raise DataError(must(axis, expected, f"{value:.6g}", "check the position and its unit"))
        if not 1 <= side_px <= MAX_SIDE_PX:
            raise DataError(must("side_px", f"from 1 to {MAX_SIDE_PX}", side_px, "ask for a smaller field"))
        check_field(side_px, self.width_px, self.height_px)
        columns = mirrored(start_px(x_px, side_px), side_px, self.width_px)
        rows = mirrored(start_px(y_px, side_px), side_px, self.height_px)
        left, top = int(columns.min()), int(rows.min())
        width, height = int(columns.max()) - left + 1, int(rows.max()) - top + 1
        region = self._region(left, top, width, height)
        if (width, height) == (side_px, side_px) and columns[0] == left and rows[0] == top:
            return region
        return region[(rows - top)[:, None], (columns - left)[None, :]]

    def block(self, left: int, top: int, width: int, height: int) -> npt.NDArray[np.uint8]:
        """The pixels of a rectangle that lies inside the image, RGB, shape (height, width, 3).

        Raises:
            DataError: It leaves the image, or the file is damaged there.
        """
        if not (0 <= left < left + width <= self.width_px and 0 <= top < top + height <= self.height_px):
            got = f"{width} × {height} px at ({left}, {top})"
            raise DataError(must("rectangle", f"inside {self.name}", got, "ask for another"))
        return self._region(left, top, width, height)

    @abstractmethod
    def _region(self, left: int, top: int, width: int, height: int) -> npt.NDArray[np.uint8]:
        """The pixels of a rectangle that lies inside the image, shape (height, width, 3)."""

    def close(self) -> None:  # noqa: B027  a reader may have nothing open
        """Frees the file."""

    def __enter__(self) -> Slide:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ArraySlide(Slide):
    """An image in memory or memory-mapped: RGB, shape (height, width, 3), or R, G and B, each (height, width)."""

    def __init__(
        self, name: str, pixels: npt.NDArray[np.uint8] | Sequence[npt.NDArray[np.uint8]], facts: ImageFileFacts
    ) -> None:
        planes = [pixels] if isinstance(pixels, np.ndarray) else list(pixels)
        super().__init__(name, planes[0].shape[1], planes[0].shape[0], facts)
        self._planes: list[npt.NDArray[np.uint8]] = planes

    def _region(self, left: int, top: int, width: int, height: int) -> npt.NDArray[np.uint8]:
        if not self._planes:
            raise ValueError(f"{self.name} is closed")
        # A copy, so that a kept region does not keep the whole image in memory.
        parts = [plane[top : top + height, left : left + width] for plane in self._planes]
        return np.array(parts[0]) if len(parts) == 1 else np.stack(parts, axis=2)

    def close(self) -> None:
        self._planes = []
