"""Reliable files: fingerprints, atomic writes, locks.

Incomplete files are never read: a file or folder gets its name only when it is
complete, by a rename on the same file system. Everything that an artifact depends on is hashed into
its fingerprint, so a changed input has another name and stale files are never reused.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from atypia.base.errors import InputError, LockedError, WorkError
from atypia.base.files.regularfiles import open_regular, read_regular
from atypia.base.files.structured import parse_json

CHUNK_BYTES = 1 << 20
PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700
"""File modes for cached patient data: crops, features, decisions. Readable only by their owner."""
MAX_JSON_BYTES = 1 << 28
"""Largest JSON file, in bytes, that is read: a split of a million figures has about 60 MB."""
NAME_BYTES = 200
"""Bytes of a file name that are repeated in the names of its temporary files; file systems allow 255."""
LEFT_AFTER_S = 24 * 3600.0
"""Age in seconds after which incomplete files count as abandoned if the file system has no locks."""

_PART = re.compile(r"\..+\.[a-z0-9_]{8}\.part")
_NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL})
_tidied: set[Path] = set()


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text.

    Raises:
        TypeError: The value contains something that JSON cannot represent (a path, a NaN).
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise TypeError(str(error)) from None


def fingerprint(*parts: Any) -> str:
    """A 128-bit content hash of JSON-like values and byte strings, as 32 hex digits.

    The order and the boundaries of the parts matter.

    >>> fingerprint("a", "b") == fingerprint("ab")
    False
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part if isinstance(part, bytes) else canonical_json(part).encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits, read in pieces.

    Raises:
        DataError: It is not a regular file.
        OSError: It cannot be read.
    """
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def atomic_file(path: Path, mode: str = "wb", private: bool = False) -> Iterator[IO[Any]]:
    """Opens a temporary file beside ``path``, renamed to ``path`` when the block ends without an error.

    Incomplete files of killed processes are removed by the next process that writes to the folder.

    Args:
        path: The final file; its folder is created. An existing file is replaced at the end.
        mode: ``"wb"`` or ``"w"`` (UTF-8, ``\\n`` line ends).
        private: Whether only the owner may read it (:data:`PRIVATE_FILE`), and the folders that are created for it.

    Raises:
        WorkError: The disk is full, the folder cannot be written, or the name is too long. Nothing is left behind.
    """
    with disk_errors(path):
        handle, part = _part_file(path, private)
        locked = os.dup(handle) if os.name == "posix" else None  # keeps the lock until the file is renamed
        try:
            binary = "b" in mode
            with os.fdopen(
                handle, mode, encoding=None if binary else "utf-8", newline=None if binary else "\n"
            ) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            part.chmod(PRIVATE_FILE if private else 0o666 & ~_umask())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
            if locked is not None:
                os.close(locked)


def _part_file(path: Path, private: bool) -> tuple[int, Path]:
    """A new file beside ``path``, locked so that no other process removes it as abandoned."""
    with suppress(FileNotFoundError):
        os.lstat(path)  # fails early if the file system does not allow the name
    try:
        _parents(path, private)
        _tidy(path.parent)
        while True:
            handle, name = tempfile.mkstemp(prefix=f".{_short(path.name)}.", suffix=".part", dir=path.parent)
            # Between creating and locking it, another process may have removed it.
            if _try_lock(handle) is not False and os.fstat(handle).st_nlink:
                return handle, Path(name)
            os.close(handle)
    except FileNotFoundError as error:
        raise WorkError(f"cannot write {path}: its folder takes no files; fix: choose another folder") from error


def _tidy(folder: Path) -> None:
    """Removes incomplete files of killed processes from a folder; once per process and folder.

    A running writer holds a lock on its file. Without locks, a file counts as abandoned after a day.
    """
    if folder in _tidied:
        return
    _tidied.add(folder)
    with suppress(OSError):
        for entry in os.scandir(folder):
            if _PART.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with suppress(OSError):
                    _remove_left(Path(entry.path))


def _remove_left(part: Path) -> None:
    handle = os.open(part, os.O_RDWR)
    try:
        locked = _try_lock(handle)
        if locked or (locked is None and time.time() - os.fstat(handle).st_mtime > LEFT_AFTER_S):
            part.unlink(missing_ok=True)
    finally:
        os.close(handle)


def _try_lock(handle: int) -> bool | None:
    """Locks an open file without waiting; False if another process has it, None without lock support."""
    try:
        import fcntl
    except ImportError:
        return None  # Windows, where an open file cannot be removed anyway
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _short(name: str) -> str:
    """Base name of temporary files for this name: the name itself, or its start and a hash if it is long."""
    raw = os.fsencode(name)
    if len(raw) <= NAME_BYTES:
        return name
    return f"{raw[: NAME_BYTES - 17].decode(errors='ignore')}-{hashlib.sha256(raw).hexdigest()[:16]}"


@contextmanager
def atomic_folder(path: Path, private: bool = False) -> Iterator[Path]:
    """Yields a temporary folder beside ``path``, renamed to ``path`` when the block ends without an error.

    An existing folder at ``path`` is replaced. A killed process leaves only hidden
    ``.NAME.*.part`` and ``.old`` folders, which the next writer of the same name removes (callers hold
    :func:`lock` on the name if two may write at once).

    Args:
        path: The final folder.
        private: Whether only the owner may enter it and read its files (:data:`PRIVATE_FOLDER`).
    """
    with disk_errors(path):
        _parents(path, private)
        # No dot in the middle: the temporary folders of a writer of «NAME.more» are kept.
        left_behind = re.compile(rf"\.{re.escape(_short(path.name))}\.[^.]+\.(part|old)")
        for stale in path.parent.iterdir():
            if left_behind.fullmatch(stale.name):
                shutil.rmtree(stale, ignore_errors=True)
        part = Path(tempfile.mkdtemp(prefix=f".{_short(path.name)}.", suffix=".part", dir=path.parent))
        try:
            yield part
            if private:
                for inside in part.rglob("*"):
                    inside.chmod(PRIVATE_FOLDER if inside.is_dir() else PRIVATE_FILE)
            part.chmod(PRIVATE_FOLDER if private else 0o777 & ~_umask())
            if path.exists():
                old = part.with_suffix(".old")
                path.rename(old)
                part.rename(path)
                shutil.rmtree(old, ignore_errors=True)
            else:
                part.rename(path)
        finally:
            shutil.rmtree(part, ignore_errors=True)


@contextmanager
def lock(path: Path, timeout_s: float = 3600.0) -> Iterator[None]:
    """Holds an exclusive lock named after ``path`` across processes; it is released when its holder dies.

    On a file system without locks the block runs without one, after a warning: files still get their names
    only when they are complete, but two processes may do the same work.

    Raises:
        LockedError: Another process held it for longer than ``timeout_s``.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(path.parent / f".{_short(path.name)}.lock")
        try:
            held.acquire(timeout=timeout_s)
        except Timeout:
            raise LockedError(
                f"{path} has been locked by another process for {timeout_s:.0f} s; fix: wait for it to end, or stop it"
            ) from None
        except (OSError, NotImplementedError) as error:
            if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
                raise
            warnings.warn(
                f"the file system of {path.parent} has no locks: do not start two at once there", stacklevel=3
            )
    try:
        yield
    finally:
        held.release()


