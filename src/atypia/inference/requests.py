"""A user's request to classify figures, as one stream of crops."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from atypia.base.errors import InputError, count_noun, must
from atypia.data.points.base import BoxFormat, Points
from atypia.data.slides.dicom import dicom_series
from atypia.data.slides.expected import FiguresToCome, count_images
from atypia.data.slides.origins import AUTO, NO_OFFSET
from atypia.data.slides.scale import GIVEN_AS
from atypia.data.slides.stacks import classify_input
from atypia.data.slides.streams import DEFAULT_BATCH, CropBatch, Refusal, Skipped, crop_files

if TYPE_CHECKING:
    from atypia.data.images.geometry import CropGeometry
    from atypia.data.slides.regions import Bounds
    from atypia.data.slides.slidecrops import SlideReading

CROPS: Final = "crop"
STACK: Final = "stack"
SLIDE: Final = "slide"
_WILDCARDS = frozenset("*?[")


class SeesField(Protocol):
    """The receiver of the crops: a :class:`atypia.inference.classifier.Classifier`."""

    @property
    def geometry(self) -> CropGeometry:
        """What crops show, and their side."""
        ...

    @property
    def slide_geometry(self) -> CropGeometry:
        """The same for slides and images of known µm/px."""
        ...

    @property
    def field_um(self) -> float | None:
        """Side of the field, in µm; None if it is not known."""
        ...


@dataclass(frozen=True)
class Request:
    """What to classify.

    Attributes:
        inputs: Files, folders and patterns of crops; multi-page TIFF stacks; slides or regions.
        points: Where the figures on the slides are: a file, or a folder with one file per slide of the slide's name
            (:mod:`atypia.data.points.names`). Given, every input is a slide.
        mpp: µm/px of the images, if the files do not state it or are wrong.
        point_format: Name in :data:`atypia.data.points.reading.POINT_FORMATS`; None: recognised by the content.
        box_format: How boxes are written, if the file does not show it.
        classes: Only points that the file calls one of these; ``all`` for all of several, empty if there is one.
        batch_size: Crops in a batch.
        mpp_from: Which value is used if statements of µm/px differ.
        given_as: How ``mpp`` was given, for messages and results.
        origin: What positions on slides count from; ``auto``: decided by the file.
        offset_px: Added to positions, for slides that were converted and cropped.
        beside: Other slides whose points the file may hold.
        shared: Whether a file of points is for further slides too, and so has to name them; it is with several inputs.
        min_score: Only points to which a detector gave at least this score; None for all.
        unit: What positions are in (:data:`atypia.data.points.units.CHOICES`); ``auto``: decided by the file.

    ``mpp_from``, ``given_as``, ``origin`` and ``offset_px`` are those of :class:`atypia.data.slides.slidecrops.SlideReading`.
    """

    inputs: tuple[str, ...]
    points: Path | None = None
    mpp: float | None = None
    point_format: str | None = None
    box_format: BoxFormat = "auto"
    classes: tuple[str, ...] = ()
    batch_size: int = DEFAULT_BATCH
    mpp_from: str = AUTO
    given_as: str = GIVEN_AS
    origin: str = AUTO
    offset_px: tuple[float, float] = NO_OFFSET
    beside: tuple[str, ...] = ()
    min_score: float | None = None
    unit: str = "auto"
    shared: bool = False

    @property
    def reading(self) -> SlideReading:
        """How its slides are read."""
        from atypia.data.slides.slidecrops import SlideReading

        return SlideReading(self.mpp, self.mpp_from, self.given_as, self.origin, self.offset_px)


@dataclass
class StreamNotes:
    """Notes beside the results, filled while a stream runs.

    Attributes:
        skipped: Files in folders that are not images.
        notes: Decisions that were made, and what was left out.
        bounds: The scanned area of slides whose canvas is larger, by their names.
        expected: How many figures are to come.
    """

    skipped: Skipped = field(default_factory=Skipped)
    notes: list[str] = field(default_factory=list)
    bounds: dict[str, Bounds] = field(default_factory=dict)
    expected: FiguresToCome = field(default_factory=FiguresToCome)

    def qupath_zero(self, slide: str) -> tuple[float, float]:
        """Position of QuPath's origin on the canvas of a slide."""
        found = self.bounds.get(slide)
        return (0.0, 0.0) if found is None else (float(found.x_px), float(found.y_px))

    def warnings(self) -> list[str]:
        """Notes for the user, in words."""
        left = self.skipped
        words = "file in a folder is no image and was left out", "files in folders are no images and were left out"
        return [*([f"{count_noun(left.count, *words)} (first: {left.first})"] if left.count else []), *self.notes]


def open_stream(request: Request, classifier: SeesField, told: StreamNotes) -> Iterator[CropBatch | Refusal]:
    """Crops of all requested inputs, one input after the other, in constant memory.

    Each has its place (``at``) in the request; on a slide they come in another order.

    Args:
        request: What to classify.
        classifier: Determines how crops are cut.
        told: Receives skipped files, and notes.

    Raises:
        InputError: An input does not exist, or a slide has no points. Later inputs are looked at before the first
            is read.
    """
    request.reading.check()
    kinds = [(kind_of(given, request.points is not None), given) for given in request.inputs]
    if not kinds:
        raise InputError(must("inputs", "at least one file, folder or pattern", "none", "name one"))
    for kind, given in kinds:
        if kind == SLIDE and request.points is None:
            raise InputError(must("points", f"given for the slide {given}", "none", "pass --points FILE"))
    return _stream(request, classifier, told, kinds)


