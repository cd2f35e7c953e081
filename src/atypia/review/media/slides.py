"""Slides and regions as DeepZoom tiles, and fields around figures.

Level *k* of a DeepZoom pyramid shows the slide at scale 1 : 2^(top − k); its tiles are squares of
:data:`TILE_PX` px, plus a one-pixel overlap on each inner edge. OpenSlide files are read from the
slide's own pyramid; other images are reduced from full resolution, block by block.
"""

from __future__ import annotations

import io
import math
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from atypia.base.bytecache import ByteCache
from atypia.base.errors import AtypiaError, DataError, must
from atypia.data.images.decoding import ImageLimits
from atypia.data.slides.readers import open_slide
from atypia.data.slides.regions import Slide
from atypia.reports.drawing.names import without_folders

if TYPE_CHECKING:
    from openslide.deepzoom import DeepZoomGenerator

TILE_PX: Final = 254
OVERLAP_PX: Final = 1
JPEG_QUALITY: Final = 88
MAX_OPEN: Final = 8
"""Largest number of open slides."""
CACHE_BYTES: Final = 48 << 20
"""Size of the cache of encoded tiles."""
OVERVIEW_LEVEL: Final = 10
"""Up to this level, at most 1,024 px per side, tiles are cut from one image of the whole slide."""
RETRY_S: Final = 30.0
"""Seconds until an unreadable slide is tried again."""
BLOCK_PX: Final = 1024
MAX_SOURCE_PX: Final = 1 << 26
"""A tile that needs more source pixels than this is refused: its slide has no pyramid."""
LIMITS: Final = ImageLimits()


Box = tuple[int, int, int, int]
"""Left, top, width and height, in the pixels of a level."""


@dataclass(frozen=True)
class SlideSize:
    """Size of a slide at full resolution, its µm/px if the file states it, and the corner of its scanned area."""

    width_px: int
    height_px: int
    mpp: float | None
    corner: tuple[float, float] = (0.0, 0.0)

    @property
    def top(self) -> int:
        """Number of the full-resolution level; level 0 is one pixel."""
        return math.ceil(math.log2(max(self.width_px, self.height_px)))

    @property
    def overview(self) -> int:
        """Number of the level that is read once as a whole; all levels below it are made from it.

        Otherwise every tile of the lowest levels would read a slide without a pyramid from end to end.
        """
        return min(self.top, OVERVIEW_LEVEL)


@dataclass(eq=False)
class _Opened:
    slide: Slide
    tiles: DeepZoomGenerator | None
    """Of what OpenSlide reads, from the same handle."""
    overview: Image.Image | None = None

    def close(self) -> None:
        self.slide.close()


@dataclass(eq=False)
class _Place:
    """The state of one slide: closed until it is used, and again after it was closed.

    Attributes:
        lock: Must be held to open, read or close this slide.
        opened: The open slide; None while it is closed.
    """

    lock: Lock = field(default_factory=Lock)
    opened: _Opened | None = None

    def close(self) -> None:
        """Closes the slide; the caller must hold the lock."""
        opened, self.opened = self.opened, None
        if opened is not None:
            opened.close()


