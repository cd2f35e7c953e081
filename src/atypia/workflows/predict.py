"""The work of ``atypia predict`` for one request: figures of crops, stacks or slides, from files to results.

    from atypia.workflows.predict import predict_crops

    found = predict_crops(["crops/"], out="calls.csv")
    found.to_pandas()            # one row per figure
    found.summary.as_dict()      # counts, and the atypical rate with its interval

:func:`predict_request` is the same for callers that already have a :class:`~atypia.inference.requests.Request` and a
classifier: the command line, and the workers over many slides (:mod:`atypia.workflows.slides.predict`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from atypia.base.errors import InputError, first_of, must
from atypia.base.process.progress import Progress, silent
from atypia.inference.classifier import SHIPPED, Classifier
from atypia.inference.requests import Request

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    from atypia.data.points.base import BoxFormat, Points
    from atypia.data.slides.streams import CropBatch
    from atypia.inference.predicted import Predictions
    from atypia.reports.case.corrected import RateCorrection
    from atypia.reports.case.summary import CaseSummary
    from atypia.statistics.differences.comparison import Comparison
    from atypia.workflows.case.density import DensityOptions

AVERAGED: Final = "the errors of an average of several networks or views are not recorded"
COARSER: Final = 1.25
"""From so many times the coarsest µm/px of a training on, an image's is told."""
MOST_IN_TITLE: Final = 120
"""Characters of the inputs' names in the title of a page."""


@dataclass(frozen=True, eq=False)
class PredictedCase:
    """The result of one request.

    Attributes:
        summary: Counts of the figures and the atypical rate, whole and by image.
        warnings: What was left out or decided automatically, in words.
        files: The written files.
        rows: One row per figure, in the order of the input (:data:`atypia.inference.results.RESULTS_SCHEMA`); None
            where they were not asked for.
        model: Name of the classifier.
    """

    summary: CaseSummary
    warnings: tuple[str, ...]
    files: tuple[Path, ...]
    rows: pa.Table | None
    model: str

    @property
    def path(self) -> Path | None:
        """The first file that was written; None if none was."""
        return self.files[0] if self.files else None

    def predictions(self) -> Predictions:
        """The prediction for each figure, in the order of the input.

        Raises:
            InputError: The rows were not kept in memory; they are in the files.
        """
        from atypia.inference.predicted import Predictions

        if self.rows is None:
            raise InputError(must("hold_rows", "True for predictions in memory", False, "read the results' file"))
        return Predictions(self.rows, self.model, self.path, notes=self.warnings)

    def table(self) -> pa.Table:
        """The rows; see :meth:`predictions`."""
        return self.predictions().table()

    def to_pandas(self) -> Any:
        """The rows as a ``pandas.DataFrame``; see :meth:`predictions`."""
        return self.predictions().to_pandas()

    def compare(self, other: PredictedCase | Predictions, **how: Any) -> Comparison:
        """As :meth:`atypia.inference.predicted.Predictions.compare`, once labels were given to both."""
        return self.predictions().compare(other.predictions() if isinstance(other, PredictedCase) else other, **how)

    def __repr__(self) -> str:
        total = self.summary.total
        return f"<PredictedCase: {total.figures:,} figures, {total.refused:,} of them refused; by {self.model}>"


def predict_crops(
    inputs: Sequence[str | PathLike[str]] | str | PathLike[str],
    classifier: Classifier | str | Path | Sequence[str | Path] = SHIPPED,
    *,
    points: str | PathLike[str] | None = None,
    mpp: float | None = None,
    point_format: str | None = None,
    box_format: BoxFormat = "auto",
    classes: Sequence[str] = (),
    mpp_from: str = "auto",
    origin: str = "auto",
    offset_px: tuple[float, float] = (0.0, 0.0),
    min_score: float | None = None,
    unit: str = "auto",
    out: str | PathLike[str] | None = None,
    page: str | PathLike[str] | None = None,
    summary: str | PathLike[str] | None = None,
    fields: bool = False,
    prevalence: float | None = None,
    density: DensityOptions | None = None,
    progress: Progress = silent,
) -> PredictedCase:
    """Classifies crops, TIFF stacks, or figures on slides; all rows are held in memory.

    Args:
        inputs: Files, folders and patterns of crops; multi-page TIFF stacks; with ``points`` slides or regions.
        classifier: An opened one, or what :meth:`Classifier.load` opens.
        points: File of the figures' positions on the slides, or a folder with one file per slide.
        mpp: µm/px of the images, if the files do not state it.
        point_format: Name in :data:`atypia.data.points.reading.POINT_FORMATS`; None: recognised by the content.
        box_format: How boxes are written, if the file does not show it.
        classes: Only points that the file calls one of these; ``all`` for every class.
        mpp_from: Which value is used if statements of µm/px differ (:data:`atypia.data.slides.scale.CHOICES`).
        origin: What points count from: ``canvas``, ``bounds`` or ``auto``.
        offset_px: Added to points, in pixels of level 0.
        min_score: Only points to which a detector gave at least this score.
        unit: What points are in: ``px``, ``um``, ``mm``, or the µm of one pixel; ``auto``: decided by the file.
        out: File of the results; its suffix decides the form.
        page: HTML page of the case.
        summary: File of the counts: .json, .md, .csv.
        fields: Whether GeoJSON shows squares of the field instead of points.
        prevalence: Share of atypical figures in the population of the case, in (0, 1), where it is known; changes no call.
        density: Figures per mm² and hotspots, for points on slides (:class:`atypia.workflows.case.density.DensityOptions`).
        progress: Told how many figures are done.

    Raises:
        InputError: An input does not exist, a slide has no points, or an option does not go with the inputs.
        DataError: An input or the points cannot be read, or µm/px is unknown or contradicted.
        AbsentError: The model, or what runs it, is not on this machine.

    >>> predict_crops("crops", out="calls.csv")
    <PredictedCase: 48 figures, 48 of them refused; by atypia>
    """
    several = [inputs] if isinstance(inputs, str | PathLike) else list(inputs)
    request = Request(
        tuple(str(given) for given in several),
        None if points is None else Path(points),
        mpp,
        point_format,
        box_format,
        tuple(classes),
        mpp_from=mpp_from,
        given_as="given",
        origin=origin,
        offset_px=offset_px,
        min_score=min_score,
        unit=unit,
    )
    opened = classifier if isinstance(classifier, Classifier) else Classifier.load(classifier)
    return predict_request(
        request,
        opened,
        results=() if out is None else (Path(out),),
        page=None if page is None else Path(page),
        summary=None if summary is None else Path(summary),
        fields=fields,
        prevalence=prevalence,
        density=density,
        hold_rows=True,
        progress=progress,
    )


