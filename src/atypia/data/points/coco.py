"""Boxes in JSON: COCO's (left, top, width, height) and the MIDOG sets' (left, top, right, bottom).

Both have the same keys and nothing in the file says which numbers are meant, so ``auto`` decides
by what is impossible under the other reading, in this order:

1. a third number not above the first, or a fourth not above the second: not corners, so ``xywh``;
2. every ``area`` given is width × height under one reading only: that one;
3. a box that would leave its image, whose size is given, under one reading only: the other;
4. all categories are those of the MIDOG sets (mitotic figures and their look-alikes): ``xyxy``.

Where none of these decides, the file is refused until ``box_format`` says it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from atypia import records as r
from atypia.data.layouts import CLASS_WORDS
from atypia.data.points.base import POINT_FORMATS, BoxFormat, Collector, PointFormat, Points, Reading, box
from atypia.errors import DataError, must

_MIDOG_WORDS = frozenset(word for word in CLASS_WORDS[r.MITOSIS_TASK] if not word.isdecimal())
_AREA_SHARE = 1e-3
# Drawn boxes may overlap an image's border by a little under either reading.
_BEYOND_PX = 64


def read(content: Any, reading: Reading) -> Points:
    """Reads ``images``, ``categories`` and ``annotations`` with a ``bbox``.

    Ids are those of the annotations, classes the names of categories, slides ``file_name``.

    Raises:
        DataError: A part is missing or damaged, an annotation names an image that is not listed,
            a box has no size, it cannot be told what a box's numbers are, or as
            :meth:`Collector.points`.
    """
    name = reading.path.name
    try:
        images = {image["id"]: image for image in content["images"]}
        classes = {entry["id"]: str(entry["name"]) for entry in content.get("categories") or ()}
        notes = list(content["annotations"])
        if not notes:
            return Collector(reading).points()
        boxes = np.array([[float(side) for side in note["bbox"]] for note in notes], dtype=np.float64)
        if boxes.shape != (len(notes), 4):
            raise ValueError("a `bbox` that is not four numbers")
        slides = [str(images[note["image_id"]]["file_name"]) for note in notes]
        corners = _corners(boxes, notes, images, classes, reading)
    except KeyError as error:
        raise DataError(f"{name}: {error.args[0]!r} is named or needed and not there; fix: export it again") from error
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} is not in the form of COCO ({error}); fix: export it again") from error
    collector = Collector(reading)
    for at, (note, slide, sides) in enumerate(zip(notes, slides, corners.tolist(), strict=True), 1):
        given = note.get("id")
        where = f"{name}, annotation {at if given is None else given}"
        left, top, right, bottom = sides
        if right < left or bottom < top:
            got = f"{right - left:g} × {bottom - top:g} px"
            raise DataError(f"{where}: {must('bbox', 'of a positive size', got, 'check box_format')}")
        named = classes.get(note.get("category_id"))
        collector.add(where, box(left, top, right, bottom), None if given is None else str(given), slide, named)
    return collector.points()


def _corners(
    boxes: npt.NDArray[np.float64],
    notes: list[dict[str, Any]],
    images: dict[Any, dict[str, Any]],
    classes: dict[Any, str],
    reading: Reading,
) -> npt.NDArray[np.float64]:
    """Boxes as corners, shape (n, 4), however they are written."""
    readings: dict[BoxFormat, npt.NDArray[np.float64]] = {
        "xywh": np.column_stack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]),
        "xyxy": boxes,
    }
    if reading.box_format != "auto":
        return readings[reading.box_format]
    if not np.isfinite(boxes).all():  # refused with its place by the collector
        return readings["xyxy"]
    if not (boxes[:, 2:] > boxes[:, :2]).all():
        return readings["xywh"]
    for fits in (_areas_fit, _images_hold):
        possible = [corners for corners in readings.values() if fits(corners, notes, images)]
        if len(possible) == 1:
            return possible[0]
    used = {classes.get(note.get("category_id"), "").strip().casefold() for note in notes}
    if used <= _MIDOG_WORDS:
        return readings["xyxy"]
    raise DataError(
        f"{reading.path.name}: it cannot be told whether a `bbox` is (left, top, width, height) or "
        "(left, top, right, bottom); fix: give box_format xywh or xyxy"
    )


def _areas_fit(corners: npt.NDArray[np.float64], notes: list[dict[str, Any]], _: object) -> bool:
    """Whether each ``area`` that is given is that of its box; COCO's outlines have smaller ones."""
    areas = np.array([_positive(note.get("area")) for note in notes])
    boxes = np.prod(corners[:, 2:] - corners[:, :2], axis=1)
    given = np.isfinite(areas)
    return bool((np.abs(boxes[given] - areas[given]) <= _AREA_SHARE * areas[given]).all())


def _images_hold(
    corners: npt.NDArray[np.float64], notes: list[dict[str, Any]], images: dict[Any, dict[str, Any]]
) -> bool:
    """Whether each box lies in its image, where the image's size is given."""
    sizes = np.array(
        [[_positive(images[note["image_id"]].get(side)) + _BEYOND_PX for side in ("width", "height")] for note in notes]
    )
    return not (corners[:, 2:] > sizes).any()


def _positive(value: Any) -> float:
    """A number above 0; NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        return math.nan
    return float(value)


def _takes(content: Any) -> bool:
    return isinstance(content, dict) and isinstance(content.get("annotations"), list) and "images" in content


POINT_FORMATS.add("coco", PointFormat("coco", "json", "COCO, and the annotations of the MIDOG sets", _takes, read))
