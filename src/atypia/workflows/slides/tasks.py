"""One slide of many: its inputs, its folder, and the work on it in a worker."""

from __future__ import annotations

import shutil
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from glob import escape
from pathlib import Path
from typing import Any, Final

from atypia.base.artifacts import atomic_folder, file_sha256, fingerprint, lock, read_json, write_json
from atypia.base.errors import AtypiaError, DataError, WorkError
from atypia.base.process.progress import Progress, silent
from atypia.data.points.names import points_file
from atypia.data.points.zarrfolders import arrays_fingerprint, is_zarr
from atypia.data.slides.evidence import slide_evidence
from atypia.data.slides.readers import slide_file
from atypia.engines.tasks import Work
from atypia.workflows.slides.jobs import SlideJob, SlideSettings

DONE: Final = "done"
KEPT: Final = "kept"
FAILED: Final = "failed"
DONE_FILE: Final = "done.json"
FORMAT: Final = 2
"""Raised when the same inputs would give other files; earlier results are then computed again."""


@dataclass(frozen=True)
class SlideOutcome:
    """The outcome of a slide: a line of ``slides.csv``.

    Attributes:
        name: Of its folder.
        slide: The file.
        status: :data:`DONE`, :data:`KEPT` (complete from an earlier call) or :data:`FAILED`.
        figures: Figures in its results, refused ones included; None if it failed.
        atypical: Scored figures whose probability reached the threshold, certain and uncertain ones.
        rate: Their share among ``scored``, in [0, 1]; None if it is undefined.
        seconds: Duration of the work.
        reason: Why it failed, and the remedy; else empty.
        scored: Figures that were classified; the denominator of every rate.
        refused: The others.
        atypical_certain: Of ``atypical``, those called atypical.
        atypical_uncertain: Of ``atypical``, those called uncertain.
        uncertain: Scored figures called uncertain, on whichever side of the threshold.
        notes: What was left out or decided automatically.
        area_mm2: Tissue, where figures by area were asked for; likewise the next ones.
        figures_per_mm2: Figures by area.
        atypical_per_mm2: Atypical figures by area.
        hotspot_figures: Figures in the field that holds most of them.
        hotspot_atypical: Atypical figures in the field that holds most of them.
        rate_corrected: The rate corrected for the classifier's errors, in [0, 1]; None where its errors are not known, or
            nothing can be said.
        rate_corrected_low: Lower end of its 95 % interval.
        rate_corrected_high: Upper end.
    """

    name: str
    slide: str
    status: str
    figures: int | None = None
    atypical: int | None = None
    rate: float | None = None
    seconds: float = 0.0
    reason: str = ""
    scored: int | None = None
    refused: int | None = None
    atypical_certain: int | None = None
    atypical_uncertain: int | None = None
    uncertain: int | None = None
    notes: tuple[str, ...] = ()
    area_mm2: float | None = None
    figures_per_mm2: float | None = None
    atypical_per_mm2: float | None = None
    hotspot_figures: int | None = None
    hotspot_atypical: int | None = None
    rate_corrected: float | None = None
    rate_corrected_low: float | None = None
    rate_corrected_high: float | None = None


COLUMNS: Final = tuple(SlideOutcome.__dataclass_fields__)
"""Columns of ``slides.csv``."""
COUNTED: Final = ("scored", "refused", "atypical", "atypical_certain", "atypical_uncertain", "uncertain")
"""Counts that are taken over from the facts of a slide; None if an older result does not give them."""

BY_AREA: Final = ("area_mm2", "figures_per_mm2", "atypical_per_mm2", "hotspot_figures", "hotspot_atypical")
"""Figures by area, taken over likewise where they were asked for."""
CORRECTED: Final = {
    "rate_corrected": "rate",
    "rate_corrected_low": "rate_low",
    "rate_corrected_high": "rate_high",
}
"""Columns of the corrected rate, and their keys in the summary's ``corrected``; None where an older result has none."""

SlideWork = Callable[[SlideJob, Path, SlideSettings], Mapping[str, Any]]
"""Writes a slide's files into a folder and returns JSON-able facts: at least ``figures``, ``atypical`` and ``rate``
(None if it is undefined). A function of a module, which worker processes import by its name."""


