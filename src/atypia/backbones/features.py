"""Frozen features: computed once for a crop store and a backbone, then memory-mapped.

Features are stored in the folder ``<cache>/features/<fingerprint>/`` as ``values.npy``, shape
(n, feature_dim), rows in the store's order, and ``meta.json``. The fingerprint covers the crops,
the catalogue entry, the checksum of the weights, the input side and the precision. Versions
of torch and timm are recorded but not covered: they change values only by rounding.

Opening existing features imports no torch and reads no values; all folds and tests share them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, get_args

import numpy as np
import numpy.typing as npt

from atypia.backbones.catalogue import Backbone, check_input_px, nearest_input_px
from atypia.backbones.preparation import AS_CATALOGUED, Preparation
from atypia.backbones.weights import Located, locate
from atypia.base.artifacts import build_once, environment, fingerprint, read_json, write_json
from atypia.base.errors import InputError, WorkError, must
from atypia.base.paths import cache_root
from atypia.base.process.cores import core_count
from atypia.base.process.progress import Progress, silent

if TYPE_CHECKING:
    from atypia.backbones.build import Encoder
    from atypia.data.crops.store import CropStore

FEATURES_VERSION = 1
"""Increased when a change makes features from the same inputs different."""

Precision = Literal["auto", "float16", "float32"]
"""How values are stored. ``auto``: float16 if that is exact enough, else float32."""

HALF_TOLERANCE = 0.01
"""float16 is exact enough if, for every feature, the root mean square of its rounding error is at
most this share of the feature's standard deviation over the crops, which is the error that a standardised
probe sees. No value may overflow."""

VALUES, META = "values.npy", "meta.json"
CPU_BATCH = 16
"""Crops per thread and batch on a CPU; small batches fit into the cache of a core."""
DEVICE_BATCH = 256
"""Crops per batch on an accelerator."""


@dataclass(frozen=True, eq=False, repr=False)
class Features:
    """Feature vectors of the figures of a crop store.

    Attributes:
        values: Shape (n, feature_dim), float16 or float32, memory-mapped and read-only, in the
            store's row order; rows of quarantined figures are NaN.
        fingerprint: Fingerprint of everything that the values depend on.
        backbone: Name of the catalogue entry.
        input_px: Side to which crops were resized, in pixels.
        weights_sha256: Checksum of the weights file; None for random weights.
        path: The folder.
        meta: Facts about the computation.
    """

    values: npt.NDArray[np.floating[Any]]
    fingerprint: str
    backbone: str
    input_px: int
    weights_sha256: str | None
    path: Path
    meta: dict[str, Any] = field(repr=False)

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        n, d = self.values.shape
        return f"<Features: {n:,} figures × {d:,} {self.values.dtype} of {self.backbone} at {self.input_px} px, {self.path}>"


def open_features(
    store: CropStore,
    backbone: str,
    input_px: int | None = None,
    weights_file: Path | None = None,
    cache: Path | None = None,
    dtype: Precision = "auto",
    progress: Progress = silent,
    device: str = "auto",
    preparation: Preparation = AS_CATALOGUED,
) -> Features:
    """Opens the features of a store's crops, computing them if they do not exist yet.

    Safe when several processes call it at once (one computes, the others wait) and when one is killed
    (nothing half-written is ever opened).

    Args:
        store: The crops.
        backbone: Name of a catalogue entry.
        input_px: Side to which crops are resized, in pixels; None: the crop's own side, rounded to the
        nearest one that the backbone supports.
        weights_file: A local weights file; None to look in packages and the model hub.
        cache: Folder of derived files; None for the default.
        dtype: How values are stored.
        progress: Receives the number of crops done.
        device: Device for computing them, if necessary: ``auto``, ``cpu`` or ``cuda``.
        preparation: Normalisation, pooling and view, where they are not the catalogue's.

    Raises:
        InputError: Unknown backbone, an input side that it does not support, or weights that do not fit.
        AbsentError: The weights are not on this machine and cannot be downloaded.
        WorkError: The disk is full or not writable, or features are infinite.

    >>> import atypia
    >>> crops = atypia.open_crops(atypia.open_data("mine.csv"), 32)
    >>> open_features(crops, "tiny-cnn").values.shape
    (48, 256)
    """
    job = _job(store, backbone, input_px, weights_file, dtype, device, preparation)
    folder = build_once(
        _folder(job, cache),
        lambda path: _opened(path, job) is not None,
        lambda path: _compute(path, job, progress),
        private=True,
    )
    opened = _opened(folder, job)
    if opened is None:
        raise WorkError(f"{folder} changed while it was opened; fix: run again")
    return opened


def find_features(
    store: CropStore,
    backbone: str,
    input_px: int | None = None,
    weights_file: Path | None = None,
    cache: Path | None = None,
    dtype: Precision = "auto",
    preparation: Preparation = AS_CATALOGUED,
) -> Features | None:
    """As :func:`open_features`, if they exist already; None if not. Nothing is computed.

    >>> import atypia
    >>> crops = atypia.open_crops(atypia.open_data("mine.csv"), 32)
    >>> find_features(crops, "tiny-cnn", 64) is None
    True
    """
    job = _job(store, backbone, input_px, weights_file, dtype, "auto", preparation)
    return _opened(_folder(job, cache), job)


@dataclass(frozen=True, eq=False)
class _Job:
    store: CropStore
    entry: Backbone
    side: int
    weights_file: Path | None
    located: Located
    dtype: Precision
    key: str
    device: str = "auto"
    view: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.store.crops), self.entry.feature_dim


def _job(
    store: CropStore,
    backbone: str,
    input_px: int | None,
    weights_file: Path | None,
    dtype: Precision,
    device: str,
    preparation: Preparation,
) -> _Job:
    """What features are asked for, with the fingerprint of all that they depend on."""
    entry = preparation.entry(backbone)
    if dtype not in get_args(Precision):
        raise InputError(must("dtype", "auto, float16 or float32", dtype, "omit it for auto"))
    crop_px = int(store.crops.shape[1])
    side = nearest_input_px(entry, crop_px) if input_px is None else check_input_px(entry, input_px)
    located = locate(backbone, weights_file)
    facts = entry.facts if preparation.view == 1 else {**entry.facts, "view": preparation.view}
    key = fingerprint("features", FEATURES_VERSION, store.fingerprint, facts, located.sha256, side, dtype)
    return _Job(store, entry, side, weights_file, located, dtype, key, device, preparation.view)


def _folder(job: _Job, cache: Path | None) -> Path:
    return (cache or cache_root()) / "features" / job.key


def _opened(folder: Path, job: _Job) -> Features | None:
    """Opens the folder's features; None if it is absent or damaged."""
    if not (folder / META).is_file():
        return None
    try:
        meta = read_json(folder / META)
        values = np.load(folder / VALUES, mmap_mode="r", allow_pickle=False)
        sound = meta["fingerprint"] == job.key and values.shape == job.shape and str(values.dtype) == meta["dtype"]
    except (WorkError, OSError, ValueError, KeyError, TypeError, EOFError):
        return None
    if not sound:
        return None
    return Features(values, job.key, job.entry.name, job.side, job.located.sha256, folder, meta)


