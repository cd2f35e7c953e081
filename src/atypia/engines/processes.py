"""Runs tasks in processes of this machine: long-lived workers share its cores and GPUs; dead workers are replaced."""

from __future__ import annotations

import os
import signal
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from atypia.base.errors import InputError, must
from atypia.base.process.cores import core_count
from atypia.base.process.progress import silent
from atypia.engines.binding import keep_to_cores
from atypia.engines.tasks import Setup, Work, gpus, worker_count

R = TypeVar("R")

STOP_S = 60.0
"""Seconds that a stopped worker may take to write its checkpoint before it is killed."""


def run_local(items: Sequence[Any], work: Work[Any, R], setup: Setup) -> Iterator[R]:
    """Runs items in processes; see :class:`atypia.engines.engine.Engine`.

    A dead worker is replaced and its item restarted; an item at which as many workers died as the work
    allows is lost. Scripts that call this need the usual ``if __name__ == "__main__":``.

    Raises:
        InputError: An address is given.
    """
    if setup.address is not None:
        raise InputError(must("address", "left out with the local engine", setup.address, "choose the engine ray"))
    if not items:
        return
    cards = gpus() if work.on_gpu else []
    count = worker_count(len(items), setup.workers, len(cards), work.cores)
    share = max(1, core_count() // count)
    pool = [_Worker(work, share, cards[i % len(cards)] if cards else None) for i in range(count)]
    waiting, deaths = deque(enumerate(items)), Counter[int]()
    try:
        while True:
            over = _hand_out(pool, waiting)
            busy = [worker for worker in pool if worker.busy]
            if busy:
                wait([worker.pipe for worker in busy])  # an answer, or the end of the process
            for worker in busy:
                if not worker.pipe.poll():
                    continue
                place, item = worker.given
                answers = worker.answer()
                if answers:
                    over += answers
                    continue
                worker.start()
                deaths[place] += 1
                if deaths[place] < work.attempts:
                    waiting.appendleft((place, item))
                else:
                    over.append(work.lost(item, work.died))
            over += _hand_out(pool, waiting)  # first, so that no worker waits while the caller processes the outcomes
            yield from over
            if not waiting and not any(worker.busy for worker in pool):
                return
    finally:
        for worker in pool:
            worker.stop()
        for worker in pool:
            worker.join()


def _hand_out(pool: Sequence[_Worker[R]], waiting: deque[tuple[int, Any]]) -> list[R]:
    """Gives every idle worker an item; returns the outcomes of items that cannot be sent to a process."""
    lost: list[R] = []
    for worker in pool:
        while not worker.busy and waiting:
            place, item = waiting.popleft()
            reason = worker.give(place, item)
            if reason:
                lost.append(worker.work.lost(item, reason))
    return lost


class _Worker(Generic[R]):
    """A process that runs one item after the other.

    Attributes:
        busy: Whether it has an item.
        given: Position and item that it has, or had last.
    """

    def __init__(self, work: Work[Any, R], share: int, gpu: str | None) -> None:
        self.work, self.share, self.gpu = work, share, gpu
        self.given: tuple[int, Any] = (-1, None)
        self.start()

    def start(self) -> None:
        # Spawned, not forked: threads of the caller (a network's, a progress bar's) do not survive a fork.
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process: Any = context.Process(target=_serve, args=(theirs, self.share, self.gpu), daemon=True)
        self.process.start()
        theirs.close()  # so that the pipe closes when the process ends
        self.busy = False

    def give(self, place: int, item: Any) -> str:
        """Sends an item; returns the reason if it could not be sent, else an empty text."""
        try:
            self.pipe.send((self.work.do, item))
        except ConnectionError:
            pass  # it died while idle: `answer` finds the pipe closed
        except Exception as error:  # noqa: BLE001 - pickling may raise any exception
            return f"{type(error).__name__}: it cannot be sent to a process ({' '.join(str(error).split())})"
        self.busy, self.given = True, (place, item)
        return ""

    def answer(self) -> list[R]:
        """The outcome of its item; empty if the process has ended."""
        try:
            outcome, error = self.pipe.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            self.pipe.close()
            return []
        self.busy = False
        return [self.work.lost(self.given[1], error) if error else outcome]

    def stop(self) -> None:
        if self.busy and self.process.is_alive():
            self.process.terminate()  # a training writes its checkpoint first
        self.pipe.close()

    def join(self) -> None:
        self.process.join(STOP_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _serve(pipe: Connection, share: int, gpu: str | None) -> None:
    """Main loop of a worker, until its pipe is closed."""
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # before CUDA is initialised
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it at once
    keep_to_cores(share)
    with suppress(EOFError, ConnectionError, KeyboardInterrupt):  # the caller ended or asked to stop
        while True:
            pipe.send(_done(*pipe.recv()))


def _done(do: Any, item: Any) -> tuple[Any, str]:
    """Outcome and error of an item; errors are sent as text, because exceptions may not be picklable."""
    try:
        return do(item, silent), ""
    except Exception as error:  # noqa: BLE001 - no error may end the worker
        return None, f"{type(error).__name__}: {' '.join(str(error).split())}"
