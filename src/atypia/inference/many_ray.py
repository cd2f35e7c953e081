"""Many slides on a Ray cluster, with Ray Data: one actor a few cores, one slide at a time each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, cast

from atypia.errors import AbsentError, WorkError
from atypia.inference.many_local import CORES_A_WORKER, keep_to_cores
from atypia.inference.many_tasks import SlideOutcome, Task, run_task, words
from atypia.inference.ray_cluster import INSTALL, cluster


class SlideActor:
    """A worker of the cluster.

    Args:
        tasks: All of them; rows name theirs by position.
        share: Cores that it keeps to.
    """

    def __init__(self, tasks: Sequence[Task], share: int) -> None:
        self.tasks = tasks
        keep_to_cores(share)

    def __call__(self, row: dict[str, Any]) -> dict[str, str]:
        """Does the slide of a row; its outcome travels as JSON, whose types do not depend on its values."""
        return {"outcome": json.dumps(asdict(run_task(self.tasks[int(row["task"])])))}


def run_ray(tasks: Sequence[Task], workers: int | None = None, address: str | None = None) -> Iterator[SlideOutcome]:
    """Runs tasks on a Ray cluster; see :class:`atypia.inference.many.Engine`.

    An actor that dies is started again and begins its slide once more; a slide at which actors keep dying fails
    (:data:`atypia.inference.many_tasks.ATTEMPTS`). A machine that is lost is replaced by those that are left.

    Args:
        tasks: At least one.
        workers: Actors; None for one to :data:`~atypia.inference.many_local.CORES_A_WORKER` cores of the cluster.
        address: Of the head, for instance ``host:6379``, or ``auto``; None for ``$RAY_ADDRESS``, else a cluster of
            this machine's cores that ends with the work.

    Raises:
        AbsentError: Ray is not installed, or there is no cluster at this address.
    """
    try:
        import ray.data
        import ray.exceptions
    except ImportError as error:
        raise AbsentError(f"ray[data] is not installed ({error}); fix: {INSTALL}") from error
    seen: set[str] = set()
    reason = "no worker of the cluster came back with it; fix: see the cluster's logs, and call again"
    with cluster(address):
        size, most, share = _pool_size(len(tasks), workers)
        with _quiet():
            rows = ray.data.from_items([{"task": i} for i in range(len(tasks))], override_num_blocks=len(tasks))
            strategy = ray.data.ActorPoolStrategy(min_size=size, max_size=most, max_tasks_in_flight_per_actor=1)
            done = rows.map(cast(Any, SlideActor), fn_constructor_args=(tasks, share), compute=strategy, num_cpus=share)
            try:
                for batch in done.iter_batches(batch_size=None, prefetch_batches=0):
                    for text in batch["outcome"]:
                        outcome = SlideOutcome(**json.loads(text))
                        seen.add(outcome.name)
                        yield outcome
            except (ray.exceptions.RayError, RuntimeError) as error:
                reason = words(WorkError(f"the cluster stopped ({error}); fix: see its logs, and call again"))
    for task in tasks:
        if task.job.name not in seen:
            yield task.failed(reason)


def _pool_size(tasks: int, workers: int | None) -> tuple[int, int, int]:
    """Actors at the start and at most, and cores of each, so that all of them find room on the machines there are."""
    import ray

    cores = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    largest = max([1, *cores])
    share = min(CORES_A_WORKER, largest) if workers is None else max(1, min(largest, sum(cores) // workers))
    room = max(1, sum(count // share for count in cores))
    size = min(tasks, workers or room, room)
    return size, max(size, min(tasks, workers or size)), share


@contextmanager
def _quiet() -> Iterator[None]:
    """Ray Data without its own bars; a row that is lost does not end the others, and slides may take their time."""
    from ray.data import DataContext

    context = DataContext.get_current()
    wanted = {
        "enable_progress_bars": False,
        "print_on_execution_start": False,
        "max_errored_blocks": -1,
        "execution_no_progress_timeout_s": -1,
    }
    before = {name: getattr(context, name) for name in wanted if hasattr(context, name)}
    for name in before:
        setattr(context, name, wanted[name])
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)
