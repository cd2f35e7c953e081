"""Crops of figures as images for the page: read on request, decoded with size limits."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from atypia.base.artifacts import fingerprint
from atypia.base.bytecache import ByteCache
from atypia.base.errors import DataError
from atypia.data.images.decoding import ImageLimits, read_rgb
from atypia.data.images.geometry import MAX_SIDE_PX, MIN_SIDE_PX, CropGeometry, apply, resize
from atypia.reports.drawing.names import without_folders
from atypia.review.figures.figures import FIELD_PX, FIELD_UM, ReviewFigures
from atypia.review.media.sizes import scale
from atypia.review.media.slides import OpenSlides

ViewName = Literal["rgb", "hematoxylin"]
VIEWS: Final[tuple[str, ...]] = get_args(ViewName)
MAX_PX: Final = 1024
"""Largest side of an image, in pixels."""
LIMITS: Final = ImageLimits(max_pixels=1 << 24, max_bytes=1 << 26)
CACHE_BYTES: Final = 32 << 20
JPEG_QUALITY: Final = 92
PNG, JPEG = "image/png", "image/jpeg"

# Rows: optical density of hematoxylin, eosin and a rest (Ruifrok and Johnston, Analytical and
# Quantitative Cytology and Histology 2001).
STAINS: Final = np.array(((0.650, 0.704, 0.286), (0.072, 0.990, 0.105), (0.268, 0.570, 0.776)))


@dataclass(frozen=True)
class Picture:
    """An encoded crop: its bytes, media type, and an ETag that changes with its source file."""

    data: bytes
    media_type: str
    tag: str


class CropPictures:
    """Images of figures; thread-safe.

    Args:
        figures: The figures.
        slides: Their slides.
    """

    def __init__(self, figures: ReviewFigures, slides: OpenSlides) -> None:
        self.figures = figures
        self.slides = slides
        self.cache = ByteCache[bytes](CACHE_BYTES, len)

    def tag(self, index: int, view: str, size: int | None) -> str:
        """ETag of an image: changes with the figures, the file, the view and the size.

        Raises:
            DataError: The file is absent.
        """
        path = self.figures.image(index)
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(self._hidden(index, f"its image cannot be read: {error.strerror}")) from error
        facts = (self.figures.fingerprint, index, view, size, status.st_size, status.st_mtime_ns)
        return fingerprint("crop", *facts)

    def picture(self, index: int, view: str = "rgb", size: int | None = None) -> Picture:
        """The image of a figure.

        Args:
            index: Which figure.
            view: One of :data:`VIEWS`.
            size: Largest side in px, encoded as JPEG; None for the original pixels, up to
            :data:`MAX_PX` per side, as lossless PNG.

        Raises:
            DataError: The image is absent, damaged, too large or too small.
        """
        tag = self.tag(index, view, size)
        media_type = PNG if size is None else JPEG
        return Picture(self.cache.get((tag,), lambda: self._made(index, view, size)), media_type, tag)

    def pixels(self, index: int) -> npt.NDArray[np.uint8]:
        """The crop itself: RGB, shape (side, side, 3).

        Raises:
            DataError: As :meth:`picture`.
        """
        f = self.figures
        if not f.cut[index]:
            path = f.image(index)
            try:
                image = read_rgb(path, LIMITS, name="its image")
                return apply(image, CropGeometry(min(max(min(image.shape[:2]), MIN_SIDE_PX), MAX_PX)))
            except DataError as error:
                raise DataError(
                    f"figure {index}: {without_folders(str(error), path).replace(path.name, 'its image')}"
                ) from error
        mpp, _ = scale(f, self.slides, index)
        side = FIELD_PX if mpp is None else round(FIELD_UM / mpp)
        side = min(max(side, MIN_SIDE_PX), MAX_SIDE_PX)
        field = self.slides.field(int(f.slide[index]), float(f.x_px[index]), float(f.y_px[index]), side)
        return resize(field, min(side, MAX_PX))

    def _made(self, index: int, view: str, size: int | None) -> bytes:
        pixels = self.pixels(index)
        if size is not None and size < len(pixels):
            pixels = resize(pixels, size)
        if view == "hematoxylin":
            pixels = hematoxylin(pixels)
        file = io.BytesIO()
        image = Image.fromarray(np.ascontiguousarray(pixels))
        if size is None:
            image.save(file, "PNG", compress_level=1)
        else:
            image.save(file, "JPEG", quality=JPEG_QUALITY, subsampling=0)
        return file.getvalue()

    def _hidden(self, index: int, reason: str) -> str:
        """A message without the file's name, which may reveal the class."""
        return f"figure {index}: {reason}; fix: check that the images are where the data says, or pass --slides"


def hematoxylin(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The hematoxylin component of an H&E image, in its own colour (Ruifrok and Johnston 2001).

    ``OD = −ln max(I, 1/255)`` is split into hematoxylin, eosin and a residual by the inverse of the stain
    matrix; the amount of hematoxylin, clipped at 0, is converted back to an image.

    Args:
        pixels: RGB, shape (h, w, 3), uint8.

    Returns:
        The same shape and type; white where there is no hematoxylin.
    """
    stains = STAINS / np.linalg.norm(STAINS, axis=1, keepdims=True)
    density = -np.log(np.maximum(pixels.astype(np.float32) / 255, 1 / 255))
    amount = np.maximum(density @ np.linalg.inv(stains)[:, 0].astype(np.float32), 0)
    shown = np.exp(-amount[..., None] * stains[0].astype(np.float32))
    return np.clip(np.rint(255 * shown), 0, 255).astype(np.uint8)
