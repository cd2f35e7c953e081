"""Benito-Del-Valle et al. 2025: real figures alone against real and generated ones, in per cent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from atypia.base import records as r
from atypia.evaluation import rows as e
from atypia.evaluation.published import FOLD, MEAN, published_rows
from atypia.reports.drawing.tables import Column
from atypia.reports.drawing.values import Value
from atypia.reports.paper.beside import ColumnKey, PaperItem, PaperLine, beside, metric_column, published
from atypia.reports.paper.own import OURS, OwnStudy
from atypia.statistics.differences.crossvalidation import mean_sd

NAME: Final = "benito"
WORDS: Final = {"real only": "real", "real and synthetic": "real+synth"}
METRICS: Final = {
    "auroc": "AUROC", "accuracy": "Accuracy", "sensitivity": "Sensitivity", "specificity": "Specificity",
    "balanced_accuracy": "Bal. Acc.",
}  # fmt: skip
PER_CENT: Final = 100.0


def items(own: Sequence[OwnStudy]) -> list[PaperItem]:
    """The paper's tables, with own studies beside."""
    return [_table_1(own), _table_2()]


def _table_1(own: Sequence[OwnStudy]) -> PaperItem:
    found: dict[tuple[str, str], PaperLine] = {}
    for row in published_rows([NAME], metric="auroc"):
        if row.source == "Table 1":
            setting = row.setting.removeprefix("five folds, ")
            name = f"{row.model} ({WORDS[setting]})"
            line = found.setdefault((row.model, setting), PaperLine(name, "", (row.backbone or "", setting), {}))
            values = dict(line.values)
            if row.kind == FOLD:
                values[f"F{row.fold}", ""] = PER_CENT * row.value
            elif row.kind == MEAN:
                values["", "mean"] = published(row, PER_CENT)
            found[row.model, setting] = PaperLine(name, "", line.key, values)
    ours = [line for study in own for line in _own_folds(study)]
    folds = max([5, *(len(line.values) - 1 for line in ours)])
    columns: list[tuple[ColumnKey, Column]] = [
        *(((f"F{n}", ""), Column(f"F{n}", align="right", digits=2)) for n in range(1, folds + 1)),
        metric_column("mean ± sd", ("", "mean"), 2, best=False, sd="sd_ddof0"),
    ]
    notes = ["AUROC in per cent; mean ± population sd (ddof 0) over the folds"]
    notes += [f"{OURS}: {study.title}" for study in own]
    title = "AUROC of five folds, real figures alone and with generated ones"
    table = beside(title, columns, list(found.values()), ours, notes=notes, warnings=_warned(own))
    return PaperItem("table", "1", title, [table])


def _own_folds(study: OwnStudy) -> list[PaperLine]:
    """Own rows by fold; a row stands beneath the paper's of the same backbone, with generated figures or without."""
    found = []
    for subject, values in study.folds("auroc"):
        model = str(subject[e.MODEL])
        setting = "real only" if "real only" in model else "real and synthetic"
        cells: dict[ColumnKey, Value] = {(f"F{n + 1}", ""): PER_CENT * value for n, value in enumerate(values)}
        spread = mean_sd([PER_CENT * value for value in values])
        cells["", "mean"] = spread_value(spread.mean, spread.sd)
        found.append(PaperLine(f"{model}, on {subject[r.DATASET]}", "", (str(subject[e.BACKBONE]), setting), cells))
    return found


def spread_value(mean: float, sd: float) -> Value:
    """A mean with its spread, where there is one."""
    from atypia.reports.drawing.values import Spread

    return Spread(mean, sd if not math.isnan(sd) else math.nan)


def _table_2() -> PaperItem:
    found: dict[tuple[str, str], PaperLine] = {}
    for row in published_rows([NAME]):
        if row.source == "Table 2":
            name = f"{row.model} ({WORDS[row.setting]})"
            line = found.setdefault(
                (row.model, row.setting), PaperLine(name, "", (row.backbone or "", row.setting), {})
            )
            values = {**line.values, ("", row.metric): PER_CENT * row.value}
            found[row.model, row.setting] = PaperLine(name, "", line.key, values)
    columns: list[tuple[ColumnKey, Column]] = [
        (("", metric), Column(title, metric, "right", 2)) for metric, title in METRICS.items()
    ]
    title = "Preliminary hidden test set"
    notes = ["in per cent; the set is not public, so that no row of one's own can stand beside"]
    return PaperItem("table", "2", title, [beside(title, columns, list(found.values()), notes=notes)])


def _warned(own: Sequence[OwnStudy]) -> list[str]:
    return [text for study in own for text in study.warnings]
