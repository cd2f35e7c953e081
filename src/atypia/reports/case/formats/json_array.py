"""JSON: one array of objects."""

from __future__ import annotations

import pyarrow as pa

from atypia.inference import results as res
from atypia.reports.case.outputs import OUTPUTS, JsonValues, OutputFormat


class JsonWriter(JsonValues):
    """One JSON array of objects, one per line."""

    def _write(self, batch: pa.RecordBatch) -> None:
        for row in res.rows_of(batch):
            self._item(row)


OUTPUTS.add("json", OutputFormat("json", "one JSON array of objects", JsonWriter))
