"""Reads square regions of TIFF files that OpenSlide cannot read, or of which it would read the wrong page."""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from atypia.base.bytecache import ByteCache
from atypia.base.errors import DataError
from atypia.data.images.decoding import ImageLimits, read_rgb
from atypia.data.slides.regions import ArraySlide, ImageFileFacts, Slide
from atypia.data.slides.tifflayout import Layout

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

SEGMENT_CACHE_BYTES = 1 << 26
"""Size, in bytes, of the cache of decoded strips or tiles of one open slide."""


def open_pages(path: Path, tiff: TiffFile, layout: Layout, facts: ImageFileFacts, limits: ImageLimits) -> Slide:
    """Opens the image of a TIFF in the way that needs least memory.

    Args:
        path: The file.
        tiff: The open file; closed here unless the slide keeps it.
        layout: Which of its pages are the image.
        facts: Facts stated in the file.
        limits: Bounds an image that has to be decoded as a whole.

    Raises:
        DataError: It must be decoded as a whole and is too large, or is in a mode that is refused.
    """
    pages: list[Any] = [tiff.pages[index].aspage() for index in layout.pages]
    ways = {_way(page, limits, len(pages) == 3) for page in pages}
    if ways == {"mapped"}:
        import tifffile

        tiff.close()
        arrays = [tifffile.memmap(path, page=index, mode="r") for index in layout.pages]
        return ArraySlide(str(path), arrays[0] if len(arrays) == 1 else arrays, facts)
    if ways <= {"mapped", "segments"}:
        return _SegmentSlide(str(path), tiff, pages, facts)
    tiff.close()
    whole = [read_rgb(path, limits, page=index) for index in layout.pages]
    return ArraySlide(str(path), whole[0] if len(whole) == 1 else [one[..., 0] for one in whole], facts)


def _way(page: TiffPage, limits: ImageLimits, plane: bool) -> str:
    """How a page is read: ``mapped`` into memory, in ``segments``, or as a ``whole``."""
    import tifffile

    samples, photometric = (1, tifffile.PHOTOMETRIC.MINISBLACK) if plane else (3, tifffile.PHOTOMETRIC.RGB)
    jpeg = page.compression == tifffile.COMPRESSION.JPEG
    colours = (photometric, tifffile.PHOTOMETRIC.YCBCR) if jpeg and not plane else (photometric,)
    if page.dtype != np.uint8 or page.samplesperpixel != samples or page.imagedepth != 1:
        return "whole"
    if page.photometric not in colours or page.planarconfig != tifffile.PLANARCONFIG.CONTIG:
        return "whole"
    if page.is_memmappable:
        return "mapped"
    if jpeg and page.index == 0 and page.imagewidth * page.imagelength <= limits.max_pixels:
        return "whole"  # gives exactly the same pixels as when the file is a crop
    return "segments" if _codec_is_here(page) and _segment_pixels(page) <= limits.max_pixels else "whole"


class _SegmentSlide(Slide):
    """A TIFF whose strips or tiles are decoded on demand; one page in colour, or one each for R, G and B."""

    def __init__(self, name: str, tiff: TiffFile, pages: Sequence[TiffPage], facts: ImageFileFacts) -> None:
        page = pages[0]
        super().__init__(name, page.imagewidth, page.imagelength, facts)
        self._tiff = tiff
        self._pages = pages
        self._kept = ByteCache[npt.NDArray[np.uint8]](SEGMENT_CACHE_BYTES, lambda segment: segment.nbytes)

    def _region(self, left: int, top: int, width: int, height: int) -> npt.NDArray[np.uint8]:
        region = np.empty((height, width, 3), dtype=np.uint8)
        for plane in range(len(self._pages)):
            self._fill(region if len(self._pages) == 1 else region[..., plane : plane + 1], plane, left, top)
        return region

    def _fill(self, region: npt.NDArray[np.uint8], plane: int, left: int, top: int) -> None:
        height, width = region.shape[:2]
        page = self._pages[plane]
        tall, wide = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
        across = -(-page.imagewidth // wide)
        for row in range(top // tall, (top + height - 1) // tall + 1):
            for column in range(left // wide, (left + width - 1) // wide + 1):
                segment = self._segment(plane, row * across + column)
                y0, x0 = row * tall, column * wide
                y1, x1 = min(y0 + segment.shape[0], top + height), min(x0 + segment.shape[1], left + width)
                ya, xa = max(y0, top), max(x0, left)
                region[ya - top : y1 - top, xa - left : x1 - left] = segment[ya - y0 : y1 - y0, xa - x0 : x1 - x0]

    def _segment(self, plane: int, index: int) -> npt.NDArray[np.uint8]:
        return self._kept.get(
            (plane, index), lambda: _decoded_segment(self._tiff, self._pages[plane], index, self.name)
        )

    def close(self) -> None:
        self._kept.clear()
        self._tiff.close()


def _decoded_segment(tiff: TiffFile, page: TiffPage, index: int, name: str) -> npt.NDArray[np.uint8]:
    """The pixels of a strip or tile, shape (height, width, samples)."""
    import tifffile

    try:
        offset, count = page.dataoffsets[index], page.databytecounts[index]
        if not count:
            # A missing segment was left out by the writer because it is empty glass.
            shape = (page.tilelength or page.rowsperstrip, page.tilewidth or page.imagewidth, page.samplesperpixel)
            return np.full(shape, 255, np.uint8)
        tiff.filehandle.seek(offset)
        data = tiff.filehandle.read(count)
        if page.compression == tifffile.COMPRESSION.JPEG:
            return _decoded_jpeg(data, page)
        decoded: Any = page.decode(data, index)[0]
    except (ValueError, RuntimeError, OSError, LookupError, SyntaxError, zlib.error) as error:
        raise DataError(f"{name} is damaged in segment {index}: {error}; fix: fetch it again") from error
    return np.ascontiguousarray(decoded[0])


def _decoded_jpeg(data: bytes, page: TiffPage) -> npt.NDArray[np.uint8]:
    """A JPEG strip or tile, whose tables are stored once per page.

    The page states whether its components are RGB or YCbCr; the decoder gets this from Adobe's
    marker (APP14: 0 for RGB, 1 for YCbCr).
    """
    import tifffile

    if not data.startswith(b"\xff\xd8"):
        raise ValueError("no JPEG")
    tables = bytes(page.jpegtables or b"")[2:-2]
    transform = bytes([page.photometric == tifffile.PHOTOMETRIC.YCBCR])
    adobe = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + transform
    with Image.open(io.BytesIO(data[:2] + adobe + tables + data[2:]), formats=("JPEG",)) as image:
        pixels = np.array(image if image.mode in ("RGB", "L") else image.convert("RGB"))
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _codec_is_here(page: TiffPage) -> bool:
    import tifffile

    if page.compression == tifffile.COMPRESSION.JPEG:
        return True  # Pillow has it
    try:
        if page.compression != tifffile.COMPRESSION.NONE:
            tifffile.TIFF.DECOMPRESSORS[page.compression]
        if page.predictor != tifffile.PREDICTOR.NONE:
            tifffile.TIFF.UNPREDICTORS[page.predictor]
    except KeyError:
        return False
    return page.compression != tifffile.COMPRESSION.OJPEG


def _segment_pixels(page: TiffPage) -> int:
    return page.tilelength * page.tilewidth if page.is_tiled else page.rowsperstrip * page.imagewidth
