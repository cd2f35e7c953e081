"""Figures by area: the tissue of a slide or a drawn region, figures per mm², and the hotspot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from atypia.base import records as r
from atypia.base.errors import InputError, must
from atypia.base.process.progress import Progress, silent
from atypia.inference import results as res
from atypia.reports.case.density import TWO_MM2, WHOLE, FieldSize, Hotspot, SlideDensity, three_digits
from atypia.statistics.confusion import FloatArray
from atypia.statistics.density import densest_window

if TYPE_CHECKING:
    import pyarrow as pa

    from atypia.data.slides.regions import Slide
    from atypia.data.slides.slidecrops import SlideReading
    from atypia.data.tissue.areas import Area
    from atypia.data.tissue.overviews import Overview

MOST_SLIDES: Final = 1000
OFF_TISSUE: Final = 0.05
"""Share of figures off the tissue from which a note says so."""
REFUSED: Final = "were refused by the classifier"


@dataclass(frozen=True)
class DensityOptions:
    """What is asked for.

    Attributes:
        region: GeoJSON of the area in which figures are counted; None for the tissue, which is told on the slide.
        region_classes: Which regions of the file, by class; needed where it has several.
        field: The field of the hotspots.
    """

    region: Path | None = None
    region_classes: tuple[str, ...] = ()
    field: FieldSize = TWO_MM2


@dataclass
class FigurePlaces:
    """Collects what densities need of results: a few numbers a figure.

    Attributes:
        of: By slide: x and y in pixels as in the points, whether atypical, whether refused.
        zero: Where the positions' origin lies in the image, by slide.
        scales: µm/px of each slide and where it comes from.
    """

    of: dict[str, list[FloatArray]] = field(default_factory=dict)
    zero: dict[str, tuple[float, float]] = field(default_factory=dict)
    scales: dict[str, tuple[float | None, str]] = field(default_factory=dict)

    def add(self, batch: pa.RecordBatch) -> None:
        """Takes the figures of a batch with :data:`atypia.inference.results.RESULTS_SCHEMA`."""
        names = (r.IMAGE, r.X_PX, r.Y_PX, res.CALL, r.DECISION, r.MPP, res.MPP_SOURCE, res.ORIGIN_X_PX, res.ORIGIN_Y_PX)
        rows: dict[str, list[tuple[float, ...]]] = {}
        for image, x, y, call, decision, mpp, source, left, top in zip(
            *(batch.column(name).to_pylist() for name in names), strict=True
        ):
            if x is None or y is None:
                continue
            self.zero[image] = (left or 0.0, top or 0.0)
            self.scales[image] = (mpp, source or "")
            refused = call == res.CALLED_REFUSED
            rows.setdefault(image, []).append((x, y, float(decision == 1 and not refused), float(refused)))
        for image, found in rows.items():
            self.of.setdefault(image, []).append(np.array(found, np.float64))


def check_density(inputs: Sequence[str], options: DensityOptions, reading: SlideReading) -> None:
    """Refuses, before the work, a density that cannot be given.

    Raises:
        InputError: A slide's µm/px is not known, or a region is given with several slides.
        DataError: A slide cannot be opened, its µm/px are contradicted, or the region cannot be read.
    """
    from atypia.data.slides.readers import open_slide
    from atypia.data.tissue.areas import read_area

    if options.region is not None and len(inputs) != 1:
        raise InputError(
            must("--region", "given with one slide", f"{len(inputs)} slides", "run each slide with its own")
        )
    for given in inputs:
        with open_slide(given) as slide:
            mpp = reading.scale(slide).mpp
            if mpp is None:
                fix = "pass --mpp, for instance 0.25, or --magnification"
                raise InputError(must("µm/px", f"known for a density of {given}", "a file that does not state it", fix))
            if options.region is not None:
                read_area(options.region, slide, mpp, options.region_classes, reading.origin, reading.offset_px)


def densities(
    places: FigurePlaces,
    options: DensityOptions,
    reading: SlideReading,
    *,
    draw: bool = False,
    progress: Progress = silent,
) -> list[SlideDensity]:
    """The densities of all slides whose figures were collected, in order of their first figure.

    Args:
        places: The figures.
        options: What is asked for.
        reading: How the slides are read.
        draw: Whether each is drawn for a page.
        progress: Told about what is read of the slides.

    Raises:
        DataError: A slide or the region cannot be read.
        InputError: There are more than 1,000 slides, a µm/px is not known, or regions of several classes and none is named.
    """
    from atypia.data.slides.readers import open_slide

    if len(places.of) > MOST_SLIDES:
        raise InputError(
            must("slides", f"at most {MOST_SLIDES:,} for densities", f"{len(places.of):,}", "use --slides")
        )
    found = []
    for image, parts in places.of.items():
        x, y, atypical, refused = np.concatenate(parts).T
        with open_slide(image) as slide:
            scale = reading.scale(slide)
            if scale.mpp is None:
                raise InputError(
                    must("µm/px", f"known for a density of {image}", "unknown", "pass --mpp, for instance 0.25")
                )
            left, top = places.zero[image]
            area, overview = area_of(slide, scale.mpp, options, reading, draw=draw, progress=progress)
        found.append(
            slide_density(
                image,
                x + left,
                y + top,
                atypical > 0,
                area,
                scale.mpp,
                options.field,
                mpp_source=scale.source or "",
                zero=(left, top),
                refused=refused > 0,
                notes=_area_notes(area),
                overview=overview if draw else None,
                size=(slide.width_px, slide.height_px),
            )
        )
    return found


def area_of(
    slide: Slide,
    mpp: float,
    options: DensityOptions,
    reading: SlideReading,
    *,
    draw: bool = False,
    progress: Progress = silent,
) -> tuple[Area, Overview | None]:
    """The area in which figures of an open slide are counted; and its overview, where that was read.

    Raises:
        DataError: As :func:`densities`.
        InputError: As :func:`densities`.
    """
    from atypia.data.tissue.areas import MaskedArea, read_area
    from atypia.data.tissue.masks import TISSUE_UM, tissue_mask
    from atypia.data.tissue.overviews import read_overview
    from atypia.reports.case.slidemap import LONGEST_PX

    drawn = None
    if options.region is not None:
        drawn = read_area(options.region, slide, mpp, options.region_classes, reading.origin, reading.offset_px)
        if not draw:
            return drawn, None
    um = max(slide.width_px, slide.height_px) * mpp / LONGEST_PX
    finer = read_overview(slide, um, mpp, progress) if draw and (um < TISSUE_UM or drawn is not None) else None
    if drawn is not None:
        return drawn, finer
    overview = read_overview(slide, TISSUE_UM, mpp, progress)
    source = f"tissue, told by colour at {overview.down * mpp:.3g} µm/px"
    return MaskedArea(tissue_mask(overview, mpp), overview.down, mpp, source), finer or overview


def _area_notes(area: Area) -> tuple[str, ...]:
    from atypia.data.tissue.areas import DrawnArea

    return area.notes if isinstance(area, DrawnArea) else ()


def slide_density(
    image: str, x_px: FloatArray, y_px: FloatArray, atypical: Any, area: Area, mpp: float, size_of_field: FieldSize, *,
    mpp_source: str = "given", zero: tuple[float, float] = (0.0, 0.0), refused: Any = None, notes: tuple[str, ...] = (),
    overview: Overview | None = None, size: tuple[int, int] | None = None, refused_words: str = REFUSED,
) -> SlideDensity:  # fmt: skip
    """The density of the figures of one slide, and its hotspots.

    Of a drawn region only the figures in it count. With the tissue all figures count, as a figure shows tissue itself.

    Args:
        image: The slide's name.
        x_px: Positions of figures in the image, shape (n,).
        y_px: Positions, shape (n,).
        atypical: Which are atypical, shape (n,), bool.
        area: Where they are counted.
        mpp: µm/px.
        size_of_field: The field of the hotspots.
        mpp_source: Where the µm/px comes from.
        zero: Where the positions' origin lies in the image; results are given from it.
        refused: Which the classifier refused, shape (n,), bool; they count as figures. None for none of them.
        notes: Of the area.
        overview: The slide at low resolution, to be drawn; None for no drawing.
        size: Width and height of the image, px: hotspots stay within it; None for no limit.
        refused_words: What is said of ``refused`` ones, where they have another meaning.
    """
    from atypia.data.tissue.areas import DrawnArea

    atypical = np.asarray(atypical, bool)
    unclassified = np.zeros(len(x_px), bool) if refused is None else np.asarray(refused, bool)
    told = list(notes)
    if size is not None:
        inside = (x_px >= 0) & (y_px >= 0) & (x_px < size[0]) & (y_px < size[1])
        if not inside.all():
            told.append(f"{_of(~inside)} figures lie outside the slide and are not counted.")
        x_px, y_px, atypical, unclassified = x_px[inside], y_px[inside], atypical[inside], unclassified[inside]
    held = area.holds(x_px, y_px)
    if isinstance(area, DrawnArea):
        if not held.all():
            told.append(f"{_of(~held)} figures lie outside the region and are not counted.")
        x_px, y_px, atypical, unclassified = x_px[held], y_px[held], atypical[held], unclassified[held]
    elif len(held) and float((~held).mean()) >= OFF_TISSUE:
        told.append(f"{_of(~held)} figures lie where no tissue was found, and are counted.")
    if unclassified.any():
        told.append(f"{_of(unclassified)} figures {refused_words}: they count as figures, and not as atypical.")
    mm2 = area.mm2
    if size is not None and all(side * mpp <= um for side, um in zip(size, size_of_field.sides_um, strict=True)):
        told.append(f"The whole slide is smaller than the field of {size_of_field.words}, which holds all of it.")
    elif 0 < mm2 < size_of_field.mm2:
        told.append(f"The area ({three_digits(mm2)} mm²) is smaller than the field of {size_of_field.words}.")
    spots = [_hotspot(x_px, y_px, atypical, only, area, mpp, size_of_field, size) for only in (False, True)]
    if any(spot is not None and not spot.exact for spot in spots):
        told.append("Figures lie so evenly that another field may hold some more.")
    moved = [
        None if spot is None else replace(spot, left_px=spot.left_px - zero[0], top_px=spot.top_px - zero[1])
        for spot in spots
    ]
    partly = {spot for spot in moved if spot is not None and spot.area_mm2 < WHOLE * min(size_of_field.mm2, mm2)}
    told.extend(
        f"Of the hotspot at x {spot.left_px:,.0f}, y {spot.top_px:,.0f} px {three_digits(spot.area_mm2)} mm² lie within the area."
        for spot in sorted(partly, key=lambda spot: (spot.left_px, spot.top_px))
    )
    drawing: Mapping[str, Any] = {}
    if overview is not None:
        from atypia.reports.case.slidemap import slide_map

        drawing = slide_map(overview.pixels, overview.down, mpp, area, x_px, y_px, atypical, unclassified, spots)
    counts = len(x_px), int(atypical.sum())
    return SlideDensity(
        image, mpp, mpp_source, mm2, area.source, *counts, size_of_field, moved[0], moved[1], tuple(told), drawing
    )


def _of(which: npt.NDArray[np.bool_]) -> str:
    return f"{int(which.sum()):,} of {len(which):,}"


def _hotspot(
    x: FloatArray, y: FloatArray, atypical: npt.NDArray[np.bool_], only_atypical: bool, area: Area, mpp: float, size_of_field: FieldSize,
    size: tuple[int, int] | None,
) -> Hotspot | None:  # fmt: skip
    chosen = atypical if only_atypical else np.ones(len(x), bool)
    if not chosen.any():
        return None
    width, height = (side / mpp for side in size_of_field.sides_um)
    best = densest_window(x[chosen], y[chosen], width, height)
    left, top = best.left, best.top
    if size is not None:  # figures lie in the image, so that a field moved into it keeps them
        left, top = (
            _within(start, side, whole) for start, side, whole in zip((left, top), (width, height), size, strict=True)
        )
    inside = (x >= left) & (x <= left + width) & (y >= top) & (y <= top + height)
    counts = int(inside.sum()), int((inside & atypical).sum())
    if size is not None:  # on a slide that is smaller than the field, what there is of it
        right, bottom = min(left + width, size[0]), min(top + height, size[1])
        left, top = max(left, 0.0), max(top, 0.0)
        width, height = right - left, bottom - top
    part = area.mm2_within((left, top, left + width, top + height))
    return Hotspot(left, top, width, height, *counts, part, best.at_most == best.count)


def _within(start: float, side: float, whole: int) -> float:
    return max(0.0, min(start, whole - side)) if side < whole else (whole - side) / 2
