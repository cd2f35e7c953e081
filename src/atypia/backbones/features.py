"""Frozen features: computed once for a crop store and a backbone, memory-mapped ever after.

On disk features are the folder ``<cache>/features/<fingerprint>/`` with ``values.npy``, shape
(n, feature_dim), rows in the store's order, and ``meta.json``. The fingerprint covers the crops,
the entry of the catalogue, the checksum of the weights, the input side and the precision. Versions
of torch and timm are recorded, not covered: they change values by rounding only.

Opening what is there imports no torch and reads no values; all folds and tests share it.
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

from atypia.backbones.catalogue import BACKBONES, Backbone, check_input_px, nearest_input_px
from atypia.backbones.weights import Located, locate
from atypia.base.artifacts import build_once, environment, fingerprint, read_json, write_json
from atypia.base.cores import core_count
from atypia.base.errors import InputError, WorkError, must
from atypia.base.paths import cache_root
from atypia.base.progress import Progress, silent

if TYPE_CHECKING:
    from atypia.backbones.build import Encoder
    from atypia.data.crops.store import CropStore

FEATURES_VERSION = 1
"""Raised when a change makes features come out differently from the same inputs."""

Precision = Literal["auto", "float16", "float32"]
"""How values are stored. ``auto``: float16 where that is exact enough, else float32."""

HALF_TOLERANCE = 0.01
"""float16 is exact enough where, for every feature, the root mean square of its rounding error is at
most this share of the feature's standard deviation over the crops: what a standardised probe sees
of it. No value may overflow."""

VALUES, META = "values.npy", "meta.json"
CPU_BATCH = 16
"""Crops a thread takes at once; small batches stay in the cache of a core."""
DEVICE_BATCH = 256
"""Crops an accelerator takes at once."""


@dataclass(frozen=True, eq=False)
class Features:
    """Feature vectors of the figures of a crop store.

    Attributes:
        values: Shape (n, feature_dim), float16 or float32, memory-mapped and read-only, in the
            store's row order; rows of quarantined figures are NaN.
        fingerprint: Of everything that the values depend on.
        backbone: Entry of the catalogue.
        input_px: Side at which crops entered the backbone.
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


def open_features(
    store: CropStore,
    backbone: str,
    input_px: int | None = None,
    weights_file: Path | None = None,
    cache: Path | None = None,
    dtype: Precision = "auto",
    progress: Progress = silent,
    device: str = "auto",
) -> Features:
    """Opens the features of a store's crops, computing them where they are not there yet.

    Safe when several processes ask at once (one computes, the others wait) and when one is killed
    (nothing half-written is ever opened).

    Args:
        store: The crops.
        backbone: Entry of the catalogue.
        input_px: Side at which crops enter the backbone; None: the crop's own side, moved to the
            nearest one that the backbone takes.
        weights_file: The backbone's weights, where they are in a file of the user's.
        cache: Folder of derived files; None for the usual one.
        dtype: How values are stored.
        progress: Told about crops while features are computed.
        device: Where they are computed, if they are not there yet: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        InputError: No such backbone, a side that it does not take, or weights that do not fit.
        AbsentError: The weights are not here and cannot be had.
        WorkError: The disk is full or cannot be written, or features come out infinite.
    """
    entry = BACKBONES[backbone]
    if dtype not in get_args(Precision):
        raise InputError(must("dtype", "auto, float16 or float32", dtype, "leave it out for auto"))
    crop_px = int(store.crops.shape[1])
    side = nearest_input_px(entry, crop_px) if input_px is None else check_input_px(entry, input_px)
    located = locate(backbone, weights_file)
    key = fingerprint("features", FEATURES_VERSION, store.fingerprint, entry.facts, located.sha256, side, dtype)
    job = _Job(store, entry, side, weights_file, located, dtype, key, device)
    folder = build_once(
        (cache or cache_root()) / "features" / key,
        lambda path: _opened(path, job) is not None,
        lambda path: _compute(path, job, progress),
        private=True,
    )
    opened = _opened(folder, job)
    if opened is None:
        raise WorkError(f"{folder} changed while it was opened; fix: run again")
    return opened


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

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.store.crops), self.entry.feature_dim


