"""The whole of a slide as one small picture, read block by block in constant memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from atypia.base.errors import DataError
from atypia.base.process.progress import Progress, silent
from atypia.data.slides.regions import Slide

BLOCK_PX: Final = 2048
"""Side of what is read at once, in pixels of the level that is read."""
MOST_PX: Final = 6144
"""Longest side of an overview."""
READING: Final = "blocks of the slide's overview"


@dataclass(frozen=True, eq=False)
class Overview:
    """A slide at low resolution.

    Attributes:
        pixels: RGB, shape (h, w, 3), uint8.
        down: Pixels of full resolution per pixel of the overview, in both directions.
    """

    pixels: npt.NDArray[np.uint8]
    down: float


def read_overview(slide: Slide, um: float, mpp: float, progress: Progress = silent) -> Overview:
    """A slide at low resolution: the mean of the pixels under each.

    From the level of a pyramid that is next above that resolution, where the slide has one, else from full resolution.

    Args:
        slide: The slide, open.
        um: Size of a pixel of the overview, in µm; larger where the overview would be longer than :data:`MOST_PX`.
        mpp: The slide's µm/px.
        progress: Told about blocks.

    Raises:
        DataError: The file is damaged.
    """
    down = max(1.0, um / mpp, max(slide.width_px, slide.height_px) / MOST_PX)
    size = max(1, round(slide.width_px / down)), max(1, round(slide.height_px / down))
    found = np.empty((size[1], size[0], 3), np.uint8)
    level, above = _level(slide, down)
    side = max(1, math.floor(BLOCK_PX * above / down))
    starts = [(left, top) for top in range(0, size[1], side) for left in range(0, size[0], side)]
    for done, (left, top) in enumerate(starts):
        progress(done, len(starts), READING)
        right, bottom = min(left + side, size[0]), min(top + side, size[1])
        found[top:bottom, left:right] = _block(slide, level, above, down, (left, top, right, bottom))
    progress(len(starts), len(starts), READING)
    return Overview(found, down)


def _level(slide: Slide, down: float) -> tuple[int, float]:
    """The level to read, and its pixels of full resolution per pixel."""
    if slide.openslide is None:
        return 0, 1.0
    level = slide.openslide.get_best_level_for_downsample(down + 0.01)
    return level, float(slide.openslide.level_downsamples[level])


def _block(
    slide: Slide, level: int, above: float, down: float, place: tuple[int, int, int, int]
) -> npt.NDArray[np.uint8]:
    from PIL import Image

    left, top, right, bottom = place
    x, y = math.floor(left * down), math.floor(top * down)
    end = min(slide.width_px, math.ceil(right * down)), min(slide.height_px, math.ceil(bottom * down))
    x, y = min(x, end[0] - 1), min(y, end[1] - 1)
    if slide.openslide is None or level == 0:
        image = Image.fromarray(slide.block(x, y, end[0] - x, end[1] - y))
    else:
        from openslide import OpenSlideError

        size = max(1, round((end[0] - x) / above)), max(1, round((end[1] - y) / above))
        try:
            region = slide.openslide.read_region((x, y), level, size)
        except OpenSlideError as error:
            raise DataError(f"{slide.name} is damaged at ({x}, {y}): {error}; fix: fetch it again") from error
        # Where a scanner took no picture the slide is transparent.
        ground = Image.new("RGBA", region.size, "white")
        image = Image.alpha_composite(ground, region).convert("RGB")
    return np.asarray(image.resize((right - left, bottom - top), Image.Resampling.BOX))
