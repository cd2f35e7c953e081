"""Crops around points on slides, and that a crop is the same whichever way it comes in."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from atypia.base.errors import DataError, InputError
from atypia.data.images.decoding import ImageLimits
from atypia.data.images.geometry import CropGeometry, apply
from atypia.data.points.base import Points, ScaleError
from atypia.data.slides import slidecrops
from atypia.data.slides.readers import open_slide
from atypia.data.slides.slidecrops import SlideReading, slide_crops, slide_points, tile_order
from atypia.data.slides.stacks import stack_pages
from atypia.data.slides.streams import CropBatch, Refusal, crop_files

tifffile = pytest.importorskip("tifffile", reason="needs the extra `slides`")
openslide = pytest.importorskip("openslide", reason="needs the extra `slides`")

SIDE, ACROSS, DOWN = 128, 6, 5
QUARTER_UM = {"resolution": (40_000.0, 40_000.0), "resolutionunit": "CENTIMETER"}
TRAINED = CropGeometry(out_px=128, side_um=32.0)


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    """Smooth enough to be unlike noise, different everywhere."""
    rng = np.random.default_rng(1)
    small = rng.integers(0, 256, (ACROSS * DOWN, 16, 16, 3), dtype=np.uint8)
    return np.stack([np.array(Image.fromarray(one).resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for one in small])


@pytest.fixture(scope="module")
def pasted(crops: np.ndarray) -> np.ndarray:
    return crops.reshape(DOWN, ACROSS, SIDE, SIDE, 3).transpose(0, 2, 1, 3, 4).reshape(DOWN * SIDE, ACROSS * SIDE, 3)


def centres() -> tuple[np.ndarray, np.ndarray]:
    number = np.arange(ACROSS * DOWN)
    return (number % ACROSS + 0.5) * SIDE, (number // ACROSS + 0.5) * SIDE


def write(path: Path, pixels: np.ndarray, kind: str) -> Path:
    if kind == "png":
        Image.fromarray(pixels).save(path)
    elif kind == "plain":
        tifffile.imwrite(path, pixels, photometric="rgb", **QUARTER_UM)
    elif kind == "strips":
        tifffile.imwrite(path, pixels, photometric="rgb", compression="zlib", rowsperstrip=64, **QUARTER_UM)
    else:
        with tifffile.TiffWriter(path) as tiff:
            options: dict[str, Any] = {"tile": (256, 256), "photometric": "rgb", "compression": "zlib"}
            tiff.write(pixels, subfiletype=0, **options, **QUARTER_UM)
            tiff.write(np.ascontiguousarray(pixels[::2, ::2]), subfiletype=1, **options)
    return path


def gathered(stream: Any) -> tuple[dict[str, np.ndarray], dict[str, Refusal]]:
    found: dict[str, np.ndarray] = {}
    refused: dict[str, Refusal] = {}
    for item in stream:
        if isinstance(item, Refusal):
            refused[item.figure_id] = item
        else:
            found |= dict(zip(item.ids, item.crops, strict=True))
    return found, refused


# The same crop whichever way it comes in ------------------------------------------------------


@pytest.mark.parametrize("geometry", [TRAINED, CropGeometry(96, side_um=24.0), CropGeometry(64, side_um=32.0)])
def test_folder_stack_and_slides_give_identical_crops(
    tmp_path: Path, crops: np.ndarray, pasted: np.ndarray, geometry: CropGeometry
) -> None:
    names = [f"{n:03}" for n in range(len(crops))]
    (tmp_path / "set").mkdir()
    for name, crop in zip(names, crops, strict=True):
        Image.fromarray(crop).save(tmp_path / "set" / f"{name}.png")
    tifffile.imwrite(tmp_path / "stack.tiff", crops, photometric="rgb", compression="zlib")
    by_file, refused = gathered(crop_files([tmp_path / "set"], geometry, mpp=0.25))
    assert not refused
    expected = np.stack(list(by_file.values()))
    np.testing.assert_array_equal(expected[5], apply(crops[5], geometry, 0.25))
    by_page, _ = gathered(stack_pages(tmp_path / "stack.tiff", geometry, mpp=0.25))
    np.testing.assert_array_equal(np.stack(list(by_page.values())), expected)
    points = Points.at(*centres(), ids=names)
    for kind in ("pyramid", "plain", "strips", "png"):
        slide = write(tmp_path / f"{kind}.{'png' if kind == 'png' else 'tiff'}", pasted, kind)
        mpp = 0.25 if kind == "png" else None
        on_slide, refused = gathered(slide_crops(slide, points, geometry, mpp=mpp, batch_size=7))
        assert not refused
        np.testing.assert_array_equal(np.stack([on_slide[name] for name in names]), expected, err_msg=kind)
    with open_slide(tmp_path / "pyramid.tiff") as slide:
        assert type(slide).__name__ == "_OpenSlideSlide" and slide.mpp == pytest.approx(0.25)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.floats(0, 767.99), st.floats(0, 639.99)), min_size=1, max_size=5))
def test_any_point_is_the_reflected_field(tmp_path: Path, pasted: np.ndarray, where: list[tuple[float, float]]) -> None:
    path = tmp_path / "plain.tiff"
    if not path.exists():
        write(path, pasted, "plain")
    points = Points.at([x for x, _ in where], [y for _, y in where])
    found, _ = gathered(slide_crops(path, points, TRAINED))
    padded = np.pad(pasted, ((SIDE, SIDE), (SIDE, SIDE), (0, 0)), mode="reflect")
    for number, (x, y) in enumerate(where, 1):
        left, top = (math.floor(value - 64 + 0.5) + SIDE for value in (x, y))
        np.testing.assert_array_equal(found[f"plain.tiff#{number}"], padded[top : top + SIDE, left : left + SIDE])


# Scale ----------------------------------------------------------------------------------------


def test_field_is_physical_whatever_the_scale(tmp_path: Path, pasted: np.ndarray) -> None:
    path = write(tmp_path / "s.png", pasted, "png")
    points = Points.at([320.0], [320.0])
    for mpp, side in ((0.25, 128), (0.5, 64), (0.2, 160)):
        found, _ = gathered(slide_crops(path, points, TRAINED, mpp=mpp))
        cut = pasted[320 - side // 2 : 320 + side // 2, 320 - side // 2 : 320 + side // 2]
        np.testing.assert_array_equal(found["s.png#1"], apply(cut, CropGeometry(128)))


def test_unknown_scale_is_refused_unless_given_or_not_needed(tmp_path: Path, pasted: np.ndarray) -> None:
    path = write(tmp_path / "s.png", pasted, "png")
    points = Points.at([320.0], [320.0])
    with pytest.raises(
        DataError, match=r"`mpp` must be known to cut a field of 32 µm, got nothing in .*s\.png; fix: give"
    ):
        list(slide_crops(path, points, TRAINED))
    assert gathered(slide_crops(path, points, CropGeometry(128, side_px=128)))[0]


def test_given_scale_goes_before_the_files_where_that_is_said(tmp_path: Path, pasted: np.ndarray) -> None:
    path = write(tmp_path / "s.tiff", pasted, "plain")
    points = Points.at([320.0], [320.0])
    stated, _ = gathered(slide_crops(path, points, TRAINED))
    with pytest.raises(
        DataError, match=r"0\.5 \(given by --mpp\) and 0\.25 \(file: TIFF resolution\); fix: --mpp-from given or"
    ):
        list(slide_crops(path, points, TRAINED, mpp=0.5))
    given, _ = gathered(slide_crops(path, points, TRAINED, reading=SlideReading(0.5, "given")))
    np.testing.assert_array_equal(stated["s.tiff#1"], pasted[256:384, 256:384])
    np.testing.assert_array_equal(given["s.tiff#1"], apply(pasted[288:352, 288:352], CropGeometry(128)))


# Refusals -------------------------------------------------------------------------------------


def test_points_outside_are_refused_and_the_rest_is_done(tmp_path: Path, pasted: np.ndarray) -> None:
    path = write(tmp_path / "s.tiff", pasted, "pyramid")
    points = Points.at([-1, 0, 767.5, 768, 5, 1e300], [5, 0, 639.5, 5, 640, 5], ids=list("abcdef"))
    found, refused = gathered(slide_crops(path, points, TRAINED))
    assert sorted(found) == ["b", "c"]
    assert sorted(refused) == ["a", "d", "e", "f"]
    assert "`x_px` must be inside" in refused["a"].reason and "`y_px` must be inside" in refused["e"].reason
    assert (refused["d"].x_px, refused["d"].y_px, refused["d"].image) == (768.0, 5.0, str(path))


@pytest.mark.parametrize("kind", ["pyramid", "strips"])
def test_damaged_places_are_refused_and_the_rest_is_done(
    tmp_path: Path, crops: np.ndarray, pasted: np.ndarray, kind: str
) -> None:
    path = write(tmp_path / "s.tiff", pasted, kind)
    with tifffile.TiffFile(path) as tiff:
        start, count = tiff.pages[0].dataoffsets[0], tiff.pages[0].databytecounts[0]
    data = bytearray(path.read_bytes())
    data[start : start + count] = b"\xff" * count
    path.write_bytes(data)
    points = Points.at(*centres(), ids=[str(n) for n in range(len(crops))])
    found, refused = gathered(slide_crops(path, points, TRAINED))
    # Four crops lie in the first tile of 256 px; six in the first strips, which are as wide as the slide.
    assert set(refused) == ({"0", "1", "6", "7"} if kind == "pyramid" else {str(n) for n in range(6)})
    assert all("damaged" in refusal.reason for refusal in refused.values())
    assert len(found) + len(refused) == len(crops)
    for figure, crop in found.items():
        np.testing.assert_array_equal(crop, crops[int(figure)])


def test_bad_arguments(tmp_path: Path, pasted: np.ndarray) -> None:
    path = write(tmp_path / "s.tiff", pasted, "plain")
    points = Points.at([5.0], [5.0])
    with pytest.raises(InputError, match="`geometry` must be one with side_um or side_px"):
        slide_crops(path, points, CropGeometry(128))
    with pytest.raises(InputError, match="there are no points"):
        slide_crops(path, Points.at([], []), TRAINED)
    with pytest.raises(DataError, match="cannot be read"):
        list(slide_crops(tmp_path / "absent.svs", points, TRAINED))
    with pytest.raises(DataError, match="`field` must be at most 2 times"):
        list(slide_crops(path, points, CropGeometry(128, side_px=4000)))
    Image.new("L", (4000, 2000)).save(tmp_path / "large.png")
    with pytest.raises(DataError, match="at most 1,000,000 pixels"):
        list(slide_crops(tmp_path / "large.png", points, TRAINED, mpp=0.25, limits=ImageLimits(max_pixels=10**6)))


# Order and memory -----------------------------------------------------------------------------


def test_tile_order() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 5000, 500), rng.uniform(0, 5000, 500)
    order = tile_order(x, y)
    assert sorted(order.tolist()) == list(range(500))
    tiles = [(y[i] // 1024, x[i] // 1024) for i in order]
    assert tiles == sorted(tiles)
    assert tile_order(np.full(4, 7.0), np.full(4, 7.0)).tolist() == [0, 1, 2, 3]


def test_slide_is_read_as_batches_are_asked_for(
    tmp_path: Path, pasted: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "s.tiff", pasted, "strips")
    reads, closed = 0, 0
    opened = slidecrops.open_slide

    def counting(*args: Any) -> Any:
        slide = opened(*args)
        read, close = slide.read, slide.close

        def one(*where: Any) -> np.ndarray:
            nonlocal reads
            reads += 1
            return read(*where)

        def shut() -> None:
            nonlocal closed
            closed += 1
            close()

        slide.read, slide.close = one, shut  # pyright: ignore[reportAttributeAccessIssue]
        return slide

    monkeypatch.setattr(slidecrops, "open_slide", counting)
    stream = slide_crops(path, Points.at(*centres()), TRAINED, batch_size=8)
    first = next(stream)
    assert isinstance(first, CropBatch) and len(first) == 8 and reads == 8
    stream.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert closed == 1


# Points of a slide ----------------------------------------------------------------------------


def test_points_of_a_slide(tmp_path: Path, pasted: np.ndarray) -> None:
    slide = write(tmp_path / "one.tiff", pasted, "plain")
    bare = write(tmp_path / "one.png", pasted, "png")
    table = tmp_path / "p.csv"
    table.write_text("Image,Centroid X µm,Centroid Y µm\none.tiff,25,50\ntwo.tiff,1,1\n", encoding="utf-8")
    points = slide_points(slide, table)
    assert points.x_px.tolist() == pytest.approx([100.0]) and points.y_px.tolist() == pytest.approx([200.0])
    assert slide_points(bare, table, mpp=0.5).x_px.tolist() == [50.0]
    with pytest.raises(ScaleError, match="give mpp"):
        slide_points(bare, table)
    with pytest.raises(DataError, match=r"no point is on 'three\.tiff'"):
        slide_points(tmp_path / "three.tiff", table, mpp=0.25)


@pytest.mark.real
@pytest.mark.parametrize("name", ["cmu-1-small-region.svs", "tcga-cr-7395-01a-01-ts1.svs"])
def test_real_slides(real_root: Path, name: str) -> None:
    path = real_root / "slides" / name
    with open_slide(path) as slide:
        width, height, mpp = slide.width_px, slide.height_px, slide.mpp
        expected = slide.read(width / 2, height / 2, round(32 / (mpp or 0.25)))
    points = Points.at([width / 2, 3.0, width + 1], [height / 2, 4.0, 5.0])
    found, refused = gathered(slide_crops(path, points, TRAINED, mpp=mpp or 0.25))
    assert list(refused) == [f"{name}#3"] and len(found) == 2
    np.testing.assert_array_equal(found[f"{name}#1"], apply(expected, CropGeometry(128)))
