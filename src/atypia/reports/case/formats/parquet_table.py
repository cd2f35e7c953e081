"""Parquet: what data frames read fastest, with types."""

from __future__ import annotations

from typing import IO, Any, Final

import pyarrow as pa

from atypia.inference import results as res
from atypia.reports.case.outputs import OUTPUTS, OnSlide, OutputFormat, Writer

ROW_GROUP: Final = 65_536
"""Rows of a Parquet row group: small batches are collected, so that readers meet few, large ones."""


class ParquetWriter(Writer):
    """Parquet with row groups of :data:`ROW_GROUP` rows."""

    mode = "wb"

    def __init__(self, file: IO[Any], drawn: OnSlide) -> None:
        import pyarrow.parquet as pq

        super().__init__(file, drawn)
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


OUTPUTS.add("parquet", OutputFormat("parquet", "a typed table for data frames", ParquetWriter))