def private_folder(path: Path) -> Path:
    """Makes sure that a folder exists; created folders are accessible only to their owner.

    Existing folders keep their mode.
    """
    with disk_errors(path):
        absent = [folder for folder in (path, *path.parents) if not folder.exists()]
        for folder in reversed(absent):
            folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
        path.mkdir(exist_ok=True)
    return path


def private_file(path: Path) -> Path:
    """Makes sure that a file exists that only its owner may read and write.

    An existing file keeps its content. For files that another library opens by name, such as SQLite, which gives
    the files that it puts beside it the same mode.
    """
    private_folder(path.parent)
    with disk_errors(path):
        handle = os.open(path, os.O_CREAT | os.O_RDWR, PRIVATE_FILE)
        os.close(handle)
        path.chmod(PRIVATE_FILE)
    return path


def build_once(
    path: Path, is_valid: Callable[[Path], bool], build: Callable[[Path], None], private: bool = False
) -> Path:
    """Builds a folder unless a valid one exists; safe when several processes call it at once.

    Args:
        path: The final folder.
        is_valid: Checks whether the folder at ``path`` can be used; must be fast.
        build: Fills a temporary folder, which then becomes ``path``.
        private: As for :func:`atomic_folder`.

    Returns:
        ``path``.
    """
    if not is_valid(path):
        if private:
            private_folder(path.parent)
        with lock(path):
            if not is_valid(path):
                with atomic_folder(path, private) as part:
                    build(part)
    return path


