"""GeoJSON against RFC 7946 (a schema and an own check of rings) and what QuPath reads."""

from __future__ import annotations

import itertools
import json
import math
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow as pa
import pytest

from atypia.base.errors import InputError
from atypia.inference.bundles.decision import CALLS
from atypia.reports.case.geojson import CALL_COLOURS, figure_uuid
from atypia.reports.case.outputs import open_writer

from .rows import refusals, results

POSITION = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 3}
RING = {"type": "array", "items": POSITION, "minItems": 4}


def geometry(kind: str, coordinates: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["type", "coordinates"],
        # RFC 7946, 7.1: a geometry must not have the members that define other objects.
        "not": {"anyOf": [{"required": [name]} for name in ("geometries", "geometry", "features", "properties")]},
        "properties": {"type": {"const": kind}, "coordinates": coordinates},
    }


RFC_7946 = {
    "type": "object",
    "required": ["type", "features"],
    "not": {"anyOf": [{"required": [name]} for name in ("coordinates", "geometries", "geometry", "properties", "crs")]},
    "properties": {
        "type": {"const": "FeatureCollection"},
        "features": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type", "geometry", "properties"],
                "not": {"anyOf": [{"required": [name]} for name in ("coordinates", "geometries", "features")]},
                "properties": {
                    "type": {"const": "Feature"},
                    "id": {"type": ["string", "number"]},
                    "properties": {"type": ["object", "null"]},
                    "geometry": {
                        "oneOf": [
                            {"type": "null"},
                            geometry("Point", POSITION),
                            geometry("Polygon", {"type": "array", "items": RING}),
                        ]
                    },
                },
            },
        },
    },
}
QUPATH = {
    "type": "object",
    "required": ["objectType", "name", "classification", "measurements"],
    "properties": {
        "objectType": {"enum": ["annotation", "detection", "cell", "tile"]},
        "name": {"type": "string"},
        "isLocked": {"type": "boolean"},
        "measurements": {"type": "object", "additionalProperties": {"type": "number"}},
        "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
        "classification": {
            "type": "object",
            "required": ["name", "color"],
            "properties": {
                "name": {"type": "string", "minLength": 1},
                "color": {
                    "type": "array",
                    "items": {"type": "integer", "minimum": 0, "maximum": 255},
                    "minItems": 3,
                    "maxItems": 3,
                },
            },
        },
    },
}


def no_constant(name: str) -> Any:
    raise AssertionError(f"{name} is no JSON")


def load(path: Path) -> dict[str, Any]:
    """The file, after every check."""
    value = json.loads(path.read_text("utf-8"), parse_constant=no_constant)
    jsonschema.Draft202012Validator(RFC_7946).validate(value)
    for feature in value["features"]:
        jsonschema.Draft202012Validator(QUPATH).validate(feature["properties"])
        assert str(uuid.UUID(feature["id"])) == feature["id"]
        assert feature["geometry"] is not None  # QuPath cannot place an object without one
        for ring in rings(feature["geometry"]):
            check_ring(ring)
    ids = [feature["id"] for feature in value["features"]]
    assert len(set(ids)) == len(ids)
    return value


def rings(geometry: dict[str, Any]) -> Iterator[list[list[float]]]:
    if geometry["type"] == "Polygon":
        yield from geometry["coordinates"]


def check_ring(ring: list[list[float]]) -> None:
    """RFC 7946, 3.1.6: closed, and an exterior ring runs counter-clockwise."""
    assert ring[0] == ring[-1]
    area = sum(a[0] * b[1] - b[0] * a[1] for a, b in itertools.pairwise(ring)) / 2
    assert area > 0


def write(path: Path, batches: list[pa.RecordBatch], **options: Any) -> dict[str, Any]:
    with open_writer(path, **options) as writer:
        for batch in batches:
            writer.write(batch)
    return load(path)


def test_points(tmp_path: Path) -> None:
    batch = results([0.75, 0.1], ids=["a", "b"], novelty=2.0)
    first, second = write(tmp_path / "a.geojson", [batch])["features"]
    assert first == {
        "type": "Feature",
        "id": figure_uuid("a"),
        "geometry": {"type": "Point", "coordinates": [100.0, 200.0]},
        "properties": {
            "objectType": "detection",
            "name": "a",
            "classification": {"name": "atypical", "color": [213, 94, 0]},
            "isLocked": False,
            "measurements": {
                "p_atypical": 0.75,
                "uncertainty": pytest.approx(0.25 * 2 + 0.75 * math.log2(4 / 3)),
                "novelty": 2.0,
                "threshold": 0.5,
            },
            "metadata": {"image": "slide.svs", "model": "model-1"},
        },
    }
    assert second["geometry"]["coordinates"] == [101.0, 200.25]
    assert second["properties"]["classification"]["name"] == "normal"


def test_squares_are_closed_and_counter_clockwise(tmp_path: Path) -> None:
    (feature,) = write(tmp_path / "a.geojson", [results([0.75])], field_px=64.0)["features"]
    assert feature["geometry"] == {
        "type": "Polygon",
        "coordinates": [[[68.0, 168.0], [132.0, 168.0], [132.0, 232.0], [68.0, 232.0], [68.0, 168.0]]],
    }


def test_the_ring_check_can_fail() -> None:
    with pytest.raises(AssertionError):
        check_ring([[0, 0], [0, 1], [1, 1], [1, 0], [0, 0]])


def test_unknown_measurements_are_left_out(tmp_path: Path) -> None:
    found = write(tmp_path / "a.geojson", [results([0.5]), refusals(["outside"], x_px=3.0)])["features"]
    assert set(found[0]["properties"]["measurements"]) == {"p_atypical", "uncertainty", "threshold"}
    assert found[1]["properties"]["measurements"] == {"threshold": 0.5}
    assert found[1]["properties"]["metadata"]["reason"] == "outside"
    assert found[1]["properties"]["classification"]["name"] == "refused"


def test_refused_without_a_position_is_left_out_and_counted(tmp_path: Path) -> None:
    with open_writer(tmp_path / "a.geojson") as writer:
        writer.write(refusals(["no coordinates", "no coordinates"]))
        writer.write(results([0.5]))
    assert (writer.written, writer.left_out) == (1, 2)
    assert len(load(tmp_path / "a.geojson")["features"]) == 1


def test_plain_crops_have_no_place_in_geojson(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    with pytest.raises(InputError, match=r"`GeoJSON` must be given positions.*plain crop; fix: write \.csv"):
        write(path, [results([0.5], image=None)])
    assert not path.exists()


def test_two_slides_do_not_share_a_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"one slide, got slide\.svs and other\.svs; fix: write one GeoJSON file"):
        write(tmp_path / "a.geojson", [results([0.5]), results([0.5], image="other.svs")])


@pytest.mark.parametrize("side", [0.0, -1.0, math.nan, math.inf])
def test_a_square_needs_a_side(tmp_path: Path, side: float) -> None:
    with pytest.raises(InputError, match="`field_px` must be a positive length"):
        write(tmp_path / "a.geojson", [], field_px=side)


def test_every_call_has_a_colour_of_its_own() -> None:
    assert tuple(CALL_COLOURS) == CALLS
    assert len(set(CALL_COLOURS.values())) == len(CALLS)


def test_ids_are_stable() -> None:
    assert figure_uuid("slide#1") == figure_uuid("slide#1") != figure_uuid("slide#2")
    assert uuid.UUID(figure_uuid("x")).version == 5
