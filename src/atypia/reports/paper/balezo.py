"""Balezo et al., the winner of MIDOG 2025's track 2: its results on the challenge's hidden sets, own results beneath."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from atypia.base import records as r
from atypia.evaluation import rows as e
from atypia.evaluation.published import published_rows
from atypia.reports.drawing.tables import Column
from atypia.reports.paper.beside import ColumnKey, PaperItem, PaperLine, beside, metric_column, published
from atypia.reports.paper.own import OURS, OwnStudy, key_of, spread

NAME: Final = "balezo"
METRIC: Final = "balanced_accuracy"


def items(own: Sequence[OwnStudy]) -> list[PaperItem]:
    """The results, with own studies beside."""
    theirs = [
        PaperLine(f"{row.model}, {row.setting}", row.dataset, (row.backbone or "", row.adaptation or ""),
             {("", METRIC): published(row)})
        for row in published_rows([NAME])
    ]  # fmt: skip
    ours = [
        PaperLine(f"{line.subject[e.MODEL]}, on {line.subject[r.DATASET]}", f"on {line.subject[r.DATASET]}", key_of(line),
             {("", METRIC): spread(line, METRIC)})
        for study in own for line in study.lines
    ]  # fmt: skip
    columns: list[tuple[ColumnKey, Column]] = [metric_column("Balanced Acc.", ("", METRIC), 4, best=False)]
    notes = ["paper: the challenge's hidden test sets, one result each; they are not public"]
    notes += [f"{OURS}: {study.title}; mean ± population sd over runs" for study in own]
    warnings = [text for study in own for text in study.warnings]
    title = "Results in the challenge"
    table = beside(title, columns, theirs, ours, first="model", notes=notes, warnings=warnings)
    return [PaperItem("table", "results", title, [table])]
