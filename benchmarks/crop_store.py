"""Crop store: how fast it is built, and that its memory does not grow with the number of crops.

**Speed.** A plain loop in one process opens each file with Pillow and turns it into an array; it
keeps nothing. The store is built from the same files into an empty cache, with one thread per core,
including checksums, writing and flushing to disk. Runs alternate, so that both meet the same
machine; the figure is the median of their ratios, with the least and the greatest beside it.
Real AMi-Br crops are used where the data folder holds them, else noise.

**Memory.** A fresh process loads the manifest, resets the kernel's record of its greatest resident
memory (``/proc/self/clear_refs``) and builds. Its greatest resident memory (``VmHWM``: all pages,
file-backed ones too) above the value before is what building costs. Done for 4,000 and
40,000 noise crops of 128 × 128 px. The files are hard links to 500 different images.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from atypia.base.artifacts import file_sha256
from atypia.base.paths import data_root
from atypia.base.process.cores import core_count
from atypia.data.crops.store import open_store
from atypia.data.images.geometry import CropGeometry
from atypia.data.manifest import Manifest
from benchmarks.measuring import turns
from benchmarks.measuring.memory import reset_peak, status_kib

PAIRS = 7
DIFFERENT = 500
MEMORY_COUNTS = (4_000, 40_000)


def measure(pairs: int = PAIRS, counts: tuple[int, ...] = MEMORY_COUNTS) -> dict[str, Any]:
    """Runs both measurements.

    Args:
        pairs: How often the loop and the building alternate.
        counts: Numbers of crops whose memory is measured.

    Returns:
        JSON-like figures: the machine's load before (above 0, other work took part of the cores
        and the ratio is too low), seconds (medians), ratio loop / store (median, least, greatest; above 1
        the store is faster), milliseconds to open again, and for each count the MB that building
        added at its peak.
    """
    with tempfile.TemporaryDirectory(prefix="atypia-bench-") as name:
        base = Path(name)
        return {**_speed(base, pairs), "memory": [_memory(base, count) for count in counts]}


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """What people read."""
    yield f"crop store from {found['crops']:,} {found['data']} crops on {found['cores']} cores"
    yield f"  load before         {found['load_before']:.1f}"
    yield f"  plain Pillow loop   {found['loop_s']:.2f} s"
    yield f"  build               {found['build_s']:.2f} s"
    yield f"  ratio               {found['ratio']:.2f} ({found['ratio_least']:.2f} to {found['ratio_greatest']:.2f})"
    yield f"  open again          {found['open_ms']:.1f} ms"
    for row in found["memory"]:
        yield f"  {row['crops']:>6,} crops, {row['store_mb']:,.0f} MB: peak memory + {row['added_mb']:.0f} MB"


def _speed(base: Path, pairs: int) -> dict[str, Any]:
    real = data_root() / "AMi-Br_Benchmark" / "AMi-Br"
    paths = sorted(real.glob("*/*.png"))
    root = real if paths else base / "noise"
    paths = paths or _noise(root, 4_000)
    manifest = _manifest(root, paths, hashed=True)
    _ = manifest.fingerprint
    load = os.getloadavg()[0]
    loops, builds, opens = [], [], []
    _plain_loop(paths)
    for pair in range(pairs):
        loops.append(_timed(lambda: _plain_loop(paths)))
        cache = base / f"cache-{pair}"
        builds.append(_timed(lambda cache=cache: open_store(manifest, CropGeometry(), cache)))
        opens.append(_timed(lambda cache=cache: open_store(manifest, CropGeometry(), cache)))
        _remove(cache)
    ratios = turns.pairs(loops, builds)
    return {
        "data": "AMi-Br" if root == real else "noise",
        "crops": len(paths),
        "cores": core_count(),
        "load_before": load,
        "loop_s": statistics.median(loops),
        "build_s": statistics.median(builds),
        "ratio": statistics.median(ratios),
        "ratio_least": min(ratios),
        "ratio_greatest": max(ratios),
        "pairs": {"crop store: building it, against a Pillow loop": ratios},
        "open_ms": 1e3 * statistics.median(opens),
    }


def _plain_loop(paths: list[Path]) -> None:
    for path in paths:
        with Image.open(path) as image:
            np.asarray(image)


def _timed(work: object) -> float:
    start = time.perf_counter()
    work()  # pyright: ignore[reportCallIssue]
    return time.perf_counter() - start


def _noise(root: Path, count: int) -> list[Path]:
    """Noise crops: ``DIFFERENT`` files, the others hard links to them."""
    root.mkdir(parents=True)
    generator = np.random.default_rng(0)
    paths = [root / f"{row:06d}.png" for row in range(count)]
    for row, path in enumerate(paths):
        if row < DIFFERENT:
            Image.fromarray(generator.integers(0, 256, (128, 128, 3), dtype=np.uint8)).save(path)
        else:
            os.link(paths[row % DIFFERENT], path)
    return paths


def _manifest(root: Path, paths: list[Path], hashed: bool) -> Manifest:
    rows = [
        {
            "figure_id": path.stem,
            "dataset": "bench",
            "image": path.relative_to(root).as_posix(),
            "sha256": file_sha256(path) if hashed else None,
        }
        for path in paths
    ]
    return Manifest.from_rows(rows, "bench", root=root)


def _memory(base: Path, count: int) -> dict[str, float]:
    root = base / f"noise-{count}"
    _manifest(root, _noise(root, count), hashed=True).save(base / f"{count}.parquet")
    command = [
        sys.executable,
        "-m",
        "benchmarks.crop_store",
        str(base / f"{count}.parquet"),
        str(base / f"store-{count}"),
    ]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    _remove(base / f"store-{count}")
    return {"crops": count, **json.loads(answer)}


def _child(manifest_path: Path, cache: Path) -> None:
    manifest = Manifest.load(manifest_path)
    reset_peak()
    before = _peak_mb()
    store = open_store(manifest, CropGeometry(), cache)
    print(json.dumps({"before_mb": before, "added_mb": _peak_mb() - before, "store_mb": store.crops.nbytes / 1e6}))


def _peak_mb() -> float:
    return status_kib("VmHWM") * 1024 / 1e6


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder)


if __name__ == "__main__":  # the process whose memory is measured
    _child(Path(sys.argv[1]), Path(sys.argv[2]))
