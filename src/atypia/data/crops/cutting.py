"""Fills a crop store: figures are divided into units of work, decoded in threads, and written in place."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from atypia.base import records as r
from atypia.base.artifacts import atomic_file, environment, fingerprint, write_json
from atypia.base.errors import DataError
from atypia.base.process.progress import Progress
from atypia.data.images.decoding import read_bytes, read_rgb
from atypia.data.images.geometry import CropGeometry, apply
from atypia.data.manifest import Manifest
from atypia.data.slides.readers import open_slide
from atypia.data.slides.regions import Slide

STORE_VERSION = 1
"""Part of every store's key; increased when the same input would give other pixels or files."""

CROPS_FILE, INDEX_FILE, META_FILE = "crops.npy", "index.parquet", "meta.json"
ROW, REASON = "row", "reason"
"""Columns of the index beside ``figure_id``."""

UNIT_BYTES = 4 << 20
"""Crops per unit of work, which a thread holds in memory before it writes."""
UNIT_CROPS = 64
SLIDE_POINTS = 1024
"""Most points of one slide in a unit, so that several threads share a large slide."""
SLIDE_TILE_PX = 512
"""Points on a slide are read in order of tiles of this side, so that neighbours share decoded tiles."""
FLUSH_BYTES = 64 << 20
"""The file is flushed after this many bytes, so that unwritten pages do not accumulate."""
SHOWN_REASONS = 3
_CANNOT_RESERVE = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})


@dataclass(frozen=True)
class _Unit:
    """Rows for one thread: crop images, or the points of one slide."""

    rows: npt.NDArray[np.int64]
    on_slide: bool


@dataclass(frozen=True)
class _Done:
    """Result of a unit: a hash of the sources of its crops, and the reasons for failed crops."""

    count: int
    content: bytes
    reasons: dict[int, str]


