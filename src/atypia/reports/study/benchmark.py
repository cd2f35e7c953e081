"""Benchmark tables: summaries of result rows as tables for people and scripts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import pyarrow as pa

from atypia.base import records as r
from atypia.base import runs
from atypia.base.errors import InputError, must
from atypia.evaluation import rows as e
from atypia.evaluation.summary import AggregatedMetric, SummaryRow, by_domain, overall, pivot, worst_domains
from atypia.reports.drawing.names import short_domains
from atypia.reports.drawing.tables import Column, Table
from atypia.reports.drawing.values import Spread, Value, format_value
from atypia.statistics.metrics import METRICS

HEADLINE: Final = ("balanced_accuracy", "sensitivity", "specificity", "auroc")
"""Metrics of a table that fits on one screen."""
REPORTED: Final = (
    *HEADLINE,
    "average_precision",
    "f1",
    "weighted_f1",
    "accuracy",
    "brier",
    "ece",
)
"""Metrics of a full table."""

DESCRIBED: Final = {
    e.BACKBONE: "backbone",
    e.ADAPTATION: "adaptation",
    e.RECIPE: "recipe",
    e.PROTOCOL: "protocol",
    e.TRAIN_DATA: "trained on",
}
"""Columns if the rows differ in them, else notes. A backbone is neither if every model has its own,
because the model's name implies it."""

PART_WORDS: Final = {runs.VALIDATION: "validation"}


def benchmark_table(
    summary: pa.Table,
    metrics: Sequence[str] = REPORTED,
    title: str | None = None,
    warnings: Sequence[str] = (),
    domains: bool = False,
) -> Table:
    """Makes a table from a summary: one row per classifier and part of a data set.

    Args:
        summary: With :data:`atypia.evaluation.summary.SUMMARY_SCHEMA`.
        metrics: Names in :data:`atypia.statistics.metrics.METRICS`, in the order of the columns.
        title: Title of the table; None: the model's name, if there is only one.
        warnings: Reasons to doubt the numbers, for instance leakage that the user allowed.
        domains: Whether rows are single domains instead of all figures together.

    Returns:
        A table whose notes state the standard deviation's ddof, the number of runs, the
        threshold, and all values shared by all rows.

    Raises:
        InputError: A metric is unknown, or the summary mixes values of ddof.
    """
    chosen = [METRICS[name] for name in metrics]
    rows = _in_order(pivot(by_domain(summary))) if domains else pivot(overall(summary))
    ddofs = {row.ddof for row in rows}
    if len(ddofs) > 1:
        raise InputError(must("ddof", "one value in a table", sorted(ddofs), "summarise all rows alike"))
    ddof = next(iter(ddofs), 0)
    described = _telling(rows)
    models = sorted({str(row.subject[e.MODEL]) for row in rows})
    counts = sorted({_runs(row) for row in rows})
    short = short_domains(sorted({name for row in rows if (name := row.subject[r.DOMAIN])}))
    columns = [
        *([Column("model", e.MODEL, shown=_beside_title(title, models))] if len(models) != 1 else []),
        *(Column(DESCRIBED[name], name) for name in described),
        Column("data set", r.DATASET),
        Column("part", r.PART),
        *([Column("domain", r.DOMAIN, shown=short)] if domains else []),
        *([Column("runs", "n_runs", "right")] if len(counts) > 1 else []),
        Column("figures", e.N, "right"),
        Column("positive", e.N_POSITIVE, "right"),
        *(
            Column(
                metric.short,
                metric.name,
                "right",
                best="max" if metric.higher_is_better else "min",
                spread=True,
                sd=f"sd_ddof{ddof}",
            )
            for metric in chosen
        ),
    ]
    laid_out = [
        [
            *([row.subject[e.MODEL]] if len(models) != 1 else []),
            *(row.subject[name] for name in described),
            row.subject[r.DATASET],
            _part(row.subject[r.PART]),
            *([row.subject[r.DOMAIN]] if domains else []),
            *([_runs(row)] if len(counts) > 1 else []),
            _range(row.n),
            _range(row.n_positive),
            *(_spread(row.cells.get(metric.name)) for metric in chosen),
        ]
        for row in rows
    ]
    notes = (
        _notes(rows, counts, ddof, metrics)
        if rows
        else ["no domain is known" if domains and len(summary) else "no results"]
    )
    if domains and metrics:
        notes += [*_shared_note(short), *_worst_notes(summary, metrics[0], short)]
    within = ["data set", "part", *(["domain"] if domains else [])]
    title = title if title is not None else (models[0] if len(models) == 1 else "Results")
    return Table(title, columns, laid_out, notes, tuple(dict.fromkeys(warnings)), within)


