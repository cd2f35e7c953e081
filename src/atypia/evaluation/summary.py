"""Result rows aggregated over runs: mean ± standard deviation, and the worst domain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atypia.base import records as r
from atypia.base.errors import InputError, must
from atypia.evaluation import rows as e
from atypia.statistics.metrics import METRICS

MEAN: Final = "mean"
SD: Final = "sd"
DDOF: Final = "ddof"
MINIMUM: Final = "minimum"
MAXIMUM: Final = "maximum"
N_RUNS: Final = "n_runs"
N_UNDEFINED: Final = "n_undefined"
N_MINIMUM: Final = "n_minimum"
N_MAXIMUM: Final = "n_maximum"
POSITIVE_MINIMUM: Final = "n_positive_minimum"
POSITIVE_MAXIMUM: Final = "n_positive_maximum"

SUBJECT: Final = (
    e.MODEL,
    e.BACKBONE,
    e.ADAPTATION,
    e.RECIPE,
    e.PROTOCOL,
    e.TRAIN_DATA,
    r.DATASET,
    r.PART,
    r.DOMAIN,
)
"""The columns that identify the classifier of a summary row, and what it was tested on."""

SUMMARY_SCHEMA = pa.schema(
    [
        *(e.RESULTS_SCHEMA.field(name) for name in SUBJECT),
        pa.field(e.METRIC, pa.string(), nullable=False),
        pa.field(MEAN, pa.float64(), nullable=False),
        pa.field(SD, pa.float64(), nullable=False),
        pa.field(DDOF, pa.int8(), nullable=False),
        pa.field(MINIMUM, pa.float64(), nullable=False),
        pa.field(MAXIMUM, pa.float64(), nullable=False),
        pa.field(N_RUNS, pa.int64(), nullable=False),
        pa.field(N_UNDEFINED, pa.int64(), nullable=False),
        pa.field(N_MINIMUM, pa.int64(), nullable=False),
        pa.field(N_MAXIMUM, pa.int64(), nullable=False),
        pa.field(POSITIVE_MINIMUM, pa.int64(), nullable=False),
        pa.field(POSITIVE_MAXIMUM, pa.int64(), nullable=False),
        pa.field(r.THRESHOLD, pa.float64()),
    ]
)
"""One row per subject and metric. ``mean``, ``sd``, ``minimum`` and ``maximum`` are over runs (folds,
seeds) and all NaN if the metric is undefined in any of them: a mean over the others would describe
other models and look complete; ``n_undefined`` is the number of such runs. ``sd`` has
divisor ``n_runs − ddof`` and is NaN for a single run. The counts of
figures and positives are the smallest and the largest over runs. ``threshold`` is null if it
differs between runs."""


def summarise(rows: pa.Table, ddof: int = 0) -> pa.Table:
    """Aggregates result rows over runs.

    Args:
        rows: With :data:`atypia.evaluation.rows.RESULTS_SCHEMA`.
        ddof: 0 for the population standard deviation, which published benchmarks of this task
            report, 1 for the sample standard deviation.

    Returns:
        A table with :data:`SUMMARY_SCHEMA`, in order of first appearance.

    Raises:
        InputError: ``ddof`` is neither 0 nor 1, or a run has one result twice.
    """
    if ddof not in (0, 1):
        raise InputError(must("ddof", "0 or 1", ddof, "0 is the population sd, 1 the sample sd"))
    keys = [*SUBJECT, e.METRIC]
    once = rows.group_by([*keys, r.RUN_ID, r.FOLD], use_threads=False).aggregate([])
    if once.num_rows != rows.num_rows:
        repeats = rows.num_rows - once.num_rows
        raise InputError(
            must("rows", "one per run, fold and metric", f"{repeats} repeated", "read each results file once")
        )
    grouped = rows.group_by(keys, use_threads=False).aggregate(
        [
            (e.VALUE, "list"),
            (e.N, "min"),
            (e.N, "max"),
            (e.N_POSITIVE, "min"),
            (e.N_POSITIVE, "max"),
            (r.THRESHOLD, "min"),
            (r.THRESHOLD, "max"),
        ]
    )
    spreads = [_spread(values, ddof) for values in grouped[f"{e.VALUE}_list"].to_pylist()]
    low, high = grouped[f"{r.THRESHOLD}_min"].to_pylist(), grouped[f"{r.THRESHOLD}_max"].to_pylist()
    columns: dict[str, Any] = {name: grouped[name] for name in keys}
    columns |= {name: [spread[name] for spread in spreads] for name in spreads[0]} if spreads else {}
    columns |= {
        N_MINIMUM: grouped[f"{e.N}_min"],
        N_MAXIMUM: grouped[f"{e.N}_max"],
        POSITIVE_MINIMUM: grouped[f"{e.N_POSITIVE}_min"],
        POSITIVE_MAXIMUM: grouped[f"{e.N_POSITIVE}_max"],
        r.THRESHOLD: [a if a == b else None for a, b in zip(low, high, strict=True)],
    }
    return pa.table(columns, schema=SUMMARY_SCHEMA) if spreads else SUMMARY_SCHEMA.empty_table()


@dataclass(frozen=True)
class AggregatedMetric:
    """One aggregated metric.

    Attributes:
        mean: Mean over runs; NaN if undefined in any run.
        sd: Standard deviation over runs; NaN for a single run.
        n_runs: Number of runs.
        n_undefined: Number of runs in which it is undefined.
    """

    mean: float
    sd: float
    n_runs: int
    n_undefined: int


@dataclass(frozen=True)
class SummaryRow:
    """All metrics of one subject.

    Attributes:
        subject: Value of each column of :data:`SUBJECT`; None if unknown, or, for the domain,
        for all figures together.
        cells: Metric name to aggregate.
        ddof: Used for the standard deviations.
        n: Smallest and largest number of labelled figures in a run.
        n_positive: Smallest and largest number of positives in a run.
        threshold: Decision threshold; None where runs differ.
    """

    subject: dict[str, str | None]
    cells: dict[str, AggregatedMetric]
    ddof: int
    n: tuple[int, int]
    n_positive: tuple[int, int]
    threshold: float | None


def pivot(summary: pa.Table) -> list[SummaryRow]:
    """Turns a summary's rows into one object per subject, in order of first appearance."""
    found: dict[tuple[Any, ...], SummaryRow] = {}
    for row in summary.to_pylist():
        key = tuple(row[name] for name in SUBJECT)
        if key not in found:
            found[key] = SummaryRow(
                subject={name: row[name] for name in SUBJECT},
                cells={},
                ddof=row[DDOF],
                n=(row[N_MINIMUM], row[N_MAXIMUM]),
                n_positive=(row[POSITIVE_MINIMUM], row[POSITIVE_MAXIMUM]),
                threshold=row[r.THRESHOLD],
            )
        found[key].cells[row[e.METRIC]] = AggregatedMetric(row[MEAN], row[SD], row[N_RUNS], row[N_UNDEFINED])
    return list(found.values())


