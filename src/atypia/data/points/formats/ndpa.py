"""Annotations of Hamamatsu's NDP.view (``.ndpa``, XML): nanometres from the centre of the glass slide.

With the slide's own offset and µm/px, ``x_px = (x_nm - XOffsetFromSlideCentre) / (1000 mpp) + width / 2``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from xml.etree.ElementTree import Element

import numpy as np

from atypia.base.errors import DataError, must
from atypia.data.points.base import CANVAS, POINT_FORMATS, Collector, Mark, PointFormat, PointReading, Points
from atypia.data.points.scores import as_score
from atypia.data.points.shapes import Shape, box, dot, polygons
from atypia.data.points.xmlfiles import text_number

ROOT = "annotations"
_OFFSET = "hamamatsu.{}OffsetFromSlideCentre"
_MPP = "openslide.mpp-{}"
Place = Callable[[float, float], tuple[float, float]]


def read(root: Element, reading: PointReading) -> Points:
    """Reads every ``ndpviewstate``; the class is its title.

    Pins and pointers are points, circles boxes, freehand outlines polygons; rulers and open lines are left out and
    counted.

    Raises:
        DataError: The slide is no NDPI file, whose centre and µm/px are needed; a coordinate is no number; or as
            :meth:`Collector.points`.
    """
    collector = Collector(reading, origin=CANVAS)
    placed, mpp = _place(reading)
    for at, state in enumerate(root.iter("ndpviewstate"), 1):
        where = f"{reading.path.name}, annotation {at}"
        unit = (state.findtext("coordformat") or "nanometers").strip()
        if unit != "nanometers":
            raise DataError(f"{where}: {must('coordformat', 'nanometers', unit, 'save it with NDP.view 2')}")
        drawn = state.find("annotation")
        shape = None if drawn is None else _shape(drawn, placed, mpp, where)
        if shape is None:
            collector.skip(
                "ruler, line or annotation without a position", "rulers, lines and annotations without a position"
            )
            continue
        form = None if math.isnan(shape[2]) else "outline"
        own, named = state.get("id"), state.findtext("title")
        collector.add(where, shape, own, None, named, Mark(form=form))
    return collector.points()


def _place(reading: PointReading) -> tuple[Place, float]:
    """What turns nm into pixels, and the slide's µm/px."""
    about = reading.about()
    known = {} if about is None else about.properties
    values = {axis: [as_score(known.get(name.format(axis if name is _MPP else axis.upper()))) for name in (_OFFSET, _MPP)]
              for axis in "xy"}  # fmt: skip
    if about is None or not all(math.isfinite(value) for pair in values.values() for value in pair):
        fix = "give the .ndpi file that it belongs to; for a converted slide export the points as CSV or GeoJSON"
        what = "positions count from the centre of the glass, which only the NDPI slide states"
        raise DataError(f"{reading.path.name}: {what}; fix: {fix}")
    (left, x_mpp), (top, y_mpp) = values["x"], values["y"]
    half = about.width_px / 2, about.height_px / 2

    def placed(x_nm: float, y_nm: float) -> tuple[float, float]:
        return (x_nm - left) / (1000 * x_mpp) + half[0], (y_nm - top) / (1000 * y_mpp) + half[1]

    return placed, x_mpp


def _shape(drawn: Element, placed: Place, mpp: float, where: str) -> Shape | None:
    kind = drawn.get("type", "")
    vertices = np.array(
        [placed(text_number(one, "x", where), text_number(one, "y", where)) for one in drawn.iter("point")]
    )
    if kind == "circle" and drawn.find("radius") is not None:
        x, y = placed(text_number(drawn, "x", where), text_number(drawn, "y", where))
        radius = text_number(drawn, "radius", where) / (1000 * mpp)
        return box(x - radius, y - radius, x + radius, y + radius)
    if len(vertices) == 1:
        return dot(*vertices[0].tolist())
    if len(vertices) > 2 and (drawn.findtext("closed") or "1").strip() != "0":
        return polygons([[vertices]])
    if not len(vertices) and drawn.find("x") is not None:
        return dot(*placed(text_number(drawn, "x", where), text_number(drawn, "y", where)))
    return None


def _takes(root: Element) -> bool:
    return root.tag == ROOT and root.find("ndpviewstate") is not None


POINT_FORMATS.add(
    "ndpa",
    PointFormat("ndpa", "xml", "annotations of NDP.view (.ndpa), with their NDPI slide", _takes, read, own_unit=True),
)
