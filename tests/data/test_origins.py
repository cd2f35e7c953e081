"""Where positions on a slide count from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.fixtures.slides import colour_at, crops_of, gradient, middle, write_scn

from atypia.base.errors import DataError, InputError
from atypia.data.images.geometry import CropGeometry
from atypia.data.points.base import BOUNDS, CANVAS, Points
from atypia.data.points.reading import read_points
from atypia.data.slides.origins import offset_of
from atypia.data.slides.readers import open_slide
from atypia.data.slides.slidecrops import SlideLog, SlideReading, slide_crops, slide_points
from atypia.data.slides.streams import CropBatch, Refusal

pytest.importorskip("tifffile", reason="needs the extra `slides`")
pytest.importorskip("openslide", reason="needs the extra `slides`")

CORNER = (200, 120)
FIELD = CropGeometry(32, side_px=32)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scn(tmp_path_factory.mktemp("scn") / "case.scn", gradient(), CORNER, (1000, 900))


def geojson(path: Path, places: list[tuple[float, float]], **properties: Any) -> Path:
    features = [{"type": "Feature", "geometry": {"type": "Point", "coordinates": list(place)}, "properties": properties}
                for place in places]  # fmt: skip
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def cut(slide: Path, points: Points, log: SlideLog | None = None, **reading: Any) -> dict[str, np.ndarray]:
    return dict(crops_of(slide_crops(slide, points, FIELD, reading=SlideReading(**reading), log=log)))


def test_the_scanned_area_is_known(slide: Path) -> None:
    with open_slide(slide) as opened:
        assert opened.facts.bounds == (*CORNER, 512, 512)
        assert opened.mpp == pytest.approx(0.25)  # by Leica's own words: its resolution tags are empty


def test_qupath_counts_from_the_scanned_area(slide: Path, tmp_path: Path) -> None:
    points = slide_points(slide, geojson(tmp_path / "q.geojson", [(300, 250)], objectType="annotation"))
    assert points.origin == BOUNDS
    log = SlideLog()
    (batch,) = slide_crops(slide, points, FIELD, log=log)
    assert isinstance(batch, CropBatch)
    assert middle(batch.crops[0]) == colour_at(300, 250)
    assert (batch.x_px[0], batch.y_px[0]) == (300, 250)  # as the user has it
    (read_as,) = batch.read_as
    assert (read_as.origin, read_as.origin_x_px, read_as.origin_y_px) == (BOUNDS, *CORNER)
    (note,) = log.notes
    assert "begins at (200, 120)" in note and "as in QuPath" in note
    assert log.bounds[str(slide)][:2] == CORNER


def test_qupath_tables_and_own_results_say_it(tmp_path: Path) -> None:
    for header, expected in (
        ("Centroid X px,Centroid Y px", BOUNDS),
        ("x_px,y_px", None),
        ("x_px,y_px,origin", CANVAS),
    ):
        table = tmp_path / "p.csv"
        table.write_text(f"{header}\n" + ",".join(["3", "4", "canvas"][: header.count(",") + 1]) + "\n")
        assert read_points(table).origin == expected


def test_points_outside_one_area_exclude_that_reading(slide: Path) -> None:
    as_canvas = cut(slide, Points.at([620, 300], [300, 600]))
    assert [middle(crop) for crop in as_canvas.values()] == [colour_at(420, 180), colour_at(100, 480)]
    as_bounds = cut(slide, Points.at([30, 300], [40, 250]))
    assert middle(as_bounds["case.scn#1"]) == colour_at(30, 40)


def test_where_nothing_tells_the_option_is_asked_for(slide: Path) -> None:
    points = Points.at([300], [250])
    with pytest.raises(DataError, match=r"`--origin` must be canvas or bounds for .*case\.scn.*fix: --origin bounds"):
        cut(slide, points)
    assert middle(cut(slide, points, origin=BOUNDS)["case.scn#1"]) == colour_at(300, 250)
    assert middle(cut(slide, points, origin=CANVAS)["case.scn#1"]) == colour_at(100, 130)
    with pytest.raises(InputError, match="`--origin` must be one of auto, canvas, bounds, got corner"):
        cut(slide, points, origin="corner")


def test_a_slide_without_bounds_needs_no_word(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / "plain.tiff"
    tifffile.imwrite(path, gradient(), photometric="rgb", tile=(128, 128))
    for origin in ("auto", CANVAS, BOUNDS):
        log = SlideLog()
        assert middle(cut(path, Points.at([300], [250]), log, origin=origin)["plain.tiff#1"]) == colour_at(300, 250)
        assert log.notes == [] and log.bounds == {}


def test_an_offset_is_added_and_given_back(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / "cropped.tiff"
    tifffile.imwrite(path, gradient(), photometric="rgb", tile=(128, 128))
    (batch,) = slide_crops(path, Points.at([1300], [1250]), FIELD, reading=SlideReading(offset_px=(-1000, -1000)))
    assert isinstance(batch, CropBatch)
    assert middle(batch.crops[0]) == colour_at(300, 250)
    assert (batch.x_px[0], batch.read_as[0].origin, batch.read_as[0].origin_x_px) == (1300, None, -1000)


def test_offsets_are_two_numbers() -> None:
    assert offset_of(None) == (0, 0) and offset_of("-3.5, 4") == (-3.5, 4)
    for text in ("3", "a,b", "1,2,3", "nan,1"):
        with pytest.raises(InputError, match="`--offset` must be two numbers of pixels"):
            offset_of(text)


# Hints ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tissue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Glass, with tissue in a strip on the left."""
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path_factory.mktemp("tissue") / "tissue.tiff"
    pixels = np.full((600, 1200, 3), 245, np.uint8)
    pixels[:, :200] = (170, 90, 150)
    tifffile.imwrite(path, pixels, photometric="rgb")
    return path


def hints(slide: Path, x: list[float], y: list[float]) -> list[str]:
    log = SlideLog()
    list(slide_crops(slide, Points.at(x, y), FIELD, log=log))
    return log.notes


def test_swapped_axes_are_named(tissue: Path) -> None:
    x, y = [100.0, 120.0, 80.0, 60.0], [300.0, 400.0, 500.0, 550.0]
    assert hints(tissue, x, y) == []
    (on_glass,) = hints(tissue, y, x)
    assert "4 of 4 figures lie on glass" in on_glass and "with x and y swapped, 100%" in on_glass
    (outside,) = hints(tissue, [100.0, 110.0], [700.0, 100_000.0])
    assert "2 of 2 figures lie outside" in outside and "--origin" in outside and "µm/px" in outside


def test_a_figure_outside_is_refused_with_its_own_position(slide: Path) -> None:
    items = list(slide_crops(slide, Points.at([30, 9000], [40, 5]), FIELD, reading=SlideReading(origin=BOUNDS)))
    (refusal,) = [item for item in items if isinstance(item, Refusal)]
    assert (refusal.x_px, refusal.y_px, refusal.read_as.origin) == (9000, 5, BOUNDS)
