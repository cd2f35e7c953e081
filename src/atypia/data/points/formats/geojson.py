"""GeoJSON from QuPath and similar programs: annotations, detections, cells.

Coordinates are pixels of the full-resolution image (RFC 7946 would have degrees). A cell's
nucleus (``nucleusGeometry``) takes precedence over its outline.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from atypia.base.errors import DataError, must
from atypia.data.points.base import BOUNDS, CANVAS, POINT_FORMATS, Collector, Mark, PointFormat, PointReading, Points
from atypia.data.points.classes import unpack
from atypia.data.points.scores import score_in
from atypia.data.points.shapes import Shape, dot, polygons

_TYPES = ("FeatureCollection", "Feature")
_NOT_FIGURES = frozenset({"root", "tile", "tma_core", "tmacore"})
# QuPath 0.2 wrote the kind of object where the id belongs, the same for all objects.
_KINDS_AS_IDS = frozenset(
    {
        "PathAnnotationObject",
        "PathDetectionObject",
        "PathCellObject",
        "PathTileObject",
        "PathRootObject",
        "TMACoreObject",
    }
)
_CLASS_NAMES = ("classification", "class", "class_name", "label", "category", "type")
_LINES = frozenset({"LineString", "MultiLineString"})
_QUPATH = frozenset({"objectType", "object_type", "isLocked"})
"""Properties that QuPath writes."""
_TIATOOLBOX = frozenset({"objectType", "class_value"})
"""Members of a feature, beside its properties, that TIAToolbox writes."""


def read(content: Any, reading: PointReading) -> Points:
    """Reads a FeatureCollection, one Feature, or a list of Features.

    A Point is a figure, each position of a MultiPoint is one, a Polygon or MultiPolygon is one
    at its centre of area or inside it. Child objects are read too. Left out and counted: tiles, cores, lines,
    and objects without a geometry.

    Raises:
        DataError: A feature or a geometry is damaged or of another type, or as
            :meth:`Collector.points`.
    """
    collector = Collector(reading)
    for at, feature in enumerate(_features(content, reading.path.name), 1):
        _add(collector, feature, f"{reading.path.name}, feature {at}")
    return collector.points()


def _features(content: Any, name: str) -> Iterator[dict[str, Any]]:
    """All features, parents before their children, in the file's order."""
    listed = content if isinstance(content, list) else [content]
    if isinstance(content, dict) and content.get("type") == "FeatureCollection":
        listed = content.get("features")
    waiting = [_listed(listed, name)]
    while waiting:
        feature = next(waiting[-1], None)
        if feature is None:
            waiting.pop()
            continue
        if not isinstance(feature, dict) or feature.get("type") != "Feature":
            got = str(feature.get("type") if isinstance(feature, dict) else type(feature).__name__)
            raise DataError(must(f"{name}: features", "of the type Feature", got, "export it again"))
        yield feature
        children = _properties(feature).get("childObjects")
        children = unpack(children) if isinstance(children, str) else children
        if children:
            waiting.append(_listed(children, name))


def _listed(features: Any, name: str) -> Iterator[Any]:
    if not isinstance(features, list) or None in features:
        got = type(features).__name__ if not isinstance(features, list) else "a list with null"
        raise DataError(must(f"{name}: features", "a list of features", got, "export it again"))
    return iter(features)


