"""Tissue told by colour on made-up slides of known area, and regions of GeoJSON."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atypia.base.errors import DataError, InputError
from atypia.data.slides.readers import open_slide
from atypia.data.slides.regions import ArraySlide, ImageFileFacts, Slide
from atypia.data.tissue.areas import MaskedArea, read_area
from atypia.data.tissue.masks import TISSUE_UM, tissue_mask
from atypia.data.tissue.overviews import read_overview

GLASS, EOSIN, NUCLEI = (242, 241, 243), (226, 170, 205), (120, 80, 150)
MPP = 2.0


def painted(*patches: tuple[int, int, int, int, tuple[int, int, int]], size: tuple[int, int] = (1200, 1000)) -> Slide:
    pixels = np.full((size[1], size[0], 3), GLASS, np.int16)
    for left, top, right, bottom, colour in patches:
        pixels[top:bottom, left:right] = colour
    pixels += np.random.default_rng(0).integers(-3, 4, pixels.shape, np.int16)
    return ArraySlide("made-up", pixels.clip(0, 255).astype(np.uint8), ImageFileFacts())


def area_of(slide: Slide, mpp: float = MPP) -> MaskedArea:
    overview = read_overview(slide, TISSUE_UM, mpp)
    return MaskedArea(tissue_mask(overview, mpp), overview.down, mpp, "tissue")


def test_overview_is_the_mean_of_what_it_covers() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (600, 900, 3), np.uint8)
    slide = ArraySlide("made-up", pixels, ImageFileFacts())
    told: list[tuple[int, int]] = []
    overview = read_overview(slide, 6.0, MPP, lambda done, total, what: told.append((done, total)))
    assert overview.down == 3.0 and overview.pixels.shape == (200, 300, 3)
    means = pixels.reshape(200, 3, 300, 3, 3).mean(axis=(1, 3))
    assert np.abs(overview.pixels - means).max() <= 1
    assert told[-1] == (1, 1)


def test_area_of_tissue() -> None:
    area = area_of(painted((200, 200, 800, 700, EOSIN), (300, 300, 500, 500, NUCLEI)))
    assert area.mm2 == pytest.approx(600 * 500 * (MPP / 1000) ** 2, rel=0.03)
    assert area.mm2_within((0, 0, 500, 1000)) == pytest.approx(300 * 500 * (MPP / 1000) ** 2, rel=0.04)
    assert area.mm2_within((-100, -100, 100, 100)) == 0
    assert area.holds(np.array([500.0, 100.0, -5.0]), np.array([400.0, 400.0, 1.0])).tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("what", "patch"),
    [
        ("a black border", (0, 0, 1200, 60, (4, 4, 4))),
        ("grey dust", (900, 800, 1000, 900, (120, 121, 120))),
        ("green marker", (900, 100, 1100, 400, (60, 150, 90))),
        ("blue marker", (900, 100, 1100, 400, (40, 80, 180))),
        ("a speck", (1000, 900, 1030, 930, EOSIN)),
    ],
)
def test_what_is_no_tissue(what: str, patch: Any) -> None:
    plain, with_it = (area_of(painted((200, 200, 800, 700, EOSIN), *more)) for more in ((), (patch,)))
    assert with_it.mm2 == pytest.approx(plain.mm2, rel=0.01), what


def test_holes() -> None:
    plain = area_of(painted((200, 200, 800, 700, EOSIN))).mm2
    small = area_of(painted((200, 200, 800, 700, EOSIN), (400, 400, 440, 440, GLASS))).mm2
    large = area_of(painted((200, 200, 800, 700, EOSIN), (400, 400, 600, 600, GLASS))).mm2
    assert small == pytest.approx(plain, rel=0.001), "a lumen of 80 µm is tissue"
    assert plain - large == pytest.approx(200 * 200 * (MPP / 1000) ** 2, rel=0.1), "one of 400 µm is not"


def test_a_region_that_is_tissue_all_over_has_no_glass() -> None:
    assert area_of(painted((0, 0, 1200, 1000, EOSIN))).mask.all()
    assert not area_of(painted()).mask.any()


# Regions -------------------------------------------------------------------------------------


def feature(coordinates: Any, named: str | None = None, kind: str = "Polygon") -> dict[str, Any]:
    properties = {"objectType": "annotation", **({} if named is None else {"classification": {"name": named}})}
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, "properties": properties}


def square(left: float, top: float, side: float) -> list[list[list[float]]]:
    right, bottom = left + side, top + side
    return [[[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]]


def wrote(tmp_path: Path, *features: dict[str, Any]) -> Path:
    path = tmp_path / "region.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(features)}))
    return path


def test_overlaps_count_once_and_what_leaves_the_slide_does_not(tmp_path: Path) -> None:
    slide = painted()
    path = wrote(
        tmp_path, feature(square(100, 100, 200)), feature(square(200, 200, 200)), feature(square(1100, 0, 200))
    )
    area = read_area(path, slide, MPP)
    px2 = 2 * 200**2 - 100**2 + 100 * 200
    assert area.mm2 == pytest.approx(px2 * (MPP / 1000) ** 2)
    assert area.mm2_within((0, 0, 300, 1000)) == pytest.approx((200**2 + 100 * 100) * (MPP / 1000) ** 2)
    assert area.holds(np.array([150.0, 150.0, 350.0]), np.array([150.0, 350.0, 350.0])).tolist() == [True, False, True]
    assert area.source == "3 regions of region.geojson"


def test_classes_of_regions_are_not_mixed(tmp_path: Path) -> None:
    path = wrote(
        tmp_path,
        feature(square(0, 0, 100), "Tumor"),
        feature(square(200, 0, 100), "Necrosis"),
        feature([5, 5], kind="Point"),
    )
    with pytest.raises(InputError, match=r"1 Tumor, 1 Necrosis; fix: pass --region-class Tumor"):
        read_area(path, painted(), MPP)
    area = read_area(path, painted(), MPP, ["Tumor"])
    assert math.isclose(area.mm2, 100**2 * (MPP / 1000) ** 2)
    assert area.notes == ("region.geojson: 1 object that is no region is not used",)


def test_bad_regions(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must be GeoJSON with polygons, got 1 features and none of them"):
        read_area(wrote(tmp_path, feature([5, 5], kind="Point")), painted(), MPP)
    with pytest.raises(DataError, match=r"must be regions on made-up, got none within the image"):
        read_area(wrote(tmp_path, feature(square(5000, 5000, 10))), painted(), MPP)
    with pytest.raises(DataError, match=r"feature 1: a damaged polygon"):
        read_area(wrote(tmp_path, feature([[[1, 2]]])), painted(), MPP)


def test_a_real_slide(tmp_path: Path) -> None:
    """The pyramid of an OpenSlide file gives what its pixels give."""
    tifffile = pytest.importorskip("tifffile", reason="needs the extra `slides`")
    pixels = np.asarray(Image.effect_noise((512, 512), 60).convert("RGB"))
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        for level in (pixels, pixels.reshape(256, 2, 256, 2, 3).mean(axis=(1, 3)).astype(np.uint8)):
            tiff.write(level, tile=(128, 128), photometric="rgb", subfiletype=int(level is not pixels))
    with open_slide(path) as slide:
        overview = read_overview(slide, 8.0, MPP)
    means = pixels.reshape(128, 4, 128, 4, 3).mean(axis=(1, 3))
    assert overview.pixels.shape == (128, 128, 3) and np.abs(overview.pixels - means).max() <= 2
