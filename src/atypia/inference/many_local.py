"""Many slides on this machine: worker processes that share its cores; one that dies takes no other slide with it."""

from __future__ import annotations

import os
import signal
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from atypia.cores import core_count
from atypia.errors import InputError, must
from atypia.inference.many_tasks import ATTEMPTS, SlideOutcome, Task, run_task, words

CORES_A_WORKER: Final = 4
"""Cores of one worker unless told otherwise: a slide is read by one thread while the network has the others."""

_held: list[FileLock] = []


def run_local(tasks: Sequence[Task], workers: int | None = None, address: str | None = None) -> Iterator[SlideOutcome]:
    """Runs tasks in processes of this machine; see :class:`atypia.inference.many.Engine`.

    Slides that were being worked on when a process died are done again, each alone, so that only the one to blame
    fails.

    Raises:
        InputError: An address is given.
    """
    if address is not None:
        raise InputError(must("address", "left out with the local engine", address, "choose the engine ray"))
    count = min(len(tasks), workers or max(1, core_count() // CORES_A_WORKER))
    suspects: list[Task] = []
    yield from _in_processes(tasks, count, suspects)
    for task in suspects:
        yield from _alone(task)


def _alone(task: Task) -> Iterator[SlideOutcome]:
    """The outcome of a slide that was under work when a process died, maybe for another slide's fault."""
    task.attempts_file.unlink(missing_ok=True)
    for _ in range(ATTEMPTS + 1):  # the last finds the traces of those that died, and says so
        died: list[Task] = []
        yield from _in_processes([task], 1, died)
        if not died:
            return
    yield task.failed("the worker process died each time; fix: see what ended it (memory, a signal)")


def _in_processes(tasks: Sequence[Task], count: int, died: list[Task]) -> Iterator[SlideOutcome]:
    """Outcomes of all tasks but those in whose time a process died, which are added to ``died``."""
    waiting = deque(tasks)
    share = max(1, core_count() // count)
    while waiting:
        # Spawned, not forked: threads of the caller (a network's, a progress bar's) do not survive a fork.
        with ProcessPoolExecutor(
            count, mp_context=get_context("spawn"), initializer=start_worker, initargs=(share,)
        ) as pool:
            yield from _feed(pool, waiting, count, died)


def _feed(pool: ProcessPoolExecutor, waiting: deque[Task], count: int, died: list[Task]) -> Iterator[SlideOutcome]:
    """Keeps ``count`` tasks running until none waits or the pool is broken."""
    running: dict[Future[SlideOutcome], Task] = {}
    broken = False
    while running or (waiting and not broken):
        while waiting and not broken and len(running) < count:
            try:
                future = pool.submit(run_task, waiting[0])
            except BrokenProcessPool:
                broken = True
            else:
                running[future] = waiting.popleft()
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            task, error = running.pop(future), future.exception()
            if error is None:
                yield future.result()
            elif isinstance(error, BrokenProcessPool):
                broken = True
                died.append(task)
            else:
                yield task.failed(words(error))  # work that cannot be sent to a process


def start_worker(share: int) -> None:
    """Prepares a process for slides: Ctrl-C ends it at once, and it keeps to its share of the cores."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    keep_to_cores(share)


def keep_to_cores(share: int) -> None:
    """Binds this process to cores that no other worker of this user is bound to, for as long as it lives.

    Runtimes and decoders take as many threads as the process has cores, so that workers side by side do not get
    in each other's way. Where all are taken, or the system cannot bind, nothing changes.

    Args:
        share: How many cores.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    if share >= len(cores):
        return
    folder = Path(tempfile.gettempdir()) / f"atypia-cores-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        for first in range(0, len(cores) - share + 1, share):
            mine = cores[first : first + share]
            taken = FileLock(folder / f"{share}-{mine[0]}.lock")
            try:
                taken.acquire(timeout=0)
            except Timeout:
                continue
            _held.append(taken)  # until the process ends
            os.sched_setaffinity(0, mine)
            return
    except OSError:
        return  # bound or not, the results are the same
