"""Classifies uploads in a separate process, so that a bad file cannot crash the server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from threading import BoundedSemaphore, Lock, Thread
from typing import Any, Final

from atypia.base.errors import AbsentError, InputError, WorkError, must

START_S: Final = 120.0
"""Seconds that the process may take to open its model."""
WORK_S: Final = 120.0
"""Seconds that it may take for one request."""
MAX_FIGURES: Final = 2000
"""Most crops per request, counting pages of stacks."""
MAX_FILES: Final = 500
MAX_WAITING: Final = 4
"""Requests that may wait for the process; more would keep the server from answering anything else."""


class DiedError(WorkError):
    """The process ended, or had to be ended, during a request."""


@dataclass(frozen=True)
class About:
    """Facts about a model: name, threshold on the probability of *atypical*, field in µm."""

    name: str
    threshold: float
    field_um: float | None


class Predictor:
    """Classifies files in a worker process, one request at a time; starts it at first use.

    Args:
        model: A bundle's folder, an exported file, or a shipped model's name.
        command: Command that starts the worker; the model is appended as last argument.
        work_s: Seconds that it may take for one request.
    """

    def __init__(self, model: str, command: Sequence[str] | None = None, work_s: float = WORK_S) -> None:
        self.model = model
        self.work_s = work_s
        self._command = [*(command or (sys.executable, "-m", "atypia.review.server.worker")), model]
        self._lock = Lock()
        self._room = BoundedSemaphore(MAX_WAITING)
        self._process: subprocess.Popen[str] | None = None
        self._lines: Queue[str] = Queue()
        self.about: About | None = None

    def rows(self, files: Sequence[tuple[Path, str]]) -> tuple[About, list[dict[str, Any]]]:
        """Predictions for all crops in files; a crop that cannot be read gives a row with the reason.

        Args:
            files: Path and displayed name of each.

        Raises:
            DiedError: The process ended during these files or took too long (the next request starts another), or
                too many requests are waiting.
            InputError: There are too many crops.
            AbsentError: The model cannot be opened.
        """
        if not self._room.acquire(blocking=False):
            raise DiedError(f"{MAX_WAITING} uploads are waiting already; fix: try again later")
        try:
            return self._judged(files)
        finally:
            self._room.release()

    def _judged(self, files: Sequence[tuple[Path, str]]) -> tuple[About, list[dict[str, Any]]]:
        with self._lock:
            about = self._started()
            request = {"files": [[str(path), name] for path, name in files], "most": MAX_FIGURES}
            answer = self._answer(request)
        if answer.get("too_many"):
            raise InputError(must("files", f"at most {MAX_FIGURES} crops", "more", "send fewer at once"))
        return about, answer["rows"]

    def close(self) -> None:
        """Ends the process."""
        self._end()

    def _started(self) -> About:
        if self._process is not None and self._process.poll() is None and self.about is not None:
            return self.about
        self._end()
        self._lines = Queue()
        pipe = subprocess.PIPE
        process = self._process = subprocess.Popen(
            self._command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, encoding="utf-8"
        )
        Thread(target=_read, args=(process, self._lines), daemon=True, name="predictions").start()
        first = self._next(START_S)
        if "error" in first:
            self._end()
            raise AbsentError(str(first["error"]))
        self.about = About(str(first["model"]), float(first["threshold"]), first.get("field_um"))
        return self.about

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        process = self._process
        if process is None or process.stdin is None:
            raise DiedError("the process that classifies uploads is not running; fix: try again")
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
        except OSError as error:
            self._end()
            raise DiedError("the process that classifies uploads has ended; fix: try again") from error
        return self._next(self.work_s)

    def _next(self, seconds: float) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=seconds)
        except Empty:
            self._end()
            raise DiedError(f"these files took longer than {seconds:.0f} s; fix: send fewer at once") from None
        if not line:
            self._end()
            raise DiedError(
                "the process that classifies uploads ended while it read these files; fix: check their format"
            )
        return json.loads(line)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    try:
                        pipe.close()
                    except OSError:
                        continue  # the rest of the request is no longer needed


def _read(process: subprocess.Popen[str], lines: Queue[str]) -> None:
    """Passes lines on, then an empty line at the end."""
    if process.stdout is not None:
        try:
            for line in process.stdout:
                lines.put(line)
        except ValueError:
            pass  # closed while it was being read
    lines.put("")