@dataclass(frozen=True)
class SlideTask:
    """A job, ready for a worker.

    Attributes:
        job: With absolute paths and its final name.
        out: Folder of all slides.
        settings: Settings of the prediction.
        work: The function for one slide.
        evidence: The inputs of the results: fingerprints of slide, points, settings and models.
    """

    job: SlideJob
    out: Path
    settings: SlideSettings
    work: SlideWork
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where its files go."""
        return self.out / self.job.name

    @property
    def fingerprint(self) -> str:
        """Hash of the evidence."""
        return fingerprint("slide", FORMAT, dict(self.evidence))

    def kept(self) -> SlideOutcome | None:
        """The outcome of an earlier call; None if there is none, or its files are incomplete or have other inputs."""
        try:
            done = read_json(self.folder / DONE_FILE)
            if done["fingerprint"] != self.fingerprint or done["files"] != _sizes(self.folder, done["files"]):
                return None
            return self.outcome(KEPT, done, float(done["seconds"]))
        except (WorkError, OSError, KeyError, TypeError, ValueError):
            return None  # unreadable, or not written by Atypia: it is computed again

    def outcome(self, status: str, facts: Mapping[str, Any], seconds: float) -> SlideOutcome:
        """The outcome of work that gave these facts."""
        rate = facts["rate"]
        counts: dict[str, Any] = {n: None if facts.get(n) is None else int(facts[n]) for n in COUNTED}
        counts.update((name, facts.get(name)) for name in BY_AREA)
        corrected: dict[str, Any] = {n: None if facts.get(n) is None else float(facts[n]) for n in CORRECTED}
        return SlideOutcome(
            self.job.name,
            str(self.job.slide),
            status,
            int(facts["figures"]),
            rate=None if rate is None else float(rate),
            seconds=round(seconds, 3),
            notes=tuple(str(text) for text in facts.get("notes", ())),
            **counts,
            **corrected,
        )

    def failed(self, reason: str) -> SlideOutcome:
        """The outcome of work that failed."""
        return SlideOutcome(self.job.name, str(self.job.slide), FAILED, reason=reason)


def run_task(task: SlideTask, progress: Progress = silent) -> SlideOutcome:
    """Processes one slide, in a worker; any error becomes the outcome's reason."""
    try:
        return _run(task)
    except Exception as error:  # noqa: BLE001 - one slide must not stop the others
        return task.failed(words(error))


def words(error: BaseException) -> str:
    """The message of an error, in one line; for an unexpected error also its type and place."""
    text = " ".join(str(error).split())
    if isinstance(error, AtypiaError):
        return text
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}{place}"


def _run(task: SlideTask) -> SlideOutcome:
    with lock(task.folder):
        there = task.kept()  # meanwhile done by another call, or by a worker that died right afterwards
        if there is not None:
            return replace(there, status=DONE)
        with atomic_folder(task.folder) as part:
            start = time.perf_counter()
            facts = dict(task.work(task.job, part, task.settings))
            seconds = time.perf_counter() - start
            names = sorted(path.name for path in part.iterdir() if path.is_file())
            record = {
                **facts,
                "fingerprint": task.fingerprint,
                "made_from": dict(task.evidence),
                "files": _sizes(part, names),
                "seconds": seconds,
            }
            write_json(part / DONE_FILE, record)
        return task.outcome(DONE, facts, seconds)


def _sizes(folder: Path, names: Sequence[str] | Mapping[str, Any]) -> dict[str, int]:
    return {name: (folder / name).stat().st_size for name in names}


def lost_slide(task: SlideTask, reason: str) -> SlideOutcome:
    """The outcome of a slide at which workers died; incomplete files are removed."""
    for left in task.out.glob(f".{escape(task.job.name)}.*.part"):
        shutil.rmtree(left, ignore_errors=True)
    return task.failed(reason)


SLIDES: Final[Work[SlideTask, SlideOutcome]] = Work(run_task, lost_slide, cores=4, attempts=2)
"""The work on slides for an engine: each is read by one thread while the network uses the worker's other cores."""


def slide_inputs(job: SlideJob, hashes: dict[Path, str]) -> dict[str, Any]:
    """The inputs of a slide's results, apart from the settings.

    The slide is identified by its size, its modification time and its first and last 64 KiB (for MIRAX also by size and
    time of the files in its folder), the points by their content.

    Args:
        job: With absolute paths.
        hashes: Of files of points that were read before; updated here.

    Raises:
        DataError: A file is absent or cannot be read.
        InputError: The folder of points has no file for the slide, or several.
    """
    try:
        slide = slide_evidence(slide_file(job.slide))  # first: points of a slide that is not there are not missing
        file = points_file(job.points, job.slide)
        if file not in hashes:
            hashes[file] = arrays_fingerprint(file) if is_zarr(file) else file_sha256(file)
        own = {"mpp": job.mpp, "mpp_from": job.mpp_from, "origin": job.origin, "offset_px": job.offset_px}
        beside = {"beside": job.beside} if job.beside else {}
        return {"slide": slide, "points": {file.name: hashes[file]}, **own, **beside}
    except OSError as error:
        shown = error.filename or job.slide
        raise DataError(f"{shown} cannot be read: {error.strerror}; fix: check the path") from error