def _compute(folder: Path, job: _Job, progress: Progress) -> None:
    started = time.perf_counter()
    total = len(job.store.crops)
    rounding = _Rounding(job.entry.feature_dim)
    wanted = ("float16", "float32") if job.dtype == "auto" else (job.dtype,)
    files = {name: _create(folder / f"{name}.npy", job.shape, name) for name in wanted}
    done = 0
    try:
        progress(0, total, "features computed")
        with _extractor(job) as (extract, device, batch):
            for values in _in_order(extract, total, batch, device):
                rounding.add(values)
                for name, file in files.items():
                    with np.errstate(over="ignore"):  # reported below
                        file.write(np.ascontiguousarray(values, dtype=name).data.cast("B"))
                done += len(values)
                progress(done, total, "features computed")
    finally:
        for file in files.values():
            file.close()
    if rounding.infinite or (job.dtype == "float16" and rounding.overflows):
        what = "infinite values" if rounding.infinite else "values above what float16 can hold"
        raise WorkError(f"{job.entry.name} gave {what}; fix: check the weights, or use float32")
    kept = job.dtype
    if kept == "auto":
        kept = "float16" if rounding.exact_enough else "float32"
    (folder / f"{kept}.npy").rename(folder / VALUES)
    for name in wanted:
        (folder / f"{name}.npy").unlink(missing_ok=True)
    seconds = time.perf_counter() - started
    facts = {
        "fingerprint": job.key,
        "version": FEATURES_VERSION,
        "backbone": job.entry.name,
        "entry": job.entry.facts,
        "weights": job.located.origin,
        "weights_sha256": job.located.sha256,
        "store": job.store.fingerprint,
        "crop_px": int(job.store.crops.shape[1]),
        "input_px": job.side,
        "view": job.view,
        "dtype": kept,
        "asked_dtype": job.dtype,
        "shape": list(job.shape),
        "quarantined": int(total - np.count_nonzero(job.store.usable)),
        "half_rounding_error": rounding.worst,
        "device": device,
        "seconds": round(seconds, 3),
        "crops_per_second": round(total / seconds, 1),
        "environment": dict(environment()),
    }
    write_json(folder / META, facts)


