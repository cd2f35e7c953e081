"""Unexpected errors: one line for the user, and the traceback in a file that only the user can read.

Every entry point (the command line, the challenge container, the workers) uses this module, so
that users never see a traceback, and it is not lost either.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from atypia.base.errors import AtypiaError
from atypia.base.version import VERSION

FAILED: Final = 1
STOPPED: Final = 130
"""Exit code after Ctrl-C: 128 and the number of the signal."""
KEPT_LOGS: Final = 20
"""Number of logs that are kept; older ones are removed."""
_MESSAGE_CHARACTERS: Final = 2_000
_LOG_CHARACTERS: Final = 100_000
_SHOWN: Final = 200
_NO_MEMORY: Final = re.compile(r"out of memory|not enough memory|allocate memory|bad_alloc", re.IGNORECASE)


def error_line(error: BaseException) -> str:
    """Describes an unexpected error in one line of at most about 200 characters."""
    if _is_memory(error):
        return "the memory is exhausted; fix: ask for fewer crops at once (--batch-size), fewer workers, or more memory"
    if isinstance(error, RecursionError):
        return "something is nested too deeply"
    if isinstance(error, OSError) and error.errno is not None:
        where = f": {error.filename}" if error.filename is not None else ""
        return f"{_line(os.strerror(error.errno) + where)}; fix: check the disk, the path and your rights"
    frames = traceback.extract_tb(error.__traceback__)
    place = f", {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"something unexpected happened ({_line(f'{type(error).__name__}: {_text(error)}')}{place})"


def write_log(error: BaseException) -> Path | None:
    """Writes the traceback of an error into a new file of mode 0600 below :func:`atypia.base.paths.log_root`.

    It contains the calls and messages, but neither values of variables nor user input.

    Returns:
        The file; None if none can be written.
    """
    try:
        folder = _folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # In the order of time, by name.
        path = folder / f"error-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{time.monotonic_ns() % 10**9:09d}.log"
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(_report(error))
        _remove_old(folder)
    except (OSError, RuntimeError, MemoryError, RecursionError):  # RuntimeError: there is no home folder
        return None
    return path


def log_and_describe(error: BaseException) -> str:
    """Writes the log and returns the line for the user; see :func:`error_line` and :func:`write_log`."""
    path = write_log(error)
    where = "no log could be written" if path is None else f"the traceback is in {path}"
    return f"error: {error_line(error)}; {where}"


def run_guarded(run: Callable[[], int]) -> int:
    """Runs an entry point; any exception becomes one line on standard error and an exit code.

    Returns:
        The result of ``run``; the error's exit code; 130 after Ctrl-C; 1 for an unexpected error.
    """
    try:
        return run()
    except AtypiaError as error:
        write_stderr(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        write_stderr("stopped")
        return STOPPED
    except Exception as error:  # noqa: BLE001  last resort: users never see a traceback
        write_stderr(log_and_describe(error))
        return FAILED


def write_stderr(text: str) -> None:
    """Writes a line to standard error, with any encoding, even if it is closed."""
    stream = sys.stderr
    if stream is None:
        return
    with suppress(OSError, ValueError):
        encoding = getattr(stream, "encoding", None) or "ascii"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        stream.flush()


def _folder() -> Path:
    from atypia.base.paths import log_root

    return log_root()


def _is_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(_NO_MEMORY.search(_text(error))))


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  str() of an exception may fail too
        return "no message"


def _line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]} …"


def _report(error: BaseException) -> str:
    calls = "".join(
        text if len(text) <= _MESSAGE_CHARACTERS else f"{text[:_MESSAGE_CHARACTERS]} …\n"
        for text in traceback.TracebackException.from_exception(error, compact=True).format()
    )
    if len(calls) > _LOG_CHARACTERS:
        calls = f"{calls[: _LOG_CHARACTERS // 2]}\n…\n{calls[-_LOG_CHARACTERS // 2 :]}"
    return f"atypia {VERSION}, Python {platform.python_version()}, {platform.platform()}\n\n{calls}"


def _remove_old(folder: Path) -> None:
    for old in sorted(folder.glob("error-*.log"))[:-KEPT_LOGS]:
        with suppress(OSError):
            old.unlink()
