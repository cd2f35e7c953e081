"""Common types of point formats: positions, classes and drawing objects of figures.

Positions are continuous pixels of the full-resolution image, x to the right, y down; pixel *i*
covers the interval from *i* to *i + 1*.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from atypia.base.errors import DataError, InputError, count_noun, must
from atypia.base.registry import Registry
from atypia.data.points.classes import class_name, wanted_figures
from atypia.data.points.ids import settled_ids
from atypia.data.points.names import SHOWN_NAMES, matching
from atypia.data.points.scores import as_score
from atypia.data.points.shapes import Shape
from atypia.data.textfiles import cleaned_text

BoxFormat = Literal["auto", "xywh", "xyxy", "cxcywh"]
BOX_FORMATS: Final[tuple[BoxFormat, ...]] = get_args(BoxFormat)
PointKind = Literal["json", "table", "sqlite", "xml", "zarr"]
CANVAS, BOUNDS = "canvas", "bounds"
"""Origin of positions: the corner of a slide's whole canvas, or of its scanned area."""


class ScaleError(DataError):
    """Positions are in µm, and the µm/px for converting them to pixels is unknown."""


class Mark(NamedTuple):
    """How a figure was drawn, as stated in the file; None if not stated.

    Attributes:
        kind: QuPath's type of object: ``annotation``, ``detection``, ``cell``.
        form: ``rectangle``, ``ellipse``, ``outline``; None for a point.
        plane: The focal plane or time.
        name: Name of the object, apart from its class.
    """

    kind: str | None = None
    form: str | None = None
    plane: str | None = None
    name: str | None = None


NO_MARK: Final = Mark()


@dataclass(frozen=True, eq=False)
class Points:
    """Figures on one slide or on several.

    Attributes:
        ids: One per figure, each once on a slide.
        x_px: Centres, shape (n,), float64, finite.
        y_px: Centres, shape (n,), float64, finite.
        images: Which slide each is on, by the name in the file; None if the file names none.
        sizes_px: Width and height of what was drawn, shape (n, 2), NaN if it was a point;
            None if the file has points only.
        classes: Class of each figure in the file, None if not stated; None if the file has
            no classes.
        numbered: Whether ``ids`` are only row numbers of the file («1», «2», …).
        notes: What was left out, and why.
        marks: How each figure was drawn; None if unknown.
        origin: Origin of positions, :data:`CANVAS` or :data:`BOUNDS`, inferred from the program that wrote the file (QuPath
            counts from the scanned area); None if unknown. For most slides both are the same.
        scores: What a detector gave each figure, shape (n,), NaN if it gave none; None if the file has no scores.

    Raises:
        InputError: Lengths differ, an id occurs twice on a slide, or a position is not finite.
    """

    ids: list[str]
    x_px: npt.NDArray[np.float64]
    y_px: npt.NDArray[np.float64]
    images: list[str] | None = None
    sizes_px: npt.NDArray[np.float64] | None = None
    classes: list[str | None] | None = None
    numbered: bool = False
    notes: tuple[str, ...] = ()
    marks: list[Mark] | None = None
    origin: str | None = None
    scores: npt.NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        count = len(self.ids)
        for name in ("x_px", "y_px", "images", "sizes_px", "classes", "marks", "scores"):
            values = getattr(self, name)
            if values is not None and len(values) != count:
                raise InputError(must(name, f"of {count} figures", f"{len(values)}", "give one value per figure"))
        if not (np.isfinite(self.x_px).all() and np.isfinite(self.y_px).all()):
            raise InputError(must("positions", "finite", "NaN or infinity", "leave those figures out"))
        places = self.ids if self.images is None else list(zip(self.images, self.ids, strict=True))
        if len(set(places)) != count:
            twice = next(place for place, times in Counter(places).items() if times > 1)
            twice = twice if isinstance(twice, str) else twice[1]
            raise InputError(must("ids", "different", f"{twice!r} twice", "give each figure its own id"))

    @classmethod
    def at(cls, x_px: npt.ArrayLike, y_px: npt.ArrayLike, ids: Sequence[str] | None = None) -> Points:
        """Points from two arrays of shape (n,); numbered from 1 where no ids are given."""
        across, down = np.asarray(x_px, np.float64), np.asarray(y_px, np.float64)
        if across.ndim != 1 or across.shape != down.shape:
            got = f"{across.shape} and {down.shape}"
            raise InputError(
                must("x_px and y_px", "two arrays of the same shape (n,)", got, "give one value per figure")
            )
        named = [str(n + 1) for n in range(len(across))] if ids is None else [str(figure) for figure in ids]
        return cls(named, across, down, numbered=ids is None)

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Sequence[int] | npt.NDArray[Any]) -> Points:
        """The figures at these positions, in this order (a boolean mask is accepted too)."""
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
            marks=None if self.marks is None else [self.marks[i] for i in picked],
            scores=None if self.scores is None else self.scores[picked],
        )

    def noted(self, *notes: str) -> Points:
        """The same figures with further notes."""
        return replace(self, notes=(*self.notes, *notes)) if notes else self

    def of_classes(self, names: Collection[str] = ()) -> Points:
        """The figures of these classes, as :func:`atypia.data.points.classes.wanted_figures` takes them.

        Raises:
            InputError: There are several classes and no name is given, or no figure has a given class; lists those
                there are.
        """
        mask, notes = wanted_figures(self.classes or [None] * len(self), names)
        return self.take(mask).noted(*notes)

    def on_image(self, slide: str | Path, beside: Sequence[str | Path] = ()) -> Points:
        """The figures of one slide, by the rule of :mod:`atypia.data.points.names`; all if the file names none.

        Args:
            slide: The slide's path.
            beside: Other slides that the file may refer to.

        Raises:
            DataError: No figure is on that slide, or several names match it; lists them.
        """
        if self.images is None:
            return self
        mask, found = matching(slide, self.images, beside)
        note = () if found.exact else (f"points of {found.name!r} are used for {Path(slide).name}",)
        return self.take(np.array(mask)).noted(*note)