def _beside_title(title: str | None, models: Sequence[str]) -> dict[str, str]:
    """Names of models without that of the table, where one of them is its subject and the others are made of it.

    >>> _beside_title("probe", ["probe", "probe, ensemble of 2"])
    {'probe': 'mean of runs', 'probe, ensemble of 2': 'ensemble of 2'}
    """
    if title not in models or not all(name == title or name.startswith(f"{title}, ") for name in models):
        return {}
    return {name: "mean of runs" if name == title else name.removeprefix(f"{title}, ") for name in models}


def _in_order(rows: list[SummaryRow]) -> list[SummaryRow]:
    """The rows of single domains by data set and part, as these come first, then by domain; models of a domain together."""
    places = list(dict.fromkeys((row.subject[r.DATASET], row.subject[r.PART]) for row in rows))
    place = {key: number for number, key in enumerate(places)}
    return sorted(
        rows, key=lambda row: (place[row.subject[r.DATASET], row.subject[r.PART]], row.subject[r.DOMAIN] or "")
    )


def _telling(rows: Sequence[SummaryRow]) -> list[str]:
    varied = [name for name in DESCRIBED if len({row.subject[name] for row in rows}) > 1]
    models = {row.subject[e.MODEL] for row in rows}
    if len({(row.subject[e.MODEL], row.subject[e.BACKBONE]) for row in rows}) == len(models):
        varied = [name for name in varied if name != e.BACKBONE]
    return varied


def _part(part: str | None) -> str | None:
    return PART_WORDS.get(part, part) if part else None


def _runs(row: SummaryRow) -> int:
    return max((cell.n_runs for cell in row.cells.values()), default=0)


def _range(ends: tuple[int, int]) -> Value:
    low, high = ends
    return low if low == high else f"{low:,}–{high:,}"


def _spread(cell: AggregatedMetric | None) -> Value:
    return None if cell is None else Spread(cell.mean, cell.sd)


def _notes(rows: Sequence[SummaryRow], counts: Sequence[int], ddof: int, metrics: Sequence[str]) -> list[str]:
    facts: list[str] = []
    if counts[-1] > 1:
        kind = "sample" if ddof else "population"
        over = f"{counts[0]} runs" if len(counts) == 1 else "runs"
        facts.append(f"mean ± {kind} sd (ddof {ddof}) over {over}")
    thresholds = {row.threshold for row in rows}
    only = next(iter(thresholds))
    facts.append(f"threshold {only:g}" if len(thresholds) == 1 and only is not None else "each run's own threshold")
    for name, word in DESCRIBED.items():
        values = {row.subject[name] for row in rows}
        if len(values) == 1 and (value := values.pop()) is not None:
            facts.append(f"{word} {value}")
    notes = ["; ".join(facts)]
    if any(math.isnan(row.cells[name].mean) for row in rows for name in metrics if name in row.cells):
        notes.append("n/a: undefined in at least one run, because a class is absent or never decided")
    return notes


def _shared_note(short: Mapping[str, str]) -> list[str]:
    """What the shown names of domains leave out, where they do."""
    first, shown = next(iter(short.items()), ("", ""))
    shared = [part for part in first.split(" | ") if part not in shown.split(" | ")]
    return [f"domains are shown without what all share: {' | '.join(shared)}"] if shared else []


def _worst_notes(summary: pa.Table, metric: str, short: Mapping[str, str]) -> list[str]:
    of_metric = METRICS[metric]
    return [
        f"worst {of_metric.short} of {row.subject[e.MODEL]} on {row.subject[r.DATASET]}"
        f"{f' ({_part(row.subject[r.PART])})' if row.subject[r.PART] else ''}: "
        f"{format_value(row.cells[metric].mean)} on {short.get(str(row.subject[r.DOMAIN]), row.subject[r.DOMAIN])}"
        for row in pivot(worst_domains(summary, metric))
    ]
