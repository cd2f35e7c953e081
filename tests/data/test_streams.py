"""Crops from image files: folders, patterns, refusals, bounded look-ahead."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atypia.base.errors import DataError, InputError
from atypia.data.images.geometry import CropGeometry, apply
from atypia.data.slides import streams
from atypia.data.slides.streams import Crop, CropBatch, Refusal, Skipped, batched, crop_files

SIDE = 32
WHOLE = CropGeometry(out_px=SIDE)


def picture(seed: int, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def split(stream: Iterator[CropBatch | Refusal]) -> tuple[dict[str, np.ndarray], dict[str, str], list[int]]:
    """Crops by id, reasons by id, sizes of batches."""
    crops: dict[str, np.ndarray] = {}
    reasons: dict[str, str] = {}
    sizes: list[int] = []
    for item in stream:
        if isinstance(item, Refusal):
            assert item.figure_id not in reasons
            reasons[item.figure_id] = item.reason
            continue
        sizes.append(len(item))
        assert item.crops.dtype == np.uint8 and len(item.crops) == len(item.images) == len(item.x_px) == len(item)
        for figure, crop in zip(item.ids, item.crops, strict=True):
            assert figure not in crops
            crops[figure] = crop
    return crops, reasons, sizes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "set"
    for n in range(7):
        save(root / ("deep/er" if n % 2 else "") / f"{n}.png", picture(n))
    (root / "notes.txt").write_text("no image")
    (root / ".hidden.png").write_text("no image")
    save(root / "unnamed.png", picture(9)).rename(root / "unnamed")
    return root


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_folder_is_searched_in_order(folder: Path, workers: int, batch_size: int) -> None:
    skipped = Skipped()
    stream = crop_files([folder], WHOLE, batch_size=batch_size, workers=workers, skipped=skipped)
    crops, reasons, sizes = split(stream)
    assert list(crops) == ["0.png", "2.png", "4.png", "6.png", "unnamed", *(f"deep/er/{n}.png" for n in (1, 3, 5))]
    assert sizes == {1: [1] * 8, 3: [3, 3, 2], 64: [8]}[batch_size]
    assert not reasons
    for n in range(7):
        figure = f"deep/er/{n}.png" if n % 2 else f"{n}.png"
        np.testing.assert_array_equal(crops[figure], picture(n))
    assert (skipped.count, skipped.first) == (1, str(folder / "notes.txt"))


def test_batches_name_the_files_and_have_no_position(folder: Path) -> None:
    (batch,) = crop_files([str(folder / "deep")], WHOLE)
    assert isinstance(batch, CropBatch)
    assert batch.ids[0] == "er/1.png" and batch.images[0] == f"{folder}/deep/er/1.png"
    assert np.isnan(batch.x_px).all() and np.isnan(batch.y_px).all()


def test_files_and_patterns(folder: Path) -> None:
    crops, _, _ = split(crop_files([folder / "2.png", f"{folder}/deep/*/[13].png"], WHOLE))
    assert list(crops) == ["2.png", "er/1.png", "er/3.png"]
    every, _, _ = split(crop_files([f"{folder}/**/*.png"], WHOLE))
    assert sorted(every) == sorted(
        ["0.png", "2.png", "4.png", "6.png", "deep/er/1.png", "deep/er/3.png", "deep/er/5.png"]
    )
    below, _, _ = split(crop_files([f"{folder}/d*"], WHOLE))
    assert list(below) == ["deep/er/1.png", "deep/er/3.png", "deep/er/5.png"]


def test_a_file_whose_name_is_a_pattern(tmp_path: Path) -> None:
    path = save(tmp_path / "a[1].png", picture(1))
    crops, _, _ = split(crop_files([path], WHOLE))
    assert list(crops) == ["a[1].png"]


def test_equal_ids_are_told_apart(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abc"]
    for n, folder in enumerate(folders):
        save(folder / "1.png", picture(n))
    crops, _, _ = split(crop_files(folders, WHOLE))
    assert list(crops) == ["1.png", "1.png~2", "1.png~3"]
    np.testing.assert_array_equal(crops["1.png~3"], picture(2))


def test_bad_images_are_refused_and_the_rest_is_done(tmp_path: Path) -> None:
    for n in range(40):
        save(tmp_path / f"{n:02}.png", picture(n))
    (tmp_path / "05.png").write_bytes((tmp_path / "05.png").read_bytes()[:200])
    (tmp_path / "11.png").write_bytes(b"")
    (tmp_path / "12.png").write_text("no image")
    save(tmp_path / "13.png", np.zeros((3000, 100, 3), np.uint8))
    save(tmp_path / "14.png", np.zeros((2100, 2100, 3), np.uint8))
    save(tmp_path / "15.png", np.zeros((5, 5, 3), np.uint8))
    Image.fromarray(picture(1)).save(
        tmp_path / "16.tiff", save_all=True, append_images=[Image.fromarray(picture(2))], compression="tiff_deflate"
    )
    crops, reasons, _ = split(crop_files([tmp_path], WHOLE, workers=2))
    assert len(crops) == 40 - 6
    assert set(reasons) == {"05.png", "11.png", "12.png", "13.png", "14.png", "15.png", "16.tiff"}
    assert "truncated" in reasons["05.png"] and "empty" in reasons["11.png"]
    assert "must be an image" in reasons["12.png"] and "one page" in reasons["16.tiff"]
    for figure, size in (("13.png", "100 × 3,000"), ("14.png", "2,100 × 2,100")):
        assert f"must be a crop of at most 2048 px per side, got {size} px" in reasons[figure]
        assert "fix: give the positions of its figures" in reasons[figure]
    assert "at least 8 px" in reasons["15.png"]


def test_colour_modes(tmp_path: Path) -> None:
    grey = picture(3)[:, :, 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray((grey.astype(np.uint16) << 8) + 7).save(tmp_path / "sixteen.png")
    layer = np.dstack([picture(3), np.zeros((SIDE, SIDE), np.uint8)])
    Image.fromarray(layer).save(tmp_path / "clear.png")
    Image.fromarray(grey.astype(np.float32)).save(tmp_path / "float.tiff")
    crops, reasons, _ = split(crop_files([tmp_path], WHOLE))
    np.testing.assert_array_equal(crops["grey.png"], np.dstack([grey] * 3))
    np.testing.assert_array_equal(crops["sixteen.png"], np.dstack([grey] * 3))
    assert (crops["clear.png"] == 255).all()
    assert "colour mode 'F'" in reasons["float.tiff"]


def test_field_in_um_is_cut_where_the_scale_is_known(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", picture(1, 128))
    geometry = CropGeometry(out_px=SIDE, side_um=16.0)
    known, _, _ = split(crop_files([path], geometry, mpp=0.25))
    np.testing.assert_array_equal(known["a.png"], apply(picture(1, 128), geometry, 0.25))
    np.testing.assert_array_equal(known["a.png"], apply(picture(1, 128)[32:96, 32:96], WHOLE))
    unknown, _, _ = split(crop_files([path], geometry))
    np.testing.assert_array_equal(unknown["a.png"], apply(picture(1, 128), WHOLE))


def test_bad_arguments(tmp_path: Path, folder: Path) -> None:
    for inputs, message in (
        ([], "`inputs` must be at least one"),
        ([folder / "absent.png"], r"absent\.png does not exist"),
        ([f"{folder}/*.bmp"], "must be a pattern that matches a file, got no match"),
    ):
        with pytest.raises(InputError, match=message):
            crop_files(inputs, WHOLE)
    with pytest.raises(InputError, match="`batch_size` must be a positive"):
        crop_files([folder], WHOLE, batch_size=0)
    with pytest.raises(InputError, match="`workers` must be a positive"):
        crop_files([folder], WHOLE, workers=0)
    with pytest.raises(DataError, match="`mpp` must be known"):
        crop_files([folder], CropGeometry(SIDE, side_um=32.0), mpp=-1.0)
    with pytest.raises(DataError, match="`side_um` must be 8 to 8192 px"):
        crop_files([folder], CropGeometry(SIDE, side_um=32.0), mpp=100.0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no images; fix: name a folder"):
        list(crop_files([tmp_path / "empty"], WHOLE))
    (tmp_path / "empty" / "a.txt").write_text("")
    with pytest.raises(DataError, match=r"no images \(1 other file, first .*a\.txt\)"):
        list(crop_files([tmp_path / "empty"], WHOLE))


def test_look_ahead_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.png", picture(1))
    decoded = 0
    lock = threading.Lock()
    real = streams.read_rgb

    def counting(*args: object, **options: object) -> np.ndarray:
        nonlocal decoded
        with lock:
            decoded += 1
        return real(*args, **options)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(streams, "read_rgb", counting)
    threads = threading.active_count()
    stream = crop_files([path] * 2000, WHOLE, batch_size=16, workers=2)
    next(stream)
    stream.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert 16 <= decoded <= 16 + 5 * streams.UNIT_FILES
    assert threading.active_count() == threads


def test_batches_do_not_share_memory() -> None:
    crops = [Crop(str(n), "f", np.full((8, 8, 3), n, np.uint8), n, -n) for n in range(5)]
    refusal = Refusal("r", "f", "because", 1.0, 2.0)
    items = list(batched([crops[0], refusal, *crops[1:]], 2, 8))
    assert items[0] == replace(refusal, at=1)
    batches = [item for item in items if isinstance(item, CropBatch)]
    assert [batch.ids for batch in batches] == [["0", "1"], ["2", "3"], ["4"]]
    assert [int(crop[0, 0, 0]) for batch in batches for crop in batch.crops] == [0, 1, 2, 3, 4]
    assert batches[1].x_px.tolist() == [2.0, 3.0] and batches[1].y_px.tolist() == [-2.0, -3.0]
    assert math.isnan(Refusal("a", "b", "c").x_px)


@pytest.mark.real
def test_real_crops(real_root: Path) -> None:
    crops, reasons, _ = split(
        crop_files([real_root / "AMi-Br_Benchmark" / "AtNorM-Br" / "Atypical"], CropGeometry(128))
    )
    assert len(crops) == 128 and not reasons
