"""Runs tasks on a Ray cluster: the caller's, or a temporary one on this machine's cores."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from atypia.base.extras import require
from atypia.base.process.progress import silent
from atypia.engines.binding import keep_to_cores
from atypia.engines.cluster import cluster
from atypia.engines.tasks import Setup, Work

R = TypeVar("R")


def run_ray(items: Sequence[Any], work: Work[Any, R], setup: Setup) -> Iterator[R]:
    """Runs items on Ray; see :class:`atypia.engines.engine.Engine`.

    Ray replaces a lost worker or machine and restarts its item. Files named in items (slides, models,
    folders) must have the same paths on all machines.

    Raises:
        AbsentError: Ray is not installed, or there is no cluster at the address.
    """
    require("the engine `ray`", "ray")
    import ray
    import ray.exceptions

    if not items:
        return
    with cluster(setup.address):
        count, share, cards = _room(len(items), work, setup.workers)
        options: dict[str, Any] = {"num_cpus": share, "max_retries": work.attempts - 1, "retry_exceptions": False}
        if cards:
            options["num_gpus"] = 1
        remote = ray.remote(**options)(_do)
        waiting, running = deque(items), dict[Any, Any]()
        over: list[R] = []
        while waiting or running or over:
            while waiting and len(running) < count:
                item = waiting.popleft()
                running[remote.remote(work.do, item, share)] = item
            yield from over  # after the workers have received their next items
            over = []
            if not running:
                continue
            ready, _ = ray.wait(list(running), num_returns=1)
            item = running.pop(ready[0])
            try:
                over.append(ray.get(ready[0]))
            except ray.exceptions.WorkerCrashedError:
                over.append(work.lost(item, work.died))
            except ray.exceptions.RayError as error:
                over.append(work.lost(item, " ".join(str(error).split())))


def _room(items: int, work: Work[Any, Any], workers: int | None) -> tuple[int, int, int]:
    """Number of parallel items, cores of each, and GPUs, such that all fit on the available machines."""
    import ray

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cores = [int(node.get("CPU", 0)) for node in alive]
    cards = sum(int(node.get("GPU", 0)) for node in alive) if work.on_gpu else 0
    largest = max([1, *cores])
    share = min(work.cores, largest) if workers is None else max(1, min(largest, sum(cores) // workers))
    count = workers or cards or max(1, sum(n // share for n in cores))
    return min(items, count), share, cards


def _do(do: Any, item: Any, share: int) -> Any:
    """Runs an item in a cluster worker, on the cores assigned to it."""
    keep_to_cores(share)
    return do(item, silent)
