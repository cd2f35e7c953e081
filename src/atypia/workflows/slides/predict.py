"""Classifying the figures of many slides: results, summary and page of each, from one pass over its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from atypia.base.errors import InputError, count_noun, must
from atypia.base.process.progress import Progress, silent
from atypia.reports.case.density import density_cells, field_size
from atypia.workflows.case.density import DensityOptions
from atypia.workflows.predict import predict_request
from atypia.workflows.slides.jobs import SlideJob, SlideSettings, read_jobs
from atypia.workflows.slides.run import run_slides
from atypia.workflows.slides.tasks import BY_AREA, CORRECTED, COUNTED, DONE, FAILED, KEPT, SlideOutcome

if TYPE_CHECKING:
    import pyarrow as pa

    from atypia.inference.classifier import Classifier
    from atypia.inference.predicted import Predictions

RESULTS: Final = "results"
SUMMARY_FILE: Final = "summary.json"
PAGE: Final = "html"
"""The form of the case page."""


@dataclass(frozen=True)
class PredictedSlides:
    """The outcomes of a list of slides.

    Attributes:
        out: Folder of the results: ``slides.csv``, and one folder per slide.
        outcomes: One per slide, in the order of the list.
    """

    out: Path
    outcomes: tuple[SlideOutcome, ...]

    def _of(self, status: str) -> list[SlideOutcome]:
        return [one for one in self.outcomes if one.status == status]

    @property
    def done(self) -> list[SlideOutcome]:
        """Those that were classified now."""
        return self._of(DONE)

    @property
    def kept(self) -> list[SlideOutcome]:
        """Those that were complete from an earlier call."""
        return self._of(KEPT)

    @property
    def failed(self) -> list[SlideOutcome]:
        """Those that failed; ``reason`` says why."""
        return self._of(FAILED)

    @property
    def all_refused(self) -> list[SlideOutcome]:
        """Those without any scored figure."""
        return [one for one in self.outcomes if one.figures and one.rate is None]

    @property
    def path(self) -> Path:
        """The folder."""
        return self.out

    def predictions(self, name: str) -> Predictions:
        """The predictions for the figures on one slide.

        Args:
            name: Of the slide's folder.

        Raises:
            InputError: There is no such slide, it failed, or no Parquet was written.
        """
        import pyarrow.parquet as pq

        from atypia.inference.predicted import Predictions
        from atypia.inference.results import with_all_columns

        file = self.out / name / f"{RESULTS}.parquet"
        if name not in [one.name for one in self.outcomes] or not file.is_file():
            known = ", ".join(one.name for one in self.outcomes if (self.out / one.name / file.name).is_file())
            raise InputError(
                must("name", f"a slide with results in Parquet ({known or 'none'})", name, "see slides.csv")
            )
        return Predictions(with_all_columns(pq.read_table(file).replace_schema_metadata(None)), name, file)

    def table(self) -> pa.Table:
        """One row per slide: status, figures, counts and the atypical rate with its interval."""
        import pyarrow as pa

        return pa.Table.from_pylist([asdict(one) for one in self.outcomes])

    def to_pandas(self) -> Any:
        """:meth:`table` as a ``pandas.DataFrame``.

        Raises:
            AbsentError: pandas is not installed.
        """
        from atypia.base.frames import data_frame

        return data_frame(self.table())

    def __repr__(self) -> str:
        counts = f"{len(self.done)} done, {len(self.kept)} kept, {len(self.failed)} failed"
        return f"<PredictedSlides: {count_noun(len(self.outcomes), 'slide')}, {counts}; in {self.out}>"


def predict_slides(
    slides: Sequence[SlideJob] | str | PathLike[str],
    out: str | PathLike[str],
    settings: SlideSettings | None = None,
    *,
    points: str | PathLike[str] | None = None,
    engine: str = "local",
    address: str | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> PredictedSlides:
    """Classifies the figures of many slides; complete slides in ``out`` are kept, a failed one stops no others.

    Workers are processes that import this package: a script that calls this needs the usual
    ``if __name__ == "__main__":``.

    Args:
        slides: The slides, or the table that lists them (:func:`atypia.workflows.slides.jobs.read_jobs`).
        out: Folder of the results; two calls may share it.
        settings: Settings of the prediction; None for the shipped model's own.
        points: With a table, for slides without points of their own: a file with those of all slides, or a folder.
        engine: ``local`` (processes), ``ray`` (a cluster) or ``inline`` (this process).
        address: Of a Ray cluster; None starts one on this machine.
        workers: Slides at once; None for one to four cores.
        progress: Told about the slides that have ended.

    Raises:
        InputError: There is no slide, one is listed twice, a form is unknown, the prevalence is not between 0 and 1, or
            the engine does not exist.
        DataError: The table cannot be read.
        AbsentError: A model, or what the engine needs, is not on this machine.
        WorkError: ``out`` cannot be written.

    >>> import numpy as np
    >>> from PIL import Image
    >>> Image.fromarray(np.full((256, 256, 3), 200, np.uint8)).save("region.png")
    >>> jobs = [SlideJob(Path("region.png"), Path("points.csv"), mpp=0.25)]
    >>> _ = Path("points.csv").write_text("x,y\\n100,100\\n150,90\\n")
    >>> found = predict_slides(jobs, "calls", engine="inline")
    >>> found
    <PredictedSlides: 1 slide, 1 done, 0 kept, 0 failed; in calls>
    >>> found.predictions("region").calls
    ['refused', 'refused']
    """
    if isinstance(slides, str | PathLike):
        jobs = read_jobs(Path(slides), None if points is None else Path(points))
    else:
        jobs = slides
    settings = settings or SlideSettings()
    check_forms(settings.forms)
    if settings.density:
        field_size(settings.density)  # before the work
    if settings.prevalence is not None:
        from atypia.reports.case.corrected import check_prevalence

        check_prevalence(settings.prevalence)
    outcomes = run_slides(
        jobs, Path(out), settings, slide_work, engine=engine, address=address, workers=workers, progress=progress
    )
    return PredictedSlides(Path(out), tuple(outcomes))


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
    """Classifies the figures of one slide: a :data:`atypia.workflows.slides.tasks.SlideWork`.

    Writes ``results.FORM`` in every form and ``summary.json`` into the folder.

    Raises:
        AtypiaError: The slide, its points or the model cannot be used.
    """
    found = predict_request(
        settings.request(job),
        _classifier(settings),
        results=[folder / f"{RESULTS}.{form}" for form in settings.forms if form != PAGE],
        page=folder / f"{RESULTS}.{PAGE}" if PAGE in settings.forms else None,
        title=job.name,
        summary=folder / SUMMARY_FILE,
        fields=settings.fields,
        density=DensityOptions(field=field_size(settings.density)) if settings.density else None,
        prevalence=settings.prevalence,
    )
    counts = found.summary.as_dict()
    kept = {key: counts[key] for key in ("figures", "rate", *COUNTED)}
    if found.summary.densities:
        kept.update(zip(BY_AREA, density_cells(found.summary.densities[0]), strict=True))
    corrected = {column: counts["corrected"][key] for column, key in CORRECTED.items()}
    return {**kept, **corrected, "model": found.model, "notes": list(found.warnings)}


@lru_cache(maxsize=1)
def _classifier(settings: SlideSettings) -> Classifier:
    """The classifier of a worker, opened once for all its slides."""
    return settings.classifier()
