"""A format of points: whether parsed content is of it, and how it becomes positions in pixels of level 0."""

from typing import Any

from atypia.data.points.base import POINT_FORMATS, Collector, PointFormat, PointReading, Points
from atypia.data.points.shapes import dot


def takes(content: Any) -> bool:
    return isinstance(content, dict) and "mylab_points" in content


def read(content: Any, reading: PointReading) -> Points:
    collector = Collector(reading)
    for number, (x, y) in enumerate(content["mylab_points"], 1):
        collector.add(f"point {number}", dot(float(x), float(y)))
    return collector.points()


POINT_FORMATS.add("mylab", PointFormat("mylab", "json", "the JSON of our viewer", takes, read))
