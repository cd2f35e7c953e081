"""Cuts crops of figures from slides and large images, at the physical size that a model was trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atypia.base.errors import DataError, InputError, must
from atypia.data.images.decoding import DEFAULT_LIMITS, ImageLimits
from atypia.data.images.geometry import CropGeometry, check_field, resize
from atypia.data.images.stain import normalised
from atypia.data.points.base import DEFAULT_POINT_LIMITS, AboutSlide, BoxFormat, PointLimits, Points
from atypia.data.points.figures import figures_on
from atypia.data.points.names import points_file
from atypia.data.points.reading import check_mpp, read_scaled
from atypia.data.points.units import AUTO_UNIT
from atypia.data.slides.advice import advice, is_glass
from atypia.data.slides.origins import AUTO, NO_OFFSET, Zero, check_origin, zero_of
from atypia.data.slides.readas import ReadAs
from atypia.data.slides.readers import open_slide
from atypia.data.slides.regions import Bounds, Slide
from atypia.data.slides.scale import GIVEN, GIVEN_AS, Scale, check_choice, choose_mpp, unknown_mpp_error, unused_notes
from atypia.data.slides.streams import DEFAULT_BATCH, Crop, CropBatch, Refusal, batched

TILE_PX = 1024
"""Points are read in the order of tiles of this side, so that neighbours share decoded data."""


@dataclass(frozen=True)
class SlideReading:
    """Options for reading a slide and its positions, if the files do not state them or are wrong.

    Attributes:
        mpp: µm/px of the slide; None to use what its file states.
        mpp_from: Which statement to use if they differ by more than 5 %: one of
            :data:`atypia.data.slides.scale.CHOICES`.
        given_as: How ``mpp`` was given, for messages and results.
        origin: Origin of positions: ``canvas``, ``bounds``, or ``auto`` to infer it from the files.
        offset_px: Added to positions, in pixels of level 0 of the file that is read: where the corner of an
            uncropped slide lies in a cropped copy.
    """

    mpp: float | None = None
    mpp_from: str = AUTO
    given_as: str = GIVEN_AS
    origin: str = AUTO
    offset_px: tuple[float, float] = NO_OFFSET

    def check(self) -> None:
        """Checks the values.

        Raises:
            InputError: A value is out of its range.
        """
        check_choice(self.mpp_from, self.mpp)
        check_origin(self.origin)

    def scale(self, slide: Slide) -> Scale:
        """The µm/px of a slide.

        Raises:
            DataError: Its statements contradict each other or the given value.
        """
        return choose_mpp(slide.name, slide.facts.statements, self.mpp, self.mpp_from, self.given_as)


@dataclass
class SlideLog:
    """Messages about slides, collected while their figures are cut.

    Attributes:
        notes: Decisions and hints.
        bounds: The scanned area of each slide that has one within a larger canvas, by its name.
    """

    notes: list[str] = field(default_factory=list)
    bounds: dict[str, Bounds] = field(default_factory=dict)


def slide_crops(
    slide_path: str | Path,
    points: Points,
    geometry: CropGeometry,
    *,
    mpp: float | None = None,
    batch_size: int = DEFAULT_BATCH,
    limits: ImageLimits = DEFAULT_LIMITS,
    reading: SlideReading | None = None,
    log: SlideLog | None = None,
) -> Iterator[CropBatch | Refusal]:
    """Crops around points, in tile order (rows of tiles from the top; within a tile by row and column).

    The row number of each point is included (:attr:`CropBatch.at`), so that results can be put in input order.

    Points outside the slide and in damaged areas become refusals. Beyond the
    border the slide is reflected. The same pixels give the same crop whether they are cut
    here or are an image file.

    Args:
        slide_path: The slide or region image.
        points: Figures on it (see :meth:`Points.on_image`). Numbered ids become ``name#number``
            with the slide's file name; others are kept.
        geometry: The field, in µm or in pixels, and the side of the crops.
        mpp: µm/px of the slide, if its file does not state it.
        batch_size: Crops in a batch.
        limits: Bounds an image that has to be decoded as a whole.
        reading: Everything else that the files may leave open; ``mpp`` takes precedence over its own.
        log: Receives decisions and hints.

    Returns:
        Batches with the positions of ``points``, in their own origin.

    Raises:
        InputError: ``geometry`` has no field of its own, or there are no points.
        DataError: The slide cannot be opened, its µm/px is not known and needed or contradicted, the field does
            not fit it, or it cannot be determined what the positions count from. Raised when the first batch is
            asked for.
    """
    if geometry.is_whole:
        fix = "give side_um, for instance 32.0"
        raise InputError(must("geometry", "one with side_um or side_px", "the whole image", fix))
    if len(points) == 0:
        raise InputError(f"{slide_path}: there are no points; fix: give at least one")
    how = reading or SlideReading()
    how = how if mpp is None else replace(how, mpp=mpp)
    how.check()
    cut = _cut(Path(slide_path), points, geometry, how, limits, log or SlideLog())
    return batched(cut, batch_size, geometry.out_px)


def slide_points(
    slide_path: str | Path,
    points_path: str | Path,
    *,
    mpp: float | None = None,
    format: str | None = None,  # noqa: A002  the word that users know
    box_format: BoxFormat = "auto",
    classes: Sequence[str] = (),
    beside: Sequence[str | Path] = (),
    limits: PointLimits = DEFAULT_POINT_LIMITS,
    reading: SlideReading | None = None,
    unit: str = AUTO_UNIT,
    min_score: float | None = None,
    shared: bool = False,
) -> Points:
    """The figures of one slide from a file that may hold those of many, or a folder with one file per slide.

    Lengths in µm are converted to pixels with ``mpp``, else with the slide's own value. Regions of tissue are left out, and
    a cell that occurs twice in the file is one figure; notes report this.

    Args:
        slide_path: The slide.
        points_path: A file of points, or a folder of such files (:func:`atypia.data.points.names.points_file`).
        mpp: µm/px of the slide.
        format: Name in :data:`POINT_FORMATS`; None to tell it from the content.
        box_format: What the four numbers of a box are.
        classes: Classes that are wanted (:func:`atypia.data.points.classes.wanted_figures`); ``all`` for all of several.
        beside: Other slides whose points the file may hold.
        limits: What is too large.
        unit: What positions are in (:data:`atypia.data.points.units.CHOICES`); ``auto`` to take it from the file.
        min_score: Least score of a detector; None to take all.
        shared: Whether a file is given for several slides, and so has to name them.

    Raises:
        DataError: As :func:`read_points`; no point is on this slide, or it cannot be determined which are; or the µm/px is
            needed and neither given nor stated.
        InputError: The points are of several classes and none is named; the folder has no file for the slide, or
            several; or a file for several slides names none.
    """
    file = points_file(Path(points_path), slide_path)
    how = reading or SlideReading()
    how = how if mpp is None else replace(how, mpp=mpp)
    how.check()
    if how.mpp is not None:
        check_mpp(how.mpp)

    @cache
    def scale() -> float | None:
        if how.mpp is not None and how.mpp_from in (AUTO, GIVEN):
            return how.mpp
        with open_slide(slide_path) as slide:
            return how.scale(slide).mpp

    def about() -> AboutSlide:
        with open_slide(slide_path) as slide:
            known = {} if slide.openslide is None else dict(slide.openslide.properties)
            return AboutSlide(slide.width_px, slide.height_px, known)

    points = read_scaled(file, scale, format=format, box_format=box_format, limits=limits, about=about, unit=unit)
    if shared and points.images is None and file == Path(points_path):
        # Else the figures of one slide would be looked for on all of them.
        fix = "name a folder with one file per slide, or give one slide at a time"
        raise InputError(
            must(file.name, "a file that names the slide of each figure, for several slides", "no slide's name", fix)
        )
    return figures_on(points.on_image(slide_path, beside), scale, classes, min_score)


def tile_order(x_px: npt.NDArray[np.float64], y_px: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Row numbers in tile order, shape (n,); equal positions keep their order.

    >>> tile_order(np.array([2000.0, 5.0, 1.0]), np.array([0.0, 1500.0, 3.0])).tolist()
    [2, 0, 1]
    """
    return np.lexsort((x_px, y_px, x_px // TILE_PX, y_px // TILE_PX)).astype(np.int64)


def _cut(
    path: Path, points: Points, geometry: CropGeometry, how: SlideReading, limits: ImageLimits, log: SlideLog
) -> Iterator[Crop | Refusal]:
    slide = open_slide(path, limits)
    outside = glass = 0
    try:
        scale, zero = how.scale(slide), zero_of(slide, points, how.origin, how.offset_px)
        _say(log, str(path), slide, zero)
        side = _field_px(slide, geometry, scale.mpp)
        read_as = _read_as(scale, zero)
        for row in tile_order(points.x_px, points.y_px).tolist():
            figure = f"{path.name}#{points.ids[row]}" if points.numbered else points.ids[row]
            named = None if points.classes is None else points.classes[row]
            x, y = float(points.x_px[row]), float(points.y_px[row])
            across, down = x + zero.x_px, y + zero.y_px
            inside = 0 <= across < slide.width_px and 0 <= down < slide.height_px
            try:
                crop = resize(slide.read(across, down, side), geometry.out_px)
                glass += is_glass(crop)
                yield Crop(figure, str(path), normalised(crop, geometry.stain), x, y, named, row, read_as)
            except DataError as error:
                yield Refusal(figure, str(path), str(error), x, y, named, row, read_as)
                outside += not inside
                if inside:
                    # After an error OpenSlide refuses all further reads from the same handle.
                    slide.close()
                    slide = open_slide(path, limits)
        log.notes += advice(slide, points, zero, scale.mpp, side, outside, glass)
    finally:
        slide.close()


def _say(log: SlideLog, name: str, slide: Slide, zero: Zero) -> None:
    log.notes += [f"{name}: {note}" for note in slide.facts.notes] + unused_notes(name, slide.facts.statements)
    if zero.note is not None:
        log.notes.append(f"{name}: {zero.note}")
    if slide.facts.bounds is not None:
        log.bounds[name] = slide.facts.bounds


def _read_as(scale: Scale, zero: Zero) -> ReadAs:
    moved = zero.origin is not None or (zero.x_px, zero.y_px) != NO_OFFSET
    nan = float("nan")
    return ReadAs(
        nan if scale.mpp is None else scale.mpp,
        scale.source,
        zero.origin,
        zero.x_px if moved else nan,
        zero.y_px if moved else nan,
    )


def _field_px(slide: Slide, geometry: CropGeometry, mpp: float | None) -> int:
    if geometry.side_um is not None and mpp is None:
        raise unknown_mpp_error(slide.name, slide.facts.statements, geometry.side_um)
    side = geometry.source_side_px(mpp)
    assert side is not None  # a geometry of the whole image was refused
    check_field(side, slide.width_px, slide.height_px)
    return side
