"""Decoding of image files: colour modes, limits, damage."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from atypia.base.errors import DataError
from atypia.data.images.decoding import ImageLimits, image_format, read_bytes, read_header, read_rgb


def noise(width: int = 13, height: int = 9, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def png16(samples: np.ndarray) -> bytes:
    """A 16-bit grey or RGB PNG, written by hand: Pillow cannot write the latter."""
    height, width = samples.shape[:2]
    colour = 2 if samples.ndim == 3 else 0

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + samples[y].astype(">u2").tobytes() for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_rgb_comes_back_as_it_was(kind: str, tmp_path: Path) -> None:
    pixels = noise()
    path = tmp_path / f"a.{kind.lower()}"
    path.write_bytes(encoded(Image.fromarray(pixels), kind))
    read = read_rgb(path)
    assert read.dtype == np.uint8
    assert read.flags.writeable
    np.testing.assert_array_equal(read, pixels)
    np.testing.assert_array_equal(read_rgb(path.read_bytes()), pixels)
    assert read_header(path) == (13, 9, "RGB")


def test_jpeg_is_near_its_source() -> None:
    y, x = np.mgrid[0:32, 0:32]
    smooth = np.stack([x * 7, y * 7, x + y], axis=2).astype(np.uint8)
    read = read_rgb(encoded(Image.fromarray(smooth), "JPEG", quality=95))
    assert np.abs(read.astype(int) - smooth).mean() < 4


def test_grey_is_repeated() -> None:
    grey = noise(channels=1)[:, :, 0]
    np.testing.assert_array_equal(read_rgb(encoded(Image.fromarray(grey))), np.stack([grey] * 3, axis=2))


def test_palette_gives_its_colours() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    assert read_rgb(encoded(image)).tolist() == [[[10, 20, 30], [200, 100, 50]]]


def test_palette_with_transparency_lies_over_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    assert read_rgb(encoded(image, transparency=0)).tolist() == [[[255, 255, 255], [200, 100, 50]]]


def test_rgb_with_a_transparent_colour_lies_over_white() -> None:
    image = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    assert read_rgb(encoded(image, transparency=(1, 2, 3))).tolist() == [[[255, 255, 255], [4, 5, 6]]]


def test_alpha_lies_over_white() -> None:
    pixels = np.array([[[100, 0, 50, 0], [100, 0, 50, 255], [100, 0, 50, 51]]], dtype=np.uint8)
    # alpha 51 is a fifth: 0.2 × 100 + 0.8 × 255 = 224, 0.8 × 255 = 204, 0.2 × 50 + 204 = 214
    assert read_rgb(encoded(Image.fromarray(pixels))).tolist() == [[[255, 255, 255], [100, 0, 50], [224, 204, 214]]]


def test_grey_with_alpha_lies_over_white() -> None:
    image = Image.fromarray(np.array([[[100, 0], [100, 255]]], dtype=np.uint8), "LA")
    assert read_rgb(encoded(image)).tolist() == [[[255] * 3, [100] * 3]]


def test_sixteen_bit_keeps_the_high_byte(tmp_path: Path) -> None:
    grey = np.array([[0x0000, 0x12FF, 0xFF00]], dtype=np.uint16)
    assert read_rgb(png16(grey)).tolist() == [[[0] * 3, [0x12] * 3, [0xFF] * 3]]
    colour = np.array([[[0x01FF, 0x8000, 0xFFFF]]], dtype=np.uint16)
    assert read_rgb(png16(colour)).tolist() == [[[0x01, 0x80, 0xFF]]]
    for name, samples, mode in (("g", grey, "L;16"), ("c", colour, "RGB;16")):
        path = tmp_path / f"{name}.png"
        path.write_bytes(png16(samples))
        assert read_header(path).mode == mode


def test_sixteen_bits_of_which_a_camera_uses_fewer_are_refused() -> None:
    camera = np.linspace(0, 4095, 12).astype(np.uint16)
    words = r"16-bit samples reach up to 65,535, got none above 4,095; fix: .*4,095 for 12 bits"
    for samples in (camera.reshape(3, 4), camera.reshape(2, 2, 3)):
        with pytest.raises(DataError, match=words):
            read_rgb(png16(samples))


def test_cmyk_is_converted() -> None:
    cmyk = Image.fromarray(np.array([[[0, 255, 255, 0], [0, 0, 0, 255]]], np.uint8), "CMYK")
    assert read_rgb(encoded(cmyk, "TIFF")).tolist() == [[[255, 0, 0], [0, 0, 0]]]


@pytest.mark.parametrize("mode", ["1", "I", "F", "LAB"])
def test_modes_that_no_histology_has_are_refused(mode: str) -> None:
    with pytest.raises(DataError, match=rf"`slice` must be an 8-bit RGB image, got colour mode '{mode}'; fix: "):
        read_rgb(encoded(Image.new(mode, (9, 9)), "TIFF"), name="slice")


def test_pages_are_refused_unless_named() -> None:
    pages = [Image.fromarray(noise(seed=seed)) for seed in range(3)]
    stack = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match="an image of one page, got 3 pages"):
        read_rgb(stack)
    np.testing.assert_array_equal(read_rgb(stack, page=2), noise(seed=2))
    with pytest.raises(DataError, match="`page` must be from 0 to 2"):
        read_rgb(stack, page=3)


def test_limits() -> None:
    data = encoded(Image.fromarray(noise()))
    with pytest.raises(DataError, match="at most 100 pixels, got 13 × 9"):
        read_rgb(data, ImageLimits(max_pixels=100))
    assert read_rgb(data, ImageLimits(max_pixels=117)).shape == (9, 13, 3)


def test_large_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.fromarray(noise())))
    for reader in (read_rgb, read_bytes, read_header):
        with pytest.raises(DataError, match=r"a\.png` must be at most 10 bytes"):
            reader(path, ImageLimits(max_bytes=10))


def test_bomb_is_an_error_of_ours(tmp_path: Path) -> None:
    """A small file that claims 400 megapixels, also where the caller's own limit would let it pass."""
    bomb = bytearray(png16(np.zeros((1, 1), np.uint16)))
    header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    bomb[12:33] = header + struct.pack(">I", zlib.crc32(header))
    path = tmp_path / "bomb.png"
    path.write_bytes(bytes(bomb))
    for limits in (ImageLimits(), ImageLimits(max_pixels=1 << 40)):
        for reader in (read_rgb, read_header):
            with pytest.raises(DataError, match=r"bomb\.png"):
                reader(path, limits)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "empty"), (b"figure,label\n1,0\n", "must be an image"), (b"\x89PNG\r\n\x1a\n", "truncated")],
)
def test_what_is_no_image_names_the_file(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "figure-7.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"figure-7\.png.*{words}"):
        read_rgb(path)


def test_absent_folder_and_pipe(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.png cannot be read: No such file"):
        read_rgb(tmp_path / "none.png")
    with pytest.raises(DataError, match="not a regular file"):
        read_rgb(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match="not a regular file"):
        read_rgb(tmp_path / "pipe.png")


PNG, JPEG = (encoded(Image.fromarray(noise(32, 32)), kind) for kind in ("PNG", "JPEG"))
TIFF = encoded(Image.fromarray(noise(32, 32)), "TIFF", compression="tiff_lzw")


@settings(max_examples=120, deadline=None)
@given(st.sampled_from([PNG, JPEG]), st.floats(0, 1, exclude_max=True))
def test_every_truncation_is_noticed(whole: bytes, share: float) -> None:
    with pytest.raises(DataError):
        read_rgb(whole[: int(share * len(whole))])


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([PNG, JPEG, TIFF]), st.data())
def test_damage_raises_nothing_else(whole: bytes, data: st.DataObject) -> None:
    """Bytes flipped anywhere give pixels of the file's size or our error, never another exception."""
    broken = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        pixels = read_rgb(bytes(broken), ImageLimits(max_pixels=1 << 20))
    except DataError:
        return
    assert pixels.ndim == 3
    assert pixels.dtype == np.uint8


def test_image_format_by_magic() -> None:
    assert [image_format(data) for data in (PNG, JPEG, TIFF, b"BM..", b"")] == ["PNG", "JPEG", "TIFF", None, None]


@pytest.mark.real
def test_real_crops_equal_pillow(real_root: Path) -> None:
    paths = sorted((real_root / "AMi-Br_Benchmark" / "AtNorM-Br" / "Atypical").glob("*.png"))[:20]
    assert len(paths) == 20
    for path in paths:
        assert read_header(path) == (128, 128, "RGB")
        with Image.open(path) as image:
            np.testing.assert_array_equal(read_rgb(path), np.asarray(image))


def test_a_png_of_which_one_bit_changed_is_refused() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    whole = encoded(Image.fromarray(pixels), "PNG")
    start, rng = whole.find(b"IDAT") + 4, np.random.default_rng(1)
    for at in rng.integers(start, whole.find(b"IEND") - 8, 40):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << int(rng.integers(8))
        with pytest.raises(DataError, match="the checksum of its IDAT is wrong; fix: fetch the file again"):
            read_rgb(bytes(damaged), name="x")
    assert np.array_equal(read_rgb(whole), pixels)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"GIF89a" + b"\0" * 40, "a GIF"),
        (b"%PDF-1.7", "a PDF"),
        (b"\xff\x4f\xff\x51" + b"\0" * 40, "a JPEG 2000"),
        (b"\0\0\0 ftypavif" + b"\0" * 40, "an AVIF"),
        (b"\0\0\0 ftypheic" + b"\0" * 40, "a HEIC"),
        (b"\0" * 128 + b"DICM", "a DICOM file"),
        (b"PK\x03\x04" + b"\0" * 40, "a zip archive"),
    ],
)
def test_what_is_no_image_that_is_read_is_named(content: bytes, what: str, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(content)
    for read in (read_rgb, read_header):
        with pytest.raises(DataError, match=rf"must be an image .* got {what}.*; fix: "):
            read(tmp_path / "x.png")


@pytest.mark.parametrize(
    ("dtype", "what"),
    [
        ("float32", "floating-point"),
        ("float64", "floating-point"),
        ("int16", "signed"),
        ("uint32", "32 bits per sample"),
    ],
)
def test_a_tiff_of_other_samples_is_named(dtype: str, what: str) -> None:
    tifffile = pytest.importorskip("tifffile")
    file = io.BytesIO()
    tifffile.imwrite(file, np.ones((20, 20, 3), dtype), photometric="rgb")
    with pytest.raises(DataError, match=rf"got a TIFF of {what}.*; fix: save it as 8-bit RGB PNG"):
        read_rgb(file.getvalue(), name="x")


@pytest.mark.parametrize(
    ("code", "what"), [(50001, "WebP"), (34712, "JPEG 2000"), (33005, "JPEG 2000"), (9999, "9999")]
)
def test_a_tiff_of_a_compression_that_is_not_read_is_named(code: int, what: str) -> None:
    whole = bytearray(encoded(Image.new("RGB", (20, 20)), "TIFF"))
    at = whole.find(struct.pack("<HHI", 259, 3, 1))
    whole[at + 8 : at + 10] = struct.pack("<H", code)
    with pytest.raises(DataError, match=rf"\bx\b.*{what}|truncated or damaged"):
        read_rgb(bytes(whole), name="x")
