"""Points in GeoJSON and in COCO's and MIDOG's JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from atypia.base.errors import DataError
from atypia.data.points.reading import read_points


def wrote(folder: Path, content: Any, name: str = "points.geojson") -> Path:
    path = folder / name
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def square(x: float, y: float, side: float) -> list[list[float]]:
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]


def feature(kind: str, coordinates: Any, figure: str | None = None, **properties: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}}
    made["properties"] = properties
    return made if figure is None else made | {"id": figure}


# GeoJSON --------------------------------------------------------------------------------------


def test_geometries(tmp_path: Path) -> None:
    features = [
        feature("Point", [10.5, 20, 0], "a", objectType="detection", classification={"name": "Mitosis", "color": [1]}),
        feature("Polygon", [square(0, 0, 10)], "b", objectType="annotation", classification={"names": ["A", "B"]}),
        feature("MultiPoint", [[1, 2], [3, 4]], "c"),
        feature("MultiPolygon", [[square(0, 0, 2)], [square(8, 8, 2)]], "d"),
        # A hole shifts the centre: (100·5 − 4·1) / 96.
        feature("Polygon", [square(0, 0, 10), square(0, 0, 2)], "e"),
    ]
    points = read_points(wrote(tmp_path, {"type": "FeatureCollection", "features": features}))
    assert points.ids == ["a", "b", "c#1", "c#2", "d", "e"]
    assert points.x_px.tolist() == pytest.approx([10.5, 5, 1, 3, 5, 496 / 96])
    assert points.y_px.tolist() == pytest.approx([20, 5, 2, 4, 5, 496 / 96])
    assert points.classes is not None and points.classes[:3] == ["Mitosis", "A: B", None]
    assert points.sizes_px is not None and points.sizes_px[1].tolist() == [10.0, 10.0]
    assert points.images is None


@pytest.mark.parametrize("wrap", [lambda f: [f], lambda f: f, lambda f: {"type": "FeatureCollection", "features": [f]}])
def test_containers(tmp_path: Path, wrap: Any) -> None:
    points = read_points(wrote(tmp_path, wrap(feature("Point", [1, 2])), "any.json"))
    assert (points.ids, points.x_px.tolist(), points.numbered) == (["1"], [1.0], True)


def test_nucleus_goes_before_cell(tmp_path: Path) -> None:
    cell = feature("Polygon", [square(0, 0, 100)], "cell", objectType="cell")
    cell["nucleusGeometry"] = {"type": "Polygon", "coordinates": [square(10, 20, 10)]}
    points = read_points(wrote(tmp_path, cell))
    assert (points.x_px[0], points.y_px[0]) == (15.0, 25.0)


def test_children_and_what_is_no_figure(tmp_path: Path) -> None:
    region = feature("Polygon", [square(0, 0, 5000)], "region", objectType="annotation")
    region["properties"]["childObjects"] = [feature("Point", [1, 1], "child")]
    features = [
        region,
        feature("Polygon", [square(0, 0, 50)], "tile", objectType="tile"),
        feature("LineString", [[0, 0], [1, 1]], "line"),
        {"type": "Feature", "geometry": None, "properties": None},
        feature("Point", [2, 2], "last"),
    ]
    points = read_points(wrote(tmp_path, features))
    assert points.ids == ["child", "last"]
    assert len(points.notes) == 4
    assert points.notes[-1].startswith("left out: `region`, a rectangle of 5000 × 5000 px: a region, not a figure")


def test_ids_of_old_exports_are_no_ids(tmp_path: Path) -> None:
    features = [feature("Point", [1, 2], "PathDetectionObject"), feature("Point", [3, 4], "PathDetectionObject")]
    points = read_points(wrote(tmp_path, features))
    assert points.ids == ["1", "2"] and points.numbered


def test_line_like_polygon_has_the_middle_of_its_extent(tmp_path: Path) -> None:
    points = read_points(wrote(tmp_path, feature("Polygon", [[[0, 0], [10, 20], [0, 0]]])))
    assert (points.x_px[0], points.y_px[0]) == (5.0, 10.0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"type": "FeatureCollection", "features": []}, "holds no points"),
        ([], "holds no points"),
        ({"type": "FeatureCollection"}, "must be a list of features, got NoneType"),
        ([feature("Point", [1, 2]), {"type": "Point"}], "must be of the type Feature, got Point"),
        ([feature("Point", [1, 2]), None], "got a list with null"),
        ([feature("Circle", [1, 2])], r"feature 1: `geometry` must be Point, MultiPoint, .*got Circle"),
        ([feature("Point", [1])], r"feature 1: `geometry` must be a Point with coordinates, got a damaged one"),
        ([feature("Point", ["a", 2])], "damaged"),
        ([feature("Polygon", [])], "damaged"),
        ([feature("Polygon", [[]])], "damaged"),
        ([feature("Polygon", [[[0, 0], [1]]])], "damaged"),
        ([feature("Point", [float("nan"), 2])], r"feature 1: `position` must be finite"),
        ([feature("Point", [float("inf"), 2])], r"must be finite"),
    ],
)
def test_bad_geojson(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_points(wrote(tmp_path, content))


# COCO and MIDOG -------------------------------------------------------------------------------


def coco(boxes: list[list[float]], category: str = "cell", **more: Any) -> dict[str, Any]:
    """COCO-like content; values in ``more`` are lists with one element a box, or the image's size."""
    image: dict[str, Any] = {"id": 1, "file_name": "a.tiff"}
    image |= {key: more[key] for key in ("width", "height") if key in more}
    notes = [{"id": 7 + n, "image_id": 1, "category_id": 3, "bbox": box} for n, box in enumerate(boxes)]
    for note, area in zip(notes, more.get("area", ()), strict=False):
        note["area"] = area
    return {"images": [image], "categories": [{"id": 3, "name": category}], "annotations": notes}


