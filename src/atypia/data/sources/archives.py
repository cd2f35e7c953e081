"""Unpacks untrusted archives safely.

Only regular files and folders below the target are ever written. Links, devices, names that
leave the target and names that collide are refused, and the bytes are counted as they are
written, not as the archive declares them.
"""

from __future__ import annotations

import lzma
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from atypia.base.artifacts import CHUNK_BYTES, atomic_folder, disk_errors
from atypia.base.errors import DataError, WorkError
from atypia.base.files.regularfiles import open_regular
from atypia.base.process.progress import Progress, silent

_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
_DRIVE = re.compile(r"[A-Za-z]:")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")
# The last four are what the readers of Python raise on damaged headers.
_DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, NotImplementedError,
    TypeError, ValueError, LookupError, ArithmeticError, struct.error,
)  # fmt: skip


@dataclass(frozen=True)
class ArchiveLimits:
    """Size limits of an unpacked archive.

    Attributes:
        max_bytes: Bytes of all members together. The default holds whole-slide collections.
        max_members: Files and folders.
        max_ratio: Unpacked bytes for each byte of the archive. Images hardly compress, tables by a factor of
            10 to 20; the default limit is far above both.
        ratio_from_bytes: The ratio is not checked below this size, where it is harmless.
    """

    max_bytes: int = 1 << 40
    max_members: int = 5_000_000
    max_ratio: float = 200.0
    ratio_from_bytes: int = 64 << 20


DEFAULT_LIMITS = ArchiveLimits()


@dataclass
class _Unpacking:
    """Number of members and bytes written so far, checked against the limits."""

    archive: Path
    folder: Path
    limits: ArchiveLimits
    progress: Progress
    members: int = 0
    written: int = 0
    kinds: dict[str, str] = field(default_factory=dict)

    def refuse(self, reason: str) -> DataError:
        return DataError(
            f"{self.archive.name} is refused: {reason}; fix: get the archive from its publisher again, "
            "or unpack it by hand if you trust it"
        )

    def count(self) -> None:
        self.members += 1
        if self.members > self.limits.max_members:
            raise self.refuse(f"it holds more than {self.limits.max_members:,} members")

    def place(self, name: str, kind: str) -> Path | None:
        """Where a member goes; None for the system files that macOS adds."""
        path = safe_member(name)
        if path is None:
            raise self.refuse(f"member {name!r} would be written outside its folder")
        if path.parts and (path.parts[0] == "__MACOSX" or path.name.startswith("._") or path.name == ".DS_Store"):
            return None
        # A file system may ignore case, so names that differ only in case would overwrite each other.
        key = str(path).casefold()
        known = self.kinds.get(key)
        if known is not None and (kind == "file" or known == "file"):
            raise self.refuse(f"member {name!r} occurs twice")
        for parent in list(path.parents)[:-1]:
            if self.kinds.setdefault(str(parent).casefold(), "folder") == "file":
                raise self.refuse(f"member {name!r} lies below a file")
        self.kinds[key] = kind
        return self.folder / path

    def write(self, source: IO[bytes], target: Path) -> None:
        with disk_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        with disk_errors(target), open(target, "xb") as file:
            while True:
                chunk = source.read(CHUNK_BYTES)
                if not chunk:
                    return
                self._add(len(chunk))
                file.write(chunk)

    def _add(self, count: int) -> None:
        self.written += count
        if self.written > self.limits.max_bytes:
            raise self.refuse(f"it unpacks to more than {self.limits.max_bytes:,} bytes")
        allowed = max(self.limits.ratio_from_bytes, self.limits.max_ratio * self.archive.stat().st_size)
        if self.written > allowed:
            raise self.refuse(f"it unpacks to more than {self.limits.max_ratio:g} times its size")


def safe_member(name: str) -> PurePosixPath | None:
    """The relative path of a member, or None if its name is not safe.

    Backslashes separate folders, as some programs write them. Absolute names, drive letters,
    ``..``, control characters and names too long for a file system are not safe.

    >>> safe_member("a/./b.png")
    PurePosixPath('a/b.png')
    >>> safe_member("a/../../b.png") is None
    True
    """
    text = name.replace("\\", "/")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    unsafe = (
        text.startswith("/")
        or any(part == ".." or (":" in part and _DRIVE.match(part)) for part in parts)
        or _UNPRINTABLE.search(text) is not None
        or len(text.encode(errors="surrogateescape")) > 4000
        or any(len(part.encode(errors="surrogateescape")) > 255 for part in parts)
    )
    return None if unsafe or not parts else PurePosixPath(*parts)


