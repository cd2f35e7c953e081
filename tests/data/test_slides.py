"""Regions of slides and large images."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atypia.base.errors import AbsentError, DataError
from atypia.data.images.decoding import ImageLimits
from atypia.data.slides.readers import open_slide
from atypia.data.slides.regions import Slide

tifffile = pytest.importorskip("tifffile", reason="needs the extra `slides`")
openslide = pytest.importorskip("openslide", reason="needs the extra `slides`")

WIDTH, HEIGHT = 300, 200


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Smooth, so that JPEG would be near it, and different everywhere."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([x * 255 // WIDTH, y * 255 // HEIGHT, (x + y) % 256], axis=2).astype(np.uint8)


def write(kind: str, path: Path, pixels: np.ndarray) -> None:
    resolution = {"resolution": (40_000.0, 40_000.0), "resolutionunit": "CENTIMETER"}
    options = {
        "plain": {},
        "strips": {"compression": "zlib", "rowsperstrip": 16},
        "predictor": {"compression": "zlib", "rowsperstrip": 7, "predictor": True},
        "tiles": {"compression": "zlib", "tile": (64, 48)},
        "planar": {"compression": "zlib", "planarconfig": "separate"},
    }
    if kind == "png":
        Image.fromarray(pixels).save(path, "PNG")
    elif kind == "lzw":
        Image.fromarray(pixels).save(path, "TIFF", compression="tiff_lzw", dpi=(101_600, 101_600))
    else:
        laid = np.moveaxis(pixels, 2, 0) if kind == "planar" else pixels
        tifffile.imwrite(path, laid, photometric="rgb", **options[kind], **resolution)


KINDS = ["plain", "strips", "predictor", "tiles", "planar", "lzw", "png"]


@pytest.fixture(params=KINDS)
def slide(request: pytest.FixtureRequest, tmp_path: Path, pixels: np.ndarray):
    path = tmp_path / f"{request.param}.{'png' if request.param == 'png' else 'tiff'}"
    write(request.param, path, pixels)
    with open_slide(path) as opened:
        yield opened


def expected(pixels: np.ndarray, x: float, y: float, side: int) -> np.ndarray:
    """An independent crop: pad by reflection, then cut."""
    margin = 2 * side
    padded = np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
    left, top = (int(np.floor(c - side / 2 + 0.5)) + margin for c in (x, y))
    return padded[top : top + side, left : left + side]


POINTS = [
    (150, 100, 64),
    (150.5, 99.5, 33),
    (0, 0, 64),
    (299, 199, 64),
    (2, 100, 128),
    (299.9, 0, 31),
    (150, 199, 200),
    (10, 190, 399),
]


@pytest.mark.parametrize(("x", "y", "side"), POINTS)
def test_reads_squares_also_at_the_border(slide: Slide, pixels: np.ndarray, x: float, y: float, side: int) -> None:
    region = slide.read(x, y, side)
    assert region.shape == (side, side, 3)
    assert region.dtype == np.uint8
    np.testing.assert_array_equal(region, expected(pixels, x, y, side))


def test_size_and_resolution(slide: Slide) -> None:
    assert (slide.width_px, slide.height_px) == (WIDTH, HEIGHT)
    assert slide.mpp == (None if slide.name.endswith("png") else pytest.approx(0.25, rel=1e-3))


@pytest.mark.parametrize(("x", "y"), [(-0.1, 10), (300, 10), (10, 200), (10, float("nan")), (1e9, 10)])
def test_points_outside_raise(slide: Slide, x: float, y: float) -> None:
    with pytest.raises(DataError, match=r"`[xy]_px` must be inside .*fix: check the position"):
        slide.read(x, y, 32)


def test_too_large_a_field_raises(slide: Slide) -> None:
    with pytest.raises(DataError, match="`field` must be at most 2 times"):
        slide.read(150, 100, 401)
    with pytest.raises(DataError, match="`side_px` must be from 1 to 8192"):
        slide.read(150, 100, 9000)


def test_readers_are_the_frugal_ones(tmp_path: Path, pixels: np.ndarray) -> None:
    """Only what cannot be read in parts is decoded as a whole, so only that meets the limit on pixels."""
    limits = ImageLimits(max_pixels=1000 * 8)
    whole: set[str] = set()
    for kind in KINDS:
        path = tmp_path / kind
        write(kind, path, pixels)
        try:
            with open_slide(path, limits) as slide:
                assert slide.read(20, 20, 16).shape == (16, 16, 3)
        except DataError as error:
            assert "at most 8,000 pixels" in str(error)
            whole.add(kind)
    assert whole == {"planar", "lzw", "png"}


def test_pyramid_opens_at_full_resolution(tmp_path: Path, pixels: np.ndarray) -> None:
    path = tmp_path / "pyramid.tif"
    options = {"photometric": "rgb", "tile": (64, 64), "compression": "zlib", "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as writer:
        writer.write(pixels, resolution=(20_000.0, 20_000.0), **options)
        writer.write(pixels[::2, ::2], resolution=(10_000.0, 10_000.0), subfiletype=1, **options)
    with open_slide(path) as slide:
        assert (slide.width_px, slide.height_px, slide.mpp) == (WIDTH, HEIGHT, 0.5)
        np.testing.assert_array_equal(slide.read(100, 100, 64), pixels[68:132, 68:132])


def test_ome_description_tells_mpp(tmp_path: Path, pixels: np.ndarray) -> None:
    path = tmp_path / "a.ome.tiff"
    metadata = {"axes": "YXS", "PhysicalSizeX": 0.23, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.23}
    tifffile.imwrite(path, pixels, photometric="rgb", metadata=metadata)
    with open_slide(path) as slide:
        assert slide.mpp == pytest.approx(0.23)


@pytest.mark.parametrize("per_cm", [(28.35, 28.35), (40_000.0, 20_000.0)])
def test_implausible_resolution_is_unknown(tmp_path: Path, pixels: np.ndarray, per_cm: tuple[float, float]) -> None:
    """72 dpi is a default, not a microscope; oblong pixels have no one µm/px."""
    path = tmp_path / "a.tiff"
    tifffile.imwrite(path, pixels, photometric="rgb", resolution=per_cm, resolutionunit="CENTIMETER")
    with open_slide(path) as slide:
        assert slide.mpp is None


@pytest.mark.parametrize("kind", ["plain", "strips", "tiles", "png", "lzw"])
@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5])
def test_truncated_file_is_our_error(kind: str, kept: float, tmp_path: Path, pixels: np.ndarray) -> None:
    path = tmp_path / "cut.tiff"
    noise = np.random.default_rng(0).integers(0, 256, pixels.shape, dtype=np.uint8)
    write(kind, path, noise)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(DataError, match=r"cut\.tiff"), open_slide(path) as slide:
        slide.read(280, 190, 32)


def test_absent_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.svs cannot be read"):
        open_slide(tmp_path / "none.svs")
    text = tmp_path / "notes.svs"
    text.write_text("no slide")
    with pytest.raises(DataError, match=r"notes\.svs` must be an image"):
        open_slide(text)


def test_without_openslide(tmp_path: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slides name the extra to install; TIFF and PNG still work."""
    real_import = builtins.__import__

    def refuse(name: str, *args: object, **kwargs: object) -> object:
        if name in ("openslide", "tifffile"):
            raise ImportError(f"No module named {name!r}")
        return real_import(name, *args, **kwargs)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(builtins, "__import__", refuse)
    for module in [name for name in sys.modules if name.split(".")[0] in ("openslide", "tifffile")]:
        monkeypatch.delitem(sys.modules, module)
    svs = tmp_path / "a.svs"
    svs.write_bytes(b"II*\0 anything")
    with pytest.raises(AbsentError, match=r"`openslide` must be installed.*fix: pip install 'atypia\[slides\]'"):
        open_slide(svs)
    plain = tmp_path / "a.tiff"
    Image.fromarray(pixels).save(plain)
    with open_slide(plain) as slide:
        np.testing.assert_array_equal(slide.read(100, 100, 50), pixels[75:125, 75:125])


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "size", "mpp"),
    [("cmu-1-small-region.svs", (2220, 2967), 0.499), ("tcga-cr-7395-01a-01-ts1.svs", (4443, 3567), None)],
)
def test_real_slides(real_root: Path, name: str, size: tuple[int, int], mpp: float | None) -> None:
    path = real_root / "slides" / name
    if not path.is_file():
        pytest.skip(f"{name} is not in the data folder")
    with open_slide(path) as slide, openslide.OpenSlide(path) as oracle:
        assert (slide.width_px, slide.height_px) == size
        assert slide.mpp == mpp
        direct = np.asarray(oracle.read_region((1000, 1500), 0, (128, 128)).convert("RGB"))
        np.testing.assert_array_equal(slide.read(1064, 1564, 128), direct)
        corner = slide.read(0, 0, 129)
        np.testing.assert_array_equal(corner, corner[::-1, ::-1])
        assert direct.std() > 5  # tissue, not empty glass
