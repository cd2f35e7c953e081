"""The crop store: what it holds, when it is built anew, and what a crash or a full disk leaves."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from atypia.artifacts import file_sha256
from atypia.data import cutting
from atypia.data.geometry import CropGeometry
from atypia.data.manifest import Manifest
from atypia.data.store import CropStore, open_store
from atypia.errors import AbsentError, DataError, InputError, WorkError

SMALL = CropGeometry(out_px=32)


def write_crops(root: Path, count: int, side: int = 32) -> np.ndarray:
    """Noise PNGs named by their row; returns their pixels."""
    root.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    for row, crop in enumerate(pixels):
        Image.fromarray(crop).save(root / f"{row}.png")
    return pixels


def manifest_of(root: Path, count: int, hashed: bool = True, **columns: object) -> Manifest:
    rows = [
        {
            "figure_id": f"f{row}",
            "dataset": "test",
            "image": f"{row}.png",
            "label": row % 2,
            "sha256": file_sha256(root / f"{row}.png") if hashed else None,
            **columns,
        }
        for row in range(count)
    ]
    return Manifest.from_rows(rows, "test", root=root)


class Calls:
    """A progress that counts, so that a test sees whether a store was built."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, str]] = []

    def __call__(self, done: int, total: int, what: str) -> None:
        self.seen.append((done, total, what))


def test_holds_every_crop_in_row_order(tmp_path: Path) -> None:
    pixels = write_crops(tmp_path / "data", 150)
    calls = Calls()
    store = open_store(manifest_of(tmp_path / "data", 150), SMALL, tmp_path / "cache", progress=calls)
    np.testing.assert_array_equal(store.crops, pixels)
    assert store.crops.dtype == np.uint8
    assert isinstance(store.crops, np.memmap)
    assert not store.crops.flags.writeable
    assert store.usable.all()
    assert store.usable.shape == (150,)
    assert store.quarantined == {}
    assert len(store) == 150
    done = [call[0] for call in calls.seen]
    assert done == sorted(done)
    assert calls.seen[-1] == (150, 150, "crops")


def test_second_opening_builds_nothing_and_is_equal(tmp_path: Path) -> None:
    write_crops(tmp_path / "data", 5)
    manifest = manifest_of(tmp_path / "data", 5)
    first, calls = open_store(manifest, SMALL, tmp_path / "cache"), Calls()
    again = open_store(manifest, SMALL, tmp_path / "cache", progress=calls)
    assert calls.seen == []
    assert again.fingerprint == first.fingerprint
    np.testing.assert_array_equal(again.crops, first.crops)


def test_files_are_readable_without_us(tmp_path: Path) -> None:
    pixels = write_crops(tmp_path / "data", 3)
    (tmp_path / "data" / "1.png").write_bytes(b"")
    store = open_store(manifest_of(tmp_path / "data", 3, hashed=False), SMALL, tmp_path / "cache")
    assert sorted(path.name for path in store.path.iterdir()) == ["crops.npy", "index.parquet", "meta.json"]
    np.testing.assert_array_equal(np.load(store.path / "crops.npy")[[0, 2]], pixels[[0, 2]])
    index = pq.read_table(store.path / "index.parquet").to_pydict()
    assert index["figure_id"] == ["f0", "f1", "f2"]
    assert index["row"] == [0, 1, 2]
    assert [reason is None for reason in index["reason"]] == [True, False, True]
    assert json.loads((store.path / "meta.json").read_text())["shape"] == [3, 32, 32, 3]


def test_bad_images_are_quarantined_with_reasons(tmp_path: Path) -> None:
    root = tmp_path / "data"
    pixels = write_crops(root, 8)
    manifest = manifest_of(root, 8)
    (root / "1.png").write_bytes((root / "1.png").read_bytes()[:-40])
    (root / "3.png").unlink()
    Image.fromarray(pixels[0]).save(root / "4.png")
    store = open_store(manifest, SMALL, tmp_path / "cache")
    assert set(store.quarantined) == {"f1", "f3", "f4"}
    assert "1.png is not the file that the manifest was made from" in store.quarantined["f1"]
    assert "3.png cannot be read: No such file" in store.quarantined["f3"]
    assert "SHA-256 differs" in store.quarantined["f4"]
    assert store.usable.tolist() == [True, False, True, False, False, True, True, True]
    assert not store.crops[~store.usable].any()
    np.testing.assert_array_equal(store.crops[store.usable], pixels[store.usable])


