"""The table of domains left out one at a time: each domain, their mean, and the worst."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from atypia.reports.drawing.tables import Column, Table
from atypia.reports.drawing.values import Value
from atypia.reports.study.statistics import interval_text
from atypia.statistics.intervals import Interval
from atypia.statistics.metrics import METRICS
from atypia.studies.findings.schema import Findings

UNSEEN: Final = "left-out"
"""Name of the table and of its files."""
WITH_INTERVAL: Final = ("auroc", "balanced_accuracy")
WITHOUT: Final = ("sensitivity", "specificity")
SHOWN: Final = (*WITH_INTERVAL, *WITHOUT)


def unseen_table(found: Findings, title: str) -> Table:
    """One line per row and left-out domain; then their mean, the lowest value of each metric, and the gain."""
    several = len({one.place for one in found.unseen}) > 1
    columns = [
        *([Column("crops")] if several else []),
        Column("model"), Column("left out", "left_out"), Column("figures", "n", "right"),
        Column("positives", "n_positive", "right"), Column("cases", "n_cases", "right"),
        Column("models", "n_models", "right"), Column("threshold", align="right"),
    ]  # fmt: skip
    for name in WITH_INTERVAL:
        short = METRICS[name].short
        columns += [Column(short, name, "right"), Column(f"{short} 95 %", f"{name}_interval", "right")]
    columns += [Column(METRICS[name].short, name, "right") for name in WITHOUT]
    rows: list[list[Value]] = []
    for one in found.unseen:
        label = found.series[one.series].label
        first = [found.places[one.place].dataset] if several else []
        for domain in one.domains:
            row: list[Value] = [
                *first, label, domain.name, domain.n, domain.n_positive, domain.n_cases, domain.n_models, domain.threshold,
            ]  # fmt: skip
            for name in WITH_INTERVAL:
                row += [domain.values[name].estimate, interval_text(domain.values[name])]
            rows.append([*row, *(domain.values[name].estimate for name in WITHOUT)])
        lowest = {name: worst.values[name] for name in SHOWN if (worst := one.worst(name)) is not None}
        summaries = [("mean", one.mean), ("worst", lowest)]
        if one.reference is not None:
            summaries.append((f"mean, minus that of {found.series[one.reference].label}", one.gain))
        rows += [[*first, *_summary(label, words, values)] for words, values in summaries]
    notes = [
        *(["crops: the left-out figures as they are, or under a fixed change of their crops"] if several else []),
        "each domain is scored by models that never saw it, at their own thresholds; with several "
        "seeds: the mean of the models' values",
        "95 % interval over the cases of a domain; for the mean, over the cases of all domains. It states how results "
        "would vary with other patients of these domains, not with other domains or trainings",
        "mean: all domains weigh the same, without those where the metric is undefined; worst: the lowest value of "
        "each metric separately, with that domain's interval; differences of means are paired by case",
    ]
    return Table("domains left out", columns, rows, notes, found.limits, subject=title)


def _summary(label: str, words: str, values: Mapping[str, Interval]) -> list[Value]:
    """A line for several domains together."""
    row: list[Value] = [label, words, *[None] * 5]
    for name in SHOWN:
        value = values.get(name)
        row.append(None if value is None else value.estimate)
        if name in WITH_INTERVAL:
            row.append("" if value is None else interval_text(value))
    return row
