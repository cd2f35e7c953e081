"""Many slides: each in a folder of its own, on one machine or on a cluster; what fails is reported, the rest is done.

::

    OUT/slides.csv             one line a slide: its status, its figures and atypical rate, or why it failed
    OUT/NAME/results.parquet   what the work wrote, in the forms that were asked for
    OUT/NAME/summary.json
    OUT/NAME/done.json         what these files were made from; a folder without it is not complete

A second call with the same jobs keeps every slide whose ``done.json`` still says what would be computed, and
repeats those that changed or failed.
"""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from atypia.base import records as r
from atypia.base.artifacts import atomic_file, disk_errors, file_sha256, fingerprint
from atypia.base.errors import AtypiaError, DataError, InputError, must
from atypia.base.files.spreadsheet import CsvLines
from atypia.base.progress import Progress, silent
from atypia.data.points.names import bare_stem, loose
from atypia.data.slides.origins import AUTO, check_origin, offset_of
from atypia.data.slides.scale import GIVEN, check_choice
from atypia.data.textfiles import known, number, read_table
from atypia.engines.engine import ENGINES
from atypia.engines.tasks import Setup
from atypia.inference.many_tasks import (
    COLUMNS,
    SLIDES,
    SlideJob,
    SlideOutcome,
    SlideSettings,
    SlideWork,
    Task,
    evidence,
)

TABLE: Final = "slides.csv"
TABLE_EVERY_S: Final = 30.0
NAME_BYTES: Final = 100
_SLIDE, _POINTS, _NAME = "slide", "points", "name"
_MPP_FROM, _ORIGIN, _OFFSET = "mpp_from", "origin", "offset"


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
    """Does every slide that is not done yet, and writes ``slides.csv``.

    Workers are processes that import this package: a script that calls this needs the usual
    ``if __name__ == "__main__":``. Slides, points, models and ``out`` must have the same paths for all of them.

    Args:
        jobs: The slides.
        out: Folder of the results; two calls may share it.
        settings: What decides the results.
        work: What is done with a slide: ``atypia.cli.slides.slide_work``.
        engine: Name in :data:`atypia.engines.engine.ENGINES`.
        address: Of a Ray cluster; None starts one on this machine.
        workers: Slides at once; None for one to four cores.
        progress: Told about the slides that are over.

    Returns:
        One outcome a job, in their order. A slide that failed raises nothing.

    Raises:
        InputError: There are no jobs, a job is listed twice, or the engine does not exist.
        AbsentError: A model, or what the engine needs, is not here.
        WorkError: ``out`` cannot be written.
    """
    run, setup = ENGINES[engine], Setup(workers, address)
    named = distinct(jobs)
    found_models, models = _models(settings.models)
    settings = replace(settings, models=found_models)
    shared = {"settings": {**asdict(settings), "models": models}}
    out = out.absolute()
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    hashes: dict[Path, str] = {}
    over: dict[str, SlideOutcome] = {}
    tasks: list[Task] = []
    for job in named:
        task = Task(job, out, settings, work)
        try:
            task = replace(task, evidence={**shared, **evidence(job, hashes)})
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
        _write_table(out, named, over)  # also after Ctrl-C: what is known by then
    return [over[job.name] for job in named]


def _models(given: Sequence[str]) -> tuple[tuple[str, ...], list[dict[str, str]]]:
    """The models with absolute paths where they are paths, and the checksums of the files of each."""
    from atypia.inference.classifier import MODELS, find_model

    if not given:
        raise InputError(must("models", "at least one model", "none", "leave it out for the shipped one"))
    names, sums = [], []
    for model in given:
        path = find_model(model)
        # The shipped model lies elsewhere on another machine.
        names.append(model if path.parent == MODELS else str(path.absolute()))
        files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
        sums.append({file.name: file_sha256(file) for file in files if file.suffix != ".md"})
    return tuple(names), sums


def safe_name(text: str) -> str:
    """A name that every file system takes, as like the text as can be.

    >>> safe_name("Case 7/α: left.ome")
    'Case 7_α_ left.ome'
    """
    kept = re.sub(r"[^\w.\- ]+", "_", text).strip(" .") or "unnamed"
    if len(kept.encode()) > NAME_BYTES:
        kept = f"{kept.encode()[: NAME_BYTES - 9].decode(errors='ignore')}-{fingerprint(text)[:8]}"
    return kept


