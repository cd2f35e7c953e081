"""Crops from TIFF stacks, and telling what an input is."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atypia.base.errors import DataError
from atypia.data.images.decoding import ImageLimits, read_rgb
from atypia.data.images.geometry import CropGeometry, apply
from atypia.data.slides.stacks import classify_input, stack_pages
from atypia.data.slides.streams import CropBatch, Refusal

tifffile = pytest.importorskip("tifffile", reason="needs the extra `slides`")

SIDE = 32
WHOLE = CropGeometry(out_px=SIDE)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, SIDE, SIDE, 3), dtype=np.uint8)


def stack(path: Path, pixels: np.ndarray, **options: object) -> Path:
    tifffile.imwrite(path, pixels, photometric="rgb", **({"compression": "zlib"} | options))  # pyright: ignore[reportArgumentType]
    return path


def pages(path: Path, **options: object) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    crops: dict[str, np.ndarray] = {}
    reasons: dict[str, str] = {}
    for item in stack_pages(path, WHOLE, **options):  # pyright: ignore[reportArgumentType]
        if isinstance(item, Refusal):
            reasons[item.figure_id] = item.reason
        else:
            crops |= dict(zip(item.ids, item.crops, strict=True))
    return crops, reasons


def directories(path: Path) -> list[int]:
    with tifffile.TiffFile(path) as tiff:
        return [page.offset for page in tiff.pages]


@pytest.mark.parametrize(("bigtiff", "byteorder"), [(False, "<"), (False, ">"), (True, "<")])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_pages_in_order(
    tmp_path: Path, pixels: np.ndarray, bigtiff: bool, byteorder: str, compression: str | None
) -> None:
    path = stack(tmp_path / "s.tiff", pixels, bigtiff=bigtiff, byteorder=byteorder, compression=compression)
    crops, reasons = pages(path, batch_size=4)
    assert list(crops) == [f"s.tiff#{n}" for n in range(1, 7)] and not reasons
    np.testing.assert_array_equal(np.stack(list(crops.values())), pixels)


@pytest.mark.parametrize("codec", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "raw"])
def test_codecs(tmp_path: Path, pixels: np.ndarray, codec: str) -> None:
    first, *rest = [Image.fromarray(page) for page in pixels]
    first.save(tmp_path / "s.tif", save_all=True, append_images=rest, compression=codec)
    crops, _ = pages(tmp_path / "s.tif")
    np.testing.assert_array_equal(np.stack(list(crops.values())), pixels)


def test_batches_name_the_file(tmp_path: Path, pixels: np.ndarray) -> None:
    batches = list(stack_pages(str(stack(tmp_path / "s.tiff", pixels)), WHOLE, batch_size=4))
    assert [len(batch) for batch in batches if isinstance(batch, CropBatch)] == [4, 2]
    assert isinstance(batches[0], CropBatch)
    assert batches[0].images == [str(tmp_path / "s.tiff")] * 4 and np.isnan(batches[0].x_px).all()


def test_colour_modes_are_those_of_images(tmp_path: Path, pixels: np.ndarray) -> None:
    modes = {
        "grey": Image.fromarray(pixels[0, :, :, 0]),
        "sixteen": Image.fromarray(pixels[1, :, :, 0].astype(np.uint16) * 257),
        "alpha": Image.fromarray(np.dstack([pixels[2], pixels[3, :, :, 0]])),
        "cmyk": Image.fromarray(pixels[3]).convert("CMYK"),
        "palette": Image.fromarray(pixels[4]).quantize(16),
    }
    first, *rest = modes.values()
    first.save(tmp_path / "s.tiff", save_all=True, append_images=[*rest, Image.fromarray(pixels[0, :, :, 0] > 99)])
    crops, reasons = pages(tmp_path / "s.tiff")
    for page, name in enumerate(modes):
        expected = read_rgb(tmp_path / "s.tiff", page=page)
        np.testing.assert_array_equal(crops[f"s.tiff#{page + 1}"], expected, err_msg=name)
    np.testing.assert_array_equal(crops["s.tiff#2"], np.dstack([pixels[1, :, :, 0]] * 3))
    assert list(reasons) == ["s.tiff#6"] and "colour mode '1'" in reasons["s.tiff#6"]


def test_a_damaged_page_costs_no_other(tmp_path: Path, pixels: np.ndarray) -> None:
    path = stack(tmp_path / "s.tiff", pixels)
    with tifffile.TiffFile(path) as tiff:
        start, count = tiff.pages[2].dataoffsets[0], tiff.pages[2].databytecounts[0]
        first = tiff.pages[0].offset
    data = bytearray(path.read_bytes())
    data[start : start + count] = b"\xff" * count
    # The first directory's first entry gets a width that nothing holds.
    assert struct.unpack_from("<H", data, first + 2)[0] in (254, 256)
    width = next(at for at in range(first + 2, first + 60, 12) if struct.unpack_from("<H", data, at)[0] == 256)
    struct.pack_into("<I", data, width + 8, 3_000_000_000)
    path.write_bytes(data)
    crops, reasons = pages(path)
    assert set(reasons) == {"s.tiff#1", "s.tiff#3"}
    assert "damaged" in reasons["s.tiff#3"]
    assert list(crops) == [f"s.tiff#{n}" for n in (2, 4, 5, 6)]
    np.testing.assert_array_equal(crops["s.tiff#6"], pixels[5])


def test_a_broken_chain_is_reported(tmp_path: Path, pixels: np.ndarray) -> None:
    path = stack(tmp_path / "s.tiff", pixels)
    data = bytearray(path.read_bytes())
    third = directories(path)[2]
    (entries,) = struct.unpack_from("<H", data, third)
    for following in (len(data) + 1000, directories(path)[0]):
        struct.pack_into("<I", data, third + 2 + 12 * entries, following)
        path.write_bytes(data)
        crops, reasons = pages(path)
        assert list(crops) == ["s.tiff#1", "s.tiff#2", "s.tiff#3"]
        assert list(reasons) == ["s.tiff#4"] and "page 4 and what follows cannot be found" in reasons["s.tiff#4"]


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path, pixels: np.ndarray) -> None:
    with tifffile.TiffWriter(tmp_path / "s.tiff") as tiff:
        tiff.write(pixels[0], photometric="rgb")
        tiff.write(np.zeros((3000, 3000, 3), np.uint8), compression="zlib", photometric="rgb")
        tiff.write(pixels[1], photometric="rgb")
    crops, reasons = pages(tmp_path / "s.tiff")
    assert list(crops) == ["s.tiff#1", "s.tiff#3"]
    assert "`s.tiff#2` must be a crop of at most 4,194,304 pixels, got 3,000 × 3,000" in reasons["s.tiff#2"]
    _, reasons = pages(tmp_path / "s.tiff", limits=ImageLimits(max_pixels=10))
    assert len(reasons) == 3


def test_field_in_um(tmp_path: Path, pixels: np.ndarray) -> None:
    geometry = CropGeometry(16, side_um=4.0)
    (batch,) = stack_pages(stack(tmp_path / "s.tiff", pixels), geometry, mpp=0.25)
    assert isinstance(batch, CropBatch)
    np.testing.assert_array_equal(batch.crops[3], apply(pixels[3], geometry, 0.25))
    np.testing.assert_array_equal(batch.crops[3], pixels[3, 8:24, 8:24])


def test_bad_stacks(tmp_path: Path, pixels: np.ndarray) -> None:
    path = stack(tmp_path / "s.tiff", pixels)
    assert len(pages(path, max_pages=6)[0]) == 6
    with pytest.raises(DataError, match="must be a TIFF of at most 5 pages, got more; fix: split"):
        stack_pages(path, WHOLE, max_pages=5)
    Image.fromarray(pixels[0]).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="must be a TIFF, got another file"):
        stack_pages(tmp_path / "a.png", WHOLE)
    with pytest.raises(DataError, match="cannot be read"):
        stack_pages(tmp_path / "absent.tiff", WHOLE)
    with pytest.raises(DataError, match="cannot be read"):
        stack_pages(tmp_path, WHOLE)
    (tmp_path / "cut.tiff").write_bytes(path.read_bytes()[:6])
    with pytest.raises(DataError, match="its first page is missing"):
        stack_pages(tmp_path / "cut.tiff", WHOLE)


# What an input is -----------------------------------------------------------------------------


def test_classify(tmp_path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels[0]).save(tmp_path / "crop.png")
    stack(tmp_path / "one.tiff", pixels[0])
    stack(tmp_path / "many.tiff", pixels)
    stack(tmp_path / "tiled.tiff", np.zeros((2, 64, 64, 3), np.uint8), tile=(32, 32))
    Image.fromarray(np.zeros((20, 2049), np.uint8)).save(tmp_path / "wide.png")
    with tifffile.TiffWriter(tmp_path / "pyramid.tiff") as tiff:
        tiff.write(np.zeros((512, 512, 3), np.uint8), photometric="rgb", tile=(256, 256))
        tiff.write(np.zeros((256, 256, 3), np.uint8), photometric="rgb", tile=(256, 256))
    stack(tmp_path / "regions.tiff", np.zeros((2, 2049, 16, 3), np.uint8))
    kinds = {path.name: classify_input(path) for path in tmp_path.iterdir()}
    assert kinds == {
        "crop.png": "crop",
        "one.tiff": "crop",
        "many.tiff": "stack",
        "tiled.tiff": "stack",
        "wide.png": "slide",
        "pyramid.tiff": "slide",
        "regions.tiff": "slide",
    }
    assert classify_input(tmp_path / "crop.png", has_points=True) == "slide"


def test_classify_of_a_header_that_is_far_too_large(tmp_path: Path) -> None:
    path = stack(tmp_path / "huge.tiff", np.zeros((16, 16, 3), np.uint8))
    data = bytearray(path.read_bytes())
    first = directories(path)[0]
    for at in range(first + 2, first + 60, 12):
        if struct.unpack_from("<H", data, at)[0] in (256, 257):
            struct.pack_into("<HI", data, at + 2, 4, 1)
            struct.pack_into("<I", data, at + 8, 200_000)
    path.write_bytes(data)
    assert classify_input(path) == "slide"


def test_classify_refuses_what_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(DataError, match="must be an image"):
        classify_input(tmp_path / "a.txt")
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(DataError, match="empty"):
        classify_input(tmp_path / "empty.png")
    with pytest.raises(DataError, match="cannot be read"):
        classify_input(tmp_path / "absent.png")


@pytest.mark.real
def test_real_inputs(real_root: Path) -> None:
    path = real_root / "challenge" / "stack_5.tiff"
    assert classify_input(path) == "stack"
    (batch,) = stack_pages(path, CropGeometry(128, side_um=32.0))
    assert isinstance(batch, CropBatch)
    assert batch.ids == [f"stack_5.tiff#{n}" for n in range(1, 17)]
    np.testing.assert_array_equal(batch.crops, tifffile.imread(path))
    for slide in (real_root / "slides").glob("*.svs"):
        assert classify_input(slide) == "slide"


def test_pages_that_share_their_pixels_are_one_figure(tmp_path: Path) -> None:
    side, pages = 16, 5
    size = 3 * side * side
    tags = [(256, side), (257, side), (258, 8), (259, 1), (262, 2), (273, 8), (277, 3), (278, side), (279, size)]
    length = 2 + 12 * len(tags) + 4
    data = b"II*\0" + struct.pack("<I", 8 + size) + b"\x80" * size
    for page in range(1, pages + 1):
        after = 8 + size + page * length if page < pages else 0
        body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
        data += struct.pack("<H", len(tags)) + body + struct.pack("<I", after)
    (tmp_path / "shared.tif").write_bytes(data)

    items = list(stack_pages(tmp_path / "shared.tif", CropGeometry(out_px=16)))

    assert [item.ids for item in items if isinstance(item, CropBatch)] == [["shared.tif#1"]]
    reasons = [item.reason for item in items if isinstance(item, Refusal)]
    assert len(reasons) == 4
    assert all("must be a page with pixels of its own, got those of page 1; fix: " in reason for reason in reasons)
