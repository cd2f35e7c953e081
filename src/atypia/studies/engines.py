"""What carries runs out: one small protocol, found by name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from atypia.cores import core_count
from atypia.progress import Progress, silent
from atypia.registry import Registry
from atypia.studies.work import Outcome, Task, execute

ATTEMPTS: Final = 3
"""Workers that may die at one run before it is taken for the run's fault."""
CORES_A_WORKER: Final = 2
"""Cores of one worker unless told otherwise: small networks gain little from more."""
DIED: Final = (
    f"the worker process died {ATTEMPTS} times at this run (out of memory, or killed); "
    "fix: see what ended it, give it more memory (fewer workers), and run again with --retry"
)


@dataclass(frozen=True)
class Setup:
    """How runs are carried out.

    Attributes:
        workers: Runs at once; None for what suits the machine: one a GPU, else one to two cores.
        address: Of a Ray cluster; None starts one on this machine.
        progress: Told about what happens inside a run, where that can be told.
    """

    workers: int | None = None
    address: str | None = None
    progress: Progress = silent


class Engine(Protocol):
    """Carries tasks out."""

    def __call__(self, tasks: Sequence[Task], setup: Setup) -> Iterator[Outcome]:
        """Yields the outcome of :func:`atypia.studies.work.execute` for each task, in any order.

        Args:
            tasks: At least one.
            setup: How.
        """
        ...


def _inline(tasks: Sequence[Task], setup: Setup) -> Iterator[Outcome]:
    for task in tasks:
        yield execute(task, setup.progress)


def _local(tasks: Sequence[Task], setup: Setup) -> Iterator[Outcome]:
    from atypia.studies.local import run_local

    return run_local(tasks, setup)


def _ray(tasks: Sequence[Task], setup: Setup) -> Iterator[Outcome]:
    from atypia.studies.ray_engine import run_ray

    return run_ray(tasks, setup)


ENGINES = Registry[Engine]("engine")
"""Processes of this machine, a Ray cluster, or this very process (one run after the other; for debugging)."""
ENGINES.add("local", _local)
ENGINES.add("ray", _ray)
ENGINES.add("inline", _inline)


def gpus(environment: Mapping[str, str] | None = None, devices: Path = Path("/dev")) -> list[str]:
    """The GPUs that workers may use, as ``CUDA_VISIBLE_DEVICES`` names them; found without starting CUDA."""
    visible = (os.environ if environment is None else environment).get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip() and name.strip() != "-1"]
    return sorted(path.name.removeprefix("nvidia") for path in devices.glob("nvidia[0-9]*"))


def worker_count(tasks: int, wanted: int | None, n_gpus: int, cores: int | None = None) -> int:
    """Workers for so many tasks on this machine.

    >>> worker_count(100, None, 0, cores=8), worker_count(100, None, 2, cores=8), worker_count(3, 16, 0, cores=8)
    (4, 2, 3)
    """
    cores = core_count() if cores is None else cores
    return max(1, min(tasks, wanted or n_gpus or cores // CORES_A_WORKER or 1))
