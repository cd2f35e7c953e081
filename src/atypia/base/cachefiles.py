"""Files that Atypia keeps on this machine: derived files, which can be deleted, and user input, which cannot.

Only folders listed here are changed: ``$ATYPIA_CACHE`` may be a folder with other files.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from atypia.base.artifacts import disk_errors
from atypia.base.errors import InputError, must
from atypia.base.paths import cache_root, home, log_root

DAY_S: Final = 86_400.0
LOGS: Final = "logs"


@dataclass(frozen=True)
class Kind:
    """A kind of kept files.

    Attributes:
        name: Its name on the command line, and of its folder.
        holds: Description of its content.
        of_patients: Whether it contains images or ids of patients, if the data are from patients.
        derived: Whether it is made again when it is needed, so that it may be deleted; what is not lies in the home.
    """

    name: str
    holds: str
    of_patients: bool
    derived: bool = True

    @property
    def folder(self) -> Path:
        """Where it lies; logs have the folder that the system has for them."""
        if self.name == LOGS:
            return log_root()
        return (cache_root() if self.derived else home()) / self.name


KINDS: Final = (
    Kind("crops", "decoded crops of data sets (.npy)", True),
    Kind("features", "features of crops by a backbone (.npy)", True),
    Kind("manifests", "tables of data sets: images, cases, labels", True),
    Kind("detections", "scores of detectors on slides, so that they continue", True),
    Kind("phantom", "rendered crops", False),
    Kind("teachers", "what saved classifiers say of training figures (.npy)", True),
    Kind("synthesis", "generators and generated crops", True),
    Kind("runtimes", "the fastest runtime for a model on this machine (`atypia doctor --tune`)", False),
    Kind("weights", "converted weights of backbones, checksums", False),
    Kind(LOGS, "unexpected errors, with tracebacks", True),
    Kind("reviews", "decisions of `atypia serve`", True, derived=False),
    Kind("imports", "paths of imported folders", True, derived=False),
)
"""Every kind. A new folder below the cache or the home gets its entry here."""


@dataclass(frozen=True)
class CacheEntry:
    """One kept file or folder.

    Attributes:
        kind: Name of its kind.
        path: Where it is.
        size_bytes: Of all files in it.
        written: Time of the last change, in seconds since 1970.
        part: Whether it is an incomplete file of a killed process.
    """

    kind: str
    path: Path
    size_bytes: int
    written: float
    part: bool = False


def cache_entries(kind: Kind) -> Iterator[CacheEntry]:
    """The entries of a kind, by name; unreadable ones count as empty."""
    if not kind.folder.is_dir():
        return
    for path in sorted(kind.folder.iterdir()):
        if path.name.startswith(".") and path.name.endswith(".lock"):
            continue
        size, written = _measured(path)
        yield CacheEntry(kind.name, path, size, written, path.name.endswith((".part", ".old")))


def summary() -> list[dict[str, Any]]:
    """One row a kind: its facts, folder, number of entries, bytes."""
    rows = []
    for kind in KINDS:
        found = list(cache_entries(kind))
        facts = {**asdict(kind), "folder": str(kind.folder), "entries": len(found)}
        rows.append({**facts, "size_bytes": sum(entry.size_bytes for entry in found)})
    return rows


def entries_to_delete(names: Sequence[str] = (), older_than_days: float | None = None) -> list[CacheEntry]:
    """The entries that would be deleted.

    Args:
        names: Kinds; none for all that are derived.
        older_than_days: Only entries last written more than this many days ago.

    Raises:
        InputError: No such kind, one that is not derived, or a negative number of days.
    """
    derived = {kind.name: kind for kind in KINDS if kind.derived}
    for name in names:
        if name not in derived:
            kept = any(kind.name == name for kind in KINDS)
            fix = "it is not derived: delete its files yourself" if kept else "choose one of them"
            raise InputError(must("kind", f"one of {', '.join(derived)}", name, fix))
    if older_than_days is not None and not older_than_days >= 0:
        raise InputError(must("older-than", "a number of days from 0", older_than_days, "leave it out for all"))
    limit = float("inf") if older_than_days is None else time.time() - older_than_days * DAY_S
    wanted = [derived[name] for name in dict.fromkeys(names or derived)]
    return [entry for kind in wanted for entry in cache_entries(kind) if entry.written <= limit]


def delete_entries(found: Sequence[CacheEntry]) -> tuple[list[CacheEntry], list[CacheEntry]]:
    """Deletes entries, except those that another process is writing.

    Returns:
        The deleted entries, and those kept because they are in use.

    Raises:
        WorkError: A file cannot be deleted.
    """
    gone, left = [], []
    for entry in found:
        with disk_errors(entry.path):
            name = entry.path.parent / f".{entry.path.name}.lock"  # as atypia.base.artifacts.lock names it
            ours = not name.exists()
            lock = FileLock(name)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                left.append(entry)
                continue
            try:
                if entry.path.is_dir() and not entry.path.is_symlink():
                    shutil.rmtree(entry.path)
                else:
                    entry.path.unlink(missing_ok=True)
            finally:
                lock.release()
                if ours:  # another process may wait for one that was there
                    name.unlink(missing_ok=True)
            gone.append(entry)
    return gone, left


def _measured(path: Path) -> tuple[int, float]:
    """Total bytes of all files below a path, and the time of the newest; links are not followed."""
    size, written = 0, 0.0
    folders = [path]
    while folders:
        one = folders.pop()
        try:
            facts = one.lstat()
            size, written = size + (0 if one.is_dir() else facts.st_size), max(written, facts.st_mtime)
            if one.is_dir() and not one.is_symlink():
                folders += [Path(inside.path) for inside in os.scandir(one)]
        except OSError:
            continue
    return size, written