def overall(summary: pa.Table) -> pa.Table:
    """The rows of a summary about all figures together."""
    return summary.filter(summary[r.DOMAIN].is_null())


def by_domain(summary: pa.Table) -> pa.Table:
    """The rows of a summary about single domains."""
    return summary.filter(summary[r.DOMAIN].is_valid())


def worst_domains(summary: pa.Table, metric: str = "balanced_accuracy") -> pa.Table:
    """The domain with each classifier's worst result, for each data set and part.

    Args:
        summary: With :data:`SUMMARY_SCHEMA`.
        metric: The metric to rank by; the worst value is the lowest, or the highest if lower is better.

    Returns:
        The summary's rows of the worst domains, in order of first appearance; ties go to the
        first. Domains where the metric is undefined are skipped; if it is undefined in all domains,
        there is no row.
    """
    sign = 1.0 if METRICS[metric].higher_is_better else -1.0
    of_metric = by_domain(summary).filter(pc.equal(by_domain(summary)[e.METRIC], metric))  # pyright: ignore[reportAttributeAccessIssue]
    others = [name for name in SUBJECT if name != r.DOMAIN]
    worst: dict[tuple[Any, ...], tuple[float, int]] = {}
    for position, row in enumerate(of_metric.to_pylist()):
        badness = sign * row[MEAN]
        key = tuple(row[name] for name in others)
        if not np.isnan(badness) and (key not in worst or badness < worst[key][0]):
            worst[key] = (badness, position)
    return of_metric.take(pa.array([position for _, position in worst.values()], pa.int64()))


def _spread(values: Sequence[float], ddof: int) -> dict[str, Any]:
    array = np.asarray(values, dtype=np.float64)
    undefined = int(np.isnan(array).sum())
    whole = array if not undefined else np.full(len(array), np.nan)
    return {
        MEAN: float(whole.mean()),
        SD: float(whole.std(ddof=ddof)) if len(whole) > 1 else float("nan"),
        DDOF: ddof,
        MINIMUM: float(whole.min()),
        MAXIMUM: float(whole.max()),
        N_RUNS: len(array),
        N_UNDEFINED: undefined,
    }
