"""What every format of points gives: where figures are, what they are called, how they were drawn.

Positions are continuous pixels of the full-resolution image, x to the right, y down; pixel *i*
covers the interval from *i* to *i + 1*.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from atypia import records as r
from atypia.errors import DataError, InputError, must
from atypia.registry import Registry

MAX_FIGURE_PX = 1000
"""A shape wider or higher than this is a region of tissue, not one figure (100 µm at 0.1 µm/px)."""

BoxFormat = Literal["auto", "xywh", "xyxy"]
SHOWN_NAMES = 5
CANVAS, BOUNDS = "canvas", "bounds"
"""What positions count from: the corner of a slide's whole picture, or that of its scanned area."""


class ScaleError(DataError):
    """Positions are in µm and the µm/px that would turn them into pixels is not known."""


@dataclass(frozen=True, eq=False)
class Points:
    """Figures on one slide or on several.

    Attributes:
        ids: One a figure, each once.
        x_px: Centres, shape (n,), float64, finite.
        y_px: Centres, shape (n,), float64, finite.
        images: Which slide each is on, by the name in the file; None where the file names none.
        sizes_px: Width and height of what was drawn, shape (n, 2), NaN where it was a point;
            None where the file has points only.
        classes: What the file calls each figure, None where it does not say; None where it has
            no classes.
        numbered: Whether ``ids`` are only positions in the file («1», «2», …).
        notes: What was left out, and why.
        origin: What positions count from, :data:`CANVAS` or :data:`BOUNDS`, by what wrote the file (QuPath
            counts from the scanned area); None where it does not tell. Most slides make no difference between them.

    Raises:
        InputError: Lengths differ, an id occurs twice, or a position is not finite.
    """

    ids: list[str]
    x_px: npt.NDArray[np.float64]
    y_px: npt.NDArray[np.float64]
    images: list[str] | None = None
    sizes_px: npt.NDArray[np.float64] | None = None
    classes: list[str | None] | None = None
    numbered: bool = False
    notes: tuple[str, ...] = ()
    origin: str | None = None

    def __post_init__(self) -> None:
        count = len(self.ids)
        for name in ("x_px", "y_px", "images", "sizes_px", "classes"):
            values = getattr(self, name)
            if values is not None and len(values) != count:
                raise InputError(must(name, f"of {count} figures", f"{len(values)}", "give one value a figure"))
        if not (np.isfinite(self.x_px).all() and np.isfinite(self.y_px).all()):
            raise InputError(must("positions", "finite", "NaN or infinity", "leave those figures out"))
        if len(set(self.ids)) != count:
            twice = next(figure for figure, times in Counter(self.ids).items() if times > 1)
            raise InputError(must("ids", "different", f"{twice!r} twice", "give each figure its own id"))

    @classmethod
    def at(cls, x_px: npt.ArrayLike, y_px: npt.ArrayLike, ids: Sequence[str] | None = None) -> Points:
        """Points from two arrays of shape (n,); numbered from 1 where no ids are given."""
        across, down = np.asarray(x_px, np.float64), np.asarray(y_px, np.float64)
        if across.ndim != 1 or across.shape != down.shape:
            got = f"{across.shape} and {down.shape}"
            raise InputError(must("x_px and y_px", "two arrays of the same shape (n,)", got, "give one value a figure"))
        named = [str(n + 1) for n in range(len(across))] if ids is None else [str(figure) for figure in ids]
        return cls(named, across, down, numbered=ids is None)

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Sequence[int] | npt.NDArray[Any]) -> Points:
        """The figures at these positions, in this order (a boolean mask is taken too)."""
        picked = np.asarray(rows)
        if picked.dtype == bool:
            picked = np.flatnonzero(picked)
        picked = picked.astype(np.int64)
        return replace(
            self,
            ids=[self.ids[i] for i in picked],
            x_px=self.x_px[picked],
            y_px=self.y_px[picked],
            images=None if self.images is None else [self.images[i] for i in picked],
            sizes_px=None if self.sizes_px is None else self.sizes_px[picked],
            classes=None if self.classes is None else [self.classes[i] for i in picked],
        )

    def of_classes(self, names: Collection[str]) -> Points:
        """The figures whose class is one of these names, in any case.

        Raises:
            InputError: The file has no classes, or no figure is of any of these; names those there are.
        """
        wanted = {name.strip().casefold() for name in names}
        mask = [(name or "").strip().casefold() in wanted for name in self.classes or ()]
        if not any(mask):
            there = ", ".join(sorted({name for name in self.classes or () if name})) or "none"
            raise InputError(must("classes", "among those of the points", ", ".join(names), f"name one of: {there}"))
        return self.take(np.array(mask))

    def on_image(self, slide: str | Path) -> Points:
        """The figures of one slide; all of them where the file names no slides.

        Folders are ignored. The file's name counts; where no figure has it, the name without
        its suffix; «name - series», as QuPath writes it, stands for the name.

        Raises:
            DataError: No figure is on that slide; names slides that have some.
        """
        if self.images is None:
            return self
        name = _file_name(str(slide))
        names = [_file_name(image) for image in self.images]
        mask = [other == name or other.startswith(f"{name} - ") for other in names]
        if not any(mask):
            stem = PurePosixPath(name).stem
            mask = [other == stem or PurePosixPath(other).stem == stem for other in names]
        if not any(mask):
            there = sorted(set(names))
            shown = ", ".join(there[:SHOWN_NAMES]) + (" …" if len(there) > SHOWN_NAMES else "")
            raise DataError(f"no point is on {name!r}; the points are on {len(there)} others: {shown}; fix: see names")
        return self.take(np.array(mask))


