"""Tells folders that are Zarr, and which arrays of a detector they hold."""

from __future__ import annotations

from pathlib import Path
from typing import Final

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
