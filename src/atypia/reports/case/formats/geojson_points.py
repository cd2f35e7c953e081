"""GeoJSON: detections that QuPath opens over their slide."""

from __future__ import annotations

import math
from typing import IO, Any

import pyarrow as pa

from atypia.base import records as r
from atypia.base.errors import InputError, must
from atypia.data.points.base import CANVAS
from atypia.inference import results as res
from atypia.reports.case import geojson
from atypia.reports.case.outputs import OUTPUTS, JsonValues, OnSlide, OutputFormat


class GeoJsonWriter(JsonValues):
    """A FeatureCollection of detections that QuPath opens over the slide they were found on.

    Args:
        file: Open for text.
        drawn: Points or squares, and where QuPath's zero lies on the canvas of the slide.

    Raises:
        InputError: The side of the squares is not positive.
    """

    head, tail = geojson.HEAD, geojson.TAIL

    def __init__(self, file: IO[Any], drawn: OnSlide) -> None:
        side = drawn.field_px
        if side is not None and not (math.isfinite(side) and side > 0):
            raise InputError(must("field_px", "a positive length in pixels", side, "leave it out for points"))
        super().__init__(file, drawn)
        self._image: str | None = None

    def _write(self, batch: pa.RecordBatch) -> None:
        rows = res.rows_of(batch)
        for row, bits in zip(rows, res.uncertainty_of(rows), strict=True):
            if not geojson.has_position(row):
                if row[res.CALL] != res.CALLED_REFUSED:
                    got = f"none for {row[r.FIGURE_ID]}, which is a plain crop"
                    raise InputError(must("GeoJSON", "given positions", got, "write .csv, .parquet or .json"))
                self.left_out += 1
                continue
            if self._image is None:
                self._image = row[r.IMAGE]
            elif row[r.IMAGE] != self._image:
                got = f"{self._image} and {row[r.IMAGE]}"
                raise InputError(must("GeoJSON", "of one slide", got, "write one GeoJSON file a slide"))
            self._item(geojson.feature(self._as_in_qupath(row), bits, self.drawn.field_px))

    def _as_in_qupath(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row with a position that counts from the scanned area, as QuPath counts."""
        if row[res.ORIGIN] != CANVAS or self.drawn.qupath_zero is None:
            return row
        x, y = self.drawn.qupath_zero(row[r.IMAGE])
        return {**row, r.X_PX: row[r.X_PX] - x, r.Y_PX: row[r.Y_PX] - y}


OUTPUTS.add("geojson", OutputFormat("geojson", "detections for QuPath, on one slide", GeoJsonWriter, on_slide=True))
