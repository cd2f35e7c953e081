"""A user's own study as the papers' tables need it: result lines, findings, costs, differences from the paper."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import pyarrow as pa

from atypia.base import records as r
from atypia.base import runs
from atypia.evaluation import rows as e
from atypia.evaluation.summary import SummaryRow, by_domain, overall, pivot, summarise
from atypia.reports.drawing.values import Spread
from atypia.studies.findings.schema import Findings
from atypia.studies.table import StudyResults

OURS: Final = "this study"
THEIRS: Final = "paper"
ALL_DATA: Final = "100 % of the data"


@dataclass(frozen=True)
class RunCost:
    """What the runs of a row cost.

    Attributes:
        row: Label of the study's row.
        adaptation: How the backbone was adapted.
        backbone: Entry of the backbone catalogue.
        runs: Number of complete runs.
        parameters: Trained parameters; None if no run says.
        seconds: Mean duration of a run, training and tests.
        memory: Largest peak memory, in bytes; None if no run says.
        memory_of: ``process`` or ``cuda``.
    """

    row: str
    adaptation: str
    backbone: str
    runs: int
    parameters: int | None
    seconds: float
    memory: int | None
    memory_of: str


@dataclass(frozen=True)
class PaperDeparture:
    """Where something differs from the paper.

    Attributes:
        part: Part of the paper's system, or what of the study.
        text: What differs.
        source: Recipe or study whose file says so, or the study that was compared with the shipped one.
    """

    part: str
    text: str
    source: str


@dataclass(frozen=True, eq=False)
class OwnStudy:
    """A study whose results stand beside the paper's.

    Attributes:
        name: Its name.
        size: Its size.
        results: Its tables.
        findings: Its findings, every row drawn.
        costs: One a row.
        warnings: Reasons to doubt its numbers.
    """

    name: str
    size: str
    results: StudyResults
    findings: Findings
    costs: Sequence[RunCost]
    warnings: Sequence[str]

    @property
    def title(self) -> str:
        """What notes call it."""
        return f"{self.name}, size {self.size}"

    @cached_property
    def lines(self) -> list[SummaryRow]:
        """Means ± population sd over the runs, all figures of a part together; validation parts only without others."""
        return _tested(pivot(overall(summarise(self.results.rows))))

    @cached_property
    def domains(self) -> list[SummaryRow]:
        """The same by domain."""
        return _tested(pivot(by_domain(summarise(self.results.rows))))

    @cached_property
    def shift(self) -> list[SummaryRow]:
        """In-domain and out-of-domain means, in ``part``; none where no single domains are trained on."""
        return pivot(summarise(self.results.shift))

    @cached_property
    def factors(self) -> Mapping[str, Mapping[str, str]]:
        """Levels of each row, by its name in result rows."""
        return {line[e.MODEL]: dict(line["factors"] or ()) for line in self.results.runs.to_pylist()}

    def folds(self, metric: str) -> list[tuple[dict[str, Any], list[float]]]:
        """Values by fold of each row and part, in the order of the folds, the mean over seeds; with the row's subject."""
        wanted = self.results.rows.filter(
            pa.array([m == metric and d is None for m, d in _pairs(self.results.rows, e.METRIC, r.DOMAIN)])
        )
        found: dict[tuple[Any, ...], dict[str, list[float]]] = {}
        names = (e.MODEL, e.BACKBONE, e.ADAPTATION, e.TRAIN_DATA, r.DATASET, r.PART)
        for row in wanted.to_pylist():
            of_row = found.setdefault(tuple(row[name] for name in names), {})
            of_row.setdefault(row[r.FOLD], []).append(row[e.VALUE])
        tested = {key[-1] for key in found} != {runs.VALIDATION}
        return [
            (
                dict(zip(names, key, strict=True)),
                [sum(folds[f]) / len(folds[f]) for f in sorted(folds, key=runs.natural_key)],
            )
            for key, folds in found.items()
            if not tested or key[-1] != runs.VALIDATION
        ]


def spread(line: SummaryRow, metric: str) -> Spread | None:
    """A metric of a line; None where it has none."""
    cell = line.cells.get(metric)
    return None if cell is None else Spread(cell.mean, cell.sd)


def key_of(line: SummaryRow) -> tuple[str, str]:
    """Backbone and adaptation: by what a line is placed beside a paper's."""
    return str(line.subject[e.BACKBONE] or ""), str(line.subject[e.ADAPTATION] or "")


def _tested(lines: Iterable[SummaryRow]) -> list[SummaryRow]:
    found = list(lines)
    tests = [line for line in found if line.subject[r.PART] != runs.VALIDATION]
    return tests or found


def _pairs(table: pa.Table, *names: str) -> Iterable[tuple[Any, ...]]:
    return zip(*(table[name].to_pylist() for name in names), strict=True)