def _opened(folder: Path, job: _Job) -> Features | None:
    """What the folder holds, or None where it is absent or damaged."""
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
                    with np.errstate(over="ignore"):  # told below
                        file.write(np.ascontiguousarray(values, dtype=name).data.cast("B"))
                done += len(values)
                progress(done, total, "features computed")
    finally:
        for file in files.values():
            file.close()
    if rounding.infinite or (job.dtype == "float16" and rounding.overflows):
        what = "infinite values" if rounding.infinite else "values above what float16 can hold"
        raise WorkError(f"{job.entry.name} gave {what}; fix: check the weights, or ask for float32")
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
"""From the first row and the one after the last to their features; NaN where a crop is missing."""


@contextmanager
def _extractor(job: _Job) -> Iterator[tuple[Extract, str, int]]:
    """What computes features of rows, the device it does so on, and how many rows it takes at once."""
    import torch

    from atypia.backbones.build import build, folded, preprocess

    encoder: Encoder = build(job.entry.name, job.side, job.weights_file)
    device = "cuda" if torch.cuda.is_available() and job.device != "cpu" else "cpu"
    if job.entry.pooling == "avg":
        encoder = folded(encoder).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    encoder = encoder.to(device).requires_grad_(False)
    usable = np.asarray(job.store.usable, dtype=bool)

    def extract(start: int, stop: int) -> npt.NDArray[np.float32]:
        rows = np.flatnonzero(usable[start:stop])
        values = np.full((stop - start, job.entry.feature_dim), np.nan, dtype=np.float32)
        if len(rows):
            # Advanced indexing copies: the memory map stays read-only and torch gets its own pixels.
            crops = torch.from_numpy(job.store.crops[start:stop][rows]).to(device)
            with torch.inference_mode():
                values[rows] = encoder(preprocess(crops, job.entry, job.side)).float().cpu().numpy()
        return values

    threads = torch.get_num_threads()
    try:
        if device == "cpu":
            # One thread a batch scales better than many threads in one: layers are too small to share.
            torch.set_num_threads(1)
            yield extract, device, CPU_BATCH
        else:
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                yield extract, torch.cuda.get_device_name(0), DEVICE_BATCH
    finally:
        torch.set_num_threads(threads)


def _in_order(extract: Extract, total: int, batch: int, device: str) -> Iterator[npt.NDArray[np.float32]]:
    """Features of all rows in order, a batch at a time, with every core at work on a CPU."""
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
    """A new ``.npy`` file open for its values, which are written in row order.

    Ordinary writes rather than a memory map: a full disk is then an error, not a killed process.
    """
    file = open(path, "wb")  # noqa: SIM115  closed by the caller
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file


class _Rounding:
    """What float16 would lose, from one pass over the values."""

    def __init__(self, dim: int) -> None:
        self._shift: npt.NDArray[np.float64] | None = None
        self._count = 0
        self._sum = np.zeros(dim)
        self._squares = np.zeros(dim)
        self._errors = np.zeros(dim)
        self.overflows = False
        self.infinite = False

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Takes a batch; rows of NaN count for nothing."""
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
        # Sums about a point among the values keep their digits where means are large.
        shift = self._shift = known.mean(axis=0) if self._shift is None else self._shift
        centred = known - shift
        self._count += len(known)
        self._sum += centred.sum(axis=0)
        self._squares += (centred**2).sum(axis=0)
        self._errors += ((half.astype(np.float64) - known) ** 2).sum(axis=0)

    @property
    def worst(self) -> float | None:
        """Over features, the largest root mean square error relative to the standard deviation.

        None where nothing can be said: no values, or float16 overflows.
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
        """Whether float16 keeps :data:`HALF_TOLERANCE`."""
        return self.worst is not None and self.worst <= HALF_TOLERANCE