Extract = Callable[[int, int], npt.NDArray[np.float32]]
"""Function from a range of rows (first, last + 1) to their features; NaN where a crop is missing."""


@contextmanager
def _extractor(job: _Job) -> Iterator[tuple[Extract, str, int]]:
    """The function that computes features of rows, its device, and its batch size."""
    import torch

    from atypia.backbones.build import build, folded, preprocess

    encoder: Encoder = build(job.entry.name, job.side, job.weights_file, job.entry.pooling)
    device = "cuda" if torch.cuda.is_available() and job.device != "cpu" else "cpu"
    if job.entry.pooling == "avg":
        encoder = folded(encoder).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    encoder = encoder.to(device).requires_grad_(False)
    usable = np.asarray(job.store.usable, dtype=bool)

    def extract(start: int, stop: int) -> npt.NDArray[np.float32]:
        rows = np.flatnonzero(usable[start:stop])
        values = np.full((stop - start, job.entry.feature_dim), np.nan, dtype=np.float32)
        if len(rows):
            # Advanced indexing copies: the memory map is read-only and torch needs a writable array.
            crops = torch.from_numpy(job.store.crops[start:stop][rows]).to(device)
            with torch.inference_mode():
                values[rows] = encoder(preprocess(crops, job.entry, job.side, job.view)).float().cpu().numpy()
        return values

    threads = torch.get_num_threads()
    try:
        if device == "cpu":
            # One thread per batch scales better than many threads in one batch: the layers are too small to divide.
            torch.set_num_threads(1)
            yield extract, device, CPU_BATCH
        else:
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                yield extract, torch.cuda.get_device_name(0), DEVICE_BATCH
    finally:
        torch.set_num_threads(threads)


def _in_order(extract: Extract, total: int, batch: int, device: str) -> Iterator[npt.NDArray[np.float32]]:
    """Features of all rows in order, batch by batch; on a CPU all cores work in parallel."""
    workers = core_count() if device == "cpu" else 1
    waiting: deque[Future[npt.NDArray[np.float32]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="features") as pool:
        try:
            for start in range(0, total, batch):
                waiting.append(pool.submit(extract, start, min(start + batch, total)))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _create(path: Path, shape: tuple[int, int], dtype: str) -> BinaryIO:
    """Opens a new ``.npy`` file; the caller then writes its values in row order.

    Ordinary writes instead of a memory map: a full disk then raises an error instead of killing the process.
    """
    file = open(path, "wb")  # noqa: SIM115  the caller closes it
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file


class _Rounding:
    """The loss of float16 rounding, computed in one pass over the values."""

    def __init__(self, dim: int) -> None:
        self._shift: npt.NDArray[np.float64] | None = None
        self._count = 0
        self._sum = np.zeros(dim)
        self._squares = np.zeros(dim)
        self._errors = np.zeros(dim)
        self.overflows = False
        self.infinite = False

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Adds a batch; rows of NaN are ignored."""
        known = values[~np.isnan(values).all(axis=1)].astype(np.float64)
        if not len(known):
            return
        if not np.isfinite(known).all():
            self.infinite = True
            return
        with np.errstate(over="ignore"):
            half = known.astype(np.float16)
        if not np.isfinite(half).all():
            self.overflows = True
            return
        # Sums of deviations from one of the values stay precise when means are large.
        shift = self._shift = known.mean(axis=0) if self._shift is None else self._shift
        centred = known - shift
        self._count += len(known)
        self._sum += centred.sum(axis=0)
        self._squares += (centred**2).sum(axis=0)
        self._errors += ((half.astype(np.float64) - known) ** 2).sum(axis=0)

    @property
    def worst(self) -> float | None:
        """Over features, the largest root mean square error relative to the standard deviation.

        None if it is unknown: no values, or float16 overflows.
        """
        if not self._count or self.overflows or self.infinite:
            return None
        variance = self._squares / self._count - (self._sum / self._count) ** 2
        varies = variance > 1e-20
        if not varies.any():
            return 0.0
        return float(np.sqrt(np.max(self._errors[varies] / self._count / variance[varies])))

    @property
    def exact_enough(self) -> bool:
        """Whether rounding to float16 stays within :data:`HALF_TOLERANCE`."""
        return self.worst is not None and self.worst <= HALF_TOLERANCE
