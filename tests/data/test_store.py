"""The crop store: what it holds, when it is built again, and what a crash or a full disk leaves."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from atypia.base.errors import AbsentError, DataError, InputError
from atypia.data.crops import cutting
from atypia.data.crops.store import open_store
from atypia.data.images.geometry import CropGeometry
from atypia.data.manifest import Manifest

from .stores import SMALL, Calls, manifest_of, write_crops


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


def test_positions_beyond_the_border_can_be_cut(tmp_path: Path) -> None:
    """Two figures of MIDOG 2022 have a negative coordinate; their crops are padded by reflection, as at any border."""
    pixels = np.random.default_rng(1).integers(0, 256, (100, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "slide.png")
    places = {"inside": (50, 50), "above": (60, -5), "far": (60, -200)}
    rows = [
        {"figure_id": name, "dataset": "d", "image": "slide.png", "x_px": x, "y_px": y, "label": 1}
        for name, (x, y) in places.items()
    ]
    manifest = Manifest.from_rows(rows, "d", root=tmp_path)
    strict, kind = CropGeometry(32, side_px=32), CropGeometry(32, side_px=32, outside="mirror")
    refused, padded = (open_store(manifest, geometry, tmp_path / "cache") for geometry in (strict, kind))
    assert set(refused.quarantined) == {"above", "far"} and set(padded.quarantined) == {"far"}
    assert "inside" in refused.quarantined["above"] and "from -16 to below 116" in padded.quarantined["far"]
    assert (padded.crops[0] == refused.crops[0]).all()
    assert (padded.crops[1] == np.pad(pixels, ((32, 32), (0, 0), (0, 0)), "reflect")[11:43, 44:76]).all()
    assert strict.fingerprint == CropGeometry(32, side_px=32).fingerprint != kind.fingerprint
    assert "outside" not in strict.as_dict() and kind.as_dict()["outside"] == "mirror"


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

        def noting(x: float, y: float, side: int, *rest: str) -> np.ndarray:
            tiles.setdefault(slide.name, []).append((int(y // cutting.SLIDE_TILE_PX), int(x // cutting.SLIDE_TILE_PX)))
            return read(x, y, side, *rest)

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
    with pytest.raises(AbsentError, match="test: its images are not available, only its table; fix: fetch them"):
        open_store(rootless, SMALL, tmp_path / "cache")
    built = open_store(manifest, SMALL, tmp_path / "cache")
    assert open_store(rootless, SMALL, tmp_path / "cache").fingerprint == built.fingerprint
    unhashed = Manifest(manifest_of(tmp_path / "data", 3, hashed=False).table, "test")
    with pytest.raises(AbsentError, match="not available"):
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
