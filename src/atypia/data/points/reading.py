"""Reads a file of points in any supported format."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, Literal

from atypia.base.errors import DataError, InputError, must
from atypia.base.files.regularfiles import open_regular, read_regular
from atypia.base.files.structured import parse_json
from atypia.data.points.base import (
    BOX_FORMATS,
    DEFAULT_POINT_LIMITS,
    POINT_FORMATS,
    BoxFormat,
    PointFormat,
    PointLimits,
    PointReading,
    Points,
    Scale,
)
from atypia.data.points.figures import without_regions
from atypia.data.textfiles import decode_text, read_table

_SQLITE = b"SQLite format 3\0"
_NOT_READ = (
    (b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (b"PK\x03\x04", "a zip archive or a spreadsheet", "unpack it, or save the sheet as CSV"),
    (b"<", "XML", "export GeoJSON or CSV instead"),
)


def read_points(
    path: str | Path,
    *,
    format: str | None = None,  # noqa: A002  the word that users know
    mpp: float | None = None,
    box_format: BoxFormat = "auto",
    limits: PointLimits = DEFAULT_POINT_LIMITS,
) -> Points:
    """Reads the positions of figures from a table, GeoJSON, COCO or MIDOG JSON, SlideRunner or EXACT.

    The format is determined by the content, not by the file's name.

    Args:
        path: The file.
        format: Name in :data:`POINT_FORMATS`; None to tell it from the content.
        mpp: µm/px of the slide, for tables whose positions are in µm.
        box_format: What the four numbers of a box are; ``auto`` to infer it from the file.
        limits: What is too large.

    Returns:
        Points in the file's order, without regions of tissue. A cell that occurs twice in the file is returned twice, and
        figures of several classes are not separated: :func:`atypia.data.slides.slidecrops.slide_points` does.

    Raises:
        DataError: The file is absent, too large, of no known format, damaged, or holds no point;
            a column is missing, a position is not a finite number or a share of the image, or it cannot
            be told what a box's numbers are.
        ScaleError: Positions are in µm and ``mpp`` is not given.
        InputError: An argument is out of range.

    Example:
        >>> read_points("detections.geojson").x_px  # doctest: +SKIP
        array([1043.5, 2210.2])
    """
    if mpp is not None:
        check_mpp(mpp)
    points = read_scaled(path, lambda: mpp, format=format, box_format=box_format, limits=limits)
    return without_regions(points, lambda: mpp)


def read_scaled(
    path: str | Path,
    scale: Scale,
    *,
    format: str | None = None,  # noqa: A002  the word that users know
    box_format: BoxFormat = "auto",
    limits: PointLimits = DEFAULT_POINT_LIMITS,
) -> Points:
    """All drawn objects, including regions; otherwise as :func:`read_points`.

    ``scale`` is called for the µm/px only if the file needs it.
    """
    path = Path(path)
    if box_format not in BOX_FORMATS:
        raise InputError(must("box_format", " or ".join(BOX_FORMATS), box_format, "name one of them"))
    wanted = None if format is None else POINT_FORMATS[format]
    kind, content = _parsed(path, limits)
    chosen = _chosen(path, wanted, kind, content)
    try:
        return chosen.read(content, PointReading(path, scale, box_format, limits))
    except (ArithmeticError, LookupError, TypeError, AttributeError, RecursionError) as error:
        # Other programs may write anything in place of a number, a text or a list.
        raise DataError(f"{path.name} is not in the form of {chosen.name} ({error}); fix: export it again") from error


def check_mpp(mpp: float) -> None:
    """Checks a µm/px.

    Raises:
        InputError: It is not positive, or not finite.
    """
    if not (math.isfinite(mpp) and mpp > 0):
        raise InputError(must("mpp", "a positive number of µm/px", mpp, "for instance 0.25"))


def _chosen(path: Path, wanted: PointFormat | None, kind: str, content: Any) -> PointFormat:
    fitting = [entry for entry in POINT_FORMATS.values() if entry.kind == kind and entry.takes(content)]
    if wanted is not None:
        if wanted.kind != kind:
            found = fitting[0].name if fitting else kind
            raise DataError(must(path.name, f"of the format {wanted.name}", found, "leave the format out"))
        return wanted
    if not fitting:
        raise DataError(must(path.name, f"one of {', '.join(POINT_FORMATS)}", f"other {kind}", "export it as CSV"))
    known = [entry for entry in fitting if not entry.general] or fitting
    if len(known) > 1:  # a plug-in's format, beside another
        names = " and ".join(entry.name for entry in known)
        raise DataError(must(path.name, "of one format of points", names, "name it (--point-format)"))
    return known[0]


def _parsed(path: Path, limits: PointLimits) -> tuple[Literal["json", "table", "sqlite"], Any]:
    try:
        with open_regular(path) as file:
            size, head = os.fstat(file.fileno()).st_size, file.read(4096)
    except IsADirectoryError:
        raise DataError(f"{path} is a folder, not a regular file; fix: name a file of points") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; fix: check the path") from error
    if not head:
        raise DataError(f"{path.name} is empty (0 bytes); fix: export the points again")
    if head.startswith(_SQLITE):
        return "sqlite", None
    if size > limits.max_bytes:
        expected = f"at most {limits.max_bytes:,} bytes"
        raise DataError(must(path.name, expected, f"{size:,}", "split the file, or raise the limit"))
    # UTF-16 has a zero byte beside each of these characters.
    start = head.removeprefix(b"\xef\xbb\xbf").removeprefix(b"\xff\xfe").removeprefix(b"\xfe\xff").lstrip(b"\0 \t\r\n")
    for sign, what, fix in _NOT_READ:
        if start.startswith(sign):
            raise DataError(must(path.name, "a file of points", what, fix))
    if start.startswith((b"{", b"[")):
        text, _ = decode_text(read_regular(path, limits.max_bytes), path.name)
        return "json", parse_json(text, path.name, finite=False)
    return "table", read_table(path)
