"""Decodes image files to RGB arrays, with size limits and explicit handling of every colour mode.

How each kind of file is handled:

=====================================  ========================================================
RGB, YCbCr                             8-bit RGB as it is
grey (L)                               the same value three times
palette (P), CMYK                      converted (CMYK without its colour profile)
with transparency (RGBA, LA, a key)    composited over white, the colour of empty glass
16 bits per sample                       the high byte of each sample; refused if all are dark, as those of 12-bit cameras are
bilevel, 32-bit, float, CIELAB         refused: no H&E image is stored this way, and any scaling would be a guess
several pages                          refused unless the caller selects a page
PNG with wrong checksums                refused: its pixels are not those that were saved
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

from atypia.base.errors import DataError, must
from atypia.base.files.regularfiles import open_regular
from atypia.data.images.libtiff import silence_libtiff

silence_libtiff()

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "JPEG2000")
"""Pillow's names of the supported formats. Its other readers are never used."""

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
# A decoder stops once it has all pixels, so a file truncated in its last bytes would pass.
_ENDINGS = {"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9"}
_DARK = 64
"""All 16-bit samples below this high byte: 14 bits or fewer are used, and no H&E image is so dark."""
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
_WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
_MODES = {
    "1": "1 bit a pixel",
    "F": "floating-point samples, whose scale is not known",
    "I": "32-bit samples, whose scale is not known",
    "LAB": "CIELAB colours",
    "HSV": "HSV colours",
}
# Common unsupported file types, by offset and magic bytes.
_NOT_READ = (
    (0, b"GIF8", "a GIF, which has 256 colours"),
    (0, b"%PDF", "a PDF"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 that cannot be decoded here"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 that cannot be decoded here"),
    (0, b"\xff\x0a", "a JPEG XL"),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL"),
    (4, b"ftypavif", "an AVIF"),
    (4, b"ftyphe", "a HEIC"),
    (4, b"ftypmif1", "a HEIC"),
    (128, b"DICM", "a DICOM file"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"<svg", "an SVG drawing"),
    (0, b"8BPS", "a Photoshop file"),
)
_COMPRESSIONS = {
    33003: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000", 50001: "WebP", 34927: "WebP", 34934: "WebP",
    50002: "JPEG XL", 52546: "JPEG XL", 22610: "JPEG XR", 34933: "PNG", 34925: "LZMA", 50000: "Zstandard",
    34926: "Zstandard", 34887: "LERC", 34661: "JBIG",
}  # fmt: skip
_TIFF_READ = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 32771, 32773, 32946})
_HEAD_BYTES = 1 << 16
_CONVERTED = ("RGB", "L", "P", "CMYK", "YCbCr")
# Exceptions of Pillow's readers on damaged files.
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
    """Size limits above which a file is refused.

    Attributes:
        max_pixels: Width × height. The default, 67 megapixels (201 MB as RGB), is above a 2 mm²
            region at 0.25 µm/px and below the size at which Pillow warns.
        max_bytes: Size of the file.
    """

    max_pixels: int = 1 << 26
    max_bytes: int = 1 << 29


DEFAULT_LIMITS = ImageLimits()


class ImageHeader(NamedTuple):
    """Header of an image file.

    Attributes:
        width_px: Width.
        height_px: Height.
        mode: Pillow's name of the colour mode; followed by ``;16`` if samples have 16 bits.
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
        limits: Size limits.
        name: Its name in messages; else the path.
        page: Which page of a file with several, from 0; None refuses such files.

    Returns:
        RGB, shape (height, width, 3), 0 to 255.

    Raises:
        DataError: The file is absent, empty, not an image, truncated, damaged, too large, in a
            colour mode that is refused, or has several pages. The message names the file.
    """
    data = source if isinstance(source, bytes) else read_bytes(source, limits)
    name = name or ("image" if isinstance(source, bytes) else str(source))
    kind = image_format(data)
    _check_whole(data, name)
    try:
        with Image.open(io.BytesIO(data), formats=(kind,) if kind else FORMATS) as image:
            _check_size(image, name, limits)
            _choose_page(image, name, page)
            _check_size(image, name, limits)
            return _to_rgb(image, name)
    except DataError:
        raise
    except _DAMAGE as error:
        raise _unreadable(name, error, data) from error


