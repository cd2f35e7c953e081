"""Runs in processes of this machine: long-lived workers that share its cores and GPUs; one that dies is replaced."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any

from atypia.cores import core_count
from atypia.errors import InputError, must
from atypia.inference.many_local import start_worker
from atypia.studies.engines import ATTEMPTS, DIED, Setup, gpus, worker_count
from atypia.studies.ledger import FAILED, Ledger
from atypia.studies.work import Outcome, Task, execute

STOP_S = 60.0
"""How long a stopped worker may take to write its checkpoint before it is killed."""


def run_local(tasks: Sequence[Task], setup: Setup) -> Iterator[Outcome]:
    """Runs tasks in processes; see :class:`atypia.studies.engines.Engine`.

    A worker that dies is replaced, and its run goes on from its last checkpoint; a run at which
    :data:`~atypia.studies.engines.ATTEMPTS` workers died has failed. Scripts that call this need the
    usual ``if __name__ == "__main__":``.

    Raises:
        InputError: An address is given, or ``workers`` is below 1.
    """
    if setup.address is not None:
        raise InputError(must("address", "left out with the local engine", setup.address, "choose --engine ray"))
    if setup.workers is not None and setup.workers < 1:
        raise InputError(must("workers", "a positive whole number", setup.workers, "leave it out"))
    cards = gpus()
    count = worker_count(len(tasks), setup.workers, len(cards))
    share = max(1, core_count() // count)
    pool = [_Worker(share, cards[i % len(cards)] if cards else None) for i in range(count)]
    waiting, deaths = deque(tasks), Counter[str]()
    try:
        while True:
            _hand_out(pool, waiting)
            busy = [worker for worker in pool if worker.task is not None]
            if not busy:
                return
            wait([worker.pipe for worker in busy])  # an answer, or the end of the process
            over: list[Outcome] = []
            for worker in busy:
                task = worker.task
                if task is None or not worker.pipe.poll():
                    continue
                outcome = worker.answer()
                if outcome is not None:
                    over.append(outcome)
                    continue
                worker.start()
                deaths[task.run.id] += 1
                if deaths[task.run.id] < ATTEMPTS:
                    waiting.appendleft(task)
                else:
                    Ledger(task.out).fail(task.run.id, DIED)
                    over.append(Outcome(task.run.id, FAILED, reason=DIED))
            _hand_out(pool, waiting)  # first, so that no worker waits for what the caller does with the outcomes
            yield from over
    finally:
        for worker in pool:
            worker.stop()
        for worker in pool:
            worker.join()


def _hand_out(pool: Sequence[_Worker], waiting: deque[Task]) -> None:
    for worker in pool:
        if worker.task is None and waiting:
            worker.give(waiting.popleft())


class _Worker:
    """A process that does one task after the other."""

    def __init__(self, share: int, gpu: str | None) -> None:
        self.share, self.gpu = share, gpu
        self.task: Task | None = None
        self.start()

    def start(self) -> None:
        # Spawned, not forked: threads of the caller (a network's, a progress bar's) do not survive a fork.
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process: Any = context.Process(target=_serve, args=(theirs, self.share, self.gpu), daemon=True)
        self.process.start()
        theirs.close()  # so that the end of the process is the end of the pipe
        self.task = None

    def give(self, task: Task) -> None:
        self.task = task
        with suppress(ConnectionError):  # it died while it waited: `answer` finds the pipe closed
            self.pipe.send(task)

    def answer(self) -> Outcome | None:
        """The outcome of its task; None where the process has ended instead."""
        try:
            outcome = self.pipe.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            self.pipe.close()
            return None
        self.task = None
        return outcome

    def stop(self) -> None:
        if self.task is not None and self.process.is_alive():
            self.process.terminate()  # a network's training writes its checkpoint first
        self.pipe.close()

    def join(self) -> None:
        self.process.join(STOP_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _serve(pipe: Connection, share: int, gpu: str | None) -> None:
    """What a worker does until its pipe is closed."""
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # before anything starts CUDA
    start_worker(share)
    try:
        while True:
            pipe.send(execute(pipe.recv()))
    except (EOFError, ConnectionError, KeyboardInterrupt):
        return  # the caller ended, or asked to stop
