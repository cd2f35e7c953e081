"""Output of the command line: progress on standard error, results on standard output."""

from __future__ import annotations

import codecs
import json
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from atypia.base.errors import count_noun
from atypia.base.process.progress import Progress as ProgressCallback

messages = Console(stderr=True, highlight=False, soft_wrap=True)


def note(text: str) -> None:
    """Prints a note about the work, on standard error."""
    messages.print(text, markup=False)


def warn(text: str) -> None:
    """Prints a warning, on standard error."""
    messages.print(f"warning: {text}", style="yellow", markup=False)


def one_line_warnings() -> None:
    """Shows each of Python's warnings once, as one line, and none of the image libraries'.

    What those say of a file's side matters (its EXIF data, a palette's transparency) names no file and does not change
    its pixels; what does is an error.
    """
    shown: set[str] = set()

    def show(message: Warning | str, *_: object, **__: object) -> None:
        text = " ".join(str(message).split())
        if text not in shown:
            shown.add(text)
            warn(text)

    warnings.showwarning = show
    for library in ("PIL", "tifffile", "openslide"):
        warnings.filterwarnings("ignore", module=rf"{library}\b")
        logging.getLogger(library).setLevel(logging.CRITICAL)


_kept: list[str | Callable[[], str]] = []


def keeps(what: str | Callable[[], str]) -> None:
    """Sets what a command keeps if it is stopped, for the message at its end; empty for nothing.

    A function is asked at that end, so that it can count what is there.
    """
    _kept[:] = [what] if what else []


def counted(folder: Path, done: str, one: str, several: str, begun: str = "") -> Callable[[], str]:
    """What :func:`keeps` says of work in a folder: how much of it is complete, and how many checkpoints there are.

    Args:
        folder: Where the work is.
        done: Pattern of the file that is written last, in the folder of each piece of work.
        one: Name of a complete piece.
        several: Name of several.
        begun: Pattern of the checkpoints of pieces that are not complete.
    """

    def told() -> str:
        def there(pattern: str) -> set[Path]:
            # Hidden folders are what killed processes left, however complete they look.
            found = {path.parent for path in folder.glob(pattern)}
            return {path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)}

        complete = there(done)
        checkpoints = sum(complete.isdisjoint((path, *path.parents)) for path in there(begun)) if begun else 0
        said = [count_noun(len(complete), one, several)] if complete else []
        if checkpoints:
            said.append(count_noun(checkpoints, "checkpoint"))
        if not said:
            return f"no {one} is there yet"
        return f"{' and '.join(said)} {'is' if len(complete) + checkpoints == 1 else 'are'} kept"

    return told


def stopped() -> str:
    """The message after Ctrl-C."""
    if _kept:
        what = _kept.pop()
        return f"stopped; {f'{what} are kept' if isinstance(what, str) else what()}, the same command continues"
    return "stopped before the end; a file has its name only when it is complete, so none is half written"


def show_json(value: Any) -> None:
    """Prints JSON on standard output."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, sort_keys=True)
    sys.stdout.write("\n")


def width() -> int:
    """Columns of the terminal, limited to a range in which tables are readable."""
    return max(80, min(shutil.get_terminal_size((120, 24)).columns, 160))


@contextmanager
def bars() -> Iterator[ProgressCallback]:
    """Progress bars on standard error: one line per kind of work, with the time left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=messages, transient=not messages.is_terminal) as progress:
        tasks: dict[str, Any] = {}

        def report(done: int, total: int, what: str) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total or None)
            progress.update(tasks[what], completed=done, total=total or None)

        yield report


ESCAPES: Final = "atypia-escapes"
"""Name of the handler that writes characters that an encoding lacks as ``\\uXXXX``, which JSON can read."""


def prepare() -> None:
    """Makes standard output and error take every text, and a closed one take what is written to it.

    Where one of the first three descriptors is closed, the next file that is opened would get its number, and
    what libraries print would land in that file.
    """
    codecs.register_error(ESCAPES, _escaped)
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  for as long as the process runs
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=ESCAPES)


def flush() -> None:
    """Flushes standard output.

    Raises:
        OSError: It cannot be written: the disk is full. A closed pipe raises nothing.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        silence()


def flush_or_drop() -> None:
    """Flushes standard output after an error that was said; what cannot be written is dropped.

    From Python 3.13 on the rest would be tried once more at exit, with an error of its own and exit code 120.
    """
    try:
        flush()
    except OSError:
        silence()


def silence() -> None:
    """Replaces a standard output that nobody reads, so that Python does not report an error at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    # A character above U+FFFF is two halves in JSON; half of one stays what it is.
    halves = "".join(text).encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{halves[at : at + 4]}" for at in range(0, len(halves), 4)), error.end
