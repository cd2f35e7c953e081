"""Figures as GeoJSON features for QuPath.

Features follow RFC 7946. QuPath's additions are in ``properties``: ``objectType``,
``classification`` with a colour, ``measurements`` (an object of numbers, as written since
QuPath 0.4) and ``metadata`` (an object of strings, shown since QuPath 0.5). Positions are level-0 pixels of
the slide, x to the right and y down, as in QuPath; they are not longitudes.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import Any, Final

from atypia.base import records as r
from atypia.inference import results as res
from atypia.reports.drawing.names import file_name, without_folders

FIGURES: Final = uuid.UUID("6d1c3a52-9c5e-5f0b-8f0e-6a0f2f4f9b11")
"""Name space of the UUIDs derived from figure ids."""

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)

CALL_COLOURS: Final[dict[str, tuple[int, int, int]]] = {
    res.CALLED_NORMAL: (86, 180, 233),
    res.CALLED_ATYPICAL: (213, 94, 0),
    res.CALLED_UNCERTAIN: (240, 228, 66),
    res.CALLED_REFUSED: (153, 153, 153),
}
"""Red, green, blue of each call: sky blue, vermilion and yellow of Okabe and Ito, which remain
distinct with the common colour-vision deficiencies, and grey."""

UNCERTAINTY: Final = "uncertainty"
HEAD: Final = '{"type": "FeatureCollection", "features": [\n'
TAIL: Final = "\n]}\n"
"""Start and end of a collection; its features are separated by commas."""


def figure_uuid(figure_id: str) -> str:
    """The UUID of a figure id: the id itself if it is a UUID, so that QuPath recognises its object; else derived from it.

    Derived UUIDs (version 5) are the same in every file.

    >>> figure_uuid("a") == figure_uuid("a"), figure_uuid("a") == figure_uuid("b")
    (True, False)
    >>> figure_uuid("cd44e1ba-0a43-4d9e-b334-7ce900a709c6")
    'cd44e1ba-0a43-4d9e-b334-7ce900a709c6'
    """
    if _UUID.fullmatch(figure_id):
        return figure_id
    return str(uuid.uuid5(FIGURES, figure_id))


def has_position(row: Mapping[str, Any]) -> bool:
    """Whether a row has the figure's position."""
    return row[r.X_PX] is not None and row[r.Y_PX] is not None


def feature(row: Mapping[str, Any], uncertainty: float | None, field_px: float | None = None) -> dict[str, Any]:
    """The feature of one figure.

    Args:
        row: From :func:`atypia.inference.results.rows_of`, with a position.
        uncertainty: Binary entropy of the probability in bits, or None if it is unknown.
        field_px: None for a point; else the side in level-0 pixels of the square drawn
            around the figure's centre.

    Returns:
        JSON-able values, without NaN; unknown measurements are left out.
    """
    x, y = row[r.X_PX], row[r.Y_PX]
    call = row[res.CALL]
    measured = {
        r.P_ATYPICAL: row[r.P_ATYPICAL],
        UNCERTAINTY: uncertainty,
        res.NOVELTY: row[res.NOVELTY],
        r.THRESHOLD: row[r.THRESHOLD],
    }
    metadata = {
        r.IMAGE: file_name(row[r.IMAGE]),
        res.CLASS: row[res.CLASS],
        res.MODEL: row[res.MODEL],
        res.REASON: row[res.REASON] and without_folders(row[res.REASON], row[r.IMAGE]),
    }
    return {
        "type": "Feature",
        "id": figure_uuid(row[r.FIGURE_ID]),
        "geometry": _point(x, y) if field_px is None else _square(x, y, field_px),
        "properties": {
            "objectType": "detection",
            "name": row[r.FIGURE_ID],
            "classification": {"name": call, "color": list(CALL_COLOURS[call])},
            "isLocked": False,
            "measurements": {name: v for name, v in measured.items() if v is not None},
            "metadata": {name: text for name, text in metadata.items() if text is not None},
        },
    }


def _point(x: float, y: float) -> dict[str, Any]:
    return {"type": "Point", "coordinates": [x, y]}


def _square(x: float, y: float, side: float) -> dict[str, Any]:
    half = side / 2
    left, right, top, bottom = x - half, x + half, y - half, y + half
    # Counter-clockwise in the plane of the coordinates, as in RFC 7946; on screen, where y
    # points down, the ring therefore runs clockwise.
    ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    return {"type": "Polygon", "coordinates": [ring]}
