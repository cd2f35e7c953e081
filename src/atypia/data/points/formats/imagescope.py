"""Annotations of Aperio ImageScope (XML)."""

from __future__ import annotations

from xml.etree.ElementTree import Element

import numpy as np

from atypia.data.points.base import POINT_FORMATS, Collector, Mark, PointFormat, PointReading, Points
from atypia.data.points.shapes import box, dot, polygons
from atypia.data.points.xmlfiles import number_of

ROOT = "Annotations"
_OUTLINE, _RECTANGLE, _ELLIPSE, _ARROW, _RULER = "0", "1", "2", "3", "4"


def read(root: Element, reading: PointReading) -> Points:
    """Reads every ``Region``: rectangles and ellipses are boxes, freehand outlines polygons, one vertex a point.

    The class is the name of the layer (``Annotation``), else its description, else the region's text. Arrows, rulers and
    negative regions are left out and counted.

    Raises:
        DataError: A coordinate is no number, or as :meth:`Collector.points`.
    """
    collector = Collector(reading)
    for layer in root.iter("Annotation"):
        described = next((one.get("Value") for one in layer.findall("Attributes/Attribute") if one.get("Value")), None)
        for region in layer.iter("Region"):
            own = f"{layer.get('Id')}-{region.get('Id')}" if layer.get("Id") and region.get("Id") else None
            where = f"{reading.path.name}, region {own or '?'}"
            named = layer.get("Name") or described or region.get("Text")
            kind = region.get("Type", _OUTLINE)
            vertices = np.array([[number_of(one, axis, where) for axis in ("X", "Y")] for one in region.iter("Vertex")])
            if region.get("NegativeROA") == "1":
                collector.skip("negative region")
            elif kind in (_ARROW, _RULER) or (len(vertices) == 2 and kind not in (_RECTANGLE, _ELLIPSE)):
                collector.skip(
                    "arrow, ruler or line, which is not at one place",
                    "arrows, rulers and lines, which are not at one place",
                )
            elif not len(vertices):
                collector.skip("region without a position", "regions without a position")
            elif len(vertices) == 1:
                collector.add(where, dot(*vertices[0].tolist()), own, None, named)
            elif kind in (_RECTANGLE, _ELLIPSE):
                shape = box(*vertices.min(axis=0).tolist(), *vertices.max(axis=0).tolist())
                form = "rectangle" if kind == _RECTANGLE else "ellipse"
                collector.add(where, shape, own, None, named, Mark(form=form))
            else:
                collector.add(where, polygons([[vertices]]), own, None, named, Mark(form="outline"))
    return collector.points()


def _takes(root: Element) -> bool:
    return root.tag == ROOT


POINT_FORMATS.add(
    "imagescope", PointFormat("imagescope", "xml", "annotations of Aperio ImageScope (.xml)", _takes, read)
)
