"""The table of a training's results: one line a data set and part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from atypia import records as r
from atypia import runs
from atypia.evaluation import rows as e
from atypia.evaluation.summary import SummaryRow, by_domain, overall, pivot, summarise
from atypia.metrics import METRICS
from atypia.reports.tables import Column, Spread, Table, Value

PART_NAMES: Final = {runs.VALIDATION: "validation", runs.TEST: "test", runs.EXTERNAL: "external", None: ""}
MAIN: Final = ("balanced_accuracy", "auroc", "sensitivity", "specificity", "average_precision", "f1", "brier", "ece")
"""The metrics of the printed table; all others are in ``results.parquet``."""


def results_table(
    rows: pa.Table, warnings: Sequence[str] = (), metrics: Sequence[str] = MAIN, ddof: int = 0, domains: bool = False
) -> Table:
    """Mean ± sd over folds of the main metrics.

    Args:
        rows: Result rows of one classifier.
        warnings: What makes the numbers doubtful.
        metrics: Names in :data:`atypia.metrics.METRICS`.
        ddof: Of the standard deviation.
        domains: One line a domain, instead of one for all figures.

    Returns:
        The table; its notes state the averaging, the threshold and the classifier.
    """
    summary = summarise(rows, ddof)
    lines = pivot(by_domain(summary) if domains else overall(summary))
    place = [Column("data"), *([Column("domain")] if domains else []), Column("part")]
    counts = [Column("n", align="right"), Column("positive", align="right")]
    shown = [METRICS[name] for name in metrics]
    columns = [
        *place,
        *counts,
        *(Column(m.short, key=m.name, align="right", spread=True, sd=f"sd (ddof {ddof})") for m in shown),
    ]
    body = [_line(line, metrics, domains) for line in lines]
    return Table(_title(lines), columns, body, _notes(lines, ddof), tuple(warnings))


def _line(line: SummaryRow, metrics: Sequence[str], domains: bool) -> list[Value]:
    subject = line.subject
    place: list[Value] = [subject[r.DATASET]]
    if domains:
        place.append(subject[r.DOMAIN])
    place.append(PART_NAMES.get(subject[r.PART], subject[r.PART]))
    cells: list[Value] = [
        Spread(line.cells[name].mean, line.cells[name].sd) if name in line.cells else None for name in metrics
    ]
    return [*place, _range(line.n), _range(line.n_positive), *cells]


def _range(counts: tuple[int, int]) -> str:
    """A count, or the smallest and the largest where runs differ."""
    low, high = counts
    return str(low) if low == high else f"{low}–{high}"


def _title(lines: Sequence[SummaryRow]) -> str:
    names = list(dict.fromkeys(str(line.subject[e.MODEL]) for line in lines))
    return ", ".join(names)


def _notes(lines: Sequence[SummaryRow], ddof: int) -> tuple[str, ...]:
    runs_seen = sorted({cell.n_runs for line in lines for cell in line.cells.values()})
    thresholds = sorted({f"{line.threshold:g}" for line in lines if line.threshold is not None})
    kind = "population" if ddof == 0 else "sample"
    count = ", ".join(str(n) for n in runs_seen)
    first = lines[0].subject
    notes = [f"mean ± {kind} sd (ddof {ddof}) over {count} folds; threshold {', '.join(thresholds) or 'of each fold'}"]
    if first[e.TRAIN_DATA]:
        notes.append(f"trained on {first[e.TRAIN_DATA]}, protocol {first[e.PROTOCOL]}")
    return tuple(notes)
