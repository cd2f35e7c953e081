"""Tells folders that are Zarr, which arrays of a detector they hold, and whether these have changed."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from atypia.base.artifacts import file_sha256, fingerprint

META_3: Final = "zarr.json"
META_2: Final = ".zarray"
GROUP_2: Final = ".zgroup"
MAX_METADATA_BYTES: Final = 1 << 20
PLACES: Final = ("x", "y")
ARRAYS: Final = (*PLACES, "classes", "probabilities")
"""Arrays that are looked for; nothing else in a folder is opened."""


def is_zarr(path: Path) -> bool:
    """Whether a path is a Zarr folder, not a folder of files of points."""
    return path.is_dir() and any((path / name).is_file() for name in (META_3, GROUP_2))


def arrays_in(folder: Path) -> frozenset[str]:
    """Which of :data:`ARRAYS` a folder holds."""
    return frozenset(one for one in ARRAYS if any((folder / one / name).is_file() for name in (META_3, META_2)))


def arrays_fingerprint(folder: Path) -> str:
    """A hash of the names and bytes of all files of :data:`ARRAYS`, as 32 hex digits.

    Raises:
        DataError: One is not a regular file.
        OSError: One cannot be read.
    """
    files = sorted(file for one in ARRAYS for file in (folder / one).rglob("*") if not file.is_dir())
    return fingerprint(*((file.relative_to(folder).as_posix(), file_sha256(file)) for file in files))