def image_rgb(image: Image.Image, name: str, limits: ImageLimits = DEFAULT_LIMITS) -> npt.NDArray[np.uint8]:
    """An opened image as :func:`read_rgb` reads its file.

    Args:
        image: The image; of a file with several pages only one that has one.
        name: What messages call it.
        limits: What is too large.

    Raises:
        DataError: As :func:`read_rgb`.

    >>> image_rgb(Image.new("L", (2, 1), 7), "grey").tolist()
    [[[7, 7, 7], [7, 7, 7]]]
    """
    try:
        _check_size(image, name, limits)
        _choose_page(image, name, None)
        return _to_rgb(image, name)
    except DataError:
        raise
    except _DAMAGE as error:
        raise _unreadable(name, error) from error


def check_whole(path: str | Path) -> None:
    """Checks that a file is complete without decoding it: the end of PNG and JPEG files, and the checksums of PNG.

    Raises:
        DataError: It cannot be read, or is truncated or damaged.
    """
    _check_whole(read_bytes(path), str(path))


def _check_whole(data: bytes, name: str) -> None:
    kind = image_format(data)
    ending = _ENDINGS.get(kind or "")
    if ending is not None and data.rfind(ending) < 0:
        raise DataError(f"{name} is truncated: its end is missing; fix: fetch the file again")
    if kind == "PNG":
        _check_sums(data, name)


def read_bytes(path: str | Path, limits: ImageLimits = DEFAULT_LIMITS) -> bytes:
    """Reads a whole file within the size limit.

    Raises:
        DataError: The file is absent, not a regular file, empty, too large, or cannot be read.
    """
    path = Path(path)
    with _opened(path, limits) as file:
        try:
            return file.read()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}; fix: check the file and the disk") from error


def read_header(path: str | Path, limits: ImageLimits = DEFAULT_LIMITS) -> ImageHeader:
    """Reads size and colour mode without decoding pixels; an intact header does not mean that the rest is intact.

    Raises:
        DataError: The file is absent, empty, too large, or not an image.
    """
    path = Path(path)
    try:
        with _opened(path, limits) as file, Image.open(file, formats=FORMATS) as image:
            _check_size(image, str(path), limits)
            return ImageHeader(*image.size, _full_mode(image))
    except DataError:
        raise
    except _DAMAGE as error:
        raise _unreadable(str(path), error, _head(path)) from error


def image_format(data: bytes) -> str | None:
    """Pillow's name of a common format by its first bytes; None if unknown."""
    return next((kind for magic, kind in _MAGIC if data.startswith(magic)), None)


def _opened(path: Path, limits: ImageLimits) -> BinaryIO:
    """Opens a file after checking that it is regular, not empty and not too large."""
    try:
        file = open_regular(path)
    except IsADirectoryError:
        raise DataError(f"{path} is a folder, not a regular file; fix: name an image file") from None
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


def _check_sums(data: bytes, name: str) -> None:
    """Compares the checksum of every chunk of a PNG that its pixels depend on; Pillow checks only some."""
    at = len(_MAGIC[0][0])
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, end = data[at + 4 : at + 8], at + 8 + length
        if end + 4 > len(data):
            return  # truncated, which the decoder reports
        # Chunks whose name starts in lower case are optional for readers; transparency is not optional here.
        if kind[:1].isupper() or kind == b"tRNS":
            (stated,) = struct.unpack_from(">I", data, end)
            if zlib.crc32(memoryview(data)[at + 4 : end]) != stated:
                shown = kind.decode("ascii", "replace")
                raise DataError(f"{name} is damaged: the checksum of its {shown} is wrong; fix: fetch the file again")
        if kind == b"IEND":
            return
        at = end + 4


def _check_size(image: Image.Image, name: str, limits: ImageLimits) -> None:
    width, height = image.size
    if width * height > limits.max_pixels:
        expected = f"at most {limits.max_pixels:,} pixels"
        raise DataError(must(name, expected, f"{width:,} × {height:,}", "raise the limit, or use a tiled TIFF"))


