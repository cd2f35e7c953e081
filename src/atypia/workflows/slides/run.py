"""Many slides: each in a folder of its own, on one machine or on a cluster; what fails is reported, the rest is done.

::

    OUT/slides.csv             one line per slide: its status, its figures and atypical rate, or why it failed
    OUT/NAME/results.parquet   the results, in the requested forms
    OUT/NAME/summary.json
    OUT/NAME/done.json         the inputs of these files; a folder without it is not complete

A second call with the same jobs keeps every slide whose ``done.json`` still matches its inputs, and
repeats those that changed or failed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from atypia.base.artifacts import atomic_file, disk_errors, file_sha256
from atypia.base.errors import AtypiaError, InputError, must
from atypia.base.files.spreadsheet import CsvLines
from atypia.base.process.progress import Progress, silent
from atypia.engines.engine import ENGINES
from atypia.engines.tasks import Setup
from atypia.workflows.slides.jobs import TABLE, SlideJob, SlideSettings, distinct
from atypia.workflows.slides.tasks import COLUMNS, SLIDES, SlideOutcome, SlideTask, SlideWork, slide_inputs

TABLE_EVERY_S: Final = 30.0


def run_slides(
    jobs: Sequence[SlideJob],
    out: Path,
    settings: SlideSettings,
    work: SlideWork,
    *,
    engine: str = "local",
    address: str | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> list[SlideOutcome]:
    """Processes every slide that is not done yet, and writes ``slides.csv``.

    Workers are processes that import this package: a script that calls this needs the usual
    ``if __name__ == "__main__":``. Slides, points, models and ``out`` must have the same paths for all of them.

    Args:
        jobs: The slides.
        out: Folder of the results; two calls may share it.
        settings: Settings of the prediction.
        work: The function for one slide: :func:`atypia.workflows.slides.predict.slide_work`.
        engine: Name in :data:`atypia.engines.engine.ENGINES`.
        address: Of a Ray cluster; None starts one on this machine.
        workers: Slides at once; None for one to four cores.
        progress: Told about the slides that have ended.

    Returns:
        One outcome per job, in their order. A failed slide raises no error.

    Raises:
        InputError: There are no jobs, a job is listed twice, or the engine does not exist.
        AbsentError: A model, or what the engine needs, is not on this machine.
        WorkError: ``out`` cannot be written.
    """
    run, setup = ENGINES[engine], Setup(workers, address)
    named = distinct(jobs)
    found_models, models = _models(settings.models)
    settings = replace(settings, models=found_models)
    shared = {"settings": {**settings.evidence(), "models": models}}
    out = out.absolute()
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    hashes: dict[Path, str] = {}
    over: dict[str, SlideOutcome] = {}
    tasks: list[SlideTask] = []
    for job in named:
        task = SlideTask(job, out, settings, work)
        try:
            task = replace(task, evidence={**shared, **slide_inputs(job, hashes)})
        except AtypiaError as error:
            over[job.name] = task.failed(str(error))
            continue
        kept = task.kept()
        if kept is not None:
            over[job.name] = kept
            continue
        tasks.append(task)
    written = time.monotonic()
    try:
        progress(len(over), len(named), "slides")
        for outcome in run(tasks, SLIDES, setup):
            over[outcome.name] = outcome
            progress(len(over), len(named), "slides")
            if time.monotonic() - written > TABLE_EVERY_S:
                _write_table(out, named, over)
                written = time.monotonic()
    finally:
        _write_table(out, named, over)  # also after Ctrl-C, with the outcomes so far
    return [over[job.name] for job in named]


def _models(given: Sequence[str]) -> tuple[tuple[str, ...], list[dict[str, str]]]:
    """The models with absolute paths where they are paths, and the checksums of the files of each."""
    from atypia.inference.classifier import MODELS, find_model

    if not given:
        raise InputError(must("models", "at least one model", "none", "leave it out for the shipped one"))
    names, sums = [], []
    for model in given:
        path = find_model(model)
        # The shipped model has another path on another machine.
        names.append(model if path.parent == MODELS else str(path.absolute()))
        files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
        sums.append({file.name: file_sha256(file) for file in files if file.suffix != ".md"})
    return tuple(names), sums


def _write_table(out: Path, jobs: Sequence[SlideJob], over: Mapping[str, SlideOutcome]) -> None:
    with atomic_file(out / TABLE, "w") as file:
        lines = CsvLines(file)
        lines.write(COLUMNS)
        for job in jobs:
            if job.name in over:
                values = asdict(over[job.name])
                lines.write([_cell(values[name]) for name in COLUMNS])


def _cell(value: Any) -> Any:
    """A value in the table: numbers with six decimals, as in other CSV files; several notes in one cell."""
    if isinstance(value, tuple):
        return " | ".join(value)
    return round(value, 6) if isinstance(value, float) else value
