"""Image files to RGB arrays, under limits, with every colour mode handled on purpose.

What becomes of a file:

=====================================  ========================================================
RGB, YCbCr                             8-bit RGB as it is
grey (L)                               the same value three times
palette (P), CMYK                      converted (CMYK without its colour profile)
with transparency (RGBA, LA, a key)    laid over white, the colour of empty glass
16 bits a sample                       the high byte of each sample
bilevel, 32-bit, float, CIELAB         refused: no H&E image is stored so, any scaling is a guess
several pages                          refused unless the caller names the page
truncated, empty, no image, too large  refused
=====================================  ========================================================

An orientation tag is not applied: positions of figures refer to the pixels as stored.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from atypia.errors import DataError, must
from atypia.regularfiles import open_regular

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "JPEG2000")
"""Pillow's names of the formats that are read. Its other readers are never given a file."""

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
# A decoder stops once it has all pixels, so a file cut inside its last bytes would pass.
_ENDINGS = {"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9"}
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
_WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
_CONVERTED = ("RGB", "L", "P", "CMYK", "YCbCr")
# What Pillow's readers raise on damaged files.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    TypeError,
    LookupError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


@dataclass(frozen=True)
class ImageLimits:
    """How large a file may be before it is refused.

    Attributes:
        max_pixels: Width × height. The default, 67 megapixels (201 MB as RGB), is above a 2 mm²
            region at 0.25 µm/px and below the size at which Pillow warns.
        max_bytes: Size of the file.
    """

    max_pixels: int = 1 << 26
    max_bytes: int = 1 << 29


DEFAULT_LIMITS = ImageLimits()


class ImageHeader(NamedTuple):
    """What an image file says of itself.

    Attributes:
        width_px: Width.
        height_px: Height.
        mode: Pillow's name of the colour mode; with ``;16`` behind it where samples have 16 bits.
    """

    width_px: int
    height_px: int
    mode: str


def read_rgb(
    source: str | Path | bytes,
    limits: ImageLimits = DEFAULT_LIMITS,
    *,
    name: str | None = None,
    page: int | None = None,
) -> npt.NDArray[np.uint8]:
    """Decodes an image.

    Args:
        source: A path, or the bytes of a file.
        limits: What is too large.
        name: What messages call it; else the path.
        page: Which page of a file with several, from 0; None refuses such files.

    Returns:
        RGB, shape (height, width, 3), 0 to 255.

    Raises:
        DataError: The file is absent, empty, no image, truncated, damaged, too large, in a
            colour mode that is refused, or has several pages. The message names the file.
    """
    data = source if isinstance(source, bytes) else read_bytes(source, limits)
    name = name or ("image" if isinstance(source, bytes) else str(source))
    kind = image_format(data)
    ending = _ENDINGS.get(kind or "")
    if ending is not None and data.rfind(ending) < 0:
        raise DataError(f"{name} is truncated: its end is missing; fix: fetch the file again")
    try:
        with Image.open(io.BytesIO(data), formats=(kind,) if kind else FORMATS) as image:
            _check_size(image, name, limits)
            _choose_page(image, name, page)
            _check_size(image, name, limits)
            return _to_rgb(image, name)
    except DataError:
        raise
    except _DAMAGE as error:
        raise _unreadable(name, error) from error


def read_bytes(path: str | Path, limits: ImageLimits = DEFAULT_LIMITS) -> bytes:
    """Reads a whole file that is not too large.

    Raises:
        DataError: The file is absent, no regular file, empty, too large, or cannot be read.
    """
    path = Path(path)
    with _opened(path, limits) as file:
        try:
            return file.read()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}; fix: check the file and the disk") from error


def read_header(path: str | Path, limits: ImageLimits = DEFAULT_LIMITS) -> ImageHeader:
    """Reads size and colour mode without decoding pixels; an intact header says nothing of the rest.

    Raises:
        DataError: The file is absent, empty, too large, or no image.
    """
    path = Path(path)
    try:
        with _opened(path, limits) as file, Image.open(file, formats=FORMATS) as image:
            _check_size(image, str(path), limits)
            return ImageHeader(*image.size, _full_mode(image))
    except DataError:
        raise
    except _DAMAGE as error:
        raise _unreadable(str(path), error) from error


def image_format(data: bytes) -> str | None:
    """Pillow's name of a common format by its first bytes; None for what it does not know."""
    return next((kind for magic, kind in _MAGIC if data.startswith(magic)), None)


def _opened(path: Path, limits: ImageLimits) -> BinaryIO:
    """The file, open; told to be regular, of some bytes and not too large."""
    try:
        file = open_regular(path)
    except IsADirectoryError:
        raise DataError(f"{path} is no regular file but a folder; fix: name an image file") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; fix: check the path") from error
    size = os.fstat(file.fileno()).st_size
    if 0 < size <= limits.max_bytes:
        return file
    file.close()
    if size == 0:
        raise DataError(f"{path} is empty (0 bytes); fix: fetch the file again")
    expected = f"at most {limits.max_bytes:,} bytes"
    raise DataError(must(str(path), expected, f"{size:,}", "raise the limit, or use a tiled TIFF"))


def _check_size(image: Image.Image, name: str, limits: ImageLimits) -> None:
    width, height = image.size
    if width * height > limits.max_pixels:
        expected = f"at most {limits.max_pixels:,} pixels"
        raise DataError(must(name, expected, f"{width:,} × {height:,}", "raise the limit, or use a tiled TIFF"))


def _choose_page(image: Image.Image, name: str, page: int | None) -> None:
    pages = int(getattr(image, "n_frames", 1))
    if page is None:
        # A JPEG with a second picture (a camera's preview) is one image; pages are TIFF's.
        if pages > 1 and image.format != "MPO":
            raise DataError(must(name, "an image of one page", f"{pages} pages", "split it into one file a page"))
    elif not 0 <= page < pages:
        raise DataError(must("page", f"from 0 to {pages - 1} in {name}", page, "name a page that exists"))
    else:
        image.seek(page)


def _full_mode(image: Image.Image) -> str:
    if image.mode in _SIXTEEN_BIT:
        return "L;16"
    tile = getattr(image, "tile", None)
    raw = str(tile[0][3]) if tile else ""
    return f"{image.mode};16" if ";16" in raw else image.mode


def _to_rgb(image: Image.Image, name: str) -> npt.NDArray[np.uint8]:
    mode = image.mode
    if mode in _SIXTEEN_BIT:
        high = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(high[:, :, None], 3, axis=2)
    if mode in _WITH_ALPHA or (mode in _CONVERTED and "transparency" in image.info):
        layer = image.convert("RGBA")
        return np.array(Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB"))
    if mode in _CONVERTED:
        return np.array(image if mode == "RGB" else image.convert("RGB"))
    raise DataError(must(name, "an 8-bit RGB image", f"colour mode {mode!r}", "save it as 8-bit RGB PNG"))


def _unreadable(name: str, error: BaseException) -> DataError:
    if isinstance(error, Image.UnidentifiedImageError):
        return DataError(must(name, "an image (PNG, JPEG, TIFF)", "something else", "check what the file holds"))
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return DataError(f"{name} is too large: {error}; fix: use a tiled TIFF")
    return DataError(f"{name} is truncated or damaged: {error}; fix: fetch the file again")
