"""State of runs: who works on them, and their results; stored as files that many processes and machines can share.

A run's folder contains, beside the files of the training::

    events.jsonl   one line per start, end or failure: when, where, by which process
    claim.json     exists while a process works on it; its modification time is the process's heartbeat
    done.json      written when complete: duration in seconds, and the data sets that it was tested on
    failed.json    the reason for a failure, with the traceback; kept until the next attempt

The claim of a dead process is void: at once if checked on the same machine, else when its
heartbeat is older than :data:`EXPIRES_S`.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from atypia.base.artifacts import disk_errors, lock, read_json, write_json
from atypia.base.errors import WorkError
from atypia.base.files.structured import parse_json
from atypia.studies import files

HEARTBEAT_S: Final = 15.0
EXPIRES_S: Final = 120.0
EVENTS, CLAIM, DONE_FILE, FAILED_FILE = "events.jsonl", "claim.json", "done.json", "failed.json"

DONE: Final = "done"
RUNNING: Final = "running"
FAILED: Final = "failed"
PENDING: Final = "pending"
STATES: Final = (DONE, RUNNING, FAILED, PENDING)


@dataclass(frozen=True)
class Claim:
    """A claim: which process of which machine works on a run."""

    token: str
    host: str
    pid: int
    born: str


class Ledger:
    """The states of a study's runs.

    Args:
        out: The study's folder.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.runs = out / files.RUNS

    def folder(self, run: str) -> Path:
        """Folder of a run."""
        return self.runs / run

    def done(self, run: str, tests: Iterable[str] = ()) -> dict[str, Any] | None:
        """Content of ``done.json`` if the run is complete with these test sets; else None."""
        try:
            facts = parse_json((self.folder(run) / DONE_FILE).read_bytes(), DONE_FILE)
            whole = facts["run"] == run and set(tests) <= set(facts["tests"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return facts if whole else None

    def failure(self, run: str) -> dict[str, Any] | None:
        """The failure of a run; None if it did not fail."""
        try:
            facts = parse_json((self.folder(run) / FAILED_FILE).read_bytes(), FAILED_FILE)
        except (OSError, ValueError):
            return None
        return facts if isinstance(facts, dict) else None

    def state(self, run: str, tests: Iterable[str] = ()) -> str:
        """One of :data:`STATES`."""
        if self.done(run, tests) is not None:
            return DONE
        folder = self.folder(run)
        if (folder / CLAIM).exists() and self.is_alive(folder / CLAIM):
            return RUNNING
        return FAILED if (folder / FAILED_FILE).exists() else PENDING

    def states(self, runs: Iterable[str], tests: Iterable[str] = ()) -> dict[str, str]:
        """State of each run; a single listing of the folder shows which runs have started."""
        wanted = list(tests)
        begun = {entry.name for entry in os.scandir(self.runs)} if self.runs.is_dir() else set[str]()
        return {run: self.state(run, wanted) if run in begun else PENDING for run in runs}

    def events(self, run: str) -> list[dict[str, Any]]:
        """Events of a run, oldest first; a line truncated by a kill is skipped."""
        try:
            lines = (self.folder(run) / EVENTS).read_text("utf-8").splitlines()
        except OSError:
            return []
        found = []
        for line in lines:
            try:
                found.append(parse_json(line, EVENTS))
            except ValueError:
                continue
        return found

    def record(self, run: str, event: str, **facts: Any) -> None:
        """Appends an event."""
        path = self.folder(run) / EVENTS
        line = {"event": event, "time": now(), "host": socket.gethostname(), "pid": os.getpid(), **facts}
        with disk_errors(path):
            handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                os.write(handle, (json.dumps(line, sort_keys=True) + "\n").encode())
            finally:
                os.close(handle)

    def finish(self, run: str, seconds: float, tests: Iterable[str], facts: Mapping[str, Any]) -> None:
        """Marks a run complete."""
        self.record(run, DONE, seconds=round(seconds, 3))
        write_json(
            self.folder(run) / DONE_FILE,
            {"run": run, "seconds": round(seconds, 3), "tests": sorted(tests), "finished": now(), **facts},
        )
        (self.folder(run) / FAILED_FILE).unlink(missing_ok=True)

    def fail(self, run: str, reason: str, trace: str = "") -> None:
        """Marks a run failed."""
        self.folder(run).mkdir(parents=True, exist_ok=True)
        self.record(run, FAILED, reason=reason)
        write_json(self.folder(run) / FAILED_FILE, {"run": run, "reason": reason, "traceback": trace, "time": now()})

    def forgive(self, runs: Iterable[str]) -> int:
        """Allows failed runs to be tried again; returns their number."""
        there = [path for run in runs if (path := self.folder(run) / FAILED_FILE).exists()]
        for path in there:
            path.unlink(missing_ok=True)
        return len(there)

    def adopt(self, run: str, others: Mapping[Path, str]) -> bool:
        """Copies a complete run from another study's folder, by hard links if possible.

        Args:
            run: Id of the run.
            others: Folders, with the id of the run there.
        """
        for other, name in others.items():
            source = Ledger(other)
            facts = source.done(name)
            if facts is None:
                continue
            self.runs.mkdir(parents=True, exist_ok=True)
            part = Path(tempfile.mkdtemp(prefix=f".{run}.", suffix=".part", dir=self.runs))
            try:
                ignored = shutil.ignore_patterns(CLAIM, EVENTS, FAILED_FILE, ".*")
                shutil.copytree(source.folder(name), part, copy_function=_link, ignore=ignored, dirs_exist_ok=True)
                if name != run:
                    write_json(
                        part / DONE_FILE, {**facts, "run": run}
                    )  # a new file: the other study's file is not changed
                if not self.folder(run).exists():
                    part.chmod(0o755)
                    part.rename(self.folder(run))
                    self.record(run, "adopted", source=str(other))
                return True
            finally:
                shutil.rmtree(part, ignore_errors=True)
        return False

    @contextmanager
    def claim(self, run: str) -> Iterator[bool]:
        """Claims a run while the block runs; yields False if another living process has it."""
        folder = self.folder(run)
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        mine = Claim(uuid.uuid4().hex, host_name(), os.getpid(), process_start(os.getpid()))
        path = folder / CLAIM
        if not _place(path, mine) and not self._take_over(path, mine):
            yield False
            return
        stop = threading.Event()
        beat = threading.Thread(target=_beat, args=(path, mine.token, stop), daemon=True, name="claim")
        beat.start()
        try:
            yield True
        finally:
            stop.set()
            beat.join()
            held = read_claim(path)
            if held is not None and held.token == mine.token:
                path.unlink(missing_ok=True)

    def _take_over(self, path: Path, mine: Claim) -> bool:
        if self.is_alive(path):
            return False
        with lock(self.out / "claims"):  # if two processes found it void, the second one sees the first one's claim
            if self.is_alive(path):
                return False
            path.unlink(missing_ok=True)
            return _place(path, mine)

    def is_alive(self, path: Path) -> bool:
        """Whether the process with the claim is still alive; False without a claim."""
        try:
            changed = path.stat().st_mtime
        except OSError:
            return False
        held = read_claim(path)
        if held is not None and held.host == host_name() and held.born:
            return process_start(held.pid) == held.born != ""
        # Another machine, or a claim being written: use the heartbeat, by the file server's clock.
        return time.time() - changed < EXPIRES_S


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@lru_cache(maxsize=1)
def host_name() -> str:
    """Name of this machine and process namespace: a container has its own process ids."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - a link to no file
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
    except OSError:
        namespace = boot = ""
    return f"{socket.gethostname()} {boot} {namespace}".strip()


def process_start(pid: int) -> str:
    """Start time of a process on this machine, in the system's format; empty if it does not exist, or is not told.

    Process ids are reused, so the id alone does not identify a process.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8")
    except OSError:
        if Path("/proc/self/stat").exists():
            return ""
        return _known(pid)
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def _known(pid: int) -> str:
    """For systems without /proc: whether the process id exists; empty where asking would interrupt it."""
    if os.name == "nt":
        return ""  # no signal 0 there: claims are judged by their heartbeat
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        return "running"
    return "running"


def read_claim(path: Path) -> Claim | None:
    """Reads a claim; None if there is no readable one."""
    try:
        return Claim(**read_json(path))
    except (WorkError, OSError, TypeError):
        return None


def _place(path: Path, held: Claim) -> bool:
    try:
        with open(path, "x", encoding="utf-8") as file:
            json.dump(vars(held), file)
    except FileExistsError:
        return False
    return True


def _beat(path: Path, token: str, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_S):
        held = read_claim(path)
        if held is None or held.token != token:
            return  # taken over after a long pause in which it counted as dead
        try:
            os.utime(path)
        except OSError:
            return


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
