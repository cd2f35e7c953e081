"""Opens files named by the user: only regular files, checked before a byte is read.

Opening a named pipe blocks until somebody writes, a device may have no end or may act when it
is opened, and a socket cannot be read. Instead of using a time limit, the file type is checked before
the file is opened, opening never waits, and the type of the opened file is checked again.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO, Final

from atypia.base.errors import DataError, InputError, must

_KINDS: Final = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
# Do not wait for a writer, do not become the controlling terminal, do not pass on to child processes.
_FLAGS: Final = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


def check_regular(path: str | Path) -> os.stat_result:
    """Checks that a path leads to a regular file, without opening it.

    For libraries that open files themselves. Otherwise use :func:`open_regular`.

    Returns:
        The file's status from the file system.

    Raises:
        DataError: It is a named pipe, a socket or a device; says which.
        OSError: The path does not exist, is not accessible, or is a folder (:class:`IsADirectoryError`).
    """
    try:
        found = Path(path).stat()
    except ValueError:  # Python's own check, before the system call
        raise OSError(errno.EINVAL, "its name holds a zero byte", str(path)) from None
    return _checked(found, path)


def check_folder(path: Path | None, option: str = "--out") -> None:
    """Checks, before any work, that a folder for files can be made: nothing else has its name.

    Args:
        path: The folder, there or not; None is taken.
        option: How it was named, for the message.

    Raises:
        InputError: It is a file, or lies in one.
    """
    if path is None:
        return
    for part in (path, *path.parents):
        if part.exists() and not part.is_dir():
            got = f"the file {path}" if part == path else f"{path} below the file {part}"
            raise InputError(must(option, "a folder", got, "choose another name"))


def open_regular(path: str | Path, *, buffering: int = -1) -> BinaryIO:
    """Opens a regular file for reading bytes; never waits.

    Args:
        path: The file.
        buffering: As for :func:`open`; 0 for none.

    Raises:
        DataError: It is a named pipe, a socket or a device; says which.
        OSError: As :func:`open`; a folder is an :class:`IsADirectoryError`.
    """
    check_regular(path)  # a device may act when it is opened
    handle = os.open(path, _FLAGS)
    try:
        _checked(os.fstat(handle), path)  # it may have been replaced in between
        return open(handle, "rb", buffering=buffering)
    except BaseException:
        os.close(handle)
        raise


def read_regular(path: str | Path, max_bytes: int) -> bytes:
    """Reads a whole regular file that is not too large.

    Raises:
        DataError: It is not a regular file, or larger than ``max_bytes``.
        OSError: As :func:`open_regular`.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise DataError(
                must(str(path), f"a file of at most {max_bytes:,} bytes", f"{size:,}", "name the right file")
            )
        # Some system files report size 0. Python allocates memory for the whole requested size at once.
        return file.read(size) if size else file.read(min(max_bytes, 1 << 20))


def _checked(found: os.stat_result, path: str | Path) -> os.stat_result:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        kind = next((words for is_kind, words in _KINDS if is_kind(found.st_mode)), "something else")
        raise DataError(f"{path} is {kind}, not a regular file; fix: write its content to a file and name that")
    return found
