"""Crops of figures on slides and large images, at the physical size that a model was trained on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atypia.data.geometry import CropGeometry, check_field, resize
from atypia.data.images import DEFAULT_LIMITS, ImageLimits
from atypia.data.points.base import DEFAULT_POINT_LIMITS, BoxFormat, PointLimits, Points, ScaleError
from atypia.data.points.reading import read_points
from atypia.data.regions import Slide
from atypia.data.slides import open_slide
from atypia.data.streams import DEFAULT_BATCH, Crop, CropBatch, Refusal, batched
from atypia.errors import DataError, InputError, must

TILE_PX = 1024
"""Points are read in the order of tiles of this side, so that neighbours share decoded data."""


def slide_crops(
    slide_path: str | Path,
    points: Points,
    geometry: CropGeometry,
    *,
    mpp: float | None = None,
    batch_size: int = DEFAULT_BATCH,
    limits: ImageLimits = DEFAULT_LIMITS,
) -> Iterator[CropBatch | Refusal]:
    """Crops around points, in the order of tiles (rows of tiles from the top, in a tile by row and column).

    A point outside the slide and a damaged place become refusals. What a field shows beyond the
    border is the slide's reflection. The same pixels give the same crop whether they are cut
    here or are an image file.

    Args:
        slide_path: The slide or region image.
        points: Figures on it (see :meth:`Points.on_image`). Numbered ids become ``name#number``
            with the slide's file name; others are kept.
        geometry: The field, in µm or in pixels, and the side of the crops.
        mpp: µm/px of the slide. Given, it goes before what the file states.
        batch_size: Crops in a batch.
        limits: Bounds an image that has to be decoded as a whole.

    Raises:
        InputError: ``geometry`` has no field of its own, or there are no points.
        DataError: The slide cannot be opened, its µm/px is not known and needed, or the field does
            not fit it. Raised when the first batch is asked for.
    """
    if geometry.is_whole:
        fix = "give side_um, for instance 32.0"
        raise InputError(must("geometry", "one with side_um or side_px", "the whole image", fix))
    if len(points) == 0:
        raise InputError(f"{slide_path}: there are no points; fix: give at least one")
    return batched(_cut(Path(slide_path), points, geometry, mpp, limits), batch_size, geometry.out_px)


def slide_points(
    slide_path: str | Path,
    points_path: str | Path,
    *,
    mpp: float | None = None,
    format: str | None = None,  # noqa: A002  the word that users know
    box_format: BoxFormat = "auto",
    limits: PointLimits = DEFAULT_POINT_LIMITS,
) -> Points:
    """Reads the points of one slide from a file that may hold those of many.

    Positions in µm are turned into pixels by ``mpp``, else by what the slide states.

    Raises:
        DataError: As :func:`read_points`, no point is on this slide, or the µm/px is needed and
            neither given nor stated.
    """
    try:
        points = read_points(points_path, format=format, mpp=mpp, box_format=box_format, limits=limits)
    except ScaleError:
        with open_slide(slide_path) as slide:
            stated = slide.mpp
        if stated is None:
            raise
        points = read_points(points_path, format=format, mpp=stated, box_format=box_format, limits=limits)
    return points.on_image(slide_path)


def tile_order(x_px: npt.NDArray[np.float64], y_px: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Row positions in the order of tiles, shape (n,); equal positions keep their order.

    >>> tile_order(np.array([2000.0, 5.0, 1.0]), np.array([0.0, 1500.0, 3.0])).tolist()
    [2, 0, 1]
    """
    return np.lexsort((x_px, y_px, x_px // TILE_PX, y_px // TILE_PX)).astype(np.int64)


def _cut(
    path: Path, points: Points, geometry: CropGeometry, mpp: float | None, limits: ImageLimits
) -> Iterator[Crop | Refusal]:
    slide = open_slide(path, limits)
    try:
        side = _field_px(slide, geometry, mpp)
        for row in tile_order(points.x_px, points.y_px).tolist():
            figure = f"{path.name}#{points.ids[row]}" if points.numbered else points.ids[row]
            x, y = float(points.x_px[row]), float(points.y_px[row])
            inside = 0 <= x < slide.width_px and 0 <= y < slide.height_px
            try:
                yield Crop(figure, str(path), resize(slide.read(x, y, side), geometry.out_px), x, y)
            except DataError as error:
                yield Refusal(figure, str(path), str(error), x, y)
                if inside:
                    # After an error OpenSlide refuses everything else from the same handle.
                    slide.close()
                    slide = open_slide(path, limits)
    finally:
        slide.close()


def _field_px(slide: Slide, geometry: CropGeometry, mpp: float | None) -> int:
    known = slide.mpp if mpp is None else mpp
    if geometry.side_um is not None and known is None:
        expected = f"known to cut a field of {geometry.side_um:g} µm"
        raise DataError(must("mpp", expected, f"nothing in {slide.name}", "give mpp, for instance 0.25"))
    side = geometry.source_side_px(known)
    assert side is not None  # a geometry of the whole image was refused
    check_field(side, slide.width_px, slide.height_px)
    return side
