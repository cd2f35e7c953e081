"""Square regions of whole slides and of large images, read without holding the whole in memory.

Which reader takes a file:

====================================================  =========================================
what OpenSlide knows (svs, ndpi, mrxs, DICOM, tiled   OpenSlide, tile by tile
TIFF …)
uncompressed TIFF                                     memory-mapped
TIFF in strips or tiles with a codec that tifffile    the strips or tiles that the region
has                                                   touches, the last ones kept
other TIFF, PNG, JPEG                                 decoded once as a whole, under the limits
====================================================  =========================================

Coordinates are those of the full-resolution image (level 0): continuous, x to the right, y down.
A :class:`Slide` is used by one thread at a time.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from atypia.data.geometry import MAX_SIDE_PX, check_field, mirrored, start_px
from atypia.data.images import DEFAULT_LIMITS, FORMATS, ImageLimits, image_format, read_rgb
from atypia.errors import AbsentError, DataError, must
from atypia.regularfiles import open_regular

if TYPE_CHECKING:
    from openslide import OpenSlide
    from tifffile import TiffFile, TiffPage

SLIDE_SUFFIXES = frozenset({".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".dcm", ".czi"})
"""Files that only OpenSlide reads."""

SEGMENT_CACHE_BYTES = 1 << 26
"""How much of a TIFF's decoded strips or tiles one open slide keeps."""

_PLAUSIBLE_MPP = (0.05, 20.0)
# Pixels that are not square to this share have no one µm/px.
_ANISOTROPY = 0.02
_INCH_UM, _CM_UM = 25_400.0, 10_000.0


class Slide(ABC):
    """An open image from which square regions are read. Use it in a ``with`` block.

    Attributes:
        name: What messages call it.
        width_px: Width at full resolution.
        height_px: Height at full resolution.
        mpp: µm/px at full resolution; None where the file does not say, or says something
            that no microscope gives.
    """

    def __init__(self, name: str, width_px: int, height_px: int, mpp: float | None) -> None:
        self.name = name
        self.width_px = width_px
        self.height_px = height_px
        self.mpp = mpp

    def read(self, x_px: float, y_px: float, side_px: int) -> npt.NDArray[np.uint8]:
        """Reads the square centred on a point; what lies beyond the border is a reflection.

        Args:
            x_px: Centre, from 0 to below the width.
            y_px: Centre, from 0 to below the height.
            side_px: Side of the square, up to 8192 px and twice the image's shorter side.

        Returns:
            RGB, shape (side_px, side_px, 3).

        Raises:
            DataError: The point lies outside the image, the square is too large, or the file
                is damaged there.
        """
        for axis, value, size in (("x_px", x_px, self.width_px), ("y_px", y_px, self.height_px)):
            if not 0 <= value < size:
                expected = f"inside {self.name} (from 0 to below {size})"
                raise DataError(must(axis, expected, value, "check the position and its unit"))
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

    @abstractmethod
    def _region(self, left: int, top: int, width: int, height: int) -> npt.NDArray[np.uint8]:
        """The pixels of a rectangle that lies inside the image, shape (height, width, 3)."""

    def close(self) -> None:  # noqa: B027  a reader may hold nothing open
        """Frees the file."""

    def __enter__(self) -> Slide:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_slide(path: str | Path, limits: ImageLimits = DEFAULT_LIMITS) -> Slide:
    """Opens a whole slide, or an image that regions are cut from.

    Args:
        path: The file; for MIRAX the ``.mrxs`` file, for DICOM any file of the series.
        limits: Bounds an image that has to be decoded as a whole.

    Raises:
        DataError: The file is absent, damaged, no image, or must be decoded as a whole and is
            too large for that.
        AbsentError: Only OpenSlide reads this format, and it is not installed.
    """
    path = Path(path)
    try:
        with open_regular(path) as file:
            start = file.read(16)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; fix: check the path") from error
    if not start:
        raise DataError(f"{path} is empty (0 bytes); fix: fetch the file again")
    slide = _by_openslide(path) or (_by_tifffile(path, limits) if image_format(start) == "TIFF" else None)
    if slide is not None:
        return slide
    # Pillow would take a TIFF's first page for the whole; in a pyramid that is full resolution.
    page = 0 if image_format(start) == "TIFF" else None
    return _ArraySlide(str(path), read_rgb(path, limits, page=page), _pillow_mpp(path))


