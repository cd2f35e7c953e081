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
MAX_AROUND: Final = 8.0
"""Largest side of what is shown around a figure, in fields."""
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

    def tag(self, index: int, view: str, size: int | None, around: float = 1.0) -> str:
        """ETag of an image: changes with the figures, the file, the view and the size.

        Raises:
            DataError: The file is absent.
        """
        path = self.figures.image(index)
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(self._hidden(index, f"its image cannot be read: {error.strerror}")) from error
        facts = (self.figures.fingerprint, index, view, size, around, status.st_size, status.st_mtime_ns)
        return fingerprint("crop", *facts)

    def picture(self, index: int, view: str = "rgb", size: int | None = None, around: float = 1.0) -> Picture:
        """The image of a figure.

        Args:
            index: Which figure.
            view: One of :data:`VIEWS`.
            size: Largest side in px, encoded as JPEG; None for the original pixels, up to
            :data:`MAX_PX` per side, as lossless PNG.

            around: Side in fields; more than 1 shows what is around a figure that is on a slide.

        Raises:
            DataError: The image is absent, damaged, too large or too small.
        """
        tag = self.tag(index, view, size, around)
        media_type = PNG if size is None else JPEG
        return Picture(self.cache.get((tag,), lambda: self._made(index, view, size, around)), media_type, tag)

    def pixels(self, index: int, around: float = 1.0) -> npt.NDArray[np.uint8]:
        """The crop itself: RGB, shape (side, side, 3); stripes where it reaches beyond its slide.

        Raises:
            DataError: As :meth:`picture`.
        """
        f = self.figures
        if not f.cut[index] and (around == 1 or f.slide[index] < 0):
            path = f.image(index)
            try:
                image = read_rgb(path, LIMITS, name="its image")
                return apply(image, CropGeometry(min(max(min(image.shape[:2]), MIN_SIDE_PX), MAX_PX)))
            except DataError as error:
                raise DataError(
                    f"figure {index}: {without_folders(str(error), path).replace(path.name, 'its image')}"
                ) from error
        slide = int(f.slide[index])
        mpp = scale(f, self.slides, index)[0] if f.cut[index] else self.slides.mpp(slide)
        side = round((FIELD_PX if mpp is None else FIELD_UM / mpp) * around)
        side = min(max(side, MIN_SIDE_PX), MAX_SIDE_PX)
        x, y = float(f.x_px[index]), float(f.y_px[index])
        field = self.slides.field(slide, x, y, side)
        size = self.slides.facts(slide)
        return resize(striped_beyond(field, (x, y), (size.width_px, size.height_px)), min(side, MAX_PX))

    def _made(self, index: int, view: str, size: int | None, around: float) -> bytes:
        pixels = self.pixels(index, around)
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


def striped_beyond(
    field: npt.NDArray[np.uint8], centre: tuple[float, float], size: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    """A field with grey stripes where it lies beyond its slide, which readers fill with mirrored tissue.

    Args:
        field: RGB, shape (side, side, 3).
        centre: x and y of its centre on the slide, in px.
        size: Width and height of the slide, in px.

    >>> striped_beyond(np.zeros((4, 4, 3), np.uint8), (0.0, 50.0), (100, 100))[0, :, 0].tolist()
    [226, 226, 0, 0]
    """
    side = len(field)
    left, top = (int(np.floor(at - side / 2 + 0.5)) for at in centre)
    columns, rows = np.arange(left, left + side), np.arange(top, top + side)
    outside = ((columns < 0) | (columns >= size[0]))[None, :] | ((rows < 0) | (rows >= size[1]))[:, None]
    if not outside.any():
        return field
    stripe = max(4, side // 16)
    light = ((np.arange(side)[:, None] + np.arange(side)[None, :]) // stripe) % 2 == 0
    grey = np.where(light, 226, 200).astype(np.uint8)
    return np.where(outside[..., None], grey[..., None], field)


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
