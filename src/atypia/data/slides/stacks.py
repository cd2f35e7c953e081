"""Reads multi-page TIFF stacks of crops, and determines the kind of an input.

Pages are found by the file's chain of directories and decoded separately, so a damaged
page does not affect others, and only one page is in memory.
"""

from __future__ import annotations

import io
import os
import struct
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from atypia.base.errors import DataError, must
from atypia.base.files.regularfiles import open_regular
from atypia.data.images.decoding import FORMATS, ImageLimits, image_format, read_header, read_rgb
from atypia.data.images.geometry import CropGeometry
from atypia.data.slides.cropscale import Sizing
from atypia.data.slides.readers import SLIDE_SUFFIXES
from atypia.data.slides.scale import AUTO, GIVEN_AS
from atypia.data.slides.streams import (
    CROP_LIMITS,
    DEFAULT_BATCH,
    MAX_CROP_PX,
    Crop,
    CropBatch,
    Refusal,
    batched,
    field_of_crops,
)
from atypia.data.slides.tifflayout import figures_of, of_tiff

MAX_PAGES = 100_000
"""Most pages of a stack. Pages may share their pixels, so the size of the file is no bound."""

InputKind = Literal["crop", "stack", "slide"]

_Size = tuple[int, int]
# What Pillow raises on damaged pages.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, OverflowError, struct.error)


def classify_input(path: str | Path, *, has_points: bool = False) -> InputKind:
    """Determines the kind of an image file by its header.

    1. Given with points, it is a slide: a region that figures are cut from.
    2. A file that only OpenSlide reads (``.svs``, ``.ndpi``, ``.mrxs``, ``.dcm`` …) is a slide.
    3. A TIFF whose first two pages have one size, of at most 2048 px per side, is a stack of crops
       (a pyramid's second page is smaller than its first).
    4. Any other TIFF of several pages, and an image of more than 2048 px per side, is a slide.
    5. What Pillow does not read and OpenSlide does is a slide.
    6. The rest are crops.

    Args:
        path: An image file.
        has_points: Whether positions of figures are given with it.

    Raises:
        DataError: The file is absent, empty, or no image.
    """
    path = Path(path)
    try:
        with open_regular(path, buffering=0) as file:
            head = file.read(16)
            if has_points or path.suffix.lower() in SLIDE_SUFFIXES:
                return "slide"
            sizes, several = _sizes(file, head)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; fix: check the path") from error
    if not sizes:
        if _openslide_takes(path):
            return "slide"
        read_header(path)  # raises with the reason
        return "crop"
    small = max(max(size) for size in sizes) <= MAX_CROP_PX
    if several and small and sizes[0] == sizes[-1]:
        return "stack"
    return "slide" if several or not small else "crop"


def stack_pages(
    path: str | Path,
    geometry: CropGeometry,
    *,
    batch_size: int = DEFAULT_BATCH,
    mpp: float | None = None,
    limits: ImageLimits = CROP_LIMITS,
    max_pages: int = MAX_PAGES,
    mpp_from: str = AUTO,
    given_as: str = GIVEN_AS,
    assumed_um: float | None = None,
    notes: list[str] | None = None,
) -> Iterator[CropBatch | Refusal]:
    """Crops from the pages of a TIFF, in order; a file of one page is a stack of one.

    The figure id is ``name#page`` with the file's name and the page's number from 1. Of grey pages that are R, G
    and B of a figure each (:func:`atypia.data.slides.tifflayout.figures_of`), three are one crop. Colour
    modes are handled as by :func:`atypia.data.images.decoding.read_rgb`. A page that is damaged, too large
    or in a refused mode becomes a refusal.

    Args:
        path: The file.
        geometry: The field and the side of the crops.
        batch_size: Crops in a batch.
        mpp: µm/px of the pages: a field in µm is then cut from their middle. Without it, what the first page
            states counts, and where it states nothing the whole page is the field.
        limits: A page of more pixels is refused before it is decoded.
        max_pages: A file of more pages is refused.
        mpp_from: Which statement to use if ``mpp`` and the file differ by more than 5 %.
        given_as: How ``mpp`` was given, for results.
        assumed_um: The assumed field of a whole page, for results; None if the model does not define it.
        notes: Receives remarks on how the pages were read.

    Raises:
        DataError: The file is absent, no TIFF, has too many pages, ``mpp`` does not fit, or it cannot be determined
            whether its grey pages are figures or R, G and B.
    """
    path = Path(path)
    field = field_of_crops(geometry, mpp)
    try:
        with open_regular(path, buffering=0) as file:
            chain = _chain(file, file.read(16), max_pages)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; fix: check the path") from error
    if chain is None:
        raise DataError(must(str(path), "a TIFF", "another file", "give images of other formats as files"))
    if len(chain.offsets) > max_pages:
        raise DataError(must(str(path), f"a TIFF of at most {max_pages:,} pages", "more", "split the stack"))
    if not chain.offsets:
        raise DataError(f"{path} is truncated or damaged: its first page is missing; fix: fetch the file again")
    figures = _grey_figures(path, chain)
    if figures is not None and notes is not None:
        notes.append(f"{path}: its {len(chain.offsets)} grey pages are R, G and B of {len(figures)} figures")
    assumed = assumed_um if geometry.side_um is None else geometry.side_um

    sizing = Sizing(mpp, mpp_from, given_as, assumed)
    scale = sizing.scale(path, str(path))

    def cut(image: npt.NDArray[np.uint8], figure: str) -> Crop:
        pixels, read_as = sizing.cut(image, figure, field, scale)
        return Crop(figure, str(path), pixels, read_as=read_as)

    return batched(_pages(path, chain, figures, cut, limits), batch_size, field.out_px)