def centres(folder: Path, content: Any, **options: Any) -> list[tuple[float, float]]:
    points = read_points(wrote(folder, content, "a.json"), **options)
    return list(zip(points.x_px.tolist(), points.y_px.tolist(), strict=True))


def test_midog_boxes_are_corners(tmp_path: Path) -> None:
    content = coco([[100, 200, 150, 250], [10, 20, 60, 70]], "mitotic figure")
    assert centres(tmp_path, content) == [(125.0, 225.0), (35.0, 45.0)]
    points = read_points(tmp_path / "a.json")
    assert points.ids == ["7", "8"] and points.images == ["a.tiff"] * 2
    assert points.classes == ["mitotic figure"] * 2
    assert points.sizes_px is not None and points.sizes_px.tolist() == [[50.0, 50.0]] * 2


def test_boxes_that_cannot_be_corners(tmp_path: Path) -> None:
    content = coco([[100, 200, 50, 50], [10, 20, 60, 70]], "mitotic figure")
    assert centres(tmp_path, content) == [(125.0, 225.0), (40.0, 55.0)]


def test_areas_decide(tmp_path: Path) -> None:
    boxes = [[10.0, 20, 50, 60]]
    assert centres(tmp_path, coco(boxes, area=[3000])) == [(35.0, 50.0)]
    assert centres(tmp_path, coco(boxes, area=[1600])) == [(30.0, 40.0)]


def test_image_sizes_decide(tmp_path: Path) -> None:
    boxes = [[600.0, 20, 650, 70]]
    assert centres(tmp_path, coco(boxes, width=1000, height=1000)) == [(625.0, 45.0)]


def test_results_of_detectors_are_of_one_image(tmp_path: Path) -> None:
    found = [
        {"image_id": 5, "category_id": 1, "bbox": [100, 200, 40, 40], "score": 0.9},
        {"image_id": 5, "category_id": 2, "bbox": [600, 20, 40, 60], "score": 0.4},
    ]
    points = read_points(wrote(tmp_path, found, "found.json"))
    assert list(zip(points.x_px.tolist(), points.y_px.tolist(), strict=True)) == [(120.0, 220.0), (620.0, 50.0)]
    assert points.classes == ["1", "2"] and points.images is None
    assert points.scores is not None and points.scores.tolist() == [0.9, 0.4]
    with pytest.raises(DataError, match=r"must be of one image, got 2 images, .*; fix: save one file a slide, or add"):
        read_points(wrote(tmp_path, [*found, {**found[0], "image_id": 6}], "found.json"))


def test_ambiguous_boxes_are_refused_until_told(tmp_path: Path) -> None:
    content = coco([[10, 20, 50, 60]])
    with pytest.raises(DataError, match=r"cannot be determined .*; fix: pass --box-format xywh or --box-format xyxy"):
        centres(tmp_path, content)
    assert centres(tmp_path, content, box_format="xywh") == [(35.0, 50.0)]
    assert centres(tmp_path, content, box_format="xyxy") == [(30.0, 40.0)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotations": []}, "holds no points"),
        ({"images": []}, "1 is named or needed and not there"),
        ({"images": [{"id": 1}]}, "'file_name' is named or needed and not there"),
        ({"annotations": [{"image_id": 1}]}, "'bbox' is named or needed"),
        ({"annotations": [{"image_id": 1, "bbox": [1, 2, 3]}]}, "annotation 1, a box that is not four finite numbers"),
        ({"annotations": [{"image_id": 1, "bbox": [1, 2, "a", 3]}]}, "not four finite numbers"),
        ({"annotations": [{"image_id": 1, "bbox": 5}]}, "not four finite numbers"),
        ({"annotations": [{"image_id": 1, "bbox": [1, 2, float("nan"), 3]}]}, "not four finite numbers"),
        (
            {"annotations": [{"id": 4, "image_id": 1, "bbox": [9, 9, -3, 3]}]},
            r"holds no points .*annotation 4, a box of",
        ),
        ({"annotations": [{"image_id": 1, "bbox": [9, 9, 3, 3], "category_id": []}]}, "not in the form of COCO"),
    ],
)
def test_bad_coco(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        centres(tmp_path, coco([[1, 2, 3, 4]]) | change)


@pytest.mark.real
def test_midogpp(real_root: Path) -> None:
    points = read_points(real_root / "tables" / "MIDOG++.json")
    table = read_points(real_root / "tables" / "MIDOGpp.csv")
    assert len(points) == 26_286
    assert points.classes is not None and points.classes.count("mitotic figure") == 11_937
    assert points.images == table.images
    # The published table rounds the boxes' centres to whole pixels.
    assert abs(points.x_px - table.x_px).max() <= 1
    assert abs(points.y_px - table.y_px).max() <= 1
    assert len(points.on_image("553.tiff")) > 1