class OpenSlides:
    """The slides that figures lie on, opened on demand; thread-safe.

    Every slide has its own lock, under which it is opened, read and closed. No thread waits for one such lock
    while it holds another, so there is no deadlock, and a slide that is slow to open
    delays no other slide. The shelf's own lock guards the order of use and is held only briefly.

    Args:
        paths: Their files. Slides are addressed by position, never by name.
    """

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self.paths = paths
        self.cache = ByteCache[bytes](CACHE_BYTES, len)
        self._lock = Lock()
        self._places = tuple(_Place() for _ in paths)
        self._open: OrderedDict[int, None] = OrderedDict()
        """Numbers of the open slides, most recently used last."""
        self._closed = False
        self._facts: dict[int, SlideSize] = {}
        self._unreadable: dict[int, tuple[float, str]] = {}

    def facts(self, number: int) -> SlideSize:
        """Size and scale of a slide.

        Raises:
            DataError: There is no such slide, or its file is absent or damaged.
        """
        self._check(number)
        if number in self._facts:
            return self._facts[number]
        tried, reason = self._unreadable.get(number, (-math.inf, ""))
        if time.monotonic() - tried < RETRY_S:
            raise DataError(reason)
        try:
            with self._using(number) as opened:
                slide = opened.slide
                corner = (0.0, 0.0) if slide.facts.bounds is None else slide.facts.bounds[:2]
                found = self._facts[number] = SlideSize(slide.width_px, slide.height_px, slide.mpp, corner)
        except DataError as error:
            self._unreadable[number] = (time.monotonic(), str(error))
            raise
        return found

    def known(self, number: int, until: float = math.inf) -> SlideSize | None:
        """Size and scale of a slide; None if unknown by a given time.

        Args:
            number: Which slide.
            until: Time on the clock of ``time.monotonic`` after which no file is opened.

        Raises:
            DataError: The slide cannot be read.
        """
        return self.facts(number) if number in self._facts or time.monotonic() < until else None

    def mpp(self, number: int, until: float = math.inf) -> float | None:
        """µm/px of a slide; None if it is not stated, cannot be read, or is not known in time."""
        try:
            found = self.known(number, until)
            return None if found is None else found.mpp
        except DataError:
            return None

    def field(self, number: int, x_px: float, y_px: float, side_px: int) -> npt.NDArray[np.uint8]:
        """The square around a point; see :meth:`atypia.data.slides.readers.Slide.read`.

        Raises:
            DataError: The slide cannot be read there.
        """
        self._check(number)
        with self._using(number) as opened:
            return opened.slide.read(x_px, y_px, side_px)

    def tile(self, number: int, level: int, column: int, row: int) -> bytes:
        """One DeepZoom tile as JPEG.

        Raises:
            DataError: There is no such tile, or the slide cannot be read there.
        """
        self._check(number)
        facts = self.facts(number)
        box = tile_box(facts, level, column, row)
        return self.cache.get(
            (number, level, column, row), lambda: self._made(number, facts, box, level, (column, row))
        )

    def close(self) -> None:
        """Closes all slides, each as soon as nobody reads it; later requests are refused."""
        with self._lock:
            self._closed = True
            self._open.clear()
        for place in self._places:
            with place.lock:
                place.close()

    def _made(self, number: int, facts: SlideSize, box: Box, level: int, address: tuple[int, int]) -> bytes:
        name = self.paths[number].name
        with self._using(number) as opened:
            if level > facts.overview:
                down = 1 << (facts.top - level)
                if opened.tiles is not None:
                    image = _from_pyramid(opened.tiles, name, level, address)
                else:
                    image = _from_pixels(opened.slide, box[0] * down, box[1] * down, box[2], box[3], down)
            else:
                if opened.overview is None:
                    opened.overview = _overview(opened.slide, name, facts)
                image = _reduced(opened.overview, box, 1 << (facts.overview - level))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=JPEG_QUALITY)
        return file.getvalue()

    def _check(self, number: int) -> None:
        if not 0 <= number < len(self.paths):
            raise DataError(must("slide", f"from 0 to {len(self.paths) - 1}", number, "see /slides"))

    @contextmanager
    def _using(self, number: int) -> Iterator[_Opened]:
        """An open slide, locked for the caller; errors name files without their folders."""
        try:
            with self._held(number) as opened:
                yield opened
        except AtypiaError as error:
            raise DataError(without_folders(str(error), self.paths[number])) from error

    @contextmanager
    def _held(self, number: int) -> Iterator[_Opened]:
        place = self._places[number]
        with place.lock:
            if self._closed:
                raise DataError("the review was closed; fix: open it again")
            if place.opened is None:
                place.opened = _opened(self.paths[number])
            whole = False
            try:
                yield place.opened
                whole = True
            finally:
                if not whole:
                    place.close()  # after an error OpenSlide refuses everything else from the same handle
                    with self._lock:
                        self._open.pop(number, None)
        self._make_room(number)

    def _make_room(self, number: int) -> None:
        """Records the use of a slide, and closes the least recently used slides that nobody is reading."""
        with self._lock:
            self._open[number] = None
            self._open.move_to_end(number)
            surplus = list(self._open)[: max(0, len(self._open) - MAX_OPEN)]
        for other in surplus:
            place = self._places[other]
            if place.lock.acquire(
                blocking=False
            ):  # a slide being read records its own use afterwards and makes room itself
                try:
                    place.close()
                finally:
                    place.lock.release()
                with self._lock:
                    if place.opened is None:
                        self._open.pop(other, None)


def _opened(path: Path) -> _Opened:
    slide = open_slide(path, LIMITS)
    if slide.openslide is None:
        return _Opened(slide, None)
    from openslide.deepzoom import DeepZoomGenerator

    return _Opened(slide, DeepZoomGenerator(slide.openslide, TILE_PX, OVERLAP_PX))


