"""Annotations of the viewer ASAP (XML)."""

from __future__ import annotations

from xml.etree.ElementTree import Element

import numpy as np

from atypia.data.points.base import CANVAS, POINT_FORMATS, Collector, Mark, PointFormat, PointReading, Points
from atypia.data.points.shapes import box, dot, polygons
from atypia.data.points.xmlfiles import number_of

ROOT = "ASAP_Annotations"
_NO_GROUP = "None"
_POINTS = ("Dot", "PointSet")


def read(root: Element, reading: PointReading) -> Points:
    """Reads every ``Annotation``: dots and point sets are points, rectangles boxes, polygons and splines outlines.

    The class is the group; ASAP's «None» is none.

    Raises:
        DataError: A coordinate is no number, or as :meth:`Collector.points`.
    """
    collector = Collector(reading, origin=CANVAS)  # ASAP reads slides with OpenSlide
    for at, one in enumerate(root.iter("Annotation"), 1):
        where = f"{reading.path.name}, annotation {at}"
        kind, name, group = (one.get(key) for key in ("Type", "Name", "PartOfGroup"))
        vertices = np.array(
            [
                [number_of(place, axis, where) for axis in ("X", "Y")]
                for place in sorted(one.iter("Coordinate"), key=lambda place: number_of(place, "Order", where))
            ]
        )
        named = None if group == _NO_GROUP else group
        if not len(vertices):
            collector.skip("annotation without a position", "annotations without a position")
        elif kind in _POINTS or len(vertices) == 1:
            for x, y in vertices.tolist():
                collector.add(where, dot(x, y), None, None, named, Mark(name=name))
        elif len(vertices) == 2 and kind != "Rectangle":
            collector.skip("line")
        else:
            drawn = kind == "Rectangle"
            shape = (
                box(*vertices.min(axis=0).tolist(), *vertices.max(axis=0).tolist()) if drawn else polygons([[vertices]])
            )
            collector.add(where, shape, None, None, named, Mark(form="rectangle" if drawn else "outline", name=name))
    return collector.points()


def _takes(root: Element) -> bool:
    return root.tag == ROOT


POINT_FORMATS.add("asap", PointFormat("asap", "xml", "annotations of ASAP (.xml)", _takes, read))