class _ArraySlide(Slide):
    """An image in memory or memory-mapped."""

    def __init__(self, name: str, pixels: npt.NDArray[np.uint8], mpp: float | None) -> None:
        super().__init__(name, pixels.shape[1], pixels.shape[0], mpp)
        self._pixels: npt.NDArray[np.uint8] | None = pixels

    def _region(self, left: int, top: int, width: int, height: int) -> npt.NDArray[np.uint8]:
        if self._pixels is None:
            raise ValueError(f"{self.name} is closed")
        # A copy: what the caller keeps must not keep the image.
        return np.array(self._pixels[top : top + height, left : left + width])

    def close(self) -> None:
        self._pixels = None


class _OpenSlideSlide(Slide):
    """What OpenSlide reads."""

    def __init__(self, name: str, slide: OpenSlide) -> None:
        properties = slide.properties
        mpp = _one_mpp(_number(properties.get("openslide.mpp-x")), _number(properties.get("openslide.mpp-y")))
        super().__init__(name, *slide.dimensions, mpp)
        self._slide = slide
        colour = properties.get("openslide.background-color", "ffffff")
        self._background = f"#{colour}"

    def _region(self, left: int, top: int, width: int, height: int) -> npt.NDArray[np.uint8]:
        from openslide import OpenSlideError
        from PIL import Image

        try:
            region = self._slide.read_region((left, top), 0, (width, height))
        except OpenSlideError as error:
            raise DataError(f"{self.name} is damaged at ({left}, {top}): {error}; fix: fetch it again") from error
        # Where a scanner took no picture the slide is transparent.
        if region.getchannel("A").getextrema() == (255, 255):
            return np.array(region.convert("RGB"))
        ground = Image.new("RGBA", region.size, self._background)
        return np.array(Image.alpha_composite(ground, region).convert("RGB"))

    def close(self) -> None:
        self._slide.close()