def tile_box(facts: SlideSize, level: int, column: int, row: int) -> Box:
    """Left, top, width and height of a tile in the pixels of its level, with its overlap.

    Raises:
        DataError: There is no such level or tile.

    >>> tile_box(SlideSize(600, 300, None), 10, 1, 0)
    (253, 0, 256, 255)
    """
    if not 0 <= level <= facts.top:
        raise DataError(must("level", f"from 0 to {facts.top}", level, "see the .dzi"))
    down = 1 << (facts.top - level)
    found = []
    for name, position, size in (("column", column, facts.width_px), ("row", row, facts.height_px)):
        side = -(-size // down)
        count = -(-side // TILE_PX)
        if not 0 <= position < count:
            raise DataError(must(name, f"from 0 to {count - 1} at level {level}", position, "see the .dzi"))
        start = max(0, position * TILE_PX - OVERLAP_PX)
        end = min(side, (position + 1) * TILE_PX + OVERLAP_PX)
        found.append((start, end - start))
    (left, width), (top, height) = found
    return left, top, width, height


def dzi(facts: SlideSize) -> str:
    """The XML that describes a slide's DeepZoom pyramid."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<Image xmlns="http://schemas.microsoft.com/deepzoom/2008" Format="jpeg" Overlap="{OVERLAP_PX}" '
        f'TileSize="{TILE_PX}"><Size Width="{facts.width_px}" Height="{facts.height_px}"/></Image>'
    )


def _overview(slide: Slide, name: str, facts: SlideSize) -> Image.Image:
    """The whole slide at the level of the overview."""
    down = 1 << (facts.top - facts.overview)
    size = -(-facts.width_px // down), -(-facts.height_px // down)
    if slide.openslide is None:
        return _from_pixels(slide, 0, 0, *size, down)
    from openslide import OpenSlideError

    level = slide.openslide.get_best_level_for_downsample(down)
    _check_source(name, *slide.openslide.level_dimensions[level])
    try:
        return _sized(slide.openslide.get_thumbnail(size), size)
    except OpenSlideError as error:
        raise DataError(f"{name} is damaged: {error}; fix: fetch it again") from error


def _reduced(overview: Image.Image, box: Box, down: int) -> Image.Image:
    left, top, width, height = box
    right, bottom = min((left + width) * down, overview.width), min((top + height) * down, overview.height)
    part = overview.crop((left * down, top * down, right, bottom))
    return part if down == 1 else part.resize((width, height), Image.Resampling.BOX)


def _from_pyramid(tiles: DeepZoomGenerator, name: str, level: int, address: tuple[int, int]) -> Image.Image:
    from openslide import OpenSlideError

    (x, y), _, size = tiles.get_tile_coordinates(level, address)
    _check_source(name, *size)
    try:
        return _sized(tiles.get_tile(level, address), tiles.get_tile_dimensions(level, address))
    except OpenSlideError as error:
        raise DataError(f"{name} is damaged at ({x}, {y}): {error}; fix: fetch it again") from error


def _sized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """OpenSlide's reductions keep an image's proportions, so that a side may be a pixel short."""
    return image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)


def _from_pixels(slide: Slide, left: int, top: int, width: int, height: int, down: int) -> Image.Image:
    """A tile reduced from full resolution by the mean of squares of ``down`` px, block by block."""
    _check_source(slide.name, width * down, height * down)
    result = Image.new("RGB", (width, height))
    step = max(1, BLOCK_PX // down)
    for y in range(0, height, step):
        for x in range(0, width, step):
            across, along = min(step, width - x), min(step, height - y)
            x0, y0 = left + x * down, top + y * down
            x1, y1 = min(x0 + across * down, slide.width_px), min(y0 + along * down, slide.height_px)
            block = Image.fromarray(_rectangle(slide, x0, y0, x1 - x0, y1 - y0))
            if down > 1:
                block = block.resize((across, along), Image.Resampling.BOX)
            result.paste(block, (x, y))
    return result


def _rectangle(slide: Slide, left: int, top: int, width: int, height: int) -> npt.NDArray[np.uint8]:
    """A rectangle inside the image, from squares no larger than its shorter side."""
    side = min(max(width, height), slide.width_px, slide.height_px)
    pixels = np.empty((height, width, 3), np.uint8)
    for y in range(0, height, side):
        for x in range(0, width, side):
            across, along = min(side, width - x), min(side, height - y)
            square = slide.read(_inside(left + x + side / 2, slide.width_px),
                                _inside(top + y + side / 2, slide.height_px), side)  # fmt: skip
            # A centre that was moved inside also moves the square's first pixel.
            dx = left + x - math.floor(_inside(left + x + side / 2, slide.width_px) - side / 2 + 0.5)
            dy = top + y - math.floor(_inside(top + y + side / 2, slide.height_px) - side / 2 + 0.5)
            pixels[y : y + along, x : x + across] = square[dy : dy + along, dx : dx + across]
    return pixels


def _inside(centre: float, size: int) -> float:
    return min(centre, size - 0.5)


def _check_source(name: str, width: int, height: int) -> None:
    if width * height > MAX_SOURCE_PX:
        expected = f"tiles of at most {MAX_SOURCE_PX:,} source pixels"
        raise DataError(must(Path(name).name, expected, f"{width:,} × {height:,}", "save it with a pyramid"))