@dataclass(frozen=True)
class PointLimits:
    """Size limits above which a file of points is refused.

    Attributes:
        max_bytes: Size of a text file; JSON takes about ten times as much memory while it is read.
        max_points: Figures, in any format.
    """

    max_bytes: int = 1 << 27
    max_points: int = 2_000_000


DEFAULT_POINT_LIMITS = PointLimits()


Scale = Callable[[], float | None]
"""Gives µm/px of a slide, None if unknown. Called only if needed, because the slide may have to be opened."""


def unknown_scale() -> float | None:
    """The scale if nothing is known about the slide."""
    return None


class AboutSlide(NamedTuple):
    """What formats may need of the slide whose points they hold.

    Attributes:
        width_px: Width at full resolution.
        height_px: Height at full resolution.
        properties: What OpenSlide says of it; empty where another reader opens it.
    """

    width_px: int
    height_px: int
    properties: Mapping[str, str]


def unknown_slide() -> AboutSlide | None:
    """What is known of the slide if there is none."""
    return None


@dataclass(frozen=True)
class PointReading:
    """Options for reading a file.

    Attributes:
        path: The file.
        scale: Gives the slide's µm/px, None if unknown; asked only where lengths in µm are to be read.
        box_format: What four numbers of a box are: ``xywh`` (left, top, width, height), ``xyxy`` (left, top,
            right, bottom), ``cxcywh`` (centre, width, height), or ``auto``: inferred from the file if possible.
        limits: Size limits.
        about: Gives the slide's size and properties, None if unknown; asked only where they are needed.
        unit: What positions are in (:mod:`atypia.data.points.units`); ``auto`` to take it from the file.
    """

    path: Path
    scale: Scale = unknown_scale
    box_format: BoxFormat = "auto"
    limits: PointLimits = DEFAULT_POINT_LIMITS
    about: Callable[[], AboutSlide | None] = unknown_slide
    unit: str = "auto"

    @property
    def mpp(self) -> float | None:
        """µm/px of the slide; None if unknown."""
        return self.scale()


@dataclass(frozen=True)
class PointFormat:
    """One format of points.

    Attributes:
        name: Value of ``format``.
        kind: How the file is parsed first: ``json`` (the content), ``table`` (a TextTable), ``xml`` (the root element),
            ``sqlite`` (the names of its tables) or ``zarr`` (a folder: the names of its arrays).
        summary: What writes it, for documentation.
        takes: Whether parsed content is of this format.
        read: Turns content into points.
        general: Whether it takes content that another format may know better, and so comes last.
        own_unit: Whether it converts positions itself, by what the file or ``--unit`` states; others give what the file
            has, which are pixels unless ``--unit`` says otherwise.
    """

    name: str
    kind: PointKind
    summary: str
    takes: Callable[[Any], bool]
    read: Callable[[Any, PointReading], Points]
    general: bool = False
    own_unit: bool = False


POINT_FORMATS: Registry[PointFormat] = Registry("format of points", "atypia.data.points.formats", "points")
"""Formats of points by name. Adding one means adding a module to this package."""


