"""Positions of outlines and boxes, with random ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from atypia.base.errors import DataError
from atypia.data.points.boxes import corners, decide, decide_centre, shape_of
from atypia.data.points.reading import read_points
from atypia.data.points.shapes import polygons

shapely = pytest.importorskip("shapely")

# Outlines -------------------------------------------------------------------------------------


def winding_inside(ring: np.ndarray, x: float, y: float) -> bool:
    """The even-odd rule by ray casting, apart from shapely."""
    inside = False
    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0):
            inside = not inside
    return inside


coordinates = st.integers(0, 60)
vertices = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=10, unique=True)


@settings(max_examples=100, deadline=None)
@given(vertices, st.tuples(st.integers(-100_000, 100_000), st.integers(-100_000, 100_000)))
def test_a_position_lies_in_its_outline(ring: list[tuple[int, int]], move: tuple[int, int]) -> None:
    """Any ring, most of them crossing themselves."""
    drawn = np.array(ring, float)
    area = shapely.make_valid(shapely.Polygon(drawn)).area
    assume(area > 0.5)
    x, y, width, height = polygons([[drawn + move]])
    assert winding_inside(drawn, x - move[0], y - move[1])
    assert (width, height) == tuple(np.ptp(drawn, axis=0))


@settings(max_examples=60, deadline=None)
@given(vertices, vertices)
def test_a_position_lies_in_no_hole(ring: list[tuple[int, int]], hole: list[tuple[int, int]]) -> None:
    outer, inner = np.array(ring, float), np.array(hole, float)
    valid = [shapely.make_valid(shapely.Polygon(one)) for one in (outer, inner)]
    assume(valid[0].buffer(0).difference(valid[1].buffer(0)).area > 1)
    x, y, _, _ = polygons([[outer, inner]])
    assert winding_inside(outer, x, y) and not winding_inside(inner, x, y)


@settings(max_examples=60, deadline=None)
@given(st.lists(vertices, min_size=2, max_size=4))
def test_several_polygons_have_a_position_in_or_between_them(rings: list[list[tuple[int, int]]]) -> None:
    drawn = [np.array(ring, float) for ring in rings]
    assume(all(shapely.make_valid(shapely.Polygon(ring)).area > 0.5 for ring in drawn))
    x, y, _, _ = polygons([[ring] for ring in drawn])
    inside = any(winding_inside(ring, x, y) for ring in drawn)
    between = shapely.MultiPoint(np.concatenate(drawn)).convex_hull.covers(shapely.Point(x, y))
    assert inside or between


def test_a_crescent_and_a_telophase() -> None:
    turn = np.linspace(0.3, 2 * np.pi - 0.3, 40)
    crescent = np.concatenate([40 * np.c_[np.cos(turn), np.sin(turn)], 32 * np.c_[np.cos(turn), np.sin(turn)][::-1]])
    x, y, _, _ = polygons([[crescent]])
    assert winding_inside(crescent, x, y)
    plate = np.array([[0, 0], [40, 0], [40, 12], [0, 12]], float)
    # Two plates of one cell in division: the middle between them, which is on neither.
    assert polygons([[plate], [np.add(plate, (0, 48))]])[:2] == (20.0, 30.0)
    # What is far apart, or more than two, is no cell in division.
    x, y, _, _ = polygons([[plate], [np.add(plate, (0, 480))]])
    assert winding_inside(plate, x, y) or winding_inside(np.add(plate, (0, 480)), x, y)


# Boxes ----------------------------------------------------------------------------------------

place = st.tuples(st.integers(200, 3000), st.integers(200, 3000), st.integers(30, 80), st.integers(30, 80))
BAD = st.sampled_from(["flat", "swapped", "point", "nan"])


def damaged(box: list[float], how: str) -> list[float]:
    left, top, right, bottom = box
    return {
        "flat": [left, top, left, bottom],
        "swapped": [right, bottom, left, top],
        "point": [left, top, left, top],
        "nan": [left, float("nan"), right, bottom],
    }[how]


def coco(boxes: list[list[float]], category: str = "mitotic figure", size: int | None = None) -> dict[str, Any]:
    image: dict[str, Any] = {"id": 1, "file_name": "a.tiff"} | ({} if size is None else {"width": size, "height": size})
    notes = [{"id": n, "image_id": 1, "category_id": 1, "bbox": box} for n, box in enumerate(boxes)]
    return {"images": [image], "categories": [{"id": 1, "name": category}], "annotations": notes}


@settings(max_examples=60, deadline=None)
@given(st.lists(place, min_size=3, max_size=8), BAD, st.integers(0, 8), st.booleans())
def test_one_bad_box_changes_no_other(tmp_path_factory: Any, good: Any, how: str, at: int, midog: bool) -> None:
    """The others are read as without it, and it is left out by name."""
    boxes = [[float(x), float(y), float(x + w), float(y + h)] for x, y, w, h in good]
    bad = damaged([500.0, 600.0, 550.0, 650.0], how)
    at = min(at, len(boxes))
    content = coco([*boxes[:at], bad, *boxes[at:]], "mitotic figure" if midog else "cell", None if midog else 3100)
    path = tmp_path_factory.mktemp("boxes") / "a.json"
    path.write_text(json.dumps(content))
    try:
        points = read_points(path)
    except DataError as error:
        assert not midog and "cannot be determined" in str(error)
        return
    wanted = [(x + w / 2, y + h / 2) for x, y, w, h in good]
    assert list(zip(points.x_px.tolist(), points.y_px.tolist(), strict=True)) == wanted
    assert f"left out: annotation {at}, a box" in " ".join(points.notes)


@settings(max_examples=60, deadline=None)
@given(st.lists(place, min_size=1, max_size=8))
def test_boxes_with_sizes_are_never_read_as_corners(good: list[tuple[int, int, int, int]]) -> None:
    boxes = np.array(good, float)
    unknown = np.full(len(boxes), np.nan)
    assert decide(boxes, unknown, np.column_stack([unknown, unknown]), marked=True) == "xywh"


@settings(max_examples=50, deadline=None)
@given(place)
def test_forms_of_a_box_have_one_centre(one: tuple[int, int, int, int]) -> None:
    x, y, w, h = (float(value) for value in one)
    written = {"xywh": (x, y, w, h), "xyxy": (x, y, x + w, y + h), "cxcywh": (x + w / 2, y + h / 2, w, h)}
    for box_format, numbers in written.items():
        assert shape_of(numbers, box_format) == pytest.approx((x + w / 2, y + h / 2, w, h))  # pyright: ignore[reportArgumentType]
        assert corners(np.array([numbers]), box_format)[0].tolist() == [x, y, x + w, y + h]  # pyright: ignore[reportArgumentType]


def test_corner_or_centre_is_told_by_what_lies_outside() -> None:
    image = np.array([[1000.0, 1000.0]])
    assert decide_centre(np.array([[400.0, 300, 64, 48]]), image) is None
    assert decide_centre(np.array([[-5.0, 300, 64, 48]]), image) == "xywh"
    assert decide_centre(np.array([[990.0, 300, 64, 48]]), image) == "cxcywh"
    both = np.array([[-5.0, 300, 64, 48], [990.0, 300, 64, 48]])
    assert decide_centre(both, np.repeat(image, 2, axis=0)) is None


def test_the_case_of_one_flat_box(tmp_path: Path) -> None:
    content = coco([[100, 100, 150, 150], [300, 200, 350, 250], [400, 400, 400, 450]], size=600)
    (tmp_path / "a.json").write_text(json.dumps(content))
    points = read_points(tmp_path / "a.json")
    assert points.x_px.tolist() == [125.0, 325.0] and points.y_px.tolist() == [125.0, 225.0]
    assert points.notes == ("left out: annotation 2, a box of 0 × 50 px",)
