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

Of a TIFF with several images the largest is the slide, and R, G and B in three grey pages are put together
(:mod:`atypia.data.slides.tifflayout`).

Coordinates are those of the full-resolution image (level 0): continuous, x to the right, y down.
A :class:`~atypia.data.slides.regions.Slide` is used by one thread at a time.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from atypia.base.errors import AbsentError, DataError, must
from atypia.base.files.regularfiles import open_regular
from atypia.data.images.decoding import DEFAULT_LIMITS, FORMATS, ImageLimits, image_format, read_rgb
from atypia.data.slides.dicom import dicom_file
from atypia.data.slides.regions import ArraySlide, Bounds, ImageFileFacts, Slide
from atypia.data.slides.scale import OPENSLIDE, SCN, Statement, dpi_statements, statement
from atypia.data.slides.tifflayout import TIFF_DAMAGE, Layout, layout_of, of_tiff
from atypia.data.slides.tiffslides import open_pages

if TYPE_CHECKING:
    from openslide import OpenSlide

SLIDE_SUFFIXES = frozenset({".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".dcm", ".czi"})
"""Files that only OpenSlide reads."""

GENERIC_TIFF: Final = "generic-tiff"
LEICA: Final = "leica"
"""Two of OpenSlide's names of formats."""


def open_slide(path: str | Path, limits: ImageLimits = DEFAULT_LIMITS) -> Slide:
    """Opens a whole slide, or an image that regions are cut from.

    Args:
        path: The file; for MIRAX the ``.mrxs`` file, for DICOM any file of the series, or its folder.
        limits: Bounds an image that has to be decoded as a whole.

    Raises:
        DataError: The file is absent, damaged, no image, in grey pages of which it cannot be determined what they
            are, or must be decoded as a whole and is too large for that; a folder holds no DICOM series, or several.
        AbsentError: Only OpenSlide reads this format, and it is not installed.
    """
    path = slide_file(path)
    try:
        with open_regular(path) as file:
            start = file.read(16)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; fix: check the path") from error
    if not start:
        raise DataError(f"{path} is empty (0 bytes); fix: fetch the file again")
    is_tiff = image_format(start) == "TIFF"
    slide = _by_openslide(path, is_tiff) or (_by_tifffile(path, limits) if is_tiff else None)
    if slide is not None:
        return slide
    # Pillow would take a TIFF's first page for the whole; in a pyramid that is full resolution.
    return ArraySlide(
        str(path), read_rgb(path, limits, page=0 if is_tiff else None), ImageFileFacts(_pillow_statements(path))
    )


def slide_file(path: str | Path) -> Path:
    """The file that stands for a slide: itself, or of a folder a file of its one DICOM series.

    Raises:
        DataError: A folder holds no DICOM series, or several (with one file of each).
    """
    path = Path(path)
    return dicom_file(path) if path.is_dir() else path


class _OpenSlideSlide(Slide):
    """What OpenSlide reads."""

    def __init__(self, name: str, slide: OpenSlide, layout: Layout | None) -> None:
        properties = slide.properties
        vendor = properties.get("openslide.vendor", "")
        found = [] if layout is None else list(layout.statements)
        notes = () if layout is None else layout.notes
        if vendor != GENERIC_TIFF or layout is None:  # what it says of these it takes from the resolution tags
            sides = [_number(properties.get(f"openslide.mpp-{axis}")) for axis in "xy"]
            found = statement(OPENSLIDE, f"file: {vendor}/openslide", sides[0], sides[1]) + found
        facts = ImageFileFacts(tuple(found), _bounds(slide), notes)
        super().__init__(name, *slide.dimensions, facts)
        self.openslide = self._slide = slide
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


def _bounds(slide: OpenSlide) -> Bounds | None:
    """The scanned area, where it is not the canvas's own corner."""
    values = [_number(slide.properties.get(f"openslide.bounds-{name}")) for name in ("x", "y", "width", "height")]
    x, y = (int(value or 0) for value in values[:2])
    if (x, y) == (0, 0):
        return None
    width, height = (slide.dimensions[at] - (x, y)[at] if value is None else int(value)
                     for at, value in enumerate(values[2:]))  # fmt: skip
    return Bounds(x, y, width, height)


def _by_openslide(path: Path, is_tiff: bool) -> Slide | None:
    try:
        from openslide import OpenSlide, OpenSlideError
    except ImportError as error:
        if path.suffix.lower() in SLIDE_SUFFIXES:
            fix = "pip install 'atypia[slides]'"
            raise AbsentError(must("openslide", f"installed to read {path}", str(error), fix)) from error
        return None
    try:
        vendor = OpenSlide.detect_format(path)
        if vendor is None:
            return None
        # Of other formats OpenSlide knows which page is the slide; Leica's own words on size it does not give.
        layout = of_tiff(path, layout_of) if is_tiff and vendor in (GENERIC_TIFF, LEICA) else None
        if vendor == GENERIC_TIFF and layout is not None and layout.pages != (0,):
            return None
        if vendor == LEICA and layout is not None:
            layout = Layout((0,), tuple(one for one in layout.statements if one.place == SCN))
        return _OpenSlideSlide(str(path), OpenSlide(path), layout)
    except OpenSlideError as error:
        if path.suffix.lower() not in SLIDE_SUFFIXES:
            return None
        raise DataError(f"{path} is damaged: {error}; fix: fetch it again") from error


def _by_tifffile(path: Path, limits: ImageLimits) -> Slide | None:
    try:
        import tifffile
    except ImportError:
        return None
    tiff = None
    try:
        tiff = tifffile.TiffFile(path)
        layout = layout_of(tiff, str(path))
        slide = open_pages(path, tiff, layout, ImageFileFacts(layout.statements, None, layout.notes), limits)
        tiff = None  # the slide closes it
        return slide
    except DataError:
        raise
    except TIFF_DAMAGE as error:
        raise DataError(f"{path} is truncated or damaged: {error}; fix: fetch it again") from error
    finally:
        if tiff is not None:
            tiff.close()


def _pillow_statements(path: Path) -> tuple[Statement, ...]:
    from PIL import Image

    try:
        with Image.open(path, formats=FORMATS) as image:
            dpi = image.info.get("dpi")
    except (OSError, ValueError, SyntaxError):
        return ()
    return tuple(dpi_statements(dpi))


def _number(text: str | None) -> float | None:
    try:
        found = float(text) if text else None
    except ValueError:
        return None
    return found if found is not None and math.isfinite(found) else None
