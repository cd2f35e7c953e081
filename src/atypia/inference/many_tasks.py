"""One slide of many: what it is made from, its folder, and the work on it in a worker."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from atypia.artifacts import atomic_folder, disk_errors, file_sha256, fingerprint, lock, read_json, write_json
from atypia.data.points.base import BoxFormat
from atypia.errors import AtypiaError, DataError, WorkError
from atypia.inference.requests import Request

DONE: Final = "done"
KEPT: Final = "kept"
FAILED: Final = "failed"
DONE_FILE: Final = "done.json"
FORMAT: Final = 1
"""Raised when the same inputs would give other files; what was made before is then repeated."""
ATTEMPTS: Final = 2
"""How often a slide is begun before the workers that died at it are taken for its fault."""
_SAMPLE_BYTES = 1 << 16


@dataclass(frozen=True)
class SlideJob:
    """One slide and the figures on it.

    Attributes:
        slide: The file.
        points: The file of points, which may hold those of other slides too; or a folder with one file a slide.
        name: Name of its folder; empty for the slide's own name without suffix.
        mpp: Its µm/px, where it does not state it or is wrong; None for the settings'.
    """

    slide: Path
    points: Path
    name: str = ""
    mpp: float | None = None


@dataclass(frozen=True)
class SlideSettings:
    """Everything beside the slide and its points that decides what is written; JSON-able.

    Attributes:
        models: As ``Classifier.load`` takes them; several are averaged.
        point: Operating point by name; None for the model's threshold.
        coverage: Coverage of the prediction sets; None for the model's own.
        threshold: Decide at this probability of *atypical* instead, in (0, 1).
        runtime: Name of the runtime; None for the first that is there.
        tta: Whether to average over flips and quarter turns.
        mpp: µm/px, where the slides do not state it or are wrong.
        point_format: Format of the points; None tells by the content.
        box_format: What the four numbers of a JSON box are.
        classes: Only points that the file calls one of these; empty for all.
        forms: Suffixes of the results that are written, without the dot; ``html`` is the case page.
        fields: Whether GeoJSON shows squares of the field instead of points.
    """

    models: tuple[str, ...]
    point: str | None = None
    coverage: float | None = None
    threshold: float | None = None
    runtime: str | None = None
    tta: bool = False
    mpp: float | None = None
    point_format: str | None = None
    box_format: BoxFormat = "auto"
    classes: tuple[str, ...] = ()
    forms: tuple[str, ...] = ("parquet", "geojson")
    fields: bool = False

    def request(self, job: SlideJob) -> Request:
        """What is to be classified for a job."""
        mpp = self.mpp if job.mpp is None else job.mpp
        return Request((str(job.slide),), job.points, mpp, self.point_format, self.box_format, tuple(self.classes))


@dataclass(frozen=True)
class SlideOutcome:
    """What became of a slide: a line of ``slides.csv``.

    Attributes:
        name: Of its folder.
        slide: The file.
        status: :data:`DONE`, :data:`KEPT` (complete from an earlier call) or :data:`FAILED`.
        figures: Figures in its results, refused ones included; None where it failed.
        atypical: Scored figures whose probability reached the threshold, certain and uncertain ones.
        rate: Their share among ``scored``, in [0, 1]; None where it is undefined.
        seconds: What the work took, when it was done.
        reason: Why it failed, and what can be done; else empty.
        scored: Figures that were classified; the denominator of every rate.
        refused: The others.
        atypical_certain: Of ``atypical``, those called atypical.
        atypical_uncertain: Of ``atypical``, those called uncertain.
        uncertain: Scored figures called uncertain, on whichever side of the threshold.
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


COLUMNS: Final = tuple(SlideOutcome.__dataclass_fields__)
"""Columns of ``slides.csv``."""
COUNTED: Final = ("scored", "refused", "atypical", "atypical_certain", "atypical_uncertain", "uncertain")
"""Counts that are taken over from the facts of a slide; None where an older result does not give them."""

Work = Callable[[SlideJob, Path, SlideSettings], Mapping[str, Any]]
"""Writes a slide's files into a folder and returns JSON-able facts: at least ``figures``, ``atypical`` and ``rate``
(None where it is undefined). A function of a module, which worker processes import by its name."""