@dataclass(frozen=True)
class PointLimits:
    """How large a file of points may be before it is refused.

    Attributes:
        max_bytes: Size of a text file; JSON takes about ten times as much memory while it is read.
        max_points: Figures, in any format.
    """

    max_bytes: int = 1 << 27
    max_points: int = 2_000_000


DEFAULT_POINT_LIMITS = PointLimits()


@dataclass(frozen=True)
class Reading:
    """How a file is to be read.

    Attributes:
        path: The file.
        mpp: µm/px of the slide; used for positions in µm only.
        box_format: What four numbers of a JSON box are: ``xywh`` (left, top, width, height),
            ``xyxy`` (left, top, right, bottom), or ``auto``: told from the file where it can be.
        limits: What is too large.
    """

    path: Path
    mpp: float | None = None
    box_format: BoxFormat = "auto"
    limits: PointLimits = DEFAULT_POINT_LIMITS


@dataclass(frozen=True)
class PointFormat:
    """One format of points.

    Attributes:
        name: What ``format`` calls it.
        kind: What is parsed before: ``json`` (the content), ``table`` (a TextTable) or
            ``sqlite`` (nothing).
        summary: What writes it, for documentation.
        takes: Whether parsed content is of this format.
        read: Turns content into points.
    """

    name: str
    kind: Literal["json", "table", "sqlite"]
    summary: str
    takes: Callable[[Any], bool]
    read: Callable[[Any, Reading], Points]


POINT_FORMATS: Registry[PointFormat] = Registry("format of points", "atypia.data.points")
"""Formats of points by name. Adding one means adding a module to this package."""


