"""Feature extraction: crops per second, beside a plain loop over the same network.

The plain loop builds the network, takes batches of 64 on all threads and converts and normalises
them as usual. Extraction is what `open_features` does into an empty cache: building, folding of
batch norms, one thread per core with small batches, writing, flushing. Runs alternate, so that both
meet the same machine; the ratio is the median of their ratios. Seconds of processor time are given
too: they tell what the speed would be on cores that nothing else uses. Crops are noise, which costs
a network as much as anything else.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from benchmarks.measuring import turns

CASES = (("efficientnet-lite0", 128, 1024), ("vit-s14-focus", 126, 128))
"""Backbone, side of the input in pixels, number of crops."""
PAIRS = 5


@dataclass
class _Store:
    crops: np.ndarray
    usable: np.ndarray
    fingerprint: str


def measure(pairs: int = PAIRS, cases: tuple[tuple[str, int, int], ...] = CASES) -> dict[str, Any]:
    """Times extraction and the plain loop.

    Args:
        pairs: How often the two alternate.
        cases: Backbone, input side, number of crops.

    Returns:
        JSON-like figures: the machine's load before, cores, and for each backbone the crops per second
        of extraction and loop (medians), their ratio (above 1 extraction is faster), milliseconds of
        processor time a crop, and milliseconds to open the features again.
    """
    from atypia.backbones.weights import availability

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found: dict[str, Any] = {"load_before": os.getloadavg()[0], "cores": cores, "backbones": {}, "pairs": {}}
    for name, side, count in cases:
        if availability(name).ok:
            one = _case(name, side, count, pairs)
            found["backbones"][name] = one
            found["pairs"][f"features: {name}, against a plain loop"] = one.pop("pairs")
    return found


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """What people read."""
    yield f"{found['cores']} cores, load before {found['load_before']:.2f}"
    for name, one in found["backbones"].items():
        yield (
            f"{name} at {one['input_px']} px: {one['crops_per_s']:.0f} crops/s, a plain loop {one['loop_per_s']:.0f} "
            f"(ratio {one['ratio']:.2f}); {one['cpu_ms_per_crop']:.1f} ms of processor time a crop; "
            f"opened again in {one['reopen_ms']:.1f} ms"
        )


def _case(name: str, side: int, count: int, pairs: int) -> dict[str, Any]:
    from atypia.backbones.features import open_features
    from atypia.data.crops.store import CropStore

    crops = np.random.default_rng(0).integers(0, 256, (count, 128, 128, 3), dtype=np.uint8)
    store = cast("CropStore", _Store(crops, np.ones(count, dtype=bool), "noise"))
    loop, extraction, processor, reopened = [], [], [], []
    _loop(name, side, crops[:16])  # converts packaged weights once, outside the clock
    for _ in range(pairs):
        loop.append(_seconds(lambda: _loop(name, side, crops)))
        with tempfile.TemporaryDirectory(prefix="atypia-bench-") as folder:
            cpu = time.process_time()
            extraction.append(_seconds(lambda: open_features(store, name, side, cache=Path(folder))))
            processor.append(time.process_time() - cpu)
            reopened.append(_seconds(lambda: open_features(store, name, side, cache=Path(folder))))
    ratios = turns.pairs(loop, extraction)
    return {
        "input_px": side,
        "crops_per_s": count / statistics.median(extraction),
        "loop_per_s": count / statistics.median(loop),
        "ratio": statistics.median(ratios),
        "pairs": ratios,
        "cpu_ms_per_crop": 1000 * statistics.median(processor) / count,
        "reopen_ms": 1000 * statistics.median(reopened),
    }


def _loop(name: str, side: int, crops: np.ndarray) -> None:
    import torch

    from atypia.backbones.build import build

    encoder = build(name, side)
    mean = torch.tensor(encoder.entry.mean).view(1, 3, 1, 1)
    std = torch.tensor(encoder.entry.std).view(1, 3, 1, 1)
    with torch.inference_mode():
        for start in range(0, len(crops), 64):
            images = torch.from_numpy(crops[start : start + 64]).permute(0, 3, 1, 2).contiguous() / 255
            if images.shape[2] != side:
                images = torch.nn.functional.interpolate(images, (side, side), mode="bilinear", antialias=True)
            encoder((images - mean) / std).numpy()


def _seconds(work: Any) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
