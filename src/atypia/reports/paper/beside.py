"""One layout for a paper's rows and one's own beneath them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from atypia.base import records as r
from atypia.evaluation import rows as e
from atypia.evaluation.papers import PrintedTable
from atypia.evaluation.published import PublishedRow
from atypia.evaluation.summary import SummaryRow
from atypia.reports.drawing.plots import Drawing
from atypia.reports.drawing.tables import Column, Table
from atypia.reports.drawing.values import Spread, Value
from atypia.reports.paper.own import OURS, THEIRS, OwnStudy, key_of

GROUP_WORDS: Final = {"full": "end-to-end", "probe": "linear probing", "lora": "LoRA", "partial": "partial"}
ColumnKey: TypeAlias = tuple[str, str]
"""Data set (or part, or condition) and metric."""


@dataclass(frozen=True)
class PaperItem:
    """A table or figure of a paper.

    Attributes:
        kind: ``table`` or ``figure``.
        number: As the paper numbers it; a word for what it does not number.
        title: What it shows.
        tables: Tables to show; none for a figure that is drawn.
        plots: Plots to draw.
        notes: What is missing and why, and how to get it.
    """

    kind: str
    number: str
    title: str
    tables: Sequence[Table] = ()
    plots: Sequence[Drawing] = ()
    notes: Sequence[str] = ()

    @property
    def name(self) -> str:
        """Name of its files.

        >>> PaperItem("table", "3", "Results").name
        'table-3'
        """
        return f"{self.kind}-{self.number}".lower().replace(" ", "-")

    @property
    def short(self) -> str:
        """Its number, or the word that stands for it.

        >>> PaperItem("table", "3", "Results").short, PaperItem("table", "costs", "Seconds").short
        ('Table 3', 'Costs')
        """
        return f"{self.kind.capitalize()} {self.number}" if self.number[:1].isdigit() else self.number.capitalize()

    @property
    def heading(self) -> str:
        """Its number and title; the title alone of what the paper does not number."""
        return f"{self.short}: {self.title}" if self.number[:1].isdigit() else self.title


@dataclass(frozen=True)
class PaperLine:
    """A row of a paper's table, or of one's own.

    Attributes:
        name: First column.
        group: Rows of one group stand together, and have a best value.
        key: Backbone and adaptation: own rows stand beneath the paper's row of the same key.
        values: By column.
    """

    name: str
    group: str
    key: tuple[str, str]
    values: Mapping[ColumnKey, Value] = field(default_factory=dict)


def beside(
    title: str,
    columns: Sequence[tuple[ColumnKey, Column]],
    theirs: Sequence[PaperLine],
    ours: Sequence[PaperLine] = (),
    *,
    first: str = "model",
    notes: Sequence[str] = (),
    warnings: Sequence[str] = (),
    sections: bool = False,
) -> Table:
    """The paper's table, with own rows beneath the rows of the same backbone and adaptation.

    Args:
        title: One line.
        columns: Of the paper, in its order, and further ones that own rows have.
        theirs: The paper's rows, in its order.
        ours: Own rows; those without a partner stand at the end of their group.
        first: Heading of the first column.
        notes: What a reader must know.
        warnings: Reasons to doubt own numbers; shown where there are some.
        sections: Whether a line names each group.
    """
    rest = list(ours)
    placed: list[tuple[str, PaperLine]] = []
    groups = list(dict.fromkeys(line.group for line in [*theirs, *ours]))
    for group in groups:
        of_group = [line for line in theirs if line.group == group]
        if sections:
            placed.append(("", PaperLine(group, group, ("", ""))))
        for line in of_group:
            placed.append((THEIRS, line))
            partners = [one for one in rest if one.key == line.key and one.group == group]
            placed += [(OURS, one) for one in partners]
            rest = [one for one in rest if one not in partners]
        placed += [(OURS, one) for one in rest if one.group == group]
        rest = [one for one in rest if one.group != group]
    own = bool(ours)
    head = [*([Column("from")] if own else []), Column(first, first)]
    rows: list[list[Value]] = [
        [*([source] if own else []), line.name, *(line.values.get(key) for key, _ in columns)]
        for source, line in placed
    ]
    keys = [f"{source}/{line.group}" for source, line in placed]
    return Table(
        title,
        [*head, *(column for _, column in columns)],
        rows,
        notes,
        tuple(dict.fromkeys(warnings)) if own else (),
        groups=keys,
    )


def metric_column(
    title: str, key: ColumnKey, digits: int, best: bool = True, sd: str = "sd"
) -> tuple[ColumnKey, Column]:
    """A column of means ± sd."""
    name = "_".join(part for part in key if part).replace(" ", "-")
    return key, Column(title, name, "right", digits, "max" if best else None, spread=True, sd=sd)


def published(row: PublishedRow, scale: float = 1.0) -> Spread:
    """A published number with its spread, where one is given."""
    return Spread(scale * row.value, math.nan if row.sd is None else scale * row.sd)


def lines_of(rows: Iterable[PublishedRow], suffixes: Mapping[str, str]) -> list[PaperLine]:
    """Published rows as lines: one a model and adaptation, its values by data set and metric.

    Args:
        rows: Means.
        suffixes: Adaptation to what the paper adds to the model's name.
    """
    found: dict[tuple[str, str], tuple[PublishedRow, dict[ColumnKey, Value]]] = {}
    for row in rows:
        key = (row.model, row.adaptation or "")
        found.setdefault(key, (row, {}))[1][row.dataset, row.metric] = published(row)
    return [
        PaperLine(f"{model}{suffixes.get(adaptation, '')}", GROUP_WORDS.get(adaptation, adaptation),
             (row.backbone or "", adaptation), values)
        for (model, adaptation), (row, values) in found.items()
    ]  # fmt: skip


def own_lines(lines: Iterable[SummaryRow], metrics: Sequence[str]) -> list[PaperLine]:
    """Own results as lines: one a row of the study and training set, its values by data set and metric."""
    found: dict[tuple[str, str], tuple[SummaryRow, dict[ColumnKey, Value]]] = {}
    lines = list(lines)
    several = len({line.subject[e.TRAIN_DATA] for line in lines}) > 1
    for line in lines:
        model = str(line.subject[e.MODEL])
        name = f"{model}, trained on {line.subject[e.TRAIN_DATA]}" if several else model
        values = found.setdefault((name, str(line.subject[e.PROTOCOL])), (line, {}))[1]
        for metric in metrics:
            if (cell := line.cells.get(metric)) is not None:
                values[str(line.subject[r.DATASET]), metric] = Spread(cell.mean, cell.sd)
    return [
        PaperLine(name, GROUP_WORDS.get(key_of(line)[1], key_of(line)[1]), key_of(line), values)
        for (name, _), (line, values) in found.items()
    ]


def other_sets(ours: Sequence[PaperLine], known: Iterable[str]) -> list[str]:
    """Data sets that own rows have values on, beside the paper's."""
    return [name for name in dict.fromkeys(key[0] for line in ours for key in line.values) if name not in set(known)]


