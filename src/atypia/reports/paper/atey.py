"""Atey et al., MIDOG 2025: the preliminary leaderboard; own results on sets that were held out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from atypia.base import records as r
from atypia.evaluation import rows as e
from atypia.evaluation.published import published_rows
from atypia.reports.drawing.tables import Column
from atypia.reports.paper.beside import ColumnKey, PaperItem, PaperLine, beside, metric_column, published
from atypia.reports.paper.own import OURS, OwnStudy, key_of, spread

NAME: Final = "atey"
METRICS: Final = {
    "balanced_accuracy": "Balanced Acc.", "sensitivity": "Sensitivity", "specificity": "Specificity", "auroc": "ROC AUC",
}  # fmt: skip
NAMES: Final = {"challenge baseline": "Baseline", "DenseNet-121": "Ours (the paper's)"}


def items(own: Sequence[OwnStudy]) -> list[PaperItem]:
    """The paper's table, with own studies beside."""
    found: dict[str, PaperLine] = {}
    for row in published_rows([NAME]):
        name = NAMES[row.model]
        line = found.setdefault(name, PaperLine(name, row.setting, (row.backbone or "", row.adaptation or ""), {}))
        found[name] = PaperLine(name, line.group, line.key, {**line.values, ("", row.metric): published(row)})
    ours = [
        PaperLine(f"{line.subject[e.MODEL]}, on {line.subject[r.DATASET]}", f"on {line.subject[r.DATASET]}", key_of(line),
             {("", metric): spread(line, metric) for metric in METRICS})
        for study in own for line in study.lines
    ]  # fmt: skip
    columns: list[tuple[ColumnKey, Column]] = [
        metric_column(title, ("", m), 4, best=False) for m, title in METRICS.items()
    ]
    notes = ["paper: the challenge's preliminary test set, one result each; the set is not public"]
    notes += [f"{OURS}: {study.title}; mean ± population sd over seeds, on sets that were held out" for study in own]
    title = "Preliminary leaderboard"
    warnings = [text for study in own for text in study.warnings]
    table = beside(title, columns, list(found.values()), ours, first="method", notes=notes, warnings=warnings)
    return [PaperItem("table", "1", title, [table])]
