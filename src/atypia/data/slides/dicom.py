"""Finding a slide in a folder of DICOM files.

A DICOM slide is a series: one file or more for each level, beside the label and the macro image. OpenSlide
takes any file of a series and finds the others in its folder.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from atypia.base.errors import DataError, must

MAX_FILES: Final = 10_000
"""Largest number of files checked in a folder."""
HEAD_BYTES: Final = 1 << 16
_SHOWN = 5
_SERIES = b"\x20\x00\x0e\x00"  # (0020,000E), the UID of the series, little-endian


def dicom_file(folder: Path) -> Path:
    """A file of the one DICOM series in a folder.

    Raises:
        DataError: The folder contains no series, or several (listed with one file each).
    """
    series = dicom_series(folder)
    if not series:
        raise DataError(must(str(folder), "a slide file, or a folder with a DICOM series", "a folder without one",
                             "name the slide file"))  # fmt: skip
    if len(series) > 1:
        shown = ", ".join(str(path) for path in islice(series.values(), _SHOWN)) + (
            " …" if len(series) > _SHOWN else ""
        )
        raise DataError(must(str(folder), "a folder with one DICOM series", f"{len(series)}: {shown}", "name one file"))
    return next(iter(series.values()))


def dicom_series(folder: Path) -> dict[str, Path]:
    """The series of DICOM slides in a folder and below it: their UIDs, and the first file of each that OpenSlide opens.

    A series of which it opens none (a CT, a report) is left out; without OpenSlide the first file stands for it.
    """
    found: dict[str, list[Path]] = {}
    for path in islice(_files(folder), MAX_FILES):
        uid = series_uid(path)
        if uid is not None:
            found.setdefault(uid, []).append(path)
    slides = {uid: next(filter(_opens, paths), None) for uid, paths in found.items()}
    return {uid: path for uid, path in slides.items() if path is not None}


def series_uid(path: Path) -> str | None:
    """UID of the series that a file belongs to; None if it is not a DICOM file, or its header does not state it."""
    try:
        with open(path, "rb") as file:
            head = file.read(132)
            if head[128:] != b"DICM":
                return None
            head += file.read(HEAD_BYTES)
    except OSError:
        return None
    at = head.find(_SERIES)
    if at < 0 or at + 8 > len(head):
        return None
    # With an explicit type its two letters stand before a length of two bytes, else a length of four bytes.
    (length,) = (
        struct.unpack_from("<H", head, at + 6)
        if head[at + 4 : at + 6] == b"UI"
        else struct.unpack_from("<I", head, at + 4)
    )
    uid = head[at + 8 : at + 8 + min(length, 64)].rstrip(b"\0 ")
    return uid.decode("ascii", "replace") or None


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if not path.name.startswith(".") and path.is_file():
            yield path


def _opens(path: Path) -> bool:
    try:
        from openslide import OpenSlide, OpenSlideError
    except ImportError:
        return True
    try:
        return OpenSlide.detect_format(path) is not None
    except OpenSlideError:
        return False
