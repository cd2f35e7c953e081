"""Pyramids of JPEG tiles as BigTIFF, which OpenSlide, QuPath and tifffile read; written from top to bottom."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from atypia.base.artifacts import atomic_file
from atypia.base.errors import DataError, must
from atypia.data.phantom.optics import halves_colour, jpeg_bytes

TILE_PX: Final = 256
SHRINK: Final = 4
"""Each level is this much smaller than the one above."""
SMALLEST_PX: Final = 512
"""No level is made below one whose longer side is at most this."""
_SHORT, _LONG, _RATIONAL, _LONG8 = 3, 4, 5, 16
_SIZE: Final = {_SHORT: "H", _LONG: "I", _LONG8: "Q"}
_JPEG, _YCBCR, _CONTIGUOUS, _CENTIMETRE, _REDUCED = 7, 6, 1, 3, 1

Pixels = npt.NDArray[np.uint8]


def write_pyramid(path: Path, bands: Iterable[Pixels], size_px: tuple[int, int], mpp: float, quality: int) -> None:
    """Writes a slide whose pixels are never held as a whole.

    Args:
        path: The file; it has its name only when it is complete.
        bands: The pixels from top to bottom: RGB, shape (rows, width, 3), rows a multiple of 256 in all but the last.
        size_px: Width and height.
        mpp: µm/px.
        quality: Of the JPEG compression, 1 to 95; below 80 colour is stored at half resolution.

    Raises:
        DataError: The bands are not of that size.
        WorkError: The file cannot be written.
    """
    smaller: list[Pixels] = []

    def tiles() -> Iterator[bytes]:
        for band in bands:
            smaller.append(shrunk(band))
            yield from encoded_tiles(band, quality)

    with atomic_file(path) as file:
        tiff = TiledTiff(file, mpp, halves_colour(quality))
        tiff.write(tiles(), size_px)
        level, down = np.concatenate(smaller), SHRINK
        while True:
            tiff.write(encoded_tiles(level, quality), (level.shape[1], level.shape[0]), down)
            if max(level.shape[:2]) <= SMALLEST_PX:
                return
            level, down = shrunk(level), down * SHRINK


def encoded_tiles(pixels: Pixels, quality: int) -> Iterator[bytes]:
    """The tiles of a picture as JPEG, row by row; the last ones are filled up with its border."""
    high, wide = (-side % TILE_PX for side in pixels.shape[:2])
    padded = np.pad(pixels, ((0, high), (0, wide), (0, 0)), mode="edge")
    for top in range(0, padded.shape[0], TILE_PX):
        for left in range(0, padded.shape[1], TILE_PX):
            yield jpeg_bytes(padded[top : top + TILE_PX, left : left + TILE_PX], quality)


def shrunk(pixels: Pixels) -> Pixels:
    """Means of squares; what is left over at the right and lower border is cut off."""
    if min(pixels.shape[:2]) < SHRINK:
        return pixels
    high, wide = (side // SHRINK for side in pixels.shape[:2])
    squares = pixels[: high * SHRINK, : wide * SHRINK].reshape(high, SHRINK, wide, SHRINK, 3)
    return np.rint(squares.mean((1, 3), dtype=np.float32)).astype(np.uint8)


class TiledTiff:
    """A BigTIFF (Adobe's and AWare's extension of TIFF 6.0) of images in JPEG tiles.

    Args:
        file: Open for writing, at its beginning.
        mpp: µm/px of the first image.
        halved: Whether the tiles store colour at half resolution.
    """

    def __init__(self, file: IO[Any], mpp: float, halved: bool) -> None:
        self._file, self._mpp, self._halved = file, mpp, halved
        self._file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))
        self._link = 8  # where the place of the next image is to be written

    def write(self, tiles: Iterable[bytes], size_px: tuple[int, int], down: int = 1) -> None:
        """Appends an image.

        Args:
            tiles: As JPEG, row by row.
            size_px: Width and height.
            down: Pixels of the first image per pixel of this one.

        Raises:
            DataError: There are fewer or more tiles than the size needs.
        """
        places, counts = [], []
        for tile in tiles:
            places.append(self._file.tell())
            counts.append(len(tile))
            self._file.write(tile)
        needed = -(-size_px[0] // TILE_PX) * -(-size_px[1] // TILE_PX)
        if len(places) != needed:
            raise DataError(must("tiles", f"{needed} for {size_px[0]} × {size_px[1]} px", len(places), "give them all"))
        per_cm = round(1e7 / (self._mpp * down)), 1000
        subsampling = (2, 2) if self._halved else (1, 1)
        self._directory([
            (254, _LONG, [_REDUCED if down > 1 else 0]),
            (256, _LONG, [size_px[0]]),
            (257, _LONG, [size_px[1]]),
            (258, _SHORT, [8, 8, 8]),
            (259, _SHORT, [_JPEG]),
            (262, _SHORT, [_YCBCR]),
            (277, _SHORT, [3]),
            (282, _RATIONAL, per_cm),
            (283, _RATIONAL, per_cm),
            (284, _SHORT, [_CONTIGUOUS]),
            (296, _SHORT, [_CENTIMETRE]),
            (322, _LONG, [TILE_PX]),
            (323, _LONG, [TILE_PX]),
            (324, _LONG8, places),
            (325, _LONG8, counts),
            (530, _SHORT, subsampling),
        ])  # fmt: skip

    def _directory(self, entries: Sequence[tuple[int, int, Sequence[int]]]) -> None:
        written = []
        for tag, kind, values in entries:
            rational = kind == _RATIONAL
            data = struct.pack(f"<{len(values)}{'I' if rational else _SIZE[kind]}", *values)
            if len(data) > 8:
                place = self._file.tell()
                self._file.write(data)
                data = struct.pack("<Q", place)
            count = len(values) // 2 if rational else len(values)
            written.append(struct.pack("<HHQ", tag, kind, count) + data.ljust(8, b"\0"))
        self._file.write(b"\0" * (-self._file.tell() % 8))
        place = self._file.tell()
        self._file.write(struct.pack("<Q", len(written)) + b"".join(written) + struct.pack("<Q", 0))
        end = self._file.tell()
        self._file.seek(self._link)
        self._file.write(struct.pack("<Q", place))
        self._file.seek(end)
        self._link = end - 8