@dataclass
class Collector:
    """Collects figures while a file is read, within its limits."""

    reading: PointReading
    ids: list[str | None] = field(default_factory=list)
    x: list[float] = field(default_factory=list)
    y: list[float] = field(default_factory=list)
    sizes: list[tuple[float, float]] = field(default_factory=list)
    images: list[str | None] = field(default_factory=list)
    classes: list[str | None] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    skipped: Counter[tuple[str, str]] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    origin: str | None = None

    def add(
        self,
        where: str,
        shape: Shape,
        figure: str | None = None,
        image: str | None = None,
        named: Any = None,
        mark: Mark = NO_MARK,
        score: Any = None,
    ) -> None:
        """Adds a figure.

        Args:
            where: The place in the file, for messages.
            shape: Position and size.
            figure: Its id; None, empty or a word for «not known» where it has none.
            image: Its slide, likewise.
            named: Its class, as :func:`atypia.data.points.classes.class_name` takes it.
            mark: How it was drawn.
            score: What a detector gave it; None, or what is no number, where it gave none.

        Raises:
            DataError: The position is not finite, or there are too many figures.
        """
        x, y, width, height = shape
        if not (math.isfinite(x) and math.isfinite(y)):
            raise DataError(f"{where}: {must('position', 'finite', f'({x}, {y})', 'correct it or leave it out')}")
        if len(self.x) >= self.reading.limits.max_points:
            most = f"{self.reading.limits.max_points:,}"
            raise DataError(must(self.reading.path.name, f"a file of at most {most} points", "more", "split the file"))
        self.ids.append(cleaned_text(figure))
        self.x.append(x)
        self.y.append(y)
        self.sizes.append((width, height))
        self.images.append(cleaned_text(image))
        self.classes.append(class_name(named))
        self.marks.append(mark)
        self.scores.append(as_score(score))

    def skip(self, one: str, several: str = "", count: int = 1) -> None:
        """Counts skipped objects, by what :func:`atypia.base.errors.count_noun` calls one and several of them."""
        self.skipped[one, several] += count

    def refuse(self, what: str) -> None:
        """Skips one damaged figure, with a description («annotation 3, a box of 0 × 50 px»)."""
        self.refused.append(what)

    def points(self) -> Points:
        """All collected figures.

        Raises:
            DataError: No figures; positions are fractions of the image; only some figures name their slide.
        """
        name = self.reading.path.name
        notes = [f"left out: {count_noun(count, *what)}" for what, count in self.skipped.items()]
        if self.refused:
            more = f", and {len(self.refused) - SHOWN_NAMES:,} more" if len(self.refused) > SHOWN_NAMES else ""
            notes.append(f"left out: {'; '.join(self.refused[:SHOWN_NAMES])}{more}")
        if not self.x:
            why = f" ({'; '.join(notes)})" if notes else ""
            raise DataError(f"{name} holds no points{why}; fix: export the figures' positions again")
        x, y = np.array(self.x, dtype=np.float64), np.array(self.y, dtype=np.float64)
        self._refuse_shares(x, y)
        images = [image for image in self.images if image is not None]
        if images and len(images) != len(self.ids):
            fix = "name it for all or for none"
            raise DataError(f"{name}: {len(self.ids) - len(images)} points name no slide and others do; fix: {fix}")
        numbered = not any(self.ids)
        ids = [figure or (str(n) if numbered else f"#{n}") for n, figure in enumerate(self.ids, 1)]
        ids, settled = settled_ids(ids, self.images)
        sizes = np.array(self.sizes, dtype=np.float64)
        scores = np.array(self.scores, dtype=np.float64)
        return Points(
            ids=ids,
            x_px=x,
            y_px=y,
            images=images or None,
            sizes_px=None if np.isnan(sizes).all() else sizes,
            classes=self.classes if any(self.classes) else None,
            numbered=numbered,
            notes=(*self.notes, *notes, *settled),
            marks=self.marks if any(mark is not NO_MARK for mark in self.marks) else None,
            origin=self.origin,
            scores=None if np.isnan(scores).all() else scores,
        )

    def _refuse_shares(self, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> None:
        """Refuses positions that are fractions of the image: several figures in the first pixel, or one at a fraction of it."""
        within = bool(((x >= 0) & (x <= 1) & (y >= 0) & (y <= 1)).all())
        if within and (len(x) > 1 or not (x[0].is_integer() and y[0].is_integer())):
            fix = "multiply them by the image's width and height in pixels"
            got = "between 0 and 1, which are shares of the image"
            raise DataError(f"{self.reading.path.name}: {must('positions', 'in pixels', got, fix)}")
