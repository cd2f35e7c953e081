"""Plain listings on standard output: columns, and the summary of a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from atypia.reports.drawing.tables import Column, Table
from atypia.reports.drawing.values import Value


def columns_table(titles: Sequence[str], rows: Sequence[Sequence[Value]]) -> Table:
    """A table whose columns of numbers are aligned to the right."""
    columns = []
    for i, title in enumerate(titles):
        numeric = any(isinstance(row[i], int | float) for row in rows)
        columns.append(Column(title, align="right" if numeric else "left"))
    return Table("", columns, rows)


def summary_table(summary: Mapping[str, Any]) -> Table:
    """Counts of a data set by domain (see :func:`atypia.data.audit.summary.summarise`)."""
    negative, positive = summary["classes"]
    rows: list[list[Value]] = []
    for domain in summary["domains"]:
        figures = domain["positive"] + domain["negative"]
        share = domain["positive"] / figures if figures else float("nan")
        rows.append([domain["domain"], figures, domain["positive"], domain["negative"], 100 * share])
    total = summary["positive"] + summary["negative"]
    share = summary["positive"] / total if total else float("nan")
    rows.append(["all", total, summary["positive"], summary["negative"], 100 * share])
    columns = [
        Column("domain"),
        Column("figures", align="right"),
        Column(positive, align="right"),
        Column(negative, align="right"),
        Column(f"% {positive}", align="right", digits=1),
    ]
    return Table(f"{summary['name']}: {summary['figures']} figures", columns, rows, _facts(summary))


def _facts(summary: Mapping[str, Any]) -> list[str]:
    facts = []
    if summary["cases"]:
        facts.append(f"{summary['cases']} cases, {summary['slides']} slides")
    if summary["parts"]:
        facts.append("published parts: " + ", ".join(f"{part} {n}" for part, n in summary["parts"].items()))
    if summary["agreement"] is not None:
        facts.append(f"up to {summary['raters']} raters, unanimous on {100 * summary['agreement']:.1f} %")
    if summary["unlabelled"]:
        facts.append(f"{summary['unlabelled']} figures without a label")
    if not summary["images"]:
        facts.append("only the table is available, not the images")
    return [*facts, *summary["notes"]]
