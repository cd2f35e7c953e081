"""A format of `atypia predict`: a writer that is given the results batch by batch."""

from typing import IO, Any

import pyarrow as pa

from atypia.base import records as r
from atypia.inference import results as res
from atypia.reports.case.outputs import OUTPUTS, OnSlide, OutputFormat, Writer


class Tsv(Writer):
    """One line a figure: its id, the probability of atypical, the call; empty where it was refused."""

    def __init__(self, file: IO[Any], drawn: OnSlide) -> None:
        super().__init__(file, drawn)
        file.write("figure\tp_atypical\tcall\n")

    def _write(self, batch: pa.RecordBatch) -> None:
        for row in res.rows_of(batch):
            p = "" if row[r.P_ATYPICAL] is None else f"{row[r.P_ATYPICAL]:.4f}"
            self.file.write(f"{row[r.FIGURE_ID]}\t{p}\t{row[res.CALL]}\n")
        self.written += batch.num_rows


OUTPUTS.add("tsv", OutputFormat("tsv", "id, probability and call, separated by tabs", Tsv))