@dataclass
class Collector:
    """Gathers figures as a file is read, under its limits."""

    reading: Reading
    ids: list[str | None] = field(default_factory=list)
    x: list[float] = field(default_factory=list)
    y: list[float] = field(default_factory=list)
    sizes: list[tuple[float, float]] = field(default_factory=list)
    images: list[str | None] = field(default_factory=list)
    classes: list[str | None] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    origin: str | None = None

    def add(
        self,
        where: str,
        shape: Shape,
        figure: str | None = None,
        image: str | None = None,
        named: str | None = None,
    ) -> None:
        """Adds a figure, unless its shape is that of a region.

        Args:
            where: The place in the file, for messages.
            shape: Centre and size.
            figure: Its id; None or empty where it has none.
            image: Its slide.
            named: Its class.

        Raises:
            DataError: The position is not finite, or there are too many figures.
        """
        x, y, width, height = shape
        if not (math.isfinite(x) and math.isfinite(y)):
            raise DataError(f"{where}: {must('position', 'finite', f'({x}, {y})', 'correct it or leave it out')}")
        if width > MAX_FIGURE_PX or height > MAX_FIGURE_PX:
            self.skip(f"shapes of more than {MAX_FIGURE_PX} px, which are regions and no figures")
            return
        if len(self.x) >= self.reading.limits.max_points:
            most = f"{self.reading.limits.max_points:,}"
            raise DataError(must(self.reading.path.name, f"a file of at most {most} points", "more", "split the file"))
        self.ids.append(figure or None)
        self.x.append(x)
        self.y.append(y)
        self.sizes.append((width, height))
        self.images.append(image or None)
        self.classes.append(named or None)

    def skip(self, what: str) -> None:
        """Counts something that is left out, in words that follow a number («regions»)."""
        self.skipped[what] += 1

    def points(self) -> Points:
        """Everything that was gathered.

        Raises:
            DataError: Nothing was; an id occurs twice; only some figures name their slide.
        """
        name = self.reading.path.name
        notes = tuple(f"left out: {count:,} {what}" for what, count in self.skipped.items())
        if not self.x:
            why = f" ({'; '.join(notes)})" if notes else ""
            raise DataError(f"{name} holds no points{why}; fix: export the figures' positions again")
        numbered = not any(self.ids)
        ids = [figure or (str(n) if numbered else f"#{n}") for n, figure in enumerate(self.ids, 1)]
        twice = [figure for figure, times in Counter(ids).items() if times > 1]
        if twice:
            shown = ", ".join(repr(figure) for figure in twice[:SHOWN_NAMES])
            fix = f"give each figure its own `{r.FIGURE_ID}`, or none"
            raise DataError(f"{name}: {len(twice)} ids occur more than once ({shown}); fix: {fix}")
        images = [image for image in self.images if image is not None]
        if images and len(images) != len(ids):
            fix = "name it for all or for none"
            raise DataError(f"{name}: {len(ids) - len(images)} points name no slide and others do; fix: {fix}")
        sizes = np.array(self.sizes, dtype=np.float64)
        return Points(
            ids=ids,
            x_px=np.array(self.x, dtype=np.float64),
            y_px=np.array(self.y, dtype=np.float64),
            images=images or None,
            sizes_px=None if np.isnan(sizes).all() else sizes,
            classes=self.classes if any(self.classes) else None,
            numbered=numbered,
            notes=notes,
            origin=self.origin,
        )


Shape = tuple[float, float, float, float]
"""x and y of the centre, width, height; the last two are NaN where only a point was drawn."""


def dot(x: float, y: float) -> Shape:
    """The shape of a point."""
    return x, y, math.nan, math.nan


def box(left: float, top: float, right: float, bottom: float) -> Shape:
    """The shape of a box given by its corners.

    >>> box(10, 20, 30, 60)
    (20.0, 40.0, 20, 40)
    """
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


def polygons(shapes: Sequence[Sequence[npt.NDArray[np.float64]]]) -> Shape:
    """The shape of polygons that are one figure: their common centre of area and their extent.

    Args:
        shapes: For each polygon its rings, shape (k, 2), the first the outline, others holes.
            A ring may repeat its first vertex at its end; its direction does not count.

    Returns:
        Centre of area; the middle of the extent where there is no area.

    >>> square = np.array([[0, 0], [4, 0], [4, 4], [0, 4]], dtype=float)
    >>> polygons([[square, square / 4]])
    (2.1, 2.1, 4.0, 4.0)
    """
    outline = np.concatenate([rings[0] for rings in shapes])
    (left, top), (right, bottom) = outline.min(axis=0), outline.max(axis=0)
    middle = np.array([(left + right) / 2, (top + bottom) / 2])
    area, moment = 0.0, np.zeros(2)
    for rings in shapes:
        for at, ring in enumerate(rings):
            part, centre = _ring(ring - middle)
            weight = -part if at else part
            area += weight
            moment += weight * centre
    if area > 0:
        middle = middle + moment / area
    return float(middle[0]), float(middle[1]), float(right - left), float(bottom - top)


def _ring(ring: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
    """Area (never negative) and centre of area of a closed line, by the shoelace formula."""
    after = np.roll(ring, -1, axis=0)
    cross = ring[:, 0] * after[:, 1] - after[:, 0] * ring[:, 1]
    twice = float(cross.sum())
    if twice == 0 or not math.isfinite(twice):
        return 0.0, np.zeros(2)
    return abs(twice) / 2, ((ring + after) * cross[:, None]).sum(axis=0) / (3 * twice)


def _file_name(text: str) -> str:
    return PurePosixPath(text.replace("\\", "/")).name
