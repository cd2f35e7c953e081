"""GeoJSON as QuPath and its relatives write it: annotations, detections, cells.

Coordinates are pixels of the full-resolution image (RFC 7946 would have degrees). A cell's
nucleus (``nucleusGeometry``) goes before its outline.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from atypia.data.points.base import BOUNDS, POINT_FORMATS, Collector, PointFormat, Points, Reading, Shape, dot, polygons
from atypia.errors import DataError, must

_TYPES = ("FeatureCollection", "Feature")
_NOT_FIGURES = frozenset({"root", "tile", "tma_core"})
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
_LINES = frozenset({"LineString", "MultiLineString"})
_QUPATH = frozenset({"objectType", "object_type", "isLocked"})
"""Properties that QuPath writes."""


def read(content: Any, reading: Reading) -> Points:
    """Reads a FeatureCollection, one Feature, or a list of Features.

    A Point is a figure, each position of a MultiPoint is one, a Polygon or MultiPolygon is one
    at its centre of area. Child objects are read too. Left out and counted: tiles, cores, lines,
    objects without a geometry, and shapes larger than a figure (regions).

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
    kind = str(properties.get("objectType", properties.get("object_type")) or "").casefold()
    if kind in _NOT_FIGURES:
        collector.skip("tiles, cores and other objects that are no figures")
        return
    geometry = feature.get("nucleusGeometry") or feature.get("geometry")
    if not geometry:
        collector.skip("objects without a geometry")
        return
    if isinstance(geometry, dict) and geometry.get("type") in _LINES:
        collector.skip("lines")
        return
    shapes = _shapes(geometry, where)
    given = feature.get("id")
    figure = None if given is None or given in _KINDS_AS_IDS else str(given)
    named = _class(properties)
    for at, shape in enumerate(shapes, 1):
        own = figure if figure is None or len(shapes) == 1 else f"{figure}#{at}"
        collector.add(where, shape, own, None, named)


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
    except (KeyError, IndexError, TypeError, ValueError) as error:
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


def _class(properties: dict[str, Any]) -> str | None:
    classification = properties.get("classification")
    if isinstance(classification, str):
        return classification
    if not isinstance(classification, dict):
        return None
    names = classification.get("names")
    if isinstance(names, list) and names:
        return ": ".join(str(name) for name in names)
    name = classification.get("name")
    return None if name is None else str(name)


def _properties(feature: dict[str, Any]) -> dict[str, Any]:
    properties = feature.get("properties")
    return properties if isinstance(properties, dict) else {}


def _takes(content: Any) -> bool:
    if isinstance(content, list):
        return not content or (isinstance(content[0], dict) and content[0].get("type") == "Feature")
    return isinstance(content, dict) and content.get("type") in _TYPES


POINT_FORMATS.add("geojson", PointFormat("geojson", "json", "QuPath's detections and annotations", _takes, read))
