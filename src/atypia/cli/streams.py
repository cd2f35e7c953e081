"""Standard output and error, so that what is printed reaches them whatever they are."""

from __future__ import annotations

import codecs
import os
import sys
from contextlib import suppress
from typing import Final

ESCAPES: Final = "atypia-escapes"
"""Name of the handler that writes what an encoding has not as ``\\uXXXX``, which JSON reads again."""


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
    """Writes out what waits for standard output.

    Raises:
        OSError: It cannot be written: the disk is full. Where nobody reads on, nothing is raised.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        silence()


def silence() -> None:
    """Lets go of a standard output that nobody reads, so that Python does not complain of it at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    # A character above U+FFFF is two halves in JSON; half of one stays what it is.
    halves = "".join(text).encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{halves[at : at + 4]}" for at in range(0, len(halves), 4)), error.end
