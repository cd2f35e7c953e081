"""JSON Lines: one object per line, for scripts that read as they go."""

from __future__ import annotations

import pyarrow as pa

from atypia.inference import results as res
from atypia.reports.case.outputs import OUTPUTS, OutputFormat, Writer, dumps


class LinesWriter(Writer):
    """JSON Lines: one object per line."""

    def _write(self, batch: pa.RecordBatch) -> None:
        self.file.writelines(f"{dumps(row)}\n" for row in res.rows_of(batch))
        self.written += batch.num_rows


OUTPUTS.add("jsonl", OutputFormat("jsonl", "one JSON object a line", LinesWriter))
