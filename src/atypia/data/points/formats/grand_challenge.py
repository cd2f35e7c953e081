"""«Multiple points» JSON of grand-challenge.org, which algorithms of the MIDOG challenges write.

``{"type": "Multiple points", "points": [{"name": …, "point": [x, y, z], "probability": …}]}``. The platform's positions are
in mm; some algorithms write pixels. The file states neither, so what is possible on the slide decides.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from atypia.base.errors import DataError, must
from atypia.data.points.base import POINT_FORMATS, Collector, PointFormat, PointReading, Points, ScaleError
from atypia.data.points.scores import score_in
from atypia.data.points.shapes import dot
from atypia.data.points.units import AUTO_UNIT, px_per_unit, told_unit

MOST_MM: Final = 80.0
"""No slide is longer, so that larger numbers are not mm."""
CORNER_UM: Final = 100.0
"""Figures that as pixels would all lie this close to the upper left corner are in mm."""


def read(content: Any, reading: PointReading) -> Points:
    """Reads ``points``; the class is each point's ``name``.

    Raises:
        DataError: A point has no position of two or three numbers, it cannot be told whether they are mm or pixels, or
            as :meth:`Collector.points`.
        ScaleError: Positions are in mm, and the slide's µm/px is not known.
    """
    name = reading.path.name
    listed = [content] if "point" in content else content["points"]
    places = [_place(one, f"{name}, point {at}") for at, one in enumerate(listed, 1)]
    collector = Collector(reading)
    if places:
        unit, why = _unit(np.array(places), reading)
        factor = px_per_unit(reading, unit)
        collector.notes.append(f"{name}: positions are read as {told_unit(unit)}{why}")
        for at, (one, (x, y)) in enumerate(zip(listed, places, strict=True), 1):
            shape = dot(x * factor, y * factor)
            collector.add(f"{name}, point {at}", shape, None, None, one.get("name"), score=score_in(one))
    return collector.points()


def _place(one: Any, where: str) -> tuple[float, float]:
    place = one.get("point") if isinstance(one, dict) else None
    if not isinstance(place, list) or len(place) not in (2, 3) or any(isinstance(side, bool) for side in place):
        raise DataError(f"{where}: {must('point', 'two or three numbers', place, 'export it again')}")
    try:
        return float(place[0]), float(place[1])
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: {must('point', 'two or three numbers', place, 'export it again')}") from error


def _unit(places: npt.NDArray[np.float64], reading: PointReading) -> tuple[str, str]:
    """The unit, and why."""
    if reading.unit != AUTO_UNIT:
        return reading.unit, " (--unit)"
    most = float(np.nanmax(np.abs(places)))
    if most > MOST_MM:
        return "px", f", as {most:,.0f} mm would be larger than any slide"
    mpp, about = reading.mpp, reading.about()
    if mpp is None:
        raise ScaleError(
            f"{reading.path.name}: positions may be mm or pixels, and the slide's µm/px is not known; "
            "fix: give --mpp, for instance 0.25, or --unit px"
        )
    sides = None if about is None else np.array([about.width_px, about.height_px]) * mpp / 1000
    if sides is not None and bool((places > sides).any()):
        return "px", f", as mm they would lie outside the slide ({sides[0]:.3g} × {sides[1]:.3g} mm)"
    if most * mpp <= CORNER_UM:
        return "mm", f", as pixels all would lie within {max(most * mpp, 1):.0f} µm of the upper left corner"
    fix = "pass --unit mm or --unit px"
    raise DataError(
        must(f"{reading.path.name}: positions", "mm or pixels beyond doubt", "numbers that may be both", fix)
    )


def _takes(content: Any) -> bool:
    if not isinstance(content, dict):
        return False
    listed = content.get("points")
    first = listed[0] if isinstance(listed, list) and listed else None
    return (isinstance(first, dict) and "point" in first) or (
        "points" in str(content.get("type", "")).casefold() and listed == []
    )


POINT_FORMATS.add(
    "grand-challenge",
    PointFormat(
        "grand-challenge",
        "json",
        "«Multiple points» of grand-challenge.org (MIDOG's containers)",
        _takes,
        read,
        own_unit=True,
    ),
)
