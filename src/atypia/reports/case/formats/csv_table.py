"""CSV: what spreadsheets open."""

from __future__ import annotations

from typing import IO, Any, Final

import pyarrow as pa

from atypia.base import records as r
from atypia.base.files.spreadsheet import CsvLines
from atypia.inference import results as res
from atypia.reports.case.outputs import OUTPUTS, OnSlide, OutputFormat, Writer

ROUNDED: Final = (r.P_ATYPICAL, res.NOVELTY, r.THRESHOLD)
DIGITS: Final = 6
"""Decimals of probabilities in a table for people; other formats have all."""


class CsvWriter(Writer):
    """A header and one line per figure; null is an empty field, a text that looks like a formula has an ``'`` before it."""

    def __init__(self, file: IO[Any], drawn: OnSlide) -> None:
        super().__init__(file, drawn)
        self._lines = CsvLines(file)
        self._lines.write(res.RESULTS_SCHEMA.names)

    def _write(self, batch: pa.RecordBatch) -> None:
        for row in res.rows_of(batch):
            for name in ROUNDED:
                if row[name] is not None:
                    row[name] = round(row[name], DIGITS)
            self._lines.write(row.values())
        self.written += batch.num_rows


OUTPUTS.add("csv", OutputFormat("csv", "a table for spreadsheets", CsvWriter))