class _CropsFile:
    """A ``.npy`` file of zeros for crops, written by several threads."""

    def __init__(self, path: Path, shape: tuple[int, int, int, int]) -> None:
        self._crop_bytes = int(np.prod(shape[1:]))
        self._turn = threading.Lock()
        self._file = open(path, "w+b", buffering=0)  # noqa: SIM115  closed by `close`
        try:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(self._file, header)
            self._start = self._file.tell()
            self.size_bytes = self._start + shape[0] * self._crop_bytes
            self._allocate()
        except BaseException:
            self._file.close()
            raise

    def _allocate(self) -> None:
        """Reserves the space, so that a full disk is noticed before any work."""
        reserve = getattr(os, "posix_fallocate", None)
        if reserve is not None:
            try:
                reserve(self._file.fileno(), 0, self.size_bytes)
                return
            except OSError as error:
                # Some file systems cannot reserve space; there the writes fail instead.
                if error.errno not in _CANNOT_RESERVE:
                    raise
        os.ftruncate(self._file.fileno(), self.size_bytes)

    def write(self, row: int, crops: npt.NDArray[np.uint8]) -> None:
        """Writes crops of consecutive rows from ``row``."""
        view = np.ascontiguousarray(crops).data.cast("B")
        with self._turn:
            self._file.seek(self._start + row * self._crop_bytes)
            while view:
                view = view[self._file.write(view) :]

    def flush(self) -> None:
        """Waits until everything written is on disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def build_store(folder: Path, manifest: Manifest, geometry: CropGeometry, workers: int, progress: Progress) -> None:
    """Writes the files of a store into a folder.

    Memory is bounded by workers × (one unit of crops + one source image), whatever the number
    of crops, beside the manifest itself and a few numbers per figure for positions on slides.

    Args:
        folder: An empty folder.
        manifest: The figures; its ``root`` must be known.
        geometry: How to take crops.
        workers: Threads.
        progress: Receives progress after each unit.

    Raises:
        DataError: No crop can be made.
        OSError: The disk is full or not writable.
    """
    count, side = len(manifest), geometry.out_px
    file = _CropsFile(folder / CROPS_FILE, (count, side, side, 3))
    try:
        reasons, content = _cut_all(file, manifest, geometry, workers, progress)
        if len(reasons) == count:
            raise _nothing_left(manifest, reasons)
        file.flush()
    finally:
        file.close()
    _write_index(folder / INDEX_FILE, manifest, reasons)
    quarantined = sorted(reasons)
    write_json(
        folder / META_FILE,
        {
            "version": STORE_VERSION,
            "shape": [count, side, side, 3],
            "crops_bytes": file.size_bytes,
            "manifest": manifest.fingerprint,
            "manifest_name": manifest.name,
            "geometry": geometry.as_dict(),
            "fingerprint": fingerprint(
                "crop-store", STORE_VERSION, manifest.fingerprint, geometry.fingerprint, content
            ),
            "n_quarantined": len(reasons),
            "quarantine_state": quarantine_state(manifest, quarantined),
            "environment": dict(environment()),
        },
    )


def _cut_all(
    file: _CropsFile, manifest: Manifest, geometry: CropGeometry, workers: int, progress: Progress
) -> tuple[dict[int, str], str]:
    """Processes every unit; returns the reasons by row and a hash of all content."""
    reasons: dict[int, str] = {}
    content = hashlib.blake2b(digest_size=16)
    total, done, unflushed = len(manifest), 0, 0
    crop_bytes = 3 * geometry.out_px**2
    cut = _cutter(file, manifest, geometry)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="crops")
    # A short queue: enough to keep every thread busy, without listing all work in advance.
    waiting: deque[Future[_Done]] = deque()

    def finish() -> None:
        nonlocal done, unflushed
        unit = waiting.popleft().result()
        reasons.update(unit.reasons)
        content.update(unit.content)
        done += unit.count
        unflushed += unit.count * crop_bytes
        progress(done, total, "crops")
        if unflushed >= FLUSH_BYTES:
            unflushed = 0
            file.flush()

    try:
        for unit in _units(manifest, crop_bytes):
            waiting.append(pool.submit(cut, unit))
            if len(waiting) >= 4 * workers:
                finish()
        while waiting:
            finish()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return reasons, content.hexdigest()


def _units(manifest: Manifest, crop_bytes: int) -> Iterator[_Unit]:
    """Cuts a manifest into units: crop images in row order, then points slide by slide in tile order."""
    table = manifest.table
    per_unit = max(1, min(UNIT_CROPS, UNIT_BYTES // crop_bytes))
    if table[r.X_PX].null_count == len(manifest):
        for start in range(0, len(manifest), per_unit):
            yield _Unit(np.arange(start, min(start + per_unit, len(manifest))), on_slide=False)
        return
    x, y = (table[column].to_numpy() for column in (r.X_PX, r.Y_PX))
    whole = np.flatnonzero(np.isnan(x))
    for start in range(0, len(whole), per_unit):
        yield _Unit(whole[start : start + per_unit], on_slide=False)
    points = np.flatnonzero(~np.isnan(x))
    slide = table[r.IMAGE].combine_chunks().dictionary_encode().indices.to_numpy()[points]
    order = np.lexsort((x[points], y[points], x[points] // SLIDE_TILE_PX, y[points] // SLIDE_TILE_PX, slide))
    slide, points = slide[order], points[order]
    starts = np.flatnonzero(np.r_[True, slide[1:] != slide[:-1]])
    for start, end in zip(starts, [*starts[1:], len(points)], strict=True):
        for first in range(start, end, SLIDE_POINTS):
            yield _Unit(points[first : min(first + SLIDE_POINTS, end)], on_slide=True)


# Reasons name paths, which differ between machines; the absence of a crop does not depend on them.
_NO_CROP = b"no crop"
_NEEDED = (r.IMAGE, r.X_PX, r.Y_PX, r.MPP, r.SHA256)


def _cutter(file: _CropsFile, manifest: Manifest, geometry: CropGeometry) -> Callable[[_Unit], _Done]:
    needed = manifest.table.select(list(_NEEDED))
    root = manifest.root
    assert root is not None
    buffers = threading.local()

    def rows_of(unit: _Unit) -> list[dict[str, Any]]:
        first, count = int(unit.rows[0]), len(unit.rows)
        if int(unit.rows[-1]) - first == count - 1 and not unit.on_slide:
            return needed.slice(first, count).to_pylist()
        return needed.take(pa.array(unit.rows)).to_pylist()

    def crop_images(unit: _Unit) -> _Done:
        side = geometry.out_px
        if getattr(buffers, "crops", None) is None:
            buffers.crops = np.empty(
                (max(1, min(UNIT_CROPS, UNIT_BYTES // (3 * side * side))), side, side, 3), np.uint8
            )
        crops, reasons, content = buffers.crops, {}, hashlib.blake2b(digest_size=16)
        for at, (row, figure) in enumerate(zip(unit.rows.tolist(), rows_of(unit), strict=True)):
            try:
                crops[at], source = _whole_crop(root, figure, geometry)
            except DataError as error:
                crops[at], source = 0, _NO_CROP
                reasons[row] = str(error)
            content.update(source)
        for first, last in _runs(unit.rows):
            file.write(int(unit.rows[first]), crops[first:last])
        return _Done(len(unit.rows), content.digest(), reasons)

    def slide_points(unit: _Unit) -> _Done:
        reasons, content = {}, hashlib.blake2b(digest_size=16)
        figures = rows_of(unit)
        try:
            with open_slide(root / figures[0][r.IMAGE]) as slide:
                for row, figure in zip(unit.rows.tolist(), figures, strict=True):
                    try:
                        crop = _point_crop(slide, figure, geometry)
                        content.update(hashlib.blake2b(crop.tobytes(), digest_size=16).digest())
                        file.write(row, crop)
                    except DataError as error:
                        content.update(_NO_CROP)
                        reasons[row] = str(error)
        except DataError as error:
            reasons = dict.fromkeys(unit.rows.tolist(), str(error))
            content.update(_NO_CROP)
        return _Done(len(unit.rows), content.digest(), reasons)

    def cut(unit: _Unit) -> _Done:
        return slide_points(unit) if unit.on_slide else crop_images(unit)

    return cut


def _whole_crop(root: Path, figure: dict[str, Any], geometry: CropGeometry) -> tuple[npt.NDArray[np.uint8], bytes]:
    path = root / figure[r.IMAGE]
    data = read_bytes(path)
    found = hashlib.sha256(data)
    expected = figure[r.SHA256]
    if expected is not None and found.hexdigest() != expected.lower():
        raise DataError(
            f"{path} is not the file that the manifest was made from (its SHA-256 differs); "
            f"fix: fetch it again, or build the manifest again"
        )
    return apply(read_rgb(data, name=str(path)), geometry, figure[r.MPP]), found.digest()


def _point_crop(slide: Slide, figure: dict[str, Any], geometry: CropGeometry) -> npt.NDArray[np.uint8]:
    mpp = figure[r.MPP] if figure[r.MPP] is not None else slide.mpp
    side = geometry.source_side_px(mpp)
    assert side is not None
    return geometry.finish(slide.read(figure[r.X_PX], figure[r.Y_PX], side, geometry.outside))


def _runs(rows: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Ranges of consecutive rows, as start and stop positions."""
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    yield from zip([0, *breaks.tolist()], [*breaks.tolist(), len(rows)], strict=True)