def test_unhashed_bad_images_are_quarantined(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_crops(root, 6)
    (root / "0.png").write_bytes((root / "0.png").read_bytes()[:-40])
    (root / "1.png").write_text("no image")
    Image.new("RGB", (1, 1)).save(root / "2.png")
    Image.new("F", (32, 32)).save(root / "3.png", "TIFF")
    store = open_store(manifest_of(root, 6, hashed=False), SMALL, tmp_path / "cache")
    words = {"f0": "truncated", "f1": "must be an image", "f2": "1 × 1 px", "f3": "colour mode 'F'"}
    assert set(store.quarantined) == set(words)
    for figure, word in words.items():
        assert word in store.quarantined[figure]


def test_all_bad_raises_and_leaves_nothing(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_crops(root, 5)
    for row in range(5):
        (root / f"{row}.png").write_text("no image")
    with pytest.raises(DataError, match=r"none of its 5 figures gives a crop:\n  f0: .*0\.png.*(.|\n)*and 2 more"):
        open_store(manifest_of(root, 5), SMALL, tmp_path / "cache")
    assert [path for path in (tmp_path / "cache" / "crops").iterdir() if path.is_dir()] == []


def test_mended_file_is_read_again(tmp_path: Path) -> None:
    """A quarantine lasts only as long as the file that caused it, and what was derived from it is told apart."""
    root = tmp_path / "data"
    pixels = write_crops(root, 4)
    manifest = manifest_of(root, 4)
    whole = (root / "2.png").read_bytes()
    (root / "2.png").write_bytes(whole[:-20])
    broken, calls = open_store(manifest, SMALL, tmp_path / "cache"), Calls()
    assert open_store(manifest, SMALL, tmp_path / "cache", progress=calls).quarantined.keys() == {"f2"}
    assert calls.seen == []
    (root / "2.png").write_bytes(whole)
    mended = open_store(manifest, SMALL, tmp_path / "cache")
    assert mended.quarantined == {}
    assert mended.fingerprint != broken.fingerprint
    np.testing.assert_array_equal(mended.crops, pixels)


def test_changed_file_without_hash_is_read_again(tmp_path: Path) -> None:
    root = tmp_path / "data"
    pixels = write_crops(root, 3)
    manifest = manifest_of(root, 3, hashed=False)
    before = open_store(manifest, SMALL, tmp_path / "cache")
    Image.fromarray(255 - pixels[0]).save(root / "0.png")
    os.utime(root / "0.png", ns=(1, 1))
    after = open_store(manifest, SMALL, tmp_path / "cache")
    np.testing.assert_array_equal(after.crops[0], 255 - pixels[0])
    assert after.fingerprint != before.fingerprint


def test_fingerprint_is_of_content_not_of_place(tmp_path: Path) -> None:
    stores = []
    for place in ("here", "there"):
        write_crops(tmp_path / place, 4)
        (tmp_path / place / "3.png").write_bytes(b"")
        stores.append(open_store(manifest_of(tmp_path / place, 4, hashed=False), SMALL, tmp_path / place / "cache"))
    assert stores[0].fingerprint == stores[1].fingerprint
    manifest = manifest_of(tmp_path / "here", 4, hashed=False)
    other = open_store(manifest, CropGeometry(out_px=16), tmp_path / "cache")
    assert other.fingerprint != stores[0].fingerprint


def test_workers_do_not_change_the_result(tmp_path: Path) -> None:
    write_crops(tmp_path / "data", 200)
    manifest = manifest_of(tmp_path / "data", 200)
    one, four = (open_store(manifest, SMALL, tmp_path / str(n), workers=n) for n in (1, 4))
    np.testing.assert_array_equal(one.crops, four.crops)
    assert one.fingerprint == four.fingerprint
    with pytest.raises(InputError, match="`workers` must be at least 1"):
        open_store(manifest, SMALL, workers=0)


def test_geometry_in_um_uses_each_figures_mpp(tmp_path: Path) -> None:
    root = tmp_path / "data"
    pixels = write_crops(root, 3)
    rows = manifest_of(root, 3).table.to_pylist()
    for row, mpp in zip(rows, (0.25, 0.5, None), strict=True):
        row["mpp"] = mpp
    store = open_store(Manifest.from_rows(rows, "test", root=root), CropGeometry(16, side_um=8.0), tmp_path / "cache")
    np.testing.assert_array_equal(store.crops[1], pixels[1, 8:24, 8:24])
    halved = np.asarray(Image.fromarray(pixels[0]).resize((16, 16), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(store.crops[0], halved)
    assert "`mpp` must be known" in store.quarantined["f2"]


def test_points_on_slides_and_crops_in_one_manifest(tmp_path: Path) -> None:
    root = tmp_path / "data"
    crops = write_crops(root, 2)
    images = {
        name: np.random.default_rng(seed).integers(0, 256, (90, 120, 3), np.uint8) for seed, name in enumerate("ab")
    }
    for name, image in images.items():
        Image.fromarray(image).save(root / f"{name}.png")
    points = [("b", 60.0, 45.0), ("a", 20.0, 20.0), ("b", 100.0, 70.0), ("a", 500.0, 20.0), ("a", 0.0, 45.0)]
    rows = manifest_of(root, 2).table.to_pylist()
    for at, (name, x, y) in enumerate(points):
        image = {"figure_id": f"p{at}", "dataset": "test", "image": f"{name}.png", "x_px": x, "y_px": y}
        rows.insert(at if at < 3 else len(rows), image)
    rows.append({"figure_id": "gone", "dataset": "test", "image": "none.png", "x_px": 1.0, "y_px": 1.0})
    manifest = Manifest.from_rows(rows, "test", root=root)
    store = open_store(manifest, CropGeometry(out_px=32, side_px=32), tmp_path / "cache")
    assert set(store.quarantined) == {"p3", "gone"}
    assert "`x_px` must be inside" in store.quarantined["p3"]
    by_id = {figure: store.crops[row] for row, figure in enumerate(manifest.ids)}
    np.testing.assert_array_equal(by_id["p0"], images["b"][29:61, 44:76])
    np.testing.assert_array_equal(by_id["p1"], images["a"][4:36, 4:36])
    np.testing.assert_array_equal(by_id["p2"], images["b"][54:86, 84:116])
    padded = np.pad(images["a"], ((0, 0), (16, 0), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(by_id["p4"], padded[29:61, 0:32])
    np.testing.assert_array_equal(by_id["f1"], crops[1])
    with pytest.raises(InputError, match="`geometry` must be a field of given side for positions on slides"):
        open_store(manifest, SMALL, tmp_path / "cache")


def test_each_slide_is_opened_once_and_read_in_tile_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "data"
    root.mkdir()
    for name in "ab":
        Image.new("RGB", (2000, 1200), "white").save(root / f"{name}.png")
    generator = np.random.default_rng(0)
    rows = [
        {
            "figure_id": str(at),
            "dataset": "test",
            "image": f"{'ab'[at % 2]}.png",
            "x_px": float(generator.uniform(0, 2000)),
            "y_px": float(generator.uniform(0, 1200)),
        }
        for at in range(60)
    ]
    opened: list[str] = []
    tiles: dict[str, list[tuple[int, int]]] = {}
    real = cutting.open_slide

    def spy(path: Path):
        slide = real(path)
        opened.append(slide.name)
        read = slide.read

        def noting(x: float, y: float, side: int) -> np.ndarray:
            tiles.setdefault(slide.name, []).append((int(y // cutting.SLIDE_TILE_PX), int(x // cutting.SLIDE_TILE_PX)))
            return read(x, y, side)

        monkeypatch.setattr(slide, "read", noting)
        return slide

    monkeypatch.setattr(cutting, "open_slide", spy)
    open_store(Manifest.from_rows(rows, "test", root=root), CropGeometry(16, side_px=16), tmp_path / "cache")
    assert len(opened) == len(set(opened)) == 2
    for order in tiles.values():
        assert len(order) == 30
        assert order == sorted(order)


def test_without_images_only_a_store_that_exists_opens(tmp_path: Path) -> None:
    write_crops(tmp_path / "data", 3)
    manifest = manifest_of(tmp_path / "data", 3)
    rootless = Manifest(manifest.table, "test")
    with pytest.raises(AbsentError, match="test: its images are not at hand, only its table; fix: fetch them"):
        open_store(rootless, SMALL, tmp_path / "cache")
    built = open_store(manifest, SMALL, tmp_path / "cache")
    assert open_store(rootless, SMALL, tmp_path / "cache").fingerprint == built.fingerprint
    unhashed = Manifest(manifest_of(tmp_path / "data", 3, hashed=False).table, "test")
    with pytest.raises(AbsentError, match="not at hand"):
        open_store(unhashed, SMALL, tmp_path / "cache")


def test_batches(tmp_path: Path) -> None:
    pixels = write_crops(tmp_path / "data", 7)
    (tmp_path / "data" / "2.png").write_bytes(b"")
    store = open_store(manifest_of(tmp_path / "data", 7, hashed=False), SMALL, tmp_path / "cache")
    parts = list(store.batches([6, 0, 3], size=2))
    assert [rows.tolist() for rows, _ in parts] == [[6, 0], [3]]
    np.testing.assert_array_equal(np.concatenate([crops for _, crops in parts]), pixels[[6, 0, 3]])
    assert [rows.tolist() for rows, _ in store.batches(size=4)] == [[0, 1, 3, 4], [5, 6]]
    mask = np.arange(7) == 5
    assert [rows.tolist() for rows, _ in store.batches(mask)] == [[5]]
    assert list(store.batches([])) == []
    for bad in ([7], [-1]):
        with pytest.raises(InputError, match="`rows` must be from 0 to 6"):
            list(store.batches(bad))
    with pytest.raises(InputError, match="`size` must be at least 1"):
        list(store.batches([0], size=0))
    with pytest.raises(InputError, match="`rows` must be a mask of 7 rows"):
        list(store.batches(mask[:3]))


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
from atypia.data.geometry import CropGeometry
from atypia.data.manifest import Manifest
from atypia.data.store import open_store
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
from atypia.errors import WorkError
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
    """100 MB of crops open at once, and memory holds only what is read."""
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
    before, start = resident(), time.perf_counter()
    store: CropStore = open_store(manifest, geometry, tmp_path / "cache")
    took = time.perf_counter() - start
    assert store.crops.nbytes > 100e6
    assert int(store.crops[30].min()) == 255
    assert resident() - before < 30e6
    assert took < 2


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
