"""Independent pieces of array work, one thread each.

The threads of one product of matrices wait for each other in a busy loop. Where other work shares
the cores, that waiting costs several times the work itself; pieces that share nothing do not wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import threadpool_limits

from atypia.cores import core_count

T = TypeVar("T")
R = TypeVar("R")


def each(work: Callable[[T], R], items: Sequence[T], workers: int | None = None) -> Iterator[R]:
    """Results of ``work`` in the order of the items; every piece has its own thread and share of the cores.

    Args:
        work: Called with one item; most of its time must be inside NumPy, which frees the interpreter.
        items: What to work on.
        workers: Pieces at a time; None: as many as there are cores.

    Raises:
        Exception: Whatever ``work`` raises; pieces that have not begun are dropped.
    """
    available = core_count()
    workers = max(1, min(workers or available, len(items)))
    with (
        threadpool_limits(max(1, available // workers), user_api="blas"),
        ThreadPoolExecutor(workers, thread_name_prefix="fold") as pool,
    ):
        futures = [pool.submit(work, item) for item in items]
        try:
            for future in futures:
                yield future.result()
        finally:
            for future in futures:
                future.cancel()
