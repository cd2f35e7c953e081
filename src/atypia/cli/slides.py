"""What is done with each of many slides: calls, GeoJSON, summary and page from one pass over its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from atypia.base.errors import InputError, must
from atypia.base.progress import Progress, silent
from atypia.inference.many import run_slides
from atypia.inference.many_tasks import COUNTED, SlideJob, SlideOutcome, SlideSettings

if TYPE_CHECKING:
    from atypia.inference.classifier import Classifier
    from atypia.inference.requests import Request

RESULTS: Final = "results"
SUMMARY_FILE: Final = "summary.json"
PAGE: Final = "html"
"""The form that is the case page."""


def predict_slides(
    jobs: Sequence[SlideJob],
    out: Path,
    settings: SlideSettings,
    *,
    engine: str = "local",
    address: str | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> list[SlideOutcome]:
    """Classifies the figures of many slides; see :func:`atypia.inference.many.run_slides`.

    Raises:
        InputError: Also where a form is unknown.
    """
    check_forms(settings.forms)
    return run_slides(
        jobs, out, settings, slide_work, engine=engine, address=address, workers=workers, progress=progress
    )


def check_forms(forms: Sequence[str]) -> None:
    """Refuses forms that nothing writes, before the work.

    Raises:
        InputError: There is none, or one is unknown.
    """
    from atypia.reports.case.outputs import OUTPUTS

    known = [*OUTPUTS, PAGE]
    unknown = [form for form in forms if form not in known]
    if unknown or not forms:
        raise InputError(must("forms", f"some of {', '.join(known)}", ", ".join(unknown) or "none", "name one"))


def slide_work(job: SlideJob, folder: Path, settings: SlideSettings) -> Mapping[str, Any]:
    """Classifies the figures of one slide: a :data:`atypia.inference.many_tasks.SlideWork`.

    Writes ``results.FORM`` in every form and ``summary.json`` into the folder.

    Raises:
        AtypiaError: The slide, its points or the model cannot be used.
    """
    from contextlib import ExitStack

    from atypia.cli.predict import facts
    from atypia.inference.ordered import classify_stream
    from atypia.inference.requests import Told, open_stream
    from atypia.reports.case.outputs import open_writer
    from atypia.reports.case.summary import CaseSummary

    classifier = _classifier(settings)
    request, told = settings.request(job), Told()
    page: Any = None
    if PAGE in settings.forms:
        from atypia.reports.case.page import CasePage

        page = CasePage(job.name, facts(classifier))
    summary = CaseSummary() if page is None else page.summary
    side = field_px(classifier, request) if settings.fields and "geojson" in settings.forms else None
    with ExitStack() as stack:
        files = [folder / f"{RESULTS}.{form}" for form in settings.forms if form != PAGE]
        writers = [
            stack.enter_context(open_writer(file, field_px=side, qupath_zero=told.qupath_zero)) for file in files
        ]
        count = summary.add if page is None else page.count
        classify_stream(
            classifier,
            open_stream(request, classifier, told),
            rows=[*(writer.write for writer in writers), count],
            crops=[] if page is None else [page.offer],
        )
    if page is not None:
        page.write(folder / f"{RESULTS}.{PAGE}")
    summary.write(folder / SUMMARY_FILE)
    told_of = summary.as_dict()
    kept = {key: told_of[key] for key in ("figures", "rate", *COUNTED)}
    return {**kept, "model": classifier.name, "notes": told.notes}


def field_px(classifier: Classifier, request: Request) -> int:
    """Side of the classifier's field on the one slide of a request, in pixels of its level 0.

    Raises:
        DataError: The slide cannot be opened, or its µm/px is not known.
    """
    from atypia.data.slides.readers import open_slide
    from atypia.data.slides.scale import unknown

    geometry = classifier.slide_geometry
    with open_slide(request.inputs[0]) as slide:
        known = request.reading.scale(slide).mpp
        if known is None and geometry.side_um is not None:
            raise unknown(slide.name, slide.facts.statements, geometry.side_um)
    side = geometry.source_side_px(known)
    assert side is not None  # a geometry for slides has a side
    return side


@lru_cache(maxsize=1)
def _classifier(settings: SlideSettings) -> Classifier:
    """The classifier of a worker, opened once for all its slides."""
    from atypia.inference.classifier import Classifier, with_threshold

    opened = Classifier.load(
        settings.models,
        point=settings.point,
        coverage=settings.coverage,
        runtime=settings.runtime,
        tta=settings.tta,
    )
    return opened if settings.threshold is None else with_threshold(opened, settings.threshold)
