"""Reads a file of points in any supported format."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from atypia.base.errors import DataError, InputError, must
from atypia.base.files.regularfiles import open_regular, read_regular
from atypia.base.files.structured import parse_json
from atypia.data.points.base import (
    BOX_FORMATS,
    DEFAULT_POINT_LIMITS,
    POINT_FORMATS,
    AboutSlide,
    BoxFormat,
    PointFormat,
    PointKind,
    PointLimits,
    PointReading,
    Points,
    Scale,
    unknown_slide,
)
from atypia.data.points.databases import table_names
from atypia.data.points.figures import without_regions
from atypia.data.points.lookalikes import known_file, looks_like
from atypia.data.points.units import AUTO_UNIT, check_unit, px_per_unit, told_unit
from atypia.data.points.xmlfiles import parse_xml
from atypia.data.points.zarrfolders import arrays_in, is_zarr
from atypia.data.textfiles import decode_text, read_table

_SQLITE = b"SQLite format 3\0"


def read_points(
    path: str | Path,
    *,
    format: str | None = None,  # noqa: A002  the word that users know
    mpp: float | None = None,
    box_format: BoxFormat = "auto",
    limits: PointLimits = DEFAULT_POINT_LIMITS,
    unit: str = AUTO_UNIT,
) -> Points:
    """Reads the positions of figures from a file in any format of :data:`POINT_FORMATS`.

    The format is determined by the content, not by the file's name.

    Args:
        path: The file.
        format: Name in :data:`POINT_FORMATS`; None to tell it from the content.
        mpp: µm/px of the slide, for tables whose positions are in µm.
        box_format: What the four numbers of a box are; ``auto`` to infer it from the file.
        limits: What is too large.
        unit: What positions are in (:data:`atypia.data.points.units.CHOICES`); ``auto`` to take it from the file.

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
    points = read_scaled(path, lambda: mpp, format=format, box_format=box_format, limits=limits, unit=unit)
    return without_regions(points, lambda: mpp)


def read_scaled(
    path: str | Path,
    scale: Scale,
    *,
    format: str | None = None,  # noqa: A002  the word that users know
    box_format: BoxFormat = "auto",
    limits: PointLimits = DEFAULT_POINT_LIMITS,
    about: Callable[[], AboutSlide | None] = unknown_slide,
    unit: str = AUTO_UNIT,
) -> Points:
    """All drawn objects, including regions; otherwise as :func:`read_points`.

    ``scale`` is called for the µm/px, and ``about`` for the slide's size and properties, only if the file needs them.
    """
    path = Path(path)
    check_unit(unit)
    if box_format not in BOX_FORMATS:
        raise InputError(must("box_format", " or ".join(BOX_FORMATS), box_format, "name one of them"))
    wanted = None if format is None else POINT_FORMATS[format]
    kind, content = _parsed(path, limits)
    chosen = _chosen(path, wanted, kind, content)
    try:
        reading = PointReading(path, scale, box_format, limits, about, unit)
        points = chosen.read(content, reading)
        return points if chosen.own_unit or unit == AUTO_UNIT else _in_px(points, reading)
    except (ArithmeticError, LookupError, TypeError, AttributeError, RecursionError) as error:
        # Other programs may write anything in place of a number, a text or a list.
        raise DataError(f"{path.name} is not in the form of {chosen.name} ({error}); fix: export it again") from error


def _in_px(points: Points, reading: PointReading) -> Points:
    """Points whose positions are in the unit that was given."""
    factor = px_per_unit(reading)
    sizes = None if points.sizes_px is None else points.sizes_px * factor
    found = replace(points, x_px=points.x_px * factor, y_px=points.y_px * factor, sizes_px=sizes)
    return found.noted(f"positions are read as {told_unit(reading.unit)} (--unit)")


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
        looks, fix = looks_like(kind, content)
        raise DataError(must(path.name, f"one of {', '.join(sorted(POINT_FORMATS))}", looks, fix))
    known = [entry for entry in fitting if not entry.general] or fitting
    if len(known) > 1:  # a plug-in's format, beside another
        names = " and ".join(entry.name for entry in known)
        raise DataError(must(path.name, "of one format of points", names, "name it (--point-format)"))
    return known[0]


def _parsed(path: Path, limits: PointLimits) -> tuple[PointKind, Any]:
    if is_zarr(path):
        return "zarr", arrays_in(path)
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
        return "sqlite", table_names(path)
    if size > limits.max_bytes:
        expected = f"at most {limits.max_bytes:,} bytes"
        raise DataError(must(path.name, expected, f"{size:,}", "split the file, or raise the limit"))
    # UTF-16 has a zero byte beside each of these characters.
    start = head.removeprefix(b"\xef\xbb\xbf").removeprefix(b"\xff\xfe").removeprefix(b"\xfe\xff").lstrip(b"\0 \t\r\n")
    other = known_file(head, start)
    if other is not None:
        raise DataError(must(path.name, "a file of points", *other))
    if start.startswith((b"{", b"[", b"<")):
        text, _ = decode_text(read_regular(path, limits.max_bytes), path.name)
        if start.startswith(b"<"):
            return "xml", parse_xml(text, path.name)
        return "json", parse_json(text, path.name, finite=False)
    return "table", read_table(path)
