"""Engines that run tasks, by name.

A caller says what is done with an item (:class:`~atypia.engines.tasks.Work`) and how (:class:`~atypia.engines.tasks.Setup`); an engine gives back one outcome an
item. Slides and the runs of studies use the same three: processes of this machine (``local``), a Ray cluster
(``ray``), and the calling process (``inline``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeVar

from atypia.base.registry import Registry
from atypia.engines.tasks import Engine, Setup, Work

R = TypeVar("R")

LOCAL, RAY, INLINE = "local", "ray", "inline"


def _inline(items: Sequence[Any], work: Work[Any, R], setup: Setup) -> Iterator[R]:
    for item in items:
        yield work.do(item, setup.progress)


def _local(items: Sequence[Any], work: Work[Any, R], setup: Setup) -> Iterator[R]:
    from atypia.engines.processes import run_local

    return run_local(items, work, setup)


def _ray(items: Sequence[Any], work: Work[Any, R], setup: Setup) -> Iterator[R]:
    from atypia.engines.ray_tasks import run_ray

    return run_ray(items, work, setup)


ENGINES: Final = Registry[Engine]("engine", plugins="engines")
"""Processes of this machine, a Ray cluster, or the calling process (one item after the other; for debugging)."""
ENGINES.add(LOCAL, _local)
ENGINES.add(RAY, _ray)
ENGINES.add(INLINE, _inline)