def distinct(jobs: Sequence[SlideJob]) -> list[SlideJob]:
    """The jobs with absolute paths, each with a folder of its own, and with the slides that are named alike.

    Where several would have one name (in any case of letters), each gets a hash of its paths after it, so that its
    name does not depend on the order.

    Raises:
        InputError: There is none, or a slide is listed twice with the same points.
    """
    if not jobs:
        raise InputError(must("jobs", "at least one slide", "none", "name one"))
    full = [
        replace(
            job,
            slide=job.slide.absolute(),
            points=job.points.absolute(),
            name=safe_name(job.name or bare_stem(job.slide.name)),
        )
        for job in jobs
    ]
    alike: dict[str, list[str]] = {}
    for job in full:
        alike.setdefault(loose(bare_stem(job.slide.name)), []).append(str(job.slide))
    full = [
        replace(
            job, beside=tuple(other for other in alike[loose(bare_stem(job.slide.name))] if other != str(job.slide))
        )
        for job in full
    ]
    counts = Counter(job.name.casefold() for job in full)
    counts[TABLE] += 1  # a folder of that name would be in the way of the table
    named = [
        job
        if counts[job.name.casefold()] == 1
        else replace(job, name=f"{job.name}-{fingerprint(str(job.slide), str(job.points))[:8]}")
        for job in full
    ]
    twice = [name for name, times in Counter(job.name.casefold() for job in named).items() if times > 1]
    if twice:
        job = next(job for job in named if job.name.casefold() == twice[0])
        raise InputError(f"{job.slide} is listed twice with the same points; fix: list it once")
    return named


def read_jobs(path: Path, points: Path | None = None) -> list[SlideJob]:
    """Reads a list of slides: a table with the columns ``slide``, ``points`` and, where wanted, ``name``, ``mpp``,
    ``mpp_from``, ``origin`` and ``offset`` (two numbers, «X;Y» or quoted «X,Y»).

    Paths are relative to the folder of the table.

    Args:
        path: Delimited by commas, semicolons or tabs.
        points: For slides without points of their own: a file that holds those of all, or a folder.

    Raises:
        DataError: The table cannot be read, has no column ``slide``, or a line has no slide, no points, a µm/px
            that is no positive number, or another word than the option of a column takes.
    """
    table = read_table(path)
    table.require(_SLIDE, *(() if points else (_POINTS,)))
    jobs = []
    for row, line in zip(table.rows, table.lines, strict=True):
        slide, own, name = (known(row.get(column)) for column in (_SLIDE, _POINTS, _NAME))
        if not slide or not (own or points):
            raise DataError(f"{path.name}, line {line}: no {_POINTS if slide else _SLIDE}; fix: fill the cell")
        chosen = path.parent / own if own else points
        assert chosen is not None  # one of the two is there
        mpp, mpp_from, origin = _mpp(row.get(r.MPP, ""), path, line), row.get(_MPP_FROM, ""), row.get(_ORIGIN, "")
        try:
            check_choice(mpp_from or AUTO, mpp if mpp_from != GIVEN else mpp or 1.0)
            check_origin(origin or AUTO)
            offset = offset_of(row[_OFFSET]) if row.get(_OFFSET) else None
        except InputError as error:
            raise DataError(f"{path.name}, line {line}: {error}") from error
        jobs.append(SlideJob(path.parent / slide, chosen, name or "", mpp, mpp_from, origin, offset))
    if not jobs:
        raise DataError(f"{path.name} lists no slide; fix: write one line a slide")
    return jobs


def _mpp(text: str, path: Path, line: int) -> float | None:
    """µm/px of a cell; None where it is empty."""
    where = f"{path.name}, line {line}"
    value = number(text, r.MPP, where) if known(text) else None
    if value is not None and not (math.isfinite(value) and value > 0):
        raise DataError(f"{where}: {must(r.MPP, 'a positive number of µm/px', text, 'correct the cell')}")
    return value


def _write_table(out: Path, jobs: Sequence[SlideJob], over: Mapping[str, SlideOutcome]) -> None:
    with atomic_file(out / TABLE, "w") as file:
        lines = CsvLines(file)
        lines.write(COLUMNS)
        for job in jobs:
            if job.name in over:
                values = asdict(over[job.name])
                lines.write([" | ".join(v) if isinstance(v := values[name], tuple) else v for name in COLUMNS])
