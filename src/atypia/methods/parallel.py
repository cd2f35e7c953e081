"""Independent pieces of array work, one thread each.

With another number of threads, a matrix product is summed in another order and differs in its last
digits. Each piece therefore always uses one thread, whatever runs beside it and however many cores
there are. This is also faster for matrices of this size: the threads of one product wait for each
other in a busy loop, which costs several times the work itself when other processes use the cores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import threadpool_limits

from atypia.base.process.cores import core_count

T = TypeVar("T")
R = TypeVar("R")


def map_threads(work: Callable[[T], R], items: Sequence[T], workers: int | None = None) -> Iterator[R]:
    """Results of ``work`` in the order of the items; each piece uses one thread of its own.

    On one machine a piece gives the same bits beside any others and with any number of workers, if the kernels
    do not depend on the memory address of an array (x86 with AVX2 and later); else the same up to rounding.

    Args:
        work: Called with one item; most of its time must be inside NumPy, which releases the interpreter's lock.
        items: One argument of ``work`` each.
        workers: Number of pieces at a time; None: the number of cores.

    Raises:
        Exception: Whatever ``work`` raises; pieces that have not started are not run.
    """
    workers = max(1, min(workers or core_count(), len(items)))
    with (
        threadpool_limits(1, user_api="blas"),
        ThreadPoolExecutor(workers, thread_name_prefix="fold") as pool,
    ):
        futures = [pool.submit(work, item) for item in items]
        try:
            for future in futures:
                yield future.result()
        finally:
            for future in futures:
                future.cancel()
