"""Detections that TIAToolbox saves as Zarr: a folder with the arrays ``x``, ``y``, ``classes`` and ``probabilities``.

Positions are pixels of the resolution that the detector ran at, which nothing in the folder states, so that ``--unit`` must
give its µm/px (TIAToolbox's annotation store and its JSON for QuPath have pixels of full resolution).

Read are one-dimensional arrays of numbers in chunks, of Zarr 3 and 2, without compression or with zstd, gzip or zlib.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from atypia.base.errors import DataError, must
from atypia.base.files.regularfiles import read_regular
from atypia.base.files.structured import parse_json
from atypia.data.points.base import CANVAS, POINT_FORMATS, Collector, PointFormat, PointReading, Points
from atypia.data.points.shapes import dot
from atypia.data.points.units import AUTO_UNIT, px_per_unit, told_unit
from atypia.data.points.zarrfolders import ARRAYS, MAX_METADATA_BYTES, META_2, META_3, PLACES

MAX_CHUNK_BYTES: Final = 1 << 26
_TYPES: Final = {
    **{f"{sign}int{bits}": f"{sign[:1] or 'i'}{bits // 8}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"f{bits // 8}" for bits in (32, 64)},
}


def read(arrays: frozenset[str], reading: PointReading) -> Points:
    """Reads the arrays; ``x`` and ``y`` are needed.

    Raises:
        DataError: The unit is not given, arrays differ in length, are damaged or of a kind that is not read, or as
            :meth:`Collector.points`.
    """
    name = reading.path.name
    if reading.unit == AUTO_UNIT:
        fix = "pass --unit with the µm/px of the detector (--unit 0.5), or save its output as annotationstore or qupath"
        raise DataError(
            must(
                f"{name}: positions",
                "of a known resolution",
                "pixels of the detector's, which the file does not state",
                fix,
            )
        )
    factor = px_per_unit(reading)
    values = {one: _array(reading.path / one, reading, f"{name}/{one}") for one in ARRAYS if one in arrays}
    if len({len(one) for one in values.values()}) > 1:
        got = ", ".join(f"{one} {len(found)}" for one, found in values.items())
        raise DataError(must(f"{name}: arrays", "of one length", got, "save the output again"))
    collector = Collector(reading, origin=CANVAS)
    collector.notes.append(f"{name}: positions are read as {told_unit(reading.unit)} (--unit)")
    classes, scores = values.get("classes"), values.get("probabilities")
    for at, (x, y) in enumerate(zip(values["x"].tolist(), values["y"].tolist(), strict=True)):
        named = None if classes is None else f"{classes[at]:.0f}"
        collector.add(f"{name}, row {at + 1}", dot(x * factor, y * factor), None, None, named,
                      score=None if scores is None else float(scores[at]))  # fmt: skip
    return collector.points()


def _array(folder: Path, reading: PointReading, where: str) -> npt.NDArray[np.float64]:
    three = (folder / META_3).exists()
    meta = parse_json(read_regular(folder / (META_3 if three else META_2), MAX_METADATA_BYTES), where)
    try:
        dtype, length, chunk, codecs, key = _layout_3(meta) if three else _layout_2(meta)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        fix = "save the output as annotationstore or qupath"
        raise DataError(must(where, "one row of numbers in plain chunks", f"another layout ({error})", fix)) from error
    if length > reading.limits.max_points:
        raise DataError(must(where, f"at most {reading.limits.max_points:,} points", f"{length:,}", "split the file"))
    if not 0 < chunk * dtype.itemsize <= MAX_CHUNK_BYTES:
        raise DataError(
            must(where, f"in chunks of at most {MAX_CHUNK_BYTES:,} bytes", f"{chunk:,} numbers", "save it again")
        )
    found = np.zeros(length, np.float64)
    for at in range(math.ceil(length / chunk)):
        file = folder / key.format(at)
        if not file.exists() and folder.name not in PLACES:  # Zarr leaves out chunks in which all is the fill value
            found[at * chunk : (at + 1) * chunk] = float(meta.get("fill_value") or 0)
            continue
        if not file.exists():
            raise DataError(f"{where}: chunk {at} is not there; fix: copy the whole folder")
        data = _unpacked(read_regular(file, MAX_CHUNK_BYTES), codecs, chunk * dtype.itemsize, where)
        part = np.frombuffer(data, dtype)[: length - at * chunk]
        found[at * chunk : at * chunk + len(part)] = part
    return found


Layout = tuple[np.dtype[Any], int, int, list[str], str]
"""Type, length, chunk's length, names of codecs in the order of writing, and the pattern of a chunk's file."""


def _layout_3(meta: dict[str, Any]) -> Layout:
    first, *others = meta["codecs"]
    if first["name"] != "bytes" or meta["chunk_grid"]["name"] != "regular":
        raise ValueError(f"{first['name']}, {meta['chunk_grid']['name']}")
    order = "<" if first.get("configuration", {}).get("endian", "little") == "little" else ">"
    encoding = meta["chunk_key_encoding"]
    separator = encoding.get("configuration", {}).get("separator", "/" if encoding["name"] == "default" else ".")
    key = f"c{separator}{{}}" if encoding["name"] == "default" else "{}"
    (length,), (chunk,) = meta["shape"], meta["chunk_grid"]["configuration"]["chunk_shape"]
    names = [codec["name"] for codec in others]
    return np.dtype(order + _TYPES[meta["data_type"]]), int(length), int(chunk), names, key


def _layout_2(meta: dict[str, Any]) -> Layout:
    if meta.get("filters"):
        raise ValueError("filters")
    (length,), (chunk,) = meta["shape"], meta["chunks"]
    dtype = np.dtype(str(meta["dtype"]))
    if dtype.kind not in "iuf":
        raise ValueError(str(dtype))
    compressor = meta.get("compressor")
    return dtype, int(length), int(chunk), [] if compressor is None else [compressor["id"]], "{}"


def _unpacked(data: bytes, codecs: list[str], size: int, where: str) -> bytes:
    """The bytes of a chunk, of which there must be ``size``."""
    import pyarrow as pa

    try:
        for codec in reversed(codecs):
            if codec == "crc32c":  # a checksum at the end
                data = data[:-4]
            elif codec == "zstd":
                data = pa.Codec("zstd").decompress(data, decompressed_size=size, asbytes=True)
            elif codec in ("gzip", "zlib"):
                data = zlib.decompressobj(47).decompress(data, size + 1)  # either head
            else:
                fix = "save the output as annotationstore or qupath"
                raise DataError(must(where, "stored plain, or with zstd, gzip or zlib", codec, fix))
    except (pa.ArrowException, zlib.error, OSError) as error:
        raise DataError(f"{where} is damaged ({error}); fix: copy the folder again") from error
    if len(data) != size:
        raise DataError(f"{where} is damaged: {len(data):,} bytes in place of {size:,}; fix: copy the folder again")
    return data


def _takes(arrays: frozenset[str]) -> bool:
    return arrays.issuperset(PLACES)


POINT_FORMATS.add(
    "zarr", PointFormat("zarr", "zarr", "detections of TIAToolbox as Zarr (a folder)", _takes, read, own_unit=True)
)