def kind_of(given: str, has_points: bool) -> str:
    """Whether an input is crops, a stack or a slide. A folder of DICOM files alone is a slide.

    Raises:
        InputError: A pattern, or a folder without DICOM, is given with points.
        DataError: The file is absent or no image.
    """
    if Path(given).is_dir() and _is_dicom(Path(given), has_points):
        return SLIDE
    several = Path(given).is_dir() or (bool(_WILDCARDS & set(given)) and not Path(given).exists())
    if several and has_points:
        raise InputError(must("inputs", "slides where points are given", given, "name the slide files"))
    return CROPS if several else classify_input(given, has_points=has_points)


def _is_dicom(folder: Path, has_points: bool) -> bool:
    """Whether a folder stands for a slide; without points only where DICOM files lie directly in it."""
    return (has_points or any(folder.glob("*.dcm"))) and bool(dicom_series(folder))


def points_of(slide: str, request: Request) -> Points:
    """The figures on one slide.

    Raises:
        DataError: The points cannot be read, or none is on this slide.
        InputError: There is no file for this slide in the folder of points, the points are of several classes and
            none is named, or a file for several slides names none.
    """
    from atypia.data.slides.slidecrops import slide_points

    if request.points is None:
        raise InputError(must("points", f"given for the slide {slide}", "none", "pass --points FILE"))
    beside = [other for other in (*request.inputs, *request.beside) if other != slide]
    return slide_points(
        slide,
        request.points,
        format=request.point_format,
        box_format=request.box_format,
        classes=request.classes,
        beside=beside,
        reading=request.reading,
        unit=request.unit,
        min_score=request.min_score,
        shared=request.shared or len(request.inputs) > 1,
    )


def _stream(
    request: Request, classifier: SeesField, told: StreamNotes, kinds: Sequence[tuple[str, str]]
) -> Iterator[CropBatch | Refusal]:
    from atypia.data.slides.slidecrops import SlideLog, slide_crops
    from atypia.data.slides.stacks import page_count, stack_pages

    size, mpp = request.batch_size, request.mpp
    whole = classifier.geometry if mpp is None else classifier.slide_geometry
    size_of: dict[str, Any] = {
        "mpp": mpp,
        "mpp_from": request.mpp_from,
        "given_as": request.given_as,
        "assumed_um": classifier.field_um,
    }
    before = 0  # figures of the inputs that are over
    left = len(kinds)
    for kind, group in groupby(kinds, key=lambda pair: pair[0]):
        inputs = [given for _, given in group]
        if kind == CROPS:
            left -= len(inputs)
            told.expected.add(count_images(inputs), left == 0)
            stream = crop_files(inputs, whole, batch_size=size, skipped=told.skipped, **size_of)
            before = yield from numbered(_grey_told(stream, told), before)
            continue
        for given in inputs:
            left -= 1
            if kind == STACK:
                told.expected.add(page_count(given), left == 0)
                pages = stack_pages(given, whole, batch_size=size, notes=told.notes, **size_of)
                stream = _grey_told(pages, told)
            else:
                points = points_of(given, request)
                told.notes.extend(f"{given}: {note}" for note in points.notes)
                told.expected.add(len(points), left == 0)
                geometry, log = classifier.slide_geometry, SlideLog(told.notes, told.bounds)
                stream = slide_crops(given, points, geometry, batch_size=size, reading=request.reading, log=log)
            before = yield from numbered(stream, before)


def _grey_told(stream: Iterator[CropBatch | Refusal], told: StreamNotes) -> Iterator[CropBatch | Refusal]:
    """The same stream; images without colour, which no model is trained on, are counted in a note at its end."""
    found: list[str] = []
    for item in stream:
        if isinstance(item, CropBatch):
            red, green, blue = (item.crops[..., channel] for channel in range(3))
            grey = ((red == green) & (green == blue)).all(axis=(1, 2))
            found += [item.ids[row] for row in grey.nonzero()[0]]
        yield item
    if found:
        images = count_noun(len(found), "image is", "images are")
        told.notes.append(f"{images} grey (first: {found[0]}); the figures that models are trained on are in colour")


def numbered(stream: Iterator[CropBatch | Refusal], before: int) -> Generator[CropBatch | Refusal, None, int]:
    """A stream whose places count on from the inputs before it; returns how many figures there are by its end."""
    count = 0
    for item in stream:
        count += len(item) if isinstance(item, CropBatch) else 1
        yield item if item.at is None else replace(item, at=item.at + before)
    return before + count


def only_slide(request: Request) -> str:
    """The one slide of a request, for outputs that hold one.

    Raises:
        InputError: There are several inputs, or no points.
    """
    if request.points is None or len(request.inputs) != 1:
        raise InputError(must("inputs", "one slide with points for GeoJSON", f"{len(request.inputs)} inputs",
                              "write .csv, or name one slide and its points"))  # fmt: skip
    return request.inputs[0]
