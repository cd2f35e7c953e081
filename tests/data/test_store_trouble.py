"""The crop store after damage, on full disks, between processes, and of real slides."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atypia.base.errors import WorkError
from atypia.data.crops.store import CropStore, open_store
from atypia.data.images.geometry import CropGeometry
from atypia.data.manifest import Manifest

from .stores import SMALL, Calls, manifest_of, write_crops


@pytest.mark.parametrize("damage", ["short", "no meta", "meta cut", "no index", "other version"])
def test_damaged_store_is_built_anew(damage: str, tmp_path: Path) -> None:
    pixels = write_crops(tmp_path / "data", 4)
    manifest = manifest_of(tmp_path / "data", 4)
    folder = open_store(manifest, SMALL, tmp_path / "cache").path
    meta = folder / "meta.json"
    if damage == "short":
        os.truncate(folder / "crops.npy", 100)
    elif damage == "no meta":
        meta.unlink()
    elif damage == "meta cut":
        meta.write_text(meta.read_text()[:50])
    elif damage == "no index":
        (folder / "index.parquet").unlink()
    else:
        meta.write_text(meta.read_text().replace('"version": 1', '"version": 0'))
    calls = Calls()
    store = open_store(manifest, SMALL, tmp_path / "cache", progress=calls)
    assert calls.seen != []
    np.testing.assert_array_equal(store.crops, pixels)


def test_full_disk_before_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_crops(tmp_path / "data", 3)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(WorkError, match=r"cannot write .*No space left on device; fix: free some space"):
        open_store(manifest_of(tmp_path / "data", 3), SMALL, tmp_path / "cache")
    assert [path for path in (tmp_path / "cache" / "crops").iterdir() if path.is_dir()] == []


CHILD = """
import os, sys, time
from pathlib import Path
from atypia.data.images.geometry import CropGeometry
from atypia.data.manifest import Manifest
from atypia.data.crops.store import open_store
base = Path(sys.argv[1])
"""


def child(base: Path, code: str) -> subprocess.Popen[str]:
    """Runs code in another process that may be killed or limited."""
    command = [sys.executable, "-c", CHILD + code, str(base)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def saved(base: Path, count: int) -> Manifest:
    write_crops(base / "data", count)
    manifest = manifest_of(base / "data", count)
    manifest.save(base / "m.parquet")
    return manifest


def test_disk_that_fills_during_work(tmp_path: Path) -> None:
    """A limit on file size stands in for a disk whose space cannot be reserved beforehand."""
    saved(tmp_path, 40)
    process = child(
        tmp_path,
        """
import errno, resource
def cannot(*_): raise OSError(errno.EOPNOTSUPP, "cannot reserve")
os.posix_fallocate = cannot
os.ftruncate = lambda *_: None
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
from atypia.base.errors import WorkError
try:
    open_store(Manifest.load(base / "m.parquet"), CropGeometry(32), base / "cache")
except WorkError as error:
    print("WorkError:", error)
""",
    )
    output, _ = process.communicate(timeout=60)
    assert "WorkError: cannot write" in output, output
    assert "File too large; fix: " in output
    assert [path for path in (tmp_path / "cache" / "crops").iterdir() if path.is_dir()] == []


def test_read_only_cache(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        blocked = tmp_path / "file"
        blocked.write_text("in the way")
        cache = blocked / "cache"
    else:
        cache = tmp_path / "locked"
        cache.mkdir(mode=0o500)
    write_crops(tmp_path / "data", 2)
    with pytest.raises(WorkError, match=r"cannot write .*; fix: choose a folder"):
        open_store(manifest_of(tmp_path / "data", 2), SMALL, cache)


def test_killed_builder_leaves_nothing_that_is_read(tmp_path: Path) -> None:
    manifest = saved(tmp_path, 200)
    process = child(
        tmp_path,
        """
def slow(done, total, what):
    print(done, flush=True)
    time.sleep(60)
open_store(Manifest.load(base / "m.parquet"), CropGeometry(32), base / "cache", workers=1, progress=slow)
""",
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "64"
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    process.stdout.close()
    folders = [path for path in (tmp_path / "cache" / "crops").iterdir() if path.is_dir()]
    assert len(folders) == 1
    assert folders[0].name.startswith(".")
    assert (folders[0] / "crops.npy").stat().st_size > 200 * 32 * 32 * 3
    calls = Calls()
    store = open_store(manifest, SMALL, tmp_path / "cache", progress=calls)
    assert calls.seen[-1][0] == 200
    assert store.usable.all()
    for row in (0, 64, 199):
        np.testing.assert_array_equal(store.crops[row], np.asarray(Image.open(tmp_path / "data" / f"{row}.png")))
    assert [path for path in (tmp_path / "cache" / "crops").iterdir() if path.is_dir()] == [store.path]


def test_two_builders_make_one_store(tmp_path: Path) -> None:
    saved(tmp_path, 100)
    code = """
calls = []
while not (base / "go").exists():
    time.sleep(0.01)
def note(done, total, what):
    calls.append(done)
    time.sleep(0.1)
store = open_store(Manifest.load(base / "m.parquet"), CropGeometry(32), base / "cache", progress=note)
print(len(calls), int(store.crops.astype("int64").sum()), store.fingerprint)
"""
    processes = [child(tmp_path, code) for _ in range(2)]
    (tmp_path / "go").touch()
    outputs = [process.communicate(timeout=60)[0].split() for process in processes]
    assert sorted(int(output[0]) > 0 for output in outputs) == [False, True], outputs
    assert outputs[0][1:] == outputs[1][1:]


def test_opening_again_reads_no_pixels(tmp_path: Path) -> None:
    """Memory holds only what is read of 100 MB of crops."""
    root = tmp_path / "data"
    root.mkdir()
    Image.new("RGB", (32, 32), "white").save(root / "0.png")
    rows = [{"figure_id": str(row), "dataset": "t", "image": "0.png"} for row in range(60)]
    manifest = Manifest.from_rows(rows, "t", root=root)
    geometry = CropGeometry(out_px=768)
    open_store(manifest, geometry, tmp_path / "cache")

    def resident() -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    if not Path("/proc/self/statm").exists():
        pytest.skip("memory is measured through /proc, which this system does not have")
    before = resident()
    store: CropStore = open_store(manifest, geometry, tmp_path / "cache")
    assert store.crops.nbytes > 100e6
    assert int(store.crops[30].min()) == 255
    assert resident() - before < 30e6


@pytest.mark.real
def test_real_slides_by_points(real_root: Path, tmp_path: Path) -> None:
    folder = real_root / "slides"
    if not (folder / "cmu-1-small-region.svs").is_file():
        pytest.skip("the slides are not in the data folder")
    rows = [
        {"figure_id": f"{x}-{y}", "dataset": "t", "image": "cmu-1-small-region.svs", "x_px": x, "y_px": y}
        for x in (0.0, 700.0, 2219.0)
        for y in (5.0, 1500.0)
    ]
    store = open_store(
        Manifest.from_rows(rows, "t", root=folder), CropGeometry(64, side_um=64 * 0.499), tmp_path / "cache"
    )
    assert store.usable.all()
    import openslide

    with openslide.OpenSlide(folder / "cmu-1-small-region.svs") as slide:
        direct = np.asarray(slide.read_region((700 - 32, 1500 - 32), 0, (64, 64)).convert("RGB"))
    np.testing.assert_array_equal(store.crops[3], direct)
