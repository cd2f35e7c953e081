"""A study's tables: means ± sd of its rows, by domain, compared with a baseline, and between domains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from atypia.base import records as r
from atypia.base.artifacts import atomic_file
from atypia.base.errors import count_noun
from atypia.evaluation import rows as e
from atypia.evaluation.summary import by_domain, summarise
from atypia.reports.drawing.tables import Column, Table, write_table
from atypia.reports.drawing.values import Spread, Value
from atypia.reports.study.benchmark import HEADLINE, REPORTED, benchmark_table
from atypia.statistics.metrics import METRICS

RESULTS, DOMAINS, DELTAS, SHIFT, MATRIX = "results", "domains", "deltas", "shift", "matrix"
"""Names of the tables and of their files."""

MATRIX_METRICS: Final = ("balanced_accuracy", "auroc", "weighted_f1")
FOLDER: Final = "report"
LONG: Final = 200
"""Tables with more rows than this are only in their own files."""
FORMS: Final = (".md", ".csv", ".tex")


def study_tables(
    rows: pa.Table,
    deltas: pa.Table,
    shift: pa.Table,
    matrix: pa.Table,
    *,
    title: str,
    warnings: Sequence[str] = (),
    baseline: str | None = None,
) -> dict[str, Table]:
    """Makes a study's tables; those without rows are left out.

    Args:
        rows: Result rows of all runs.
        deltas: Differences from the baseline, as result rows.
        shift: In-domain and out-of-domain results, as result rows.
        matrix: One line per model, metric, fold and test domain (:data:`atypia.studies.shift.MATRIX_SCHEMA`).
        title: Name of the study and its size.
        warnings: Reasons why the numbers are doubtful or incomplete.
        baseline: Label of the reference model.

    Returns:
        Name to table, in display order.
    """
    summary = summarise(rows)
    found = {RESULTS: benchmark_table(summary, REPORTED, "", warnings)}
    if by_domain(summary).num_rows:
        found[DOMAINS] = benchmark_table(summary, HEADLINE, "single domains", warnings, domains=True)
    if deltas.num_rows:
        name = f"difference from {baseline}, run by run"
        found[DELTAS] = benchmark_table(summarise(deltas), REPORTED, name, warnings)
    if shift.num_rows:
        name = "means over pairs of training and test domain"
        found[SHIFT] = benchmark_table(summarise(shift), REPORTED, name, warnings)
    if matrix.num_rows:
        found[MATRIX] = matrix_table(matrix, "trained on one domain, tested on another", warnings)
    return {name: replace(table, subject=title) for name, table in found.items()}


def matrix_table(matrix: pa.Table, title: str, warnings: Sequence[str] = ()) -> Table:
    """One line per model, training domain and test domain: mean ± population sd over the folds."""
    found: dict[tuple[str, ...], dict[str, list[float]]] = {}
    sizes: dict[tuple[str, ...], list[int]] = {}
    for line in matrix.to_pylist():
        if line[e.METRIC] in MATRIX_METRICS:
            key = (line[e.MODEL], str(line[e.TRAIN_DATA]), line["trained_on"], line["tested_on"], line[r.PART])
            found.setdefault(key, {}).setdefault(line[e.METRIC], []).append(line[e.VALUE])
            sizes.setdefault(key, []).append(line[e.N])
    columns = [
        Column("model", e.MODEL), Column("data", e.TRAIN_DATA), Column("trained on", "trained_on"),
        Column("tested on", "tested_on"), Column("part", r.PART), Column("runs", "n_runs", "right"),
        Column("figures", e.N, "right"),
        *(Column(METRICS[name].short, name, "right", spread=True, sd="sd_ddof0") for name in MATRIX_METRICS),
    ]  # fmt: skip
    rows: list[list[Value]] = []
    for key in sorted(found):
        values = found[key]
        count = max(len(v) for v in values.values())
        figures = sorted({min(sizes[key]), max(sizes[key])})
        spreads = [Spread(float(np.mean(v)), float(np.std(v)) if len(v) > 1 else float("nan"))
                   if (v := values.get(name)) else None for name in MATRIX_METRICS]  # fmt: skip
        rows.append([*key, count, figures[0] if len(figures) == 1 else f"{figures[0]}–{figures[1]}", *spreads])
    notes = ["mean ± population sd (ddof 0) over the folds of a training domain"]
    return Table(title, columns, rows, notes, tuple(dict.fromkeys(warnings)))


def write_study(tables: Mapping[str, Table], out: Path, failures: str = "") -> Path:
    """Writes each table as Markdown, CSV and LaTeX, and ``report.md`` with all but the longest.

    Args:
        tables: Tables by file name.
        out: The study's folder; files are written below ``report/``.
        failures: Reasons and tracebacks of failed runs.

    Returns:
        The path of ``report.md``.
    """
    folder = out / FOLDER
    for name, table in tables.items():
        for suffix in FORMS:
            write_table(table, folder / f"{name}{suffix}")
    parts = [
        table.render("markdown")
        if len(table.rows) <= LONG
        else f"**{table.heading}**: {count_noun(len(table.rows), 'row')}, {name}.md\n"
        for name, table in tables.items()
    ]
    if failures:
        indented = "\n".join(f"    {line}" for line in failures.splitlines())
        parts.append(f"**Failed runs**\n\n{indented}\n")
    with atomic_file(folder / "report.md", "w") as file:
        file.write("\n".join(parts))
    return folder / "report.md"
