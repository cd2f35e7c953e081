"""Results to files, a batch at a time; the suffix decides the form.

A file appears under its name only when it is complete: work that fails leaves no half of it.
Whatever the number of figures, a writer holds one batch (Parquet: one row group).
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import pyarrow as pa

from atypia.base import records as r
from atypia.base.artifacts import atomic_file
from atypia.base.errors import InputError, must
from atypia.base.files.spreadsheet import CsvLines
from atypia.data.points.base import CANVAS
from atypia.inference import results as res
from atypia.reports.case import geojson

SlideZero = Callable[[str], tuple[float, float]]
"""A place on the canvas of a slide, x and y in pixels of level 0, by the slide's name."""
ROW_GROUP: Final = 65_536
"""Rows of a Parquet row group: small batches are collected, so that readers meet few, large ones."""


class Writer(ABC):
    """Takes results, a batch at a time.

    Attributes:
        written: Rows that are in the file.
        left_out: Rows that its form cannot say (GeoJSON: refused figures without a position).
    """

    mode = "w"

    def __init__(self, file: IO[Any]) -> None:
        self.file = file
        self.written = 0
        self.left_out = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Appends rows.

        Raises:
            InputError: The batch has not :data:`atypia.inference.results.RESULTS_SCHEMA`, or
                its form cannot take these figures.
        """
        self._write(res.check_results(batch))

    def finish(self) -> None:  # noqa: B027 - most forms have nothing to add
        """Writes what stands at the end of the file; called once, by :func:`open_writer`."""

    def abandon(self) -> None:  # noqa: B027 - most forms hold nothing open
        """Lets go of the file, whose content no longer matters; called where work failed."""

    @abstractmethod
    def _write(self, batch: pa.RecordBatch) -> None: ...


class CsvWriter(Writer):
    """A header and one line a figure; null is an empty field, a text that looks like a formula has an ``'`` before it."""

    def __init__(self, file: IO[Any]) -> None:
        super().__init__(file)
        self._lines = CsvLines(file)
        self._lines.write(res.RESULTS_SCHEMA.names)

    def _write(self, batch: pa.RecordBatch) -> None:
        for row in res.rows_of(batch):
            self._lines.write(row.values())
        self.written += batch.num_rows


class ParquetWriter(Writer):
    """Parquet with row groups of :data:`ROW_GROUP` rows."""

    mode = "wb"

    def __init__(self, file: IO[Any]) -> None:
        import pyarrow.parquet as pq

        super().__init__(file)
        self._parquet = pq.ParquetWriter(file, res.RESULTS_SCHEMA, compression="zstd")
        self._waiting: list[pa.RecordBatch] = []
        self._rows = 0

    def _write(self, batch: pa.RecordBatch) -> None:
        self._waiting.append(batch)
        self._rows += batch.num_rows
        self.written += batch.num_rows
        if self._rows >= ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._parquet.write_table(pa.Table.from_batches(self._waiting), row_group_size=ROW_GROUP)
            self._waiting, self._rows = [], 0

    def finish(self) -> None:
        self._flush()
        self._parquet.close()

    def abandon(self) -> None:
        self._parquet.close()  # else it would try to when it is collected, after the file was closed


class LinesWriter(Writer):
    """JSON Lines: one object a line."""

    def _write(self, batch: pa.RecordBatch) -> None:
        self.file.writelines(f"{_dumps(row)}\n" for row in res.rows_of(batch))
        self.written += batch.num_rows


class _ListWriter(Writer):
    """JSON values between a head and a tail, with commas between them."""

    head, tail = "[\n", "\n]\n"

    def __init__(self, file: IO[Any]) -> None:
        super().__init__(file)
        self.file.write(self.head)

    def _item(self, value: Any) -> None:
        self.file.write(",\n" if self.written else "")
        self.file.write(_dumps(value))
        self.written += 1

    def finish(self) -> None:
        self.file.write(self.tail)


class JsonWriter(_ListWriter):
    """One JSON array of objects, one a line."""

    def _write(self, batch: pa.RecordBatch) -> None:
        for row in res.rows_of(batch):
            self._item(row)


class GeoJsonWriter(_ListWriter):
    """A FeatureCollection of detections that QuPath opens over the slide they were found on.

    Args:
        file: Open for text.
        field_px: None for points; else the side in level-0 pixels of the squares drawn.
        qupath_zero: Where QuPath's zero lies on the canvas of a slide, by its name; None for its corner.
    """

    head, tail = geojson.HEAD, geojson.TAIL

    def __init__(self, file: IO[Any], field_px: float | None = None, qupath_zero: SlideZero | None = None) -> None:
        if field_px is not None and not (math.isfinite(field_px) and field_px > 0):
            raise InputError(must("field_px", "a positive length in pixels", field_px, "leave it out for points"))
        super().__init__(file)
        self._field_px = field_px
        self._qupath_zero = qupath_zero
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
            self._item(geojson.feature(self._as_in_qupath(row), bits, self._field_px))

    def _as_in_qupath(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row with a position that counts from the scanned area, as QuPath counts."""
        if row[res.ORIGIN] != CANVAS or self._qupath_zero is None:
            return row
        x, y = self._qupath_zero(row[r.IMAGE])
        return {**row, r.X_PX: row[r.X_PX] - x, r.Y_PX: row[r.Y_PX] - y}


SUFFIXES: Final[dict[str, type[Writer]]] = {
    ".csv": CsvWriter,
    ".parquet": ParquetWriter,
    ".json": JsonWriter,
    ".jsonl": LinesWriter,
    ".geojson": GeoJsonWriter,
}
"""File suffix to the writer of that form."""


def check_suffix(path: Path) -> str:
    """The suffix that decides the form of ``path``, in lower case.

    Raises:
        InputError: No form has it; the message lists those that are known.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(must(str(path), f"a name ending in {', '.join(SUFFIXES)}", suffix or "no suffix", "rename it"))
    return suffix


@contextmanager
def open_writer(path: Path, *, field_px: float | None = None, qupath_zero: SlideZero | None = None) -> Iterator[Writer]:
    """Opens a file for results; it takes its name when the block ends well.

    Args:
        path: The file; its suffix, one of :data:`SUFFIXES`, decides the form.
        field_px: For GeoJSON: side in level-0 pixels of the square to draw for each figure; None
            draws points. Other forms have no use for it.
        qupath_zero: For GeoJSON: where the corner of a slide's scanned area lies on its canvas, by the slide's
            name; it is asked when figures are written.

    Yields:
        The writer; call :meth:`Writer.write` with record batches of
        :data:`atypia.inference.results.RESULTS_SCHEMA`.

    Raises:
        InputError: The suffix is unknown, or a batch cannot be written in this form.
        WorkError: The disk is full, or the folder cannot be written.
    """
    kind = SUFFIXES[check_suffix(path)]
    with atomic_file(path, kind.mode) as file:
        writer = GeoJsonWriter(file, field_px, qupath_zero) if kind is GeoJsonWriter else kind(file)
        whole = False
        try:
            yield writer
            writer.finish()
            whole = True
        finally:
            if not whole:
                writer.abandon()


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