def predict_slide(
    slide: str | PathLike[str],
    points: Points | npt.ArrayLike | str | PathLike[str],
    classifier: Classifier | str | Path | Sequence[str | Path] = SHIPPED,
    **how: Any,
) -> Predictions:
    """Classifies figures on one slide or region image.

    Args:
        slide: The file.
        points: Their centres in pixels of level 0, shape (n, 2); or a file of points.
        classifier: An opened one, or what :meth:`Classifier.load` opens.
        **how: As for :meth:`atypia.inference.classifier.Classifier.predict_slide`: ``mpp``, ``mpp_from``, ``origin``,
            ``offset_px``, ``classes``.

    Returns:
        One row per point, in their order.

    Raises:
        InputError, DataError, AbsentError: As :func:`predict_crops`.

    >>> import numpy as np
    >>> from PIL import Image
    >>> Image.fromarray(np.full((256, 256, 3), 200, np.uint8)).save("region.png")
    >>> predict_slide("region.png", [[100, 100], [150, 90]], mpp=0.25)
    <Predictions of 2 figures by atypia: 2 refused>
    """
    opened = classifier if isinstance(classifier, Classifier) else Classifier.load(classifier)
    given = Path(points) if isinstance(points, str | PathLike) else points
    return opened.predict_slide(Path(slide), given, **how)


def predict_request(
    request: Request,
    classifier: Classifier,
    *,
    results: Sequence[Path] = (),
    page: Path | None = None,
    title: str | None = None,
    summary: Path | None = None,
    fields: bool = False,
    prevalence: float | None = None,
    hold_rows: bool = False,
    density: DensityOptions | None = None,
    also: Sequence[Callable[[CropBatch, pa.RecordBatch], None]] = (),
    progress: Progress = silent,
) -> PredictedCase:
    """Carries out one request, from its inputs to its files, in constant memory.

    Args:
        request: What to classify.
        classifier: The classifier.
        results: Files of one row per figure; the suffix of each decides its form.
        page: HTML page of the case.
        title: Of the page; None for the names of the inputs.
        summary: File of the counts.
        fields: Whether formats that draw figures on their slide (GeoJSON) show squares of the field instead of points.
        prevalence: Share of atypical figures in the population of the case, in (0, 1), where it is known; changes no call.
        hold_rows: Whether all rows are kept in memory, as the result's ``rows``.
        density: Figures by area, for points on slides; None for none.
        also: Receive crops with their results as soon as they are classified.
        progress: Told how many figures are done.

    Raises:
        InputError: As :func:`predict_crops`; a format of one slide (GeoJSON) is asked for and the request is not of one.
        DataError: As :func:`predict_crops`.
        WorkError: A file cannot be written.
    """
    import pyarrow as pa

    from atypia.inference.input_order import classify_stream
    from atypia.inference.requests import StreamNotes, only_slide, open_stream
    from atypia.inference.results import RESULTS_SCHEMA
    from atypia.reports.case.outputs import format_of, open_writer
    from atypia.reports.case.summary import CaseSummary
    from atypia.workflows.case.density import FigurePlaces, check_density, densities

    told, side = StreamNotes(), None
    correction = correction_for(classifier, prevalence)
    if any(format_of(path).on_slide for path in results):
        only_slide(request)
        side = field_px(classifier, request) if fields else None
    if density is not None:
        if request.points is None:
            raise InputError(must("--density", "asked for with points on slides", "crops", "pass --points FILE"))
        check_density(request.inputs, density, request.reading)
    places = FigurePlaces() if density is not None else None
    html: Any = None
    if page is not None:
        from atypia.reports.case.page import CasePage

        names = ", ".join(Path(given).name for given in request.inputs)[:MOST_IN_TITLE]
        html = CasePage(
            names if title is None else title,
            page_facts(classifier),
            correction=correction,
            field_um=classifier.field_um,
        )
    total = html.summary if html is not None else CaseSummary(correction)
    total.run_by = classifier.run_by
    stream = open_stream(request, classifier, told)
    held: list[pa.RecordBatch] = []
    with ExitStack() as stack:
        writers = [
            stack.enter_context(open_writer(path, field_px=side, qupath_zero=told.qupath_zero)) for path in results
        ]
        classify_stream(
            classifier,
            stream,
            rows=[
                *(writer.write for writer in writers),
                *([held.append] if hold_rows else []),
                total.add if html is None else html.count,
                *([] if places is None else [places.add]),
            ],
            crops=[*([] if html is None else [html.offer]), *also],
            progress=progress,
            expected=told.expected,
        )
    if density is not None and places is not None:
        total.densities = densities(places, density, request.reading, draw=html is not None, progress=progress)
    files = list(results)
    if html is not None and page is not None:
        files.append(html.write(page))
    if summary is not None:
        files.append(total.write(summary))
    return PredictedCase(
        total,
        (*told.warnings(), *coarse_warnings(classifier, total)),
        tuple(files),
        pa.Table.from_batches(held, schema=RESULTS_SCHEMA) if hold_rows else None,
        classifier.name,
    )