def extract(archive: Path, folder: Path, limits: ArchiveLimits = DEFAULT_LIMITS, progress: Progress = silent) -> Path:
    """Unpacks a zip or tar archive into a folder that appears only when it is complete.

    Args:
        archive: A zip, or a tar that is plain or compressed with gzip, bzip2 or xz; told by its
            content, not by its name.
        folder: The folder to make; an existing one is replaced.
        limits: Size limits.
        progress: Receives progress: members unpacked.

    Returns:
        ``folder``.

    Raises:
        DataError: The archive is damaged, encrypted, exceeds a limit, or holds a link, a device,
            or a name that leaves the folder or occurs twice. Nothing is left behind.
        WorkError: The disk is full or cannot be written.
    """
    with atomic_folder(folder) as part:
        extract_into(archive, part, limits, progress)
    return folder


def extract_into(
    archive: Path, folder: Path, limits: ArchiveLimits = DEFAULT_LIMITS, progress: Progress = silent
) -> None:
    """As :func:`extract`, into an existing folder of the caller.

    Existing files are not replaced. If it raises, the folder may be partly filled.
    """
    state = _Unpacking(archive, folder, limits, progress)
    with _readable(archive):
        with open_regular(archive) as file:
            is_zip = file.read(4) in _ZIP_MAGIC
        if is_zip:
            _extract_zip(state)
        else:
            _extract_tar(state)


@contextmanager
def _readable(archive: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        if archive.exists():
            raise
        raise DataError(f"{archive} does not exist; fix: check the path") from None
    except WorkError as error:
        if not isinstance(error.__cause__, FileExistsError):
            raise
        raise DataError(f"{archive.name} holds a file that is already there: {error.__cause__.filename}") from None
    except DataError:
        raise
    except RuntimeError as error:
        # How zipfile reports a member that needs a password, and what it does not unpack.
        if isinstance(error, NotImplementedError):
            raise _damaged(archive, error) from error
        if "password" not in str(error) and "encrypted" not in str(error):
            raise
        raise DataError(f"{archive.name} is encrypted; fix: unpack it by hand, then import the folder") from error
    except _DAMAGE as error:
        raise _damaged(archive, error) from error


def _damaged(archive: Path, error: BaseException) -> DataError:
    return DataError(
        f"{archive.name} is damaged, or not a zip or tar archive ({error}); fix: delete it and download it again"
    )


def _extract_zip(state: _Unpacking) -> None:
    with zipfile.ZipFile(state.archive) as archive:
        members = archive.infolist()
        declared = sum(member.file_size for member in members)
        if declared > state.limits.max_bytes:
            raise state.refuse(f"it unpacks to {declared:,} bytes, more than {state.limits.max_bytes:,}")
        free = shutil.disk_usage(state.folder).free
        if declared > free:
            raise WorkError(
                f"{state.archive.name} unpacks to {declared:,} bytes and {free:,} are free; fix: free some space, "
                "or choose another folder"
            )
        for number, member in enumerate(members, 1):
            state.count()
            mode = stat.S_IFMT(member.external_attr >> 16)
            if member.is_dir():
                if (target := state.place(member.filename, "folder")) is not None:
                    _make_folder(target)
            elif mode not in (0, stat.S_IFREG):
                raise state.refuse(f"member {member.filename!r} is a link or a device")
            elif (target := state.place(member.filename, "file")) is not None:
                with archive.open(member) as source:
                    state.write(source, target)
            state.progress(number, len(members), "members unpacked")


def _extract_tar(state: _Unpacking) -> None:
    # The stream mode never seeks, so a compressed archive is unpacked once and not indexed first.
    with tarfile.open(state.archive, "r|*") as archive:
        for member in archive:
            state.count()
            if member.isdir():
                if safe_member(member.name) is None and member.name in (".", "./"):
                    continue
                if (target := state.place(member.name, "folder")) is not None:
                    _make_folder(target)
            elif not member.isreg():
                raise state.refuse(f"member {member.name!r} is a link or a device")
            elif (target := state.place(member.name, "file")) is not None:
                source = archive.extractfile(member)
                if source is None:
                    raise state.refuse(f"member {member.name!r} has no content")
                with source:
                    state.write(source, target)
                written = target.stat().st_size
                if written != member.size:
                    raise tarfile.ReadError(f"{member.name} ends after {written} of {member.size} bytes")
            state.progress(state.members, 0, "members unpacked")


def _make_folder(target: Path) -> None:
    with disk_errors(target):
        target.mkdir(parents=True, exist_ok=True)