def _add(collector: Collector, feature: dict[str, Any], where: str) -> None:
    properties = _properties(feature)
    if _QUPATH & properties.keys() or feature.get("id") in _KINDS_AS_IDS or "nucleusGeometry" in feature:
        collector.origin = BOUNDS
    elif feature.keys() >= _TIATOOLBOX:
        collector.origin = CANVAS  # it reads slides with OpenSlide
    kind = object_kind(str(properties.get("objectType", properties.get("object_type")) or ""))
    if kind in _NOT_FIGURES:
        collector.skip(
            "tile, core or other object that is no figure", "tiles, cores and other objects that are no figures"
        )
        return
    geometry = feature.get("nucleusGeometry") or feature.get("geometry")
    geometry = unpack(geometry) if isinstance(geometry, str) else geometry
    if not geometry:
        collector.skip("object without a geometry", "objects without a geometry")
        return
    if isinstance(geometry, dict) and geometry.get("type") in _LINES:
        collector.skip("line")
        return
    shapes = _shapes(geometry, where)
    given = feature.get("id")
    figure = None if given is None or given in _KINDS_AS_IDS else str(given)
    named = next((properties[name] for name in _CLASS_NAMES if properties.get(name) is not None), None)
    name = properties.get("name")
    mark = Mark(kind or None, _form(geometry), _plane(geometry), name if isinstance(name, str) else None)
    score = _score(properties)
    for at, shape in enumerate(shapes, 1):
        own = figure if figure is None or len(shapes) == 1 else f"{figure}#{at}"
        collector.add(where, shape, own, None, named, mark, score)


def _score(properties: dict[str, Any]) -> Any:
    """A detector's score, among the properties or QuPath's measurements."""
    measured = properties.get("measurements")
    if isinstance(measured, list):
        measured = {str(one.get("name")): one.get("value") for one in measured if isinstance(one, dict)}
    found = score_in(properties)
    return score_in(measured) if found is None and isinstance(measured, dict) else found


def object_kind(text: str) -> str:
    """QuPath's type of object in normalised spelling.

    >>> object_kind("PathDetectionObject"), object_kind("TMA core")
    ('detection', 'tma_core')
    """
    return text.strip().casefold().removeprefix("path").removesuffix("object").strip().replace(" ", "_")


def _form(geometry: Any) -> str | None:
    """Kind of shape; None for points."""
    kind, coordinates = geometry["type"], geometry["coordinates"]
    if kind in ("Point", "MultiPoint"):
        return None
    if kind == "Polygon" and len(coordinates) == 1 and len(coordinates[0]) in (4, 5):
        across, down = ({vertex[axis] for vertex in coordinates[0]} for axis in (0, 1))
        if len(across) == len(down) == 2:
            return "rectangle"
    return "outline"


def _plane(geometry: Any) -> str | None:
    """QuPath's plane of a geometry, where it is not the first."""
    plane = geometry.get("plane")
    if not isinstance(plane, dict):
        return None
    return ", ".join(f"{axis} {plane[axis]}" for axis in ("z", "t") if plane.get(axis)) or None


def _shapes(geometry: Any, where: str) -> list[Shape]:
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    try:
        coordinates = geometry["coordinates"]
        if kind == "Point":
            return [dot(*_array([coordinates])[0].tolist())]
        if kind == "MultiPoint":
            return [dot(*position) for position in _array(coordinates).tolist()]
        if kind == "Polygon":
            return [polygons([[_array(ring) for ring in coordinates]])]
        if kind == "MultiPolygon":
            return [polygons([[_array(ring) for ring in rings] for rings in coordinates])]
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        got = f"a damaged one ({error})"
        raise DataError(f"{where}: {must('geometry', f'a {kind} with coordinates', got, 'export it again')}") from error
    expected = "Point, MultiPoint, Polygon or MultiPolygon"
    raise DataError(f"{where}: {must('geometry', expected, kind, 'export points or outlines')}")


def _array(positions: Any) -> npt.NDArray[np.float64]:
    """Positions as an array of shape (k, 2); a third coordinate is dropped."""
    array = np.asarray(positions, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] < 2 or len(array) == 0:
        raise ValueError(f"positions of shape {array.shape}")
    return array[:, :2]


def _properties(feature: dict[str, Any]) -> dict[str, Any]:
    properties = feature.get("properties")
    properties = unpack(properties) if isinstance(properties, str) else properties
    return properties if isinstance(properties, dict) else {}


def _takes(content: Any) -> bool:
    if isinstance(content, list):
        return not content or (isinstance(content[0], dict) and content[0].get("type") == "Feature")
    return isinstance(content, dict) and content.get("type") in _TYPES


POINT_FORMATS.add("geojson", PointFormat("geojson", "json", "QuPath's detections and annotations", _takes, read))
