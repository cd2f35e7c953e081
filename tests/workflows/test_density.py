"""Figures by area on made-up slides with known answers, in summary, table, page and list of slides."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atypia.base.errors import InputError
from atypia.data.tissue.areas import MaskedArea
from atypia.inference.bundles.bundle import load_bundle
from atypia.reports.case.density import TWO_MM2, FieldSize, field_size
from atypia.workflows.case.density import DensityOptions, slide_density
from atypia.workflows.predict import PredictedCase, predict_crops
from atypia.workflows.slides.jobs import SlideJob, SlideSettings
from atypia.workflows.slides.predict import predict_slides

MPP = 1.0
FIELD = FieldSize(0.03, "0.03 mm²")
"""200 × 150 px at 1 µm/px."""


@pytest.fixture
def model(trained_folder: Path, tmp_path: Path) -> Path:
    """A probe on random features, whose field is 8 µm."""
    return replace(load_bundle(trained_folder / "fold-1" / "bundle"), field_um=8.0).save(tmp_path / "model")


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    """Glass of 1,000 × 800 px with tissue from (200, 100) to (900, 700)."""
    pixels = np.full((800, 1000, 3), 242, np.uint8)
    pixels[100:700, 200:900] = np.random.default_rng(0).integers((200, 140, 180), (240, 180, 220), (600, 700, 3))
    path = tmp_path / "case.png"
    Image.fromarray(pixels).save(path)
    return path


CLUSTER = [(600 + 15 * k, 400 + 5 * k) for k in range(8)]
POINTS = [(250, 150), (880, 150), (250, 650), (880, 650), *CLUSTER, (1500, 5)]
"""Four in the corners of the tissue, eight in a field, and one outside the slide."""


@pytest.fixture
def points(tmp_path: Path) -> Path:
    path = tmp_path / "points.csv"
    path.write_text("x,y\n" + "\n".join(f"{x},{y}" for x, y in POINTS))
    return path


def region(tmp_path: Path, left: int, top: int, right: int, bottom: int) -> Path:
    ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    path = tmp_path / "region.geojson"
    path.write_text(
        json.dumps({"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {}})
    )
    return path


def predicted(slide: Path, points: Path, model: Path, options: DensityOptions, **how: Any) -> PredictedCase:
    return predict_crops([slide], model, points=points, mpp=MPP, density=options, **how)


def test_tissue_hotspot_and_outputs(slide: Path, points: Path, model: Path, tmp_path: Path) -> None:
    files = {"summary": tmp_path / "case.json", "page": tmp_path / "case.html"}
    case = predicted(slide, points, model, DensityOptions(field=FIELD), **files)
    (found,) = case.summary.densities or []
    assert found.area_mm2 == pytest.approx(0.7 * 0.6, rel=0.03)
    assert found.figures == 12 and found.atypical == case.summary.total.decided_atypical
    assert found.per_mm2(found.figures) == pytest.approx(12 / 0.42, rel=0.03)
    assert found.hotspot is not None and found.hotspot.figures == 8 and found.hotspot.exact
    assert found.hotspot.left_px <= 600 and found.hotspot.left_px + found.hotspot.width_px >= 705
    assert (found.hotspot.width_px, found.hotspot.height_px) == (pytest.approx(200), pytest.approx(150))
    assert found.hotspot.area_mm2 == pytest.approx(0.03)
    assert "1 of 13 figures lie outside the slide and are not counted." in found.notes
    written = json.loads(files["summary"].read_text())["density"][0]
    assert written["image"] == "case.png" and written["hotspot"]["figures"] == 8
    assert written["figures_per_mm2_low"] < written["figures_per_mm2"] < written["figures_per_mm2_high"]
    page = files["page"].read_text()
    assert page.count('class="hotspot') >= 3 and "Figures by area" in page and page.count("<circle") == 12 + 3
    case.summary.write(tmp_path / "case.csv")
    (row,) = csv.DictReader((tmp_path / "case.csv").open())
    assert row["hotspot_figures"] == "8" and float(row["figures_per_mm2"]) == pytest.approx(12 / 0.42, rel=0.03)


def test_without_it_nothing_is_said(slide: Path, points: Path, model: Path) -> None:
    case = predict_crops([slide], model, points=points, mpp=MPP)
    assert case.summary.densities is None and "density" not in case.summary.as_dict()


def test_a_region_counts_what_lies_in_it(slide: Path, points: Path, model: Path, tmp_path: Path) -> None:
    path = region(tmp_path, 0, 0, 500, 800)
    (found,) = predicted(slide, points, model, DensityOptions(path, (), FIELD)).summary.densities or []
    assert found.area_mm2 == pytest.approx(0.4) and found.figures == 2
    assert "10 of 12 figures lie outside the region and are not counted." in found.notes
    assert found.hotspot is not None and found.hotspot.figures == 1


def test_the_part_of_a_field_off_the_area_is_told(slide: Path, points: Path, model: Path, tmp_path: Path) -> None:
    path = region(tmp_path, 590, 390, 1000, 500)
    (found,) = predicted(slide, points, model, DensityOptions(path, (), FIELD)).summary.densities or []
    assert found.figures == 8 and found.hotspot is not None
    spot = found.hotspot
    left, right = max(spot.left_px, 590), min(spot.left_px + 200, 1000)
    top, bottom = max(spot.top_px, 390), min(spot.top_px + 150, 500)
    assert spot.area_mm2 == pytest.approx((right - left) * (bottom - top) / 1e6)
    assert any("lie within the area" in note for note in found.notes)


def test_unknown_scale_is_refused_before_the_work(slide: Path, points: Path, model: Path) -> None:
    with pytest.raises(InputError, match=r"µm/px` must be known for a density of .*case.png.*fix: pass --mpp"):
        predict_crops([slide], model, points=points, density=DensityOptions())
    with pytest.raises(InputError, match=r"`--density` must be asked for with points on slides, got crops"):
        predict_crops([slide], model, density=DensityOptions())


def test_many_slides(slide: Path, points: Path, model: Path, tmp_path: Path) -> None:
    settings = SlideSettings((str(model),), forms=("csv",), mpp=MPP, density="0.03")
    found = predict_slides([SlideJob(slide, points)], tmp_path / "out", settings, engine="inline")
    (row,) = csv.DictReader((tmp_path / "out/slides.csv").open())
    assert found.outcomes[0].reason == "" and row["hotspot_figures"] == "8" and row["scored"] == "12"
    assert float(row["area_mm2"]) == pytest.approx(0.42, rel=0.03)
    again = predict_slides([SlideJob(slide, points)], tmp_path / "out", settings, engine="inline")
    assert again.outcomes[0].status == "kept" and again.outcomes[0].hotspot_figures == 8
    plain = predict_slides([SlideJob(slide, points)], tmp_path / "out", replace(settings, density=""), engine="inline")
    assert plain.outcomes[0].status == "done", "another setting is another result"


def test_hotspots_of_all_and_of_atypical_figures_differ() -> None:
    area = MaskedArea(np.ones((100, 100), bool), 10.0, MPP, "tissue")
    x = np.array([100.0, 110.0, 120.0, 130.0, 800.0, 810.0])
    y = np.array([100.0, 100.0, 100.0, 100.0, 800.0, 800.0])
    atypical = np.array([True, False, False, False, True, True])
    found = slide_density("a", x, y, atypical, area, MPP, FIELD, zero=(50.0, 20.0), size=(1000, 1000))
    assert found.area_mm2 == pytest.approx(1.0)
    assert found.hotspot is not None and (found.hotspot.figures, found.hotspot.atypical) == (4, 1)
    assert found.atypical_hotspot is not None
    assert (found.atypical_hotspot.figures, found.atypical_hotspot.atypical) == (2, 2)
    assert found.hotspot.left_px == pytest.approx(15 - 50), "given from the origin of the positions"
    near = slide_density("a", x - 100, y - 100, atypical, area, MPP, FIELD, size=(1000, 1000))
    assert near.hotspot is not None and (near.hotspot.left_px, near.hotspot.top_px) == (0.0, 0.0), "stays on the slide"
    none = slide_density("a", x[:0], y[:0], atypical[:0], area, MPP, FIELD)
    assert none.hotspot is None and none.figures == 0 and none.per_mm2(0) == 0


def test_a_field_that_is_larger_than_the_slide_is_cut_to_it() -> None:
    area = MaskedArea(np.ones((100, 100), bool), 10.0, MPP, "tissue")
    place = np.array([100.0, 900.0])
    found = slide_density("a", place, place, np.array([True, False]), area, MPP, TWO_MM2, size=(1000, 1000))
    spot = found.hotspot
    assert spot is not None and (spot.left_px, spot.top_px, spot.width_px, spot.height_px) == (0, 0, 1000, 1000)
    assert spot.figures == 2 and spot.area_mm2 == pytest.approx(1.0)
    said = found.sentences("a")
    assert (
        sum(line.startswith("Hotspot of 2 mm² with most figures, and with most atypical ones: 2") for line in said) == 1
    )
    assert said[-1] == "The whole slide is smaller than the field of 2 mm², which holds all of it."
    flat = slide_density("a", place, place * 0.1, np.array([True, False]), area, MPP, TWO_MM2, size=(5000, 100))
    assert flat.hotspot is not None and (flat.hotspot.top_px, flat.hotspot.height_px) == (0, 100)
    assert "-" not in " ".join(found.sentences("a") + flat.sentences("a"))


@pytest.mark.parametrize(
    ("text", "mm2"), [("2", 2.0), ("2.37 mm²", 2.37), ("10x0.237", 2.37), ("10 × d0.55 mm", 2.3758), ("1x2mm2", 2.0)]
)
def test_fields(text: str, mm2: float) -> None:
    size = field_size(text)
    assert size.mm2 == pytest.approx(mm2, abs=1e-3)
    width, height = size.sides_um
    assert width * height / 1e6 == pytest.approx(size.mm2) and width / height == pytest.approx(4 / 3)


@pytest.mark.parametrize("text", ["", "two", "0", "-2", "1000", "10x", "nan"])
def test_bad_fields(text: str) -> None:
    with pytest.raises(InputError, match=r"`--field` must be an area from 0.01 to 100 mm².*for instance 2, 10x0.237"):
        field_size(text)