class _SegmentSlide(Slide):
    """A TIFF whose strips or tiles are decoded as they are needed."""

    def __init__(self, name: str, tiff: TiffFile, page: TiffPage) -> None:
        super().__init__(name, page.imagewidth, page.imagelength, _tiff_mpp(page))
        self._tiff = tiff
        self._page = page
        self._tile = (page.rowsperstrip, page.imagewidth) if not page.is_tiled else (page.tilelength, page.tilewidth)
        self._across = -(-page.imagewidth // self._tile[1])
        self._kept: OrderedDict[int, npt.NDArray[np.uint8]] = OrderedDict()

    def _region(self, left: int, top: int, width: int, height: int) -> npt.NDArray[np.uint8]:
        region = np.empty((height, width, 3), dtype=np.uint8)
        tall, wide = self._tile
        for row in range(top // tall, (top + height - 1) // tall + 1):
            for column in range(left // wide, (left + width - 1) // wide + 1):
                segment = self._segment(row * self._across + column)
                y0, x0 = row * tall, column * wide
                y1, x1 = min(y0 + segment.shape[0], top + height), min(x0 + segment.shape[1], left + width)
                ya, xa = max(y0, top), max(x0, left)
                region[ya - top : y1 - top, xa - left : x1 - left] = segment[ya - y0 : y1 - y0, xa - x0 : x1 - x0]
        return region

    def _segment(self, index: int) -> npt.NDArray[np.uint8]:
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        segment = _decoded_segment(self._tiff, self._page, index, self.name)
        self._kept[index] = segment
        while len(self._kept) > 1 and sum(s.nbytes for s in self._kept.values()) > SEGMENT_CACHE_BYTES:
            self._kept.popitem(last=False)
        return segment

    def close(self) -> None:
        self._kept.clear()
        self._tiff.close()


def _decoded_segment(tiff: TiffFile, page: TiffPage, index: int, name: str) -> npt.NDArray[np.uint8]:
    import zlib

    try:
        tiff.filehandle.seek(page.dataoffsets[index])
        data = tiff.filehandle.read(page.databytecounts[index])
        decoded: Any = page.decode(data, index)[0]
    except (ValueError, RuntimeError, OSError, LookupError, zlib.error) as error:
        raise DataError(f"{name} is damaged in segment {index}: {error}; fix: fetch it again") from error
    if decoded is None:
        # An absent segment is one that the writer left out because it is empty glass.
        return np.full((page.tilelength or page.rowsperstrip, page.tilewidth or page.imagewidth, 3), 255, np.uint8)
    return np.ascontiguousarray(decoded[0])


def _by_openslide(path: Path) -> Slide | None:
    try:
        from openslide import OpenSlide, OpenSlideError
    except ImportError as error:
        if path.suffix.lower() in SLIDE_SUFFIXES:
            fix = "pip install 'atypia[slides]'"
            raise AbsentError(must("openslide", f"installed to read {path}", str(error), fix)) from error
        return None
    try:
        if OpenSlide.detect_format(path) is None:
            return None
        return _OpenSlideSlide(str(path), OpenSlide(path))
    except OpenSlideError as error:
        if path.suffix.lower() not in SLIDE_SUFFIXES:
            return None
        raise DataError(f"{path} is damaged: {error}; fix: fetch it again") from error


def _by_tifffile(path: Path, limits: ImageLimits) -> Slide | None:
    try:
        import tifffile
    except ImportError:
        return None
    try:
        tiff = tifffile.TiffFile(path)
    except (tifffile.TiffFileError, ValueError, OSError, LookupError) as error:
        raise DataError(f"{path} is truncated or damaged: {error}; fix: fetch it again") from error
    try:
        page = tiff.pages[0]
        if not isinstance(page, tifffile.TiffPage) or page.dtype != np.uint8 or page.samplesperpixel != 3:
            return None
        if page.photometric != tifffile.PHOTOMETRIC.RGB or page.planarconfig != tifffile.PLANARCONFIG.CONTIG:
            return None
        if page.imagedepth != 1:
            return None
        if page.is_memmappable:
            return _ArraySlide(str(path), tifffile.memmap(path, page=0, mode="r"), _tiff_mpp(page))
        if not _codec_is_here(page) or _segment_pixels(page) > limits.max_pixels:
            return None
        slide = _SegmentSlide(str(path), tiff, page)
        tiff = None
        return slide
    except (tifffile.TiffFileError, ValueError, OSError, LookupError) as error:
        raise DataError(f"{path} is truncated or damaged: {error}; fix: fetch it again") from error
    finally:
        if tiff is not None:
            tiff.close()


def _codec_is_here(page: TiffPage) -> bool:
    import tifffile

    try:
        if page.compression != tifffile.COMPRESSION.NONE:
            tifffile.TIFF.DECOMPRESSORS[page.compression]
        if page.predictor != tifffile.PREDICTOR.NONE:
            tifffile.TIFF.UNPREDICTORS[page.predictor]
    except KeyError:
        return False
    # JPEG inside TIFF has its own colour spaces; OpenSlide or Pillow knows them.
    return page.compression not in (tifffile.COMPRESSION.JPEG, tifffile.COMPRESSION.OJPEG)


def _segment_pixels(page: TiffPage) -> int:
    return page.tilelength * page.tilewidth if page.is_tiled else page.rowsperstrip * page.imagewidth


def _tiff_mpp(page: TiffPage) -> float | None:
    tags = page.tags
    described = _ome_mpp(str(page.description or ""))
    if described is not None:
        return described
    unit_um = {2: _INCH_UM, 3: _CM_UM}.get(int(tags.valueof("ResolutionUnit", 2)))
    if unit_um is None:
        return None
    sides = [tags.valueof(tag) for tag in ("XResolution", "YResolution")]
    per_unit = [side[0] / side[1] if side and side[1] else None for side in sides]
    return _one_mpp(*(unit_um / value if value else None for value in per_unit))


def _ome_mpp(description: str) -> float | None:
    """µm/px from an OME-XML description whose unit is µm (the standard's own default)."""
    if "<OME" not in description[:1000]:
        return None
    found: list[float | None] = []
    for axis in "XY":
        unit = re.search(rf'PhysicalSize{axis}Unit="([^"]*)"', description)
        if unit is not None and unit[1] not in ("µm", "μm", "um"):
            return None
        value = re.search(rf'PhysicalSize{axis}="([^"]*)"', description)
        found.append(_number(value[1]) if value else None)
    return _one_mpp(found[0], found[1])


def _pillow_mpp(path: Path) -> float | None:
    from PIL import Image

    try:
        with Image.open(path, formats=FORMATS) as image:
            dpi = image.info.get("dpi")
    except (OSError, ValueError, SyntaxError):
        return None
    if not dpi or len(dpi) != 2 or not all(dpi):
        return None
    return _one_mpp(_INCH_UM / float(dpi[0]), _INCH_UM / float(dpi[1]))


def _one_mpp(across: float | None, down: float | None) -> float | None:
    """The one µm/px of square pixels; None where it is absent, implausible, or pixels are not square."""
    if across is None or down is None:
        return None
    low, high = _PLAUSIBLE_MPP
    mean = (across + down) / 2
    if not (math.isfinite(mean) and low <= mean <= high) or abs(across - down) > _ANISOTROPY * mean:
        return None
    return mean


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None
