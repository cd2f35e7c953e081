"""Extracts figures from the objects drawn on a slide: drops regions and merges duplicates of a cell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, count_noun
from atypia.data.points.base import NO_MARK, Mark, Points, Scale
from atypia.data.points.classes import class_key, is_derived
from atypia.data.points.names import SHOWN_NAMES
from atypia.data.points.scores import enough

MAX_FIGURE_UM: Final = 100.0
"""Objects wider or higher than this are not cells."""
MAX_FIGURE_PX: Final = 400
"""The same if µm/px is unknown: 100 µm at 0.25 µm/px."""
LARGE_UM: Final = 32.0
LARGE_PX: Final = 128
"""An annotation wider than this, the field of a figure, may be a region, depending on its neighbours."""
SAME_PX: Final = 0.01
"""Two positions at most this far apart are the same: written twice, maybe rounded."""
NEAR_UM: Final = 3.0
NEAR_PX: Final = 10.0
"""Two positions at most this far apart are one cell if they are of different kinds: annotation and detection, two focal
planes, with and without a class. Neighbouring figures are further apart: a metaphase plate is about 10 µm long."""

ANNOTATION: Final = "annotation"


def figures_on(points: Points, scale: Scale, classes: Sequence[str] = (), min_score: float | None = None) -> Points:
    """The figures among the objects drawn on one slide.

    Args:
        points: All objects drawn on it.
        scale: Gives µm/px, None if unknown; asked only where a shape's size matters.
        classes: Which are wanted, as :func:`atypia.data.points.classes.wanted_figures` takes them.
        min_score: Least score of a detector (:func:`atypia.data.points.scores.enough`); None for all.

    Raises:
        InputError: There are several classes and none is named; also states what was left out. Or no figure has enough.
    """
    whole = without_regions(points, scale)
    taken, notes = enough(whole.scores, min_score)
    scored = (whole if taken is None else whole.take(taken)).noted(*notes)
    figures = without_repeats(scored, scale, compatible_classes)
    try:
        wanted = figures.of_classes(classes)
    except InputError as error:
        raise InputError("; ".join((str(error), *figures.notes))) from None
    return without_repeats(wanted, scale, lambda _, __: True)


def without_regions(points: Points, scale: Scale) -> Points:
    """The points without regions of tissue, which a note names.

    A region is a shape larger than a cell; and an annotation larger than a figure's field beside points or detections,
    if it contains two of them or none of them has its class; and QuPath's classes with ``*`` (``Region*``, ``Ignore*``),
    where they are shapes.
    """
    if points.sizes_px is None:
        return points
    side = np.nan_to_num(points.sizes_px.max(axis=1), nan=0.0)
    starred = np.array([bool(name and name.endswith("*")) for name in points.classes or [None] * len(points)])
    if not (side > LARGE_PX / 4).any() and not (starred & (side > 0)).any():
        return points  # at 1 µm/px that is the field still
    mpp = scale()
    regions = side > (MAX_FIGURE_PX if mpp is None else MAX_FIGURE_UM / mpp)
    regions |= starred & (side > 0)
    marks = points.marks or [NO_MARK] * len(points)
    drawn = np.array([mark.kind == ANNOTATION and mark.form is not None for mark in marks])
    large = drawn & ~regions & (side > (LARGE_PX if mpp is None else LARGE_UM / mpp))
    others = np.flatnonzero(~large & ~regions & ~drawn)
    if len(others):
        theirs = {_key(points, row) for row in others.tolist()}
        for row in np.flatnonzero(large).tolist():
            regions[row] = _key(points, row) not in theirs or _held(points, row, others) >= 2
    if not regions.any():
        return points
    named = [_told(points, row, marks[row], mpp) for row in np.flatnonzero(regions).tolist()]
    more = f", and {len(named) - SHOWN_NAMES:,} more" if len(named) > SHOWN_NAMES else ""
    kind = "a region, not a figure" if len(named) == 1 else "regions, not figures"
    unknown = ""
    if mpp is None:
        unknown = f" (µm/px is unknown: objects larger than {MAX_FIGURE_PX} px are treated as regions)"
    note = f"left out: {'; '.join(named[:SHOWN_NAMES])}{more}: {kind}{unknown}"
    return points.take(~regions).noted(note)


def _key(points: Points, row: int) -> str:
    return class_key(None if points.classes is None else points.classes[row])


def _held(points: Points, row: int, others: npt.NDArray[np.int64]) -> int:
    assert points.sizes_px is not None
    half = points.sizes_px[row] / 2
    inside = np.abs(points.x_px[others] - points.x_px[row]) <= half[0]
    inside &= np.abs(points.y_px[others] - points.y_px[row]) <= half[1]
    if points.images is not None:
        inside &= np.array([points.images[other] == points.images[row] for other in others.tolist()], bool)
    return int(np.count_nonzero(inside))


def _told(points: Points, row: int, mark: Mark, mpp: float | None) -> str:
    """«`Hotspot`, a rectangle of 350 × 300 µm»."""
    assert points.sizes_px is not None
    named = (points.classes[row] if points.classes is not None else None) or mark.name
    called = named or (f"figure {points.ids[row]}" if points.numbered else points.ids[row])
    width, height = (points.sizes_px[row] * (1.0 if mpp is None else mpp)).tolist()
    form = mark.form or "shape"
    article = "an" if form[0] in "aeio" else "a"
    return f"`{called}`, {article} {form} of {width:.0f} × {height:.0f} {'px' if mpp is None else 'µm'}"


# One cell once -------------------------------------------------------------------------------


def compatible_classes(one: str, other: str) -> bool:
    """Whether two keys of classes do not contradict each other: equal, derived, or one of them unknown."""
    unknown = class_key(None)
    return unknown in (one, other) or is_derived(one, other) or is_derived(other, one)


def without_repeats(points: Points, scale: Scale, agree: Callable[[str, str], bool]) -> Points:
    """The points with each cell once: the first point at each position, with the class that any of them has.

    Args:
        points: Of one slide.
        scale: Gives µm/px.
        agree: Whether figures with these two keys of classes may be one cell.
    """
    pairs = _Cells(points, scale)
    first: dict[int, int] = {}
    kept_at: dict[tuple[int, int, int], list[int]] = {}
    for row, cells in pairs.candidates():
        into = next(
            (
                other
                for cell in cells
                for other in kept_at.get(cell, ())
                if pairs.same(other, row) and agree(pairs.keys[other], pairs.keys[row])
            ),
            None,
        )
        if into is not None:
            first[row] = into
            continue
        for cell in cells:
            kept_at.setdefault(cell, []).append(row)
    if not first:
        return points
    classes = None if points.classes is None else list(points.classes)
    conflicts = []
    if classes is not None:
        for row, into in first.items():
            mine, theirs = classes[row], classes[into]
            if not compatible_classes(class_key(mine), class_key(theirs)):
                conflicts.append((into, f"{theirs} | {mine}"))
            classes[into] = _merged(theirs, mine)
    mask = np.ones(len(points), bool)
    mask[list(first)] = False
    row, into = next(iter(first.items()))
    shown = f"{points.ids[row]!r} is {points.ids[into]!r}"
    notes = [
        f"{count_noun(len(first), 'figure is', 'figures are')} in the file twice and counted once (first: {shown})"
    ]
    if conflicts:
        at, both = conflicts[0]
        notes.append(f"{len(conflicts):,} of these have two classes, and keep both (first: {points.ids[at]!r}, {both})")
    return replace(points, classes=classes).take(mask).noted(*notes)


def _merged(one: str | None, other: str | None) -> str | None:
    if one is None or other is None:
        return one or other
    if is_derived(class_key(other), class_key(one)):
        return other
    return one if compatible_classes(class_key(one), class_key(other)) else f"{one} | {other}"


class _Cells:
    """Finds figures that may be at one place, without looking at every pair.

    The slide is divided four times into squares twice as wide as the largest distance, each time shifted by half a square:
    two figures within that distance share a square of at least one of the four.
    """

    def __init__(self, points: Points, scale: Scale) -> None:
        self.points = points
        self.marks = points.marks or [NO_MARK] * len(points)
        self.keys = [class_key(name) for name in points.classes or [None] * len(points)]
        mixed = len({(mark.kind, mark.plane) for mark in self.marks}) > 1 or len(set(self.keys)) > 1
        mpp = scale() if mixed else None
        self.near = (NEAR_PX if mpp is None else NEAR_UM / mpp) if mixed else SAME_PX

    def candidates(self) -> Iterator[tuple[int, list[tuple[int, int, int]]]]:
        """Rows that share a square with another, in order, with those squares."""
        side = 2 * self.near
        shared: dict[int, list[tuple[int, int, int]]] = {}
        with np.errstate(over="ignore", invalid="ignore"):
            for grid in range(4):
                across = np.floor(self.points.x_px / side + (grid % 2) / 2)
                down = np.floor(self.points.y_px / side + (grid // 2) / 2)
                order = np.lexsort((down, across))
                equal = (np.diff(across[order]) == 0) & (np.diff(down[order]) == 0)
                paired = np.zeros(len(order), bool)
                paired[:-1] |= equal
                paired[1:] |= equal
                for row in order[paired].tolist():
                    shared.setdefault(row, []).append((grid, int(across[row]), int(down[row])))
        yield from sorted(shared.items())

    def same(self, one: int, other: int) -> bool:
        """Whether two figures are at one place."""
        x, y = self.points.x_px, self.points.y_px
        distance = float(np.hypot(x[one] - x[other], y[one] - y[other]))
        if distance <= SAME_PX:
            return True
        a, b = self.marks[one], self.marks[other]
        different = (a.kind, a.plane) != (b.kind, b.plane) or self.keys[one] != self.keys[other]
        return different and distance <= self.near
