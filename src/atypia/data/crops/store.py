"""Crop store: every figure's pixels, decoded once, then memory-mapped.

On disk a store is the folder ``<cache>/crops/<key>/`` with

* ``crops.npy``: shape (n, out_px, out_px, 3) uint8 RGB, rows in the manifest's order;
* ``index.parquet``: ``figure_id``, ``row``, ``reason`` (why a row is zeros; null if it is not);
* ``meta.json``, written last: shapes, fingerprints and the versions of what decoded the images.

The key covers the manifest (with its SHA-256 of each image), the geometry, the format version of this
module, and size and modification time of each image file without a SHA-256 in the manifest.
The folder gets its name only when it is complete, under a lock, so two builders make one store
and a killed one leaves nothing that could be read.

Building decodes in threads: Pillow and OpenSlide release the interpreter lock during the expensive
work, and no process has to be started. Crops are written with ordinary writes into a preallocated
file, not through a memory map: a full disk then raises an error instead of killing the
process, and no page of the file counts as this process's memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from atypia.base import records as r
from atypia.base.artifacts import build_once, fingerprint, read_json
from atypia.base.errors import AbsentError, InputError, WorkError, must
from atypia.base.paths import cache_root
from atypia.base.process.cores import core_count
from atypia.base.process.progress import Progress, silent
from atypia.data.crops.cutting import (
    CROPS_FILE,
    INDEX_FILE,
    META_FILE,
    REASON,
    ROW,
    STORE_VERSION,
    build_store,
    file_states,
    quarantine_state,
)
from atypia.data.images.geometry import CropGeometry
from atypia.data.manifest import NOT_AT_HAND, Manifest


@dataclass(frozen=True, eq=False, repr=False)
class CropStore:
    """The crops of a manifest's figures.

    Attributes:
        crops: RGB, shape (n, out_px, out_px, 3) uint8, memory-mapped and read-only, in the
            manifest's row order. Only what is indexed is read from disk.
        quarantined: Reason by figure id for each figure without a crop; its row in ``crops`` is zeros.
        usable: Shape (n,) bool; False if quarantined.
        fingerprint: Content hash: manifest, geometry, the decoded bytes and the
            quarantined figures. Equal on every machine that decoded the same files.
        geometry: How crops were cut.
        path: The store's folder.
    """

    crops: npt.NDArray[np.uint8]
    quarantined: dict[str, str]
    usable: npt.NDArray[np.bool_]
    fingerprint: str
    geometry: CropGeometry
    path: Path

    def __len__(self) -> int:
        return len(self.crops)

    def __repr__(self) -> str:
        bad = f", {len(self.quarantined):,} of them unusable" if self.quarantined else ""
        return f"<CropStore: {len(self):,} crops of {self.geometry.out_px} px{bad}, {self.path}>"

    def batches(
        self, rows: Sequence[int] | npt.NDArray[Any] | None = None, size: int = 256
    ) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]]:
        """Reads crops batch by batch, so that only one batch is in memory.

        Args:
            rows: Row positions in any order, or a boolean mask; None for all usable rows.
            size: Crops in a batch; the last one may be shorter.

        Yields:
            Row positions, shape (b,), and their crops, shape (b, out_px, out_px, 3), a copy.

        Raises:
            InputError: ``size`` is below 1, or a row does not exist.
        """
        if size < 1:
            raise InputError(must("size", "at least 1", size, "for instance 256"))
        picked = np.asarray(self.usable if rows is None else rows)
        if picked.dtype == bool:
            if picked.shape != self.usable.shape:
                raise InputError(must("rows", f"a mask of {len(self)} rows", picked.shape, "mask every row"))
            picked = np.flatnonzero(picked)
        picked = picked.astype(np.int64)
        if len(picked) and not (picked.min() >= 0 and picked.max() < len(self)):
            got = f"{picked.min()} to {picked.max()}"
            raise InputError(must("rows", f"from 0 to {len(self) - 1}", got, "name rows of this store"))
        for start in range(0, len(picked), size):
            part = picked[start : start + size]
            yield part, np.array(self.crops[part])


def open_store(
    manifest: Manifest,
    geometry: CropGeometry,
    cache: Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> CropStore:
    """Opens the crops of a manifest, building the store if there is none yet.

    A figure is quarantined if its image is missing or damaged, differs from the manifest's SHA-256, or does not
    contain the requested field: its row is zeros and the reason is kept. The store is
    built again when a quarantined figure's file has changed since.

    Args:
        manifest: The figures and their images.
        geometry: How to cut the crops.
        cache: Folder of derived files; None for the default.
        workers: Threads that decode; None for one per core.
        progress: Receives progress: crops while a store is being built.

    Returns:
        The store. Opening one that exists reads its index and maps its pixels; nothing else.

    Raises:
        AbsentError: The manifest has no folder of images, and no store was built before.
        DataError: No crop can be made.
        InputError: The geometry asks for whole crop images but figures are positions on
            slides, or ``workers`` is below 1.
        WorkError: The disk is full or not writable.
    """
    if workers is not None and workers < 1:
        raise InputError(must("workers", "at least 1", workers, "omit it for one per core"))
    table = manifest.table
    if geometry.is_whole and table[r.X_PX].null_count < len(manifest):
        fix = "set side_um or side_px"
        raise InputError(must("geometry", "a field of given side for positions on slides", "the whole image", fix))
    path = (cache or cache_root()) / "crops" / _key(manifest, geometry)

    def is_valid(folder: Path) -> bool:
        return _is_valid(folder, manifest, geometry)

    def build(folder: Path) -> None:
        build_store(folder, manifest, geometry, workers or core_count(), progress or silent)

    if manifest.root is None and not is_valid(path):
        raise AbsentError(images_absent(manifest))
    return _opened(build_once(path, is_valid, build, private=True), geometry)


def _key(manifest: Manifest, geometry: CropGeometry) -> str:
    return fingerprint(
        "crop-store", STORE_VERSION, manifest.fingerprint, geometry.fingerprint, _unhashed_files(manifest)
    )


def _unhashed_files(manifest: Manifest) -> list[list[Any]]:
    """Name, size and time of each image without a SHA-256 in the manifest."""
    unhashed = manifest.table.filter(manifest.table[r.SHA256].is_null())
    if unhashed.num_rows == 0:
        return []
    if manifest.root is None:
        raise AbsentError(images_absent(manifest))
    return file_states(manifest.root, sorted(unhashed[r.IMAGE].unique().to_pylist()))


def images_absent(manifest: Manifest) -> str:
    """Why a set's images cannot be read, with the remedy; empty if they are there.

    >>> images_absent(Manifest.from_rows([{"figure_id": "a", "dataset": "mine", "image": "a.png", "label": 1}], "mine"))
    'mine: its images are not available, only its table; fix: fetch them with `atypia data get` or `atypia data import`, or set --root'
    """
    if manifest.root is not None:
        return ""
    some = next((f" ({note})" for note in manifest.notes if note.endswith(NOT_AT_HAND)), "")
    remedy = "fetch them with `atypia data get` or `atypia data import`, or set --root"
    return f"{manifest.name}: its images are not available, only its table{some}; fix: {remedy}"


def _is_valid(folder: Path, manifest: Manifest, geometry: CropGeometry) -> bool:
    try:
        meta = read_json(folder / META_FILE)
        whole = meta["version"] == STORE_VERSION and meta["shape"] == [len(manifest), *[geometry.out_px] * 2, 3]
        if not whole or (folder / CROPS_FILE).stat().st_size != meta["crops_bytes"]:
            return False
        if not (folder / INDEX_FILE).is_file():
            return False
        if meta["n_quarantined"] == 0 or manifest.root is None:
            return True
        return quarantine_state(manifest, _reasons(folder)[ROW].to_numpy()) == meta["quarantine_state"]
    except (WorkError, OSError, KeyError, TypeError, pa.ArrowInvalid):
        return False


def _reasons(folder: Path) -> pa.Table:
    return pq.read_table(folder / INDEX_FILE, filters=pc.field(REASON).is_valid())


def _opened(folder: Path, geometry: CropGeometry) -> CropStore:
    meta = read_json(folder / META_FILE)
    crops = np.load(folder / CROPS_FILE, mmap_mode="r", allow_pickle=False)
    usable = np.ones(len(crops), dtype=bool)
    quarantined: dict[str, str] = {}
    if meta["n_quarantined"]:
        reasons = _reasons(folder)
        usable[reasons[ROW].to_numpy()] = False
        quarantined = dict(zip(reasons[r.FIGURE_ID].to_pylist(), reasons[REASON].to_pylist(), strict=True))
    usable.flags.writeable = False
    return CropStore(crops, quarantined, usable, meta["fingerprint"], geometry, folder)
