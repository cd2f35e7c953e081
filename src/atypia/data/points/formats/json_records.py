"""JSON with one object a figure, ``{"x": …, "y": …, "type": …, "prob": …}``, as KongNet's inference code has its cell records.

The list may stand alone or as the one list of an object (``cell_records``, ``detections``). A dictionary of lists
(``{"x": […], "y": […], "classes": […], "probabilities": […]}``), as TIAToolbox's engines return it, is read too.
"""

from __future__ import annotations

from typing import Any

from atypia.base.errors import DataError, must
from atypia.data.points.base import POINT_FORMATS, Collector, PointFormat, PointReading, Points
from atypia.data.points.scores import score_in
from atypia.data.points.shapes import dot

_LISTS = {"classes": "type", "probabilities": "prob", "types": "type", "probs": "prob", "scores": "score", "ids": "id"}
_CLASS_NAMES = ("type", "class", "class_name", "label", "name", "category")
_IMAGES = ("image", "image_name", "filename", "file_name", "slide")
_IDS = ("id", "figure_id", "uid")


def read(content: Any, reading: PointReading) -> Points:
    """Reads the records; positions are centres.

    Raises:
        DataError: A record has no x or y, or as :meth:`Collector.points`.
    """
    collector = Collector(reading)
    for at, record in enumerate(_records(content, reading.path.name), 1):
        where = f"{reading.path.name}, record {at}"
        x, y = (_number(record.get(axis), axis, where) for axis in "xy")
        named, image, own = (_first(record, names) for names in (_CLASS_NAMES, _IMAGES, _IDS))
        collector.add(where, dot(x, y), None if own is None else str(own), image, named, score=score_in(record))
    return collector.points()


def _records(content: Any, name: str) -> list[dict[str, Any]]:
    if isinstance(content, dict) and isinstance(content.get("x"), list):
        columns: dict[str, list[Any]] = {
            _LISTS.get(key) or key: value for key, value in content.items() if isinstance(value, list)
        }
        lengths = {key: len(value) for key, value in columns.items()}
        if len(set(lengths.values())) > 1:
            got = ", ".join(f"{key} {count}" for key, count in lengths.items())
            raise DataError(must(f"{name}: lists", "of one length", got, "export it again"))
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    listed = content if isinstance(content, list) else _the_list(content)
    for at, record in enumerate(listed or [], 1):
        if not isinstance(record, dict):
            raise DataError(
                must(f"{name}: record {at}", "an object with x and y", type(record).__name__, "export it again")
            )
    return listed or []


def _the_list(content: dict[str, Any]) -> list[Any] | None:
    """The one list of objects with positions in an object."""
    found = [value for value in content.values() if isinstance(value, list) and _is_record(value[:1])]
    return found[0] if len(found) == 1 else None


def _is_record(first: list[Any]) -> bool:
    return bool(first) and isinstance(first[0], dict) and {"x", "y"} <= first[0].keys()


def _first(record: dict[str, Any], names: tuple[str, ...]) -> Any:
    found = next((record[name] for name in names if record.get(name) is not None), None)
    return found if isinstance(found, str) or found is None else str(found)


def _number(value: Any, axis: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{where}: {must(axis, 'a number', repr(value)[:80], 'correct it or leave it out')}")
    return float(value)


def _takes(content: Any) -> bool:
    if isinstance(content, list):
        return _is_record(content[:1])
    if not isinstance(content, dict) or content.get("type") in ("FeatureCollection", "Feature"):
        return False
    columns = [content.get(axis) for axis in "xy"]
    return all(isinstance(column, list) for column in columns) or _the_list(content) is not None


POINT_FORMATS.add(
    "json-records",
    PointFormat(
        "json-records", "json", "lists of objects with x and y, as KongNet's cell records", _takes, read, general=True
    ),
)
