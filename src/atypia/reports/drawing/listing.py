"""Plain listings on standard output: columns, and the summary of a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from atypia.base.errors import count_noun
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
    total = {"domain": "all", **{key: summary[key] for key in ("positive", "negative", "unlabelled")}}
    unlabelled = summary["unlabelled"] > 0
    rows: list[list[Value]] = []
    for one in [*summary["domains"], total]:
        labelled = one["positive"] + one["negative"]
        share = 100 * one["positive"] / labelled if labelled else float("nan")
        without = [one["unlabelled"]] if unlabelled else []
        rows.append([one["domain"], labelled + one["unlabelled"], *without, one["positive"], one["negative"], share])
    columns = [
        Column("domain"),
        Column("figures", align="right"),
        *([Column("no label", align="right")] if unlabelled else []),
        Column(positive, align="right"),
        Column(negative, align="right"),
        Column(f"% {positive}", align="right", digits=1),
    ]
    return Table(f"{summary['name']}: {count_noun(summary['figures'], 'figure')}", columns, rows, _facts(summary))


def _facts(summary: Mapping[str, Any]) -> list[str]:
    facts = []
    if summary["cases"]:
        facts.append(f"{count_noun(summary['cases'], 'case')}, {count_noun(summary['slides'], 'slide')}")
    if summary["parts"]:
        facts.append("published parts: " + ", ".join(f"{part} {n:,}" for part, n in summary["parts"].items()))
    if summary["agreement"] is not None:
        facts.append(f"up to {count_noun(summary['raters'], 'rater')}, unanimous on {100 * summary['agreement']:.1f} %")
    if summary["unlabelled"]:
        facts.append(f"{count_noun(summary['unlabelled'], 'figure')} without a label")
    if not summary["images"]:
        facts.append("only the table is available, not the images")
    return [*facts, *summary["notes"]]
