"""The history of speed, ``benchmarks/history.jsonl``: one line a run of ``python -m benchmarks --record``.

A line says when, at which commit, on what machine (processor, cores, memory; no name of it and no path), with which
versions, how much of the processor other programs took meanwhile, and every ratio with its repeated pairs.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from atypia.base.process.cores import core_count, processor_name
from atypia.base.version import VERSION

ROOT: Final = Path(__file__).parents[2]
HISTORY: Final = ROOT / "benchmarks" / "history.jsonl"
PACKAGES: Final = ("numpy", "onnxruntime", "pillow", "pyarrow", "scikit-learn", "scipy", "torch")
QUIET: Final = 0.1
"""Most of the processor's time that other programs may take in a run that is compared."""


@dataclass(frozen=True)
class Run:
    """One line.

    Attributes:
        date: Day, UTC, as 2026-11-28.
        commit: Short hash; None where the line holds figures of several commits.
        changed: Whether files differed from that commit.
        processor: Its model, as the system tells it.
        cores: How many could be used.
        memory_gib: Of the machine, rounded.
        others: Share of the processor's time that other programs took, 0 to 1; None: not known.
        versions: Of Python and the packages that do the work.
        pairs: Ratio to its values, round by round: yardstick's time / own time, more is faster.
        source: Where a line comes from that no run wrote; its values are medians.
    """

    date: str
    commit: str | None
    changed: bool
    processor: str
    cores: int
    memory_gib: int
    others: float | None
    versions: dict[str, str] = field(default_factory=dict)
    pairs: dict[str, list[float]] = field(default_factory=dict)
    source: str | None = None

    @property
    def machine(self) -> tuple[str, int]:
        """What must be the same where two runs are compared."""
        return self.processor, self.cores

    @property
    def busy(self) -> bool:
        """Whether other programs took too much for a comparison."""
        return self.others is None or self.others > QUIET


def load(path: Path = HISTORY) -> list[Run]:
    """All lines, oldest first; none where there is no file."""
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return [Run(**json.loads(line)) for line in lines]


def append(run: Run, path: Path = HISTORY) -> None:
    """Adds a line at the end."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(run), ensure_ascii=False) + "\n")


def run_of(pairs: dict[str, list[float]], others: float | None) -> Run:
    """What was measured here and now, as a line."""
    return Run(
        datetime.now(UTC).date().isoformat(),
        _git("rev-parse", "--short", "HEAD"),
        bool(_git("status", "--porcelain", "--untracked-files=no")),
        processor_name(),
        core_count(),
        round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        None if others is None else round(others, 3),
        {"python": platform.python_version(), "atypia": VERSION, **_versions()},
        pairs,
    )


@contextmanager
def watched() -> Iterator[dict[str, float]]:
    """Share of the processor's time that others took within the block, as ``["others"]``; empty where it is not known."""
    found: dict[str, float] = {}
    before = _machine_seconds(), _own_seconds()
    yield found
    after = _machine_seconds(), _own_seconds()
    if before[0] is not None and after[0] is not None:
        whole, used = (b - a for a, b in zip(before[0], after[0], strict=True))
        found["others"] = min(1.0, max(0.0, (used - (after[1] - before[1])) / whole)) if whole > 0 else 0.0


def _machine_seconds() -> tuple[float, float] | None:
    """Seconds of all processors since the machine started: all, and those in use; None where Linux does not tell."""
    try:
        first = Path("/proc/stat").read_text("utf-8").splitlines()[0].split()[1:9]
    except (OSError, IndexError):
        return None
    ticks = [int(part) / os.sysconf("SC_CLK_TCK") for part in first]
    return sum(ticks), sum(ticks) - ticks[3] - ticks[4]


def _own_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _versions() -> dict[str, str]:
    found: dict[str, Any] = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _git(*words: str) -> str | None:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"git {words[0]}: {done.stderr.strip()}", file=sys.stderr)
        return None
    return done.stdout.strip()
