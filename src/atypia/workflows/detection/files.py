"""Files of detections: GeoJSON that QuPath opens, and CSV; ``atypia predict --points`` reads both."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from atypia.base import records as r
from atypia.base.artifacts import atomic_file
from atypia.base.errors import InputError, must
from atypia.base.files.spreadsheet import CsvLines
from atypia.data.points.base import CANVAS
from atypia.data.points.formats.csv_table import ORIGIN
from atypia.data.slides.regions import Bounds
from atypia.reports.case import geojson
from atypia.workflows.detection.detector import Detections

CLASS: Final = "mitotic figure"
SCORE: Final = "score"
COLOUR: Final = (0, 158, 115)
"""Red, green, blue of detections: bluish green of Okabe and Ito, no call's colour."""
ID, CLASS_COLUMN = "id", "class"


@dataclass(frozen=True)
class FoundOn:
    """Detections and the slide that they are on.

    Attributes:
        slide: The file.
        found: The detections.
        bounds: Its scanned area, where the canvas is larger.
    """

    slide: Path
    found: Detections
    bounds: Bounds | None = None

    def ids(self) -> list[str]:
        """One a detection, in their order."""
        return [f"{self.slide.name}#{number}" for number in range(1, len(self.found) + 1)]


def write_detections(path: Path, on: FoundOn) -> None:
    """Writes detections; the suffix decides the form.

    Raises:
        InputError: There is no such form.
        WorkError: The file cannot be written.
    """
    write = form_of(path)
    with atomic_file(path, "w") as file:
        write(file, on)


def form_of(path: Path) -> Callable[[IO[Any], FoundOn], None]:
    """What writes a file of this suffix.

    Raises:
        InputError: There is no such form.
    """
    found = FORMS.get(path.suffix.lower())
    if found is None:
        raise InputError(must("--out", f"a file ending in {' or '.join(FORMS)}", path.name, "for QuPath: .geojson"))
    return found


def _geojson(file: IO[Any], on: FoundOn) -> None:
    left, top = (0, 0) if on.bounds is None else on.bounds[:2]  # QuPath counts from the scanned area
    file.write(geojson.HEAD)
    for number, (name, x, y, score) in enumerate(_rows(on)):
        feature = {
            "type": "Feature",
            "id": geojson.figure_uuid(name),
            "geometry": {"type": "Point", "coordinates": [round(x - left, 2), round(y - top, 2)]},
            "properties": {
                "objectType": "detection",
                "name": name,
                "classification": {"name": CLASS, "color": list(COLOUR)},
                "isLocked": False,
                "measurements": {SCORE: score},
                "metadata": {"detector": on.found.by},
            },
        }
        file.write((",\n" if number else "") + json.dumps(feature, ensure_ascii=False))
    file.write(geojson.TAIL)


def _csv(file: IO[Any], on: FoundOn) -> None:
    lines = CsvLines(file)
    lines.write((ID, r.X_PX, r.Y_PX, SCORE, CLASS_COLUMN, ORIGIN))
    for name, x, y, score in _rows(on):
        lines.write((name, round(x, 2), round(y, 2), score, CLASS, CANVAS))


def _rows(on: FoundOn) -> list[tuple[str, float, float, float]]:
    found = on.found
    scores = [round(score, 6) for score in found.scores.tolist()]
    return list(zip(on.ids(), found.x_px.tolist(), found.y_px.tolist(), scores, strict=True))


FORMS: Final[Mapping[str, Callable[[IO[Any], FoundOn], None]]] = {".geojson": _geojson, ".csv": _csv}
"""Forms by suffix."""
