"""What an engine is given and what it is: the work on an item, how it is carried out, and for how many at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from atypia.base.errors import InputError, must
from atypia.base.process.cores import core_count
from atypia.base.process.progress import Progress, silent

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Work(Generic[T, R]):
    """What is done with each item.

    Attributes:
        do: From an item to its outcome, in whatever process. A function of a module, which workers import by its
            name. What can go wrong with an item is part of the outcome: an exception is an error of the work itself.
            The progress is silent in other processes.
        lost: The outcome of an item that gave none, and why; called in the caller's process.
        cores: Cores of one worker unless told otherwise.
        attempts: Workers that may die at one item before it is taken for the item's fault.
        on_gpu: Whether workers use a GPU where there is one.
        repeat: How a person begins lost items again, for messages.
    """

    do: Callable[[T, Progress], R]
    lost: Callable[[T, str], R]
    cores: int = 2
    attempts: int = 2
    on_gpu: bool = False
    repeat: str = "call again"

    @property
    def died(self) -> str:
        """Why an item is given up at which workers died."""
        fix = f"see what ended it, give it more memory (fewer workers), and {self.repeat}"
        return f"the worker process died {self.attempts} times at this (out of memory, or killed); fix: {fix}"


@dataclass(frozen=True)
class Setup:
    """How tasks are carried out.

    Attributes:
        workers: Items at once; None for what suits the machine.
        address: Of a Ray cluster, for instance ``host:6379``, or ``auto``; None for ``$RAY_ADDRESS``, else a cluster
            of this machine's cores that ends with the work.
        progress: Told about what happens inside an item, where that can be told.

    Raises:
        InputError: ``workers`` is below 1.
    """

    workers: int | None = None
    address: str | None = None
    progress: Progress = silent

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise InputError(must("workers", "a positive whole number", self.workers, "leave it out"))


class Engine(Protocol):
    """Carries tasks out."""

    def __call__(self, items: Sequence[Any], work: Work[Any, R], setup: Setup) -> Iterator[R]:
        """Yields one outcome an item as soon as it is there, in any order.

        Args:
            items: What is to be done; they travel to workers.
            work: What is done with each.
            setup: How.

        Raises:
            InputError: The setup is not one of this engine.
            AbsentError: What the engine needs is not here.
        """
        ...


def gpus(environment: Mapping[str, str] | None = None, devices: Path = Path("/dev")) -> list[str]:
    """The GPUs that workers may use, as ``CUDA_VISIBLE_DEVICES`` names them; found without starting CUDA."""
    visible = (os.environ if environment is None else environment).get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip() and name.strip() != "-1"]
    return sorted(path.name.removeprefix("nvidia") for path in devices.glob("nvidia[0-9]*"))


def worker_count(items: int, wanted: int | None, n_gpus: int, cores_a_worker: int, cores: int | None = None) -> int:
    """Workers for so many items on this machine: as wanted, else one a GPU, else as many as its cores suffice for.

    >>> worker_count(100, None, 0, 2, cores=8), worker_count(100, None, 2, 2, cores=8), worker_count(3, 16, 0, 2, cores=8)
    (4, 2, 3)
    """
    cores = core_count() if cores is None else cores
    return max(1, min(items, wanted or n_gpus or cores // cores_a_worker or 1))