def printed(text: PrintedTable) -> Table:
    """A table as the paper prints it."""
    numbers = [all(c[:1].isdigit() or c in "–" for c in column) for column in zip(*text.rows, strict=True)]
    columns = [
        Column(name, align="right" if number and i else "left")
        for i, (name, number) in enumerate(zip(text.columns, numbers, strict=True))
    ]
    return Table(text.title, columns, [list(row) for row in text.rows], ["as printed", *text.notes])


def cost_item(own: Sequence[OwnStudy]) -> PaperItem:
    """Trained parameters, seconds and memory of the user's own runs: no paper prints them."""
    columns = [
        Column("row"), Column("adaptation"), Column("backbone"), Column("runs", align="right"),
        Column("parameters trained", "parameters_trained", "right"), Column("seconds a run", "seconds", "right", 1),
        Column("peak memory, MB", "peak_memory_mb", "right", 0), Column("memory of", "memory_of"),
    ]  # fmt: skip
    rows: list[list[Value]] = [
        [cost.row, GROUP_WORDS.get(cost.adaptation, cost.adaptation), cost.backbone, cost.runs, cost.parameters,
         cost.seconds, None if cost.memory is None else cost.memory / 1e6, cost.memory_of]
        for study in own for cost in study.costs
    ]  # fmt: skip
    notes = [
        "seconds: mean wall time of a run, its tests included; peak memory: the largest of a row's runs",
        "memory of `process`: of the whole process, which may have done other runs before; of `cuda`: of the GPU",
    ]
    missing = [] if own else ["no paper prints seconds or memory; give `--study DIR` for those of your own runs"]
    warnings = tuple(dict.fromkeys(text for study in own for text in study.warnings))
    tables = [Table("costs of one's own runs", columns, rows, notes, warnings)] if rows else []
    return PaperItem("table", "costs", "Parameters trained, seconds, memory", tables, notes=missing)