def _grey_figures(path: Path, chain: _Chain) -> list[tuple[int, ...]] | None:
    """Which pages are R, G and B of one figure each; None if every page is a figure."""
    if not chain.ended or not _is_grey(path, chain):
        return None
    return of_tiff(path, figures_of)  # of a damaged file each page is read, or refused, by itself


def _is_grey(path: Path, chain: _Chain) -> bool:
    """Whether the first of three or more pages is grey; other stacks need no further check."""
    if len(chain.offsets) < 3:
        return False
    try:
        with open(path, "rb", buffering=0) as file:
            first = _FromPage(file, chain, chain.offsets[0])
            with Image.open(first, formats=("TIFF",)) as page:  # pyright: ignore[reportArgumentType]
                return page.mode == "L" or page.mode.startswith("I;16")
    except (*_DAMAGE, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return False


def _pages(
    path: Path,
    chain: _Chain,
    figures: list[tuple[int, ...]] | None,
    cut: Callable[[npt.NDArray[np.uint8], str], Crop],
    limits: ImageLimits,
) -> Iterator[Crop | Refusal]:
    # Unbuffered: libtiff moves the position of the same open file.
    pixels: dict[tuple[int, ...], int] = {}
    with open_regular(path, buffering=0) as file:
        for number, pages in enumerate(figures or [(page,) for page in range(len(chain.offsets))], 1):
            figure = f"{path.name}#{number}"
            try:
                parts = [_decoded(file, chain, chain.offsets[page], figure, limits, pixels, page + 1) for page in pages]
                image = parts[0] if len(parts) == 1 else np.stack([part[..., 0] for part in parts], axis=2)
                yield cut(image, figure)
            except DataError as error:
                yield Refusal(figure, str(path), str(error))
    if not chain.ended:
        number = len(chain.offsets) + 1
        reason = f"{path} is damaged: page {number} and what follows cannot be found; fix: fetch the file again"
        yield Refusal(f"{path.name}#{number}", str(path), reason)


def _decoded(
    file: BinaryIO,
    chain: _Chain,
    offset: int,
    name: str,
    limits: ImageLimits,
    pixels: dict[tuple[int, ...], int],
    number: int,
) -> npt.NDArray[np.uint8]:
    """One page as RGB, shape (height, width, 3).

    ``pixels`` holds where the pixels of earlier pages lie and the number of each page: no stack has one figure on
    two pages, and a small file of many such pages would cost much.
    """
    try:
        with Image.open(_FromPage(file, chain, offset), formats=("TIFF",)) as page:  # pyright: ignore[reportArgumentType]
            width, height = page.size
            if width * height > limits.max_pixels:
                raise _too_large(name, limits, f"{width:,} × {height:,}")
            place = _place(page)
            if place and pixels.setdefault(place, number) != number:
                expected = "a page with pixels of its own"
                got = f"those of page {pixels[place]}"
                raise DataError(must(name, expected, got, "write the stack again, one figure per page"))
            if page.mode == "RGB":
                return np.array(page)
            # All other modes are checked as for all images: by `read_rgb`, from a file with this page.
            alone = io.BytesIO()
            page.copy().save(alone, "TIFF", compression="raw")
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(name, limits, "far more") from error
    except _DAMAGE as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{name} is truncated or damaged: {error}; fix: fetch the file again") from error
    return read_rgb(alone.getvalue(), limits, name=name)


def _place(page: Image.Image) -> tuple[int, ...]:
    """Where the first pixels of a page lie in its file, in strips or in tiles; empty if it does not say."""
    tags = getattr(page, "tag_v2", {})
    offsets = tags.get(273) or tags.get(324) or ()
    return tuple(offsets[:1]) if isinstance(offsets, tuple) else (int(offsets),)


def _too_large(name: str, limits: ImageLimits, got: str) -> DataError:
    expected = f"a crop of at most {limits.max_pixels:,} pixels"
    return DataError(must(name, expected, got, "give the positions of its figures, or raise the limit"))


class _Chain(NamedTuple):
    """Offsets of the pages of a TIFF.

    Attributes:
        offsets: Of each page's directory.
        header: First bytes of the file, up to the offset of the first directory.
        offset_format: How an offset is written.
        ended: Whether the chain came to its end, rather than to a damaged place.
    """

    offsets: list[int]
    header: bytes
    offset_format: str
    ended: bool


def page_count(path: str | Path, most: int = MAX_PAGES) -> int | None:
    """The number of pages of a TIFF, without reading them; None where it cannot be told."""
    try:
        with open_regular(path, buffering=0) as file:
            chain = _chain(file, file.read(16), most)
    except (OSError, DataError):
        return None  # refused when it is read
    return None if chain is None or len(chain.offsets) > most else len(chain.offsets)


def _chain(file: BinaryIO, head: bytes, most: int) -> _Chain | None:
    """The chain of directories, up to one page more than ``most``; None for what is not a TIFF."""
    if image_format(head) != "TIFF":
        return None
    order = "<" if head[:2] == b"II" else ">"
    big = struct.unpack(f"{order}H", head[2:4])[0] == 43
    count_format, offset_format, entry = (f"{order}Q", f"{order}Q", 20) if big else (f"{order}H", f"{order}I", 12)
    header = head[: 8 if big else 4]
    size = os.fstat(file.fileno()).st_size
    offsets: dict[int, None] = {}
    ended = False
    try:
        (offset,) = struct.unpack_from(offset_format, head, len(header))
        while offset and len(offsets) <= most:
            file.seek(offset)
            (entries,) = struct.unpack(count_format, file.read(struct.calcsize(count_format)))
            # A chain that returns to an earlier page, or leaves the file, is damaged.
            if offset in offsets or offset + entries * entry > size:
                break
            file.seek(entries * entry, os.SEEK_CUR)
            after = file.read(struct.calcsize(offset_format))
            offsets[offset] = None
            (offset,) = struct.unpack(offset_format, after)
        else:
            ended = True
    except (struct.error, OSError, OverflowError):
        ended = False
    return _Chain(list(offsets), header, offset_format, ended)


class _FromPage:
    """Presents a TIFF file as if a later page were its first, so that Pillow reads only that page."""

    def __init__(self, file: BinaryIO, chain: _Chain, offset: int) -> None:
        self._file = file
        self._start = chain.header + struct.pack(chain.offset_format, offset)
        file.seek(0)

    def read(self, size: int = -1) -> bytes:
        position = self._file.tell()
        data = self._file.read(size) or b""
        if position < len(self._start):
            data = self._start[position : position + len(data)] + data[len(self._start) - position :]
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def fileno(self) -> int:
        return self._file.fileno()


def _sizes(file: BinaryIO, head: bytes) -> tuple[list[_Size], bool]:
    """Sizes of the first page and, in a TIFF, the second; whether there are several. Empty where unreadable."""
    chain = _chain(file, head, 1)
    sources = [file] if chain is None else [_FromPage(file, chain, offset) for offset in chain.offsets[:2]]
    formats = FORMATS if chain is None else ("TIFF",)
    sizes: list[_Size] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        for source in sources:
            source.seek(0)
            try:
                with Image.open(source, formats=formats) as image:  # pyright: ignore[reportArgumentType]
                    sizes.append(image.size)
            except Image.DecompressionBombError:
                sizes.append((MAX_CROP_PX + 1, MAX_CROP_PX + 1))
            except _DAMAGE:
                break
    return sizes, len(sources) > 1


def _openslide_takes(path: Path) -> bool:
    try:
        from openslide import OpenSlide, OpenSlideError
    except ImportError:
        return False
    try:
        return OpenSlide.detect_format(path) is not None
    except OpenSlideError:
        return False