@dataclass(frozen=True)
class Task:
    """A job, ready for a worker.

    Attributes:
        job: With absolute paths and its final name.
        out: Folder of all slides.
        settings: What decides the results.
        work: What is done.
        evidence: What the results are made from: fingerprints of slide, points, settings and models.
    """

    job: SlideJob
    out: Path
    settings: SlideSettings
    work: Work
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where its files go."""
        return self.out / self.job.name

    @property
    def attempts_file(self) -> Path:
        """As many bytes as workers have begun this slide and not come back."""
        return self.out / f".{self.job.name}.attempts"

    @property
    def fingerprint(self) -> str:
        """Hash of the evidence."""
        return fingerprint("slide", FORMAT, dict(self.evidence))

    def kept(self) -> SlideOutcome | None:
        """What is there from an earlier call; None where nothing is, or something else, or not all of it."""
        try:
            done = read_json(self.folder / DONE_FILE)
            if done["fingerprint"] != self.fingerprint or done["files"] != _sizes(self.folder, done["files"]):
                return None
            return self.outcome(KEPT, done, float(done["seconds"]))
        except (WorkError, OSError, KeyError, TypeError, ValueError):
            return None  # unreadable, or written by something else: it is made again

    def outcome(self, status: str, facts: Mapping[str, Any], seconds: float) -> SlideOutcome:
        """The outcome of work that gave these facts."""
        rate = facts["rate"]
        counts: dict[str, Any] = {name: None if facts.get(name) is None else int(facts[name]) for name in COUNTED}
        return SlideOutcome(
            self.job.name,
            str(self.job.slide),
            status,
            int(facts["figures"]),
            rate=None if rate is None else float(rate),
            seconds=round(seconds, 3),
            **counts,
        )

    def failed(self, reason: str) -> SlideOutcome:
        """The outcome of work that failed."""
        return SlideOutcome(self.job.name, str(self.job.slide), FAILED, reason=reason)


def run_task(task: Task) -> SlideOutcome:
    """Does one slide, in a worker; whatever goes wrong becomes the outcome's reason.

    An exception might not survive the way between processes and would stop the others; its words do not.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="slide") as pool:
        future = pool.submit(_run, task)
        error = future.exception()
    return future.result() if error is None else task.failed(words(error))


def words(error: BaseException) -> str:
    """What an error says, in one line; one that is not Atypia's own names its type and place."""
    text = " ".join(str(error).split())
    if isinstance(error, AtypiaError):
        return text
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}{place}"


def _run(task: Task) -> SlideOutcome:
    with lock(task.folder):
        there = task.kept()  # another call may have done it meanwhile, or a worker that died right after
        if there is not None:
            return replace(there, status=DONE)
        with atomic_folder(task.folder) as part, _attempt(task):
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


@contextmanager
def _attempt(task: Task) -> Iterator[None]:
    """Leaves a trace while a slide is worked on, by which the next worker sees that this one died.

    Raises:
        WorkError: :data:`ATTEMPTS` workers died.
    """
    file = task.attempts_file
    begun = file.stat().st_size if file.exists() else 0
    try:
        if begun >= ATTEMPTS:
            fix = "give it more memory (fewer workers), or fetch the slide again"
            raise WorkError(
                f"the worker died {begun} times at this slide: out of memory, or a damaged file; fix: {fix}"
            )
        with disk_errors(file), open(file, "ab") as trace:
            trace.write(b".")
        yield
    finally:
        file.unlink(missing_ok=True)


def _sizes(folder: Path, names: Sequence[str] | Mapping[str, Any]) -> dict[str, int]:
    return {name: (folder / name).stat().st_size for name in names}


def evidence(job: SlideJob, hashes: dict[Path, str]) -> dict[str, Any]:
    """What a slide's results depend on, beside the settings.

    The slide is known by its size, its time of change and its first and last 64 KiB (of MIRAX also the files of its
    folder, by size and time); the points by their content.

    Args:
        job: With absolute paths.
        hashes: Of files of points that were read before; completed here.

    Raises:
        DataError: A file is absent or cannot be read.
    """
    try:
        files = [job.points]
        if job.points.is_dir():
            files = sorted(path for path in job.points.iterdir() if path.is_file() and path.stem == job.slide.stem)
        for file in files:
            if file not in hashes:
                hashes[file] = file_sha256(file)
        points = {file.name: hashes[file] for file in files}
        return {"slide": _slide_evidence(job.slide), "points": points, "mpp": job.mpp}
    except OSError as error:
        shown = error.filename or job.slide
        raise DataError(f"{shown} cannot be read: {error.strerror}; fix: check the path") from error


def _slide_evidence(path: Path) -> dict[str, Any]:
    known = path.stat()
    with open(path, "rb") as file:
        start = file.read(_SAMPLE_BYTES)
        file.seek(max(0, known.st_size - _SAMPLE_BYTES))
        end = file.read(_SAMPLE_BYTES)
    beside = path.with_suffix("")
    parts = sorted(beside.iterdir()) if path.suffix.lower() == ".mrxs" and beside.is_dir() else []
    stats = [(part.name, part.stat().st_size, part.stat().st_mtime_ns) for part in parts]
    content = fingerprint(known.st_mtime_ns, start, end, stats)
    return {"path": str(path), "bytes": known.st_size, "content": content}
