"""Boxes in JSON: COCO's (left, top, width, height) and the MIDOG sets' (left, top, right, bottom).

Both have the same keys and nothing in the file states which one is used, so ``auto`` decides by what most
boxes allow (:func:`atypia.data.points.boxes.decide`). Where nothing decides, the file is refused until
``box_format`` says it. A box that is flat, swapped or damaged is left out by name. COCO's results, which detectors write (a
list of boxes with ``image_id`` and ``score``), do not name images and are read where they are of one.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from atypia.base import records as r
from atypia.base.errors import DataError, must
from atypia.data.points.base import POINT_FORMATS, Collector, Mark, PointFormat, PointReading, Points
from atypia.data.points.boxes import AUTO, XYWH, XYXY, decide, shape_of
from atypia.data.points.classes import class_key, class_name
from atypia.data.sources.layouts import CLASS_WORDS

_MIDOG_WORDS = frozenset(word for word in CLASS_WORDS[r.MITOSIS_TASK] if not word.isdecimal())
_BOX = Mark(form="box")


def read(content: Any, reading: PointReading) -> Points:
    """Reads ``images``, ``categories`` and ``annotations`` with a ``bbox``.

    Ids are those of the annotations, classes the names of categories, slides ``file_name``.

    Raises:
        DataError: A part is missing or damaged, an annotation names an image that is not listed,
            it cannot be determined what a box's numbers are, or as :meth:`Collector.points`.
    """
    name = reading.path.name
    content = _whole(content, name) if isinstance(content, list) else content
    try:
        images = {image["id"]: image for image in content["images"]}
        classes = {entry["id"]: entry["name"] for entry in content.get("categories") or ()}
        notes = list(content["annotations"])
        if not notes:
            return Collector(reading).points()
        files = [images[note["image_id"]]["file_name"] for note in notes]
        slides = [None if file is None else str(file) for file in files]
        named = [classes.get(note.get("category_id")) for note in notes]
        boxes = np.array([_numbers(note["bbox"]) for note in notes], dtype=np.float64)
    except KeyError as error:
        raise DataError(f"{name}: {error.args[0]!r} is named or needed and not there; fix: export it again") from error
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{name} is not in the form of COCO ({error}); fix: export it again") from error
    written = reading.box_format
    if written == AUTO:
        sizes = np.array(
            [[_positive(images[note["image_id"]].get(side)) for side in ("width", "height")] for note in notes]
        )
        areas = np.array([_positive(note.get("area")) for note in notes])
        marked = {class_key(class_name(one)) for one in named} <= _MIDOG_WORDS
        found = decide(boxes, areas, sizes, marked)
        if found is None and any(
            isinstance(shape_of(box, one), tuple) for box in boxes.tolist() for one in (XYWH, XYXY)
        ):
            raise DataError(
                f"{name}: it cannot be determined whether a `bbox` is (left, top, width, height) or "
                "(left, top, right, bottom); fix: pass --box-format xywh or --box-format xyxy"
            )
        written = found or XYXY
    collector = Collector(reading)
    for at, (note, slide, label, numbers) in enumerate(zip(notes, slides, named, boxes.tolist(), strict=True), 1):
        given = note.get("id")
        where = f"annotation {at if given is None else given}"
        shape = shape_of(numbers, written)
        if isinstance(shape, str):
            collector.refuse(f"{where}, {shape}")
            continue
        collector.add(
            f"{name}, {where}", shape, None if given is None else str(given), slide, label, _BOX, note.get("score")
        )
    return collector.points()


def _whole(results: list[Any], name: str) -> dict[str, Any]:
    """COCO's results in the form of its annotations; images have no name, and classes are numbers."""
    notes = [note if isinstance(note, dict) else {} for note in results]
    images, classes = ({str(note.get(key)): note.get(key) for note in notes} for key in ("image_id", "category_id"))
    if len(images) > 1:
        got = f"{len(images):,} images, which it gives as numbers"
        fix = "save one file a slide, or add COCO's `images` (the results are its `annotations`)"
        raise DataError(must(f"{name}: COCO's results", "of one image", got, fix))
    return {
        "images": [{"id": image, "file_name": None} for image in images.values()],
        "categories": [{"id": one, "name": text} for text, one in classes.items() if one is not None],
        "annotations": notes,
    }


def _numbers(sides: Any) -> list[float]:
    """Four numbers of a box; NaN if there are not four."""
    if not isinstance(sides, list | tuple) or len(sides) != 4:
        return [math.nan] * 4
    return [_number(side) for side in sides]


def _number(value: Any) -> float:
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _positive(value: Any) -> float:
    """A number above 0; NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        return math.nan
    return _number(value)


def _takes(content: Any) -> bool:
    if isinstance(content, list):
        return bool(content) and isinstance(content[0], dict) and {"image_id", "bbox"} <= content[0].keys()
    return isinstance(content, dict) and isinstance(content.get("annotations"), list) and "images" in content


POINT_FORMATS.add(
    "coco", PointFormat("coco", "json", "COCO, also its results, and the annotations of the MIDOG sets", _takes, read)
)