def coarse_warnings(classifier: Classifier, counted: CaseSummary) -> list[str]:
    """Images whose stated µm/px is much coarser than any that the classifier was trained on, in words."""
    from atypia.data.slides.readas import ASSUMED
    from atypia.reports.drawing.names import file_name

    images: dict[float, list[str]] = {}
    for image, scales in counted.scales.items():
        for mpp, source, _ in scales:
            if mpp is not None and not str(source).startswith(ASSUMED):
                images.setdefault(mpp, []).append(file_name(image))
    if not images:
        return []
    from atypia.inference.bundles.training_look import coarsest_mpp

    coarsest = coarsest_mpp(classifier.members[0].decision)
    if coarsest is None:
        return []
    why = f"coarser than all images of the training (up to {coarsest:.3g}): detail that the model looks at is not there"
    remedy = "see `atypia drift`, and measure the model on labelled figures of this kind (`atypia calibrate`)"
    return [
        f"{first_of(names)}: µm/px is {mpp:.3g}, {why}; {remedy}"
        for mpp, names in images.items()
        if mpp > COARSER * coarsest
    ]


def correction_for(classifier: Classifier, prevalence: float | None = None) -> RateCorrection:
    """The correction of a classifier's rates.

    Raises:
        InputError: As :class:`RateCorrection`.
    """
    from atypia.inference.bundles.left_out import errors_at
    from atypia.reports.case.corrected import RateCorrection
    from atypia.statistics.error_rates import KnownErrors

    known = errors_at(classifier.members[0].decision)
    if classifier.passes > 1:
        known = KnownErrors(None, None, AVERAGED)
    return RateCorrection(known, prevalence)


def old_form_warnings(models: Sequence[str | Path]) -> list[str]:
    """Models without hashes, in which not every damage would be noticed; in words, for the user."""
    from atypia.inference.bundles.integrity import old_form
    from atypia.inference.classifier import named_model

    return [text for text in (old_form(named_model(model)) for model in models) if text]


def page_facts(classifier: Classifier) -> dict[str, str]:
    """Facts about the classifier, for the page."""
    return {
        "model": classifier.name,
        "threshold": f"{classifier.threshold:.3f}",
        "field": "unknown" if classifier.field_um is None else f"{classifier.field_um:g} µm",
        "forward passes a crop": str(classifier.passes),
        "run by": classifier.run_by,
    }


def field_px(classifier: Classifier, request: Request) -> int:
    """Side of the classifier's field on the one slide of a request, in pixels of its level 0.

    Raises:
        DataError: The slide cannot be opened, or its µm/px is not known.
        InputError: The model does not record the size of its field.
    """
    from atypia.data.slides.readers import open_slide
    from atypia.data.slides.scale import unknown_mpp_error

    geometry = classifier.slide_geometry
    with open_slide(request.inputs[0]) as slide:
        known = request.reading.scale(slide).mpp
        if known is None and geometry.side_um is not None:
            raise unknown_mpp_error(slide.name, slide.facts.statements, geometry.side_um)
    side = geometry.source_side_px(known)
    if side is None:
        raise InputError(
            must("field", "of a size on the slide", "nothing", "choose a model that was trained with µm/px")
        )
    return side