def _write_index(path: Path, manifest: Manifest, reasons: dict[int, str]) -> None:
    schema = pa.schema([(r.FIGURE_ID, pa.string()), (ROW, pa.int64()), (REASON, pa.string())])
    with atomic_file(path) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        at = 0
        for batch in manifest.table.select([r.FIGURE_ID]).to_batches(max_chunksize=1 << 16):
            rows = range(at, at + len(batch))
            why = pa.array([reasons.get(row) for row in rows], pa.string())
            columns = [batch.column(0), pa.array(np.arange(rows.start, rows.stop)), why]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
            at += len(batch)


def file_states(root: Path, images: Sequence[str]) -> list[list[Any]]:
    """For each image: its name, its size in bytes and its time of change in ns; nulls if absent."""
    states: list[list[Any]] = []
    for image in images:
        try:
            found = (root / image).stat()
            states.append([image, found.st_size, found.st_mtime_ns])
        except OSError:
            states.append([image, None, None])
    return states


def quarantine_state(manifest: Manifest, rows: Sequence[int] | npt.NDArray[np.int64]) -> str | None:
    """Fingerprint of the files behind quarantined rows; None if there are none."""
    if manifest.root is None or len(rows) == 0:
        return None
    images = sorted(set(manifest.table[r.IMAGE].take(pa.array(rows, pa.int64())).to_pylist()))
    return fingerprint(file_states(manifest.root, images))


def _nothing_left(manifest: Manifest, reasons: dict[int, str]) -> DataError:
    shown = [f"  {manifest.ids[row]}: {reasons[row]}" for row in sorted(reasons)[:SHOWN_REASONS]]
    more = len(reasons) - len(shown)
    tail = [f"  … and {more:,} more"] if more else []
    text = "\n".join([*shown, *tail])
    return DataError(f"{manifest.name}: none of its {len(manifest):,} figures gives a crop:\n{text}")