def _choose_page(image: Image.Image, name: str, page: int | None) -> None:
    pages = int(getattr(image, "n_frames", 1))
    if page is None:
        # A JPEG with a second picture (a camera's preview) is one image; only TIFF has pages.
        if pages > 1 and image.format != "MPO":
            raise DataError(must(name, "an image of one page", f"{pages} pages", "split it into one file per page"))
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
    deep = _full_mode(image).endswith(";16")
    pixels = _converted(image, name)
    if deep and pixels.max(initial=0) < _DARK:
        got = f"none above {256 * int(pixels.max(initial=0)) + 255:,}"
        fix = "save it as 8-bit RGB PNG, divided by the range that its camera uses (4,095 for 12 bits)"
        raise DataError(must(name, "an image whose 16-bit samples reach up to 65,535", got, fix))
    return pixels


def _converted(image: Image.Image, name: str) -> npt.NDArray[np.uint8]:
    mode = image.mode
    if mode in _SIXTEEN_BIT:
        high = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(high[:, :, None], 3, axis=2)
    if mode in _WITH_ALPHA or (mode in _CONVERTED and "transparency" in image.info):
        layer = image.convert("RGBA")
        return np.array(Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB"))
    if mode in _CONVERTED:
        return np.array(image if mode == "RGB" else image.convert("RGB"))
    why = f"; it holds {_MODES[mode]}" if mode in _MODES else ""
    raise DataError(must(name, "an 8-bit RGB image", f"colour mode {mode!r}", f"save it as 8-bit RGB PNG{why}"))


def _unreadable(name: str, error: BaseException, data: bytes = b"") -> DataError:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return DataError(f"{name} is too large: {error}; fix: use a tiled TIFF")
    what = _what(data, error)
    if what is not None:
        return DataError(must(name, "an image (PNG, JPEG, TIFF)", what, "save it as 8-bit RGB PNG"))
    if isinstance(error, Image.UnidentifiedImageError):
        return DataError(must(name, "an image (PNG, JPEG, TIFF)", "something else", "check what the file holds"))
    return DataError(f"{name} is truncated or damaged: {error}; fix: fetch the file again")


def _what(data: bytes, error: BaseException) -> str | None:
    """Type of an unsupported file by its first bytes, or by its compression for TIFF; None if unknown."""
    for start, magic, words in _NOT_READ:
        if data[start : start + len(magic)] == magic:
            return words
    if image_format(data) != "TIFF":
        return None
    code = _first_tag(data, 259)
    if code in _COMPRESSIONS:
        return f"a TIFF compressed with {_COMPRESSIONS[code]}, which cannot be decoded here"
    samples = _first_tag(data, 339)
    if samples == 3:
        return "a TIFF of floating-point samples"
    if samples == 2:
        return "a TIFF of signed samples"
    bits = _first_tag(data, 258)
    if bits is not None and bits not in (1, 2, 4, 8, 16):
        return f"a TIFF of {bits} bits per sample"
    return None if code is None or code in _TIFF_READ else f"a TIFF of the unknown compression {code}"


def _first_tag(data: bytes, wanted: int) -> int | None:
    """The first number of a tag of a classic TIFF's first page; None if it is not among these bytes."""
    order = "<" if data[:2] == b"II" else ">"
    try:
        version, at = struct.unpack_from(f"{order}HI", data, 2)
        if version != 42:
            return None
        (entries,) = struct.unpack_from(f"{order}H", data, at)
        for entry in range(entries):
            tag, kind, count = struct.unpack_from(f"{order}HHI", data, at + 2 + 12 * entry)
            if tag == wanted and kind == 3:
                place = at + 10 + 12 * entry
                if count > 2:
                    (place,) = struct.unpack_from(f"{order}I", data, place)
                return int(struct.unpack_from(f"{order}H", data, place)[0])
    except struct.error:
        pass
    return None


def _head(path: Path) -> bytes:
    """The first bytes of a file, for error messages."""
    try:
        with open_regular(path) as file:
            return file.read(_HEAD_BYTES)
    except (OSError, DataError):
        return b""
