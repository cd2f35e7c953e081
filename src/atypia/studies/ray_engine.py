"""Runs on a Ray cluster: the caller's, or one of this machine's cores that ends with the work."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from atypia.errors import AbsentError, InputError, must
from atypia.inference.ray_cluster import INSTALL, cluster
from atypia.studies.engines import ATTEMPTS, CORES_A_WORKER, DIED, Setup
from atypia.studies.ledger import FAILED, Ledger
from atypia.studies.work import Outcome, Task, execute


def run_ray(tasks: Sequence[Task], setup: Setup) -> Iterator[Outcome]:
    """Runs tasks on Ray; see :class:`atypia.studies.engines.Engine`.

    Ray replaces a worker that dies and repeats its run, which goes on from its last checkpoint. The study's
    folder, the cache and the images must have the same paths on all machines.

    Raises:
        AbsentError: Ray is not installed, or there is no cluster at the address.
        InputError: ``workers`` is below 1.
    """
    if setup.workers is not None and setup.workers < 1:
        raise InputError(must("workers", "a positive whole number", setup.workers, "leave it out"))
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise AbsentError(f"ray is not installed ({error}); fix: {INSTALL}") from error
    with cluster(setup.address):
        resources = ray.cluster_resources()
        cores, cards = int(resources.get("CPU", 1)), int(resources.get("GPU", 0))
        count = min(len(tasks), setup.workers or cards or max(1, cores // CORES_A_WORKER))
        share = max(1, cores // max(count, 1)) if setup.workers else min(CORES_A_WORKER, cores)
        options: dict[str, Any] = {"num_cpus": share, "max_retries": ATTEMPTS - 1, "retry_exceptions": False}
        if cards:
            options["num_gpus"] = 1
        remote = ray.remote(**options)(_execute)
        waiting, running = deque(tasks), dict[Any, Task]()
        outcome: Outcome | None = None
        while waiting or running or outcome:
            while waiting and len(running) < count:
                task = waiting.popleft()
                running[remote.remote(task, share)] = task
            if outcome is not None:  # after the workers have got their next runs
                yield outcome
                outcome = None
            if not running:
                continue
            ready, _ = ray.wait(list(running), num_returns=1)
            task = running.pop(ready[0])
            try:
                outcome = ray.get(ready[0])
            except ray.exceptions.RayError as error:
                reason = DIED if isinstance(error, ray.exceptions.WorkerCrashedError) else " ".join(str(error).split())
                Ledger(task.out).fail(task.run.id, reason)
                outcome = Outcome(task.run.id, FAILED, reason=reason)


def _execute(task: Task, share: int) -> Outcome:
    """Does a task in a worker of the cluster, with as many threads as it has cores."""
    import torch

    torch.set_num_threads(share)
    return execute(task)