def write_json(path: Path, value: Any, private: bool = False) -> None:
    """Writes JSON for people (indented, sorted keys), atomically; ``private`` as for :func:`atomic_file`."""
    with atomic_file(path, "w", private) as file:
        json.dump(value, file, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
        file.write("\n")


def read_json(path: Path) -> Any:
    """Reads a JSON file, under the limits of :func:`atypia.base.files.structured.parse_json`.

    Raises:
        WorkError: The file is absent, not a regular file, cannot be read, too large, or damaged.
    """
    try:
        return parse_json(read_regular(path, MAX_JSON_BYTES), path.name)
    except FileNotFoundError:
        raise WorkError(f"{path} does not exist; fix: check the path") from None
    except OSError as error:
        raise WorkError(f"{path} cannot be read ({error.strerror}); fix: name a file that you may read") from error
    except InputError as error:
        raise WorkError(
            f"{path} is damaged ({error.__cause__ or error}); fix: delete it and repeat the step"
        ) from error


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Converts errors of a full or read-only disk into an error with a remedy."""
    try:
        yield
    except OSError as error:
        remedies = {
            errno.ENOSPC: "free some space, or choose another folder",
            errno.EDQUOT: "free some space, or choose another folder",
            errno.EROFS: "choose a folder that can be written (of the cache: $ATYPIA_CACHE)",
            errno.EACCES: "choose a folder that you may write (of the cache: $ATYPIA_CACHE)",
            errno.EPERM: "choose a folder that you may write (of the cache: $ATYPIA_CACHE)",
            errno.ENOTDIR: "choose a folder; a file is in the way",
            errno.EEXIST: "choose another name; a file is in the way",
            errno.EISDIR: "choose the name of a file; a folder is in the way",
            errno.ENAMETOOLONG: "choose a shorter name",
            errno.ELOOP: "choose another name; its links lead in a circle",
            errno.EINVAL: "choose a name that the file system takes",
            errno.EIO: "check the disk",
            errno.ENODEV: "choose another folder",
            errno.ENXIO: "choose another folder",
            errno.ENOTSUP: "choose another file system",
            errno.EMFILE: "raise the limit on open files (ulimit -n)",
            errno.ENFILE: "end other programs: the machine has too many open files",
            errno.EFBIG: "raise the limit on file sizes, or choose another file system",
        }
        if error.errno not in remedies:
            raise
        reason = os.strerror(error.errno)
        raise WorkError(f"cannot write {path}: {reason}; fix: {remedies[error.errno]}") from error


def environment(others: Iterable[str] = ()) -> Mapping[str, str]:
    """Versions that results depend on: Python, platform and the numerical packages.

    Args:
        others: Further installed packages, for instance of plug-ins.
    """
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version(), "platform": platform.platform(), "cpu_count": str(os.cpu_count())}
    packages = ("atypia", "numpy", "scipy", "scikit-learn", "pyarrow", "pillow", "torch", "torchvision", "timm")
    for package in (*packages, *others):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def _parents(path: Path, private: bool) -> None:
    if private:
        private_folder(path.parent)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)


def _umask() -> int:
    # The only portable way to read the mask is to set it; restored at once.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
