"""Independent pieces of array work, one thread each.

A product of matrices adds up in another order when more threads share it, so that a piece that had
the cores to itself would differ in its last digits from the same piece beside others. Each piece
therefore has one thread, whatever runs beside it and however many cores there are. It is also the
faster way for matrices of this size: the threads of one product wait for each other in a busy loop,
which costs several times the work itself where other work shares the cores.
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
    """Results of ``work`` in the order of the items; every piece has one thread, of its own.

    On one machine a piece gives the same bits beside any others and with any number of workers, where the kernels
    do not depend on where an array lies in memory (x86 with AVX2 and later); else the same up to rounding.

    Args:
        work: Called with one item; most of its time must be inside NumPy, which frees the interpreter.
        items: What to work on.
        workers: Pieces at a time; None: as many as there are cores.

    Raises:
        Exception: Whatever ``work`` raises; pieces that have not begun are dropped.
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
