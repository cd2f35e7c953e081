"""Result rows: the metrics of predictions in long form, overall and by domain.

One row is one metric of one run on one part of one data set. All tables and plots are
aggregated from these rows; the rows are computed from the predictions.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from atypia.base import records as r
from atypia.base.artifacts import atomic_file, fingerprint
from atypia.base.errors import DataError, InputError, must
from atypia.base.files.parquet import read_parquet
from atypia.base.files.table_hash import content_hashes
from atypia.inference.predictions import PREDICTIONS_SCHEMA
from atypia.statistics.metrics import METRICS, UndefinedMetricWarning, compute

# Columns beside those of predictions. `model` is the classifier's name in tables.
MODEL: Final = "model"
BACKBONE: Final = "backbone"
ADAPTATION: Final = "adaptation"
RECIPE: Final = "recipe"
PROTOCOL: Final = "protocol"
TRAIN_DATA: Final = "train_data"
METRIC: Final = "metric"
VALUE: Final = "value"
N: Final = "n"
N_POSITIVE: Final = "n_positive"
PREDICTIONS: Final = "predictions"

RESULTS_SCHEMA = pa.schema(
    [
        pa.field(r.RUN_ID, pa.string()),
        pa.field(MODEL, pa.string(), nullable=False),
        pa.field(BACKBONE, pa.string()),
        pa.field(ADAPTATION, pa.string()),
        pa.field(RECIPE, pa.string()),
        pa.field(PROTOCOL, pa.string()),
        pa.field(TRAIN_DATA, pa.string()),
        pa.field(r.DATASET, pa.string()),
        pa.field(r.PART, pa.string()),
        pa.field(r.DOMAIN, pa.string()),
        pa.field(r.FOLD, pa.string()),
        pa.field(METRIC, pa.string(), nullable=False),
        pa.field(VALUE, pa.float64(), nullable=False),
        pa.field(N, pa.int64(), nullable=False),
        pa.field(N_POSITIVE, pa.int64(), nullable=False),
        pa.field(r.THRESHOLD, pa.float64()),
        pa.field(PREDICTIONS, pa.string(), nullable=False),
    ]
)
"""Columns, in order. ``domain`` is null for all figures together, and :data:`UNKNOWN` for
those whose domain is unknown; ``value`` is NaN where the metric is undefined; ``n`` is the number of
labelled figures and ``n_positive`` the number of positives; ``predictions`` is the fingerprint of
the predictions that the value was computed from."""

UNKNOWN: Final = "unknown"
"""The domain, or data set, of figures for which it is unknown while others have one."""


@dataclass(frozen=True)
class ClassifierLabels:
    """What result rows record about the classifier; unknown is None.

    Attributes:
        model: Its name in tables.
        backbone: Entry of the backbone catalogue.
        adaptation: How the backbone was adapted (probe, LoRA, full).
        recipe: Name of the recipe.
        protocol: How the training data was divided.
        train_data: Data set that it was trained on.
    """

    model: str
    backbone: str | None = None
    adaptation: str | None = None
    recipe: str | None = None
    protocol: str | None = None
    train_data: str | None = None


def check_predictions(table: pa.Table) -> None:
    """Checks the consistency of a predictions table.

    Raises:
        DataError: Other columns; a probability outside [0, 1]; a label that is neither 0, 1 nor
            null; a decision that is not «probability ≥ threshold»; a figure predicted twice by
            the same run, fold and part.
    """
    if not table.schema.remove_metadata().equals(PREDICTIONS_SCHEMA):
        raise DataError("predictions have other columns than in this version; fix: predict again")
    p, threshold = _floats(table, r.P_ATYPICAL), _floats(table, r.THRESHOLD)
    if not bool(np.all((p >= 0) & (p <= 1))):
        raise DataError(must(r.P_ATYPICAL, "between 0 and 1", "values outside, or NaN", "predict again"))
    if not set(table[r.LABEL].unique().to_pylist()) <= {r.NORMAL, r.ATYPICAL, None}:
        raise DataError(must(r.LABEL, "0, 1 or null", "other values", "correct the label column"))
    decided = table[r.DECISION].to_numpy()
    wrong = int(np.count_nonzero(decided != (p >= threshold)))
    if wrong:
        raise DataError(
            must(r.DECISION, f"1 where `{r.P_ATYPICAL}` ≥ threshold", f"{wrong} other rows", "predict again")
        )
    keys = [r.RUN_ID, r.FOLD, r.PART, r.FIGURE_ID]
    repeated = table.num_rows - table.group_by(keys).aggregate([]).num_rows
    if repeated:
        raise DataError(must(r.FIGURE_ID, "unique in a run's fold and part", f"{repeated} repeated", "predict again"))


def result_rows(
    predictions: pa.Table,
    classifier: ClassifierLabels,
    metrics: Iterable[str] | None = None,
    by_domain: bool = True,
    dataset: str | None = None,
) -> pa.Table:
    """Computes the metrics of predictions, overall and by domain.

    Rows are grouped by run, fold and part. A group whose figures come from several data sets is
    scored as a whole, named «a+b», and also for each data set.

    Args:
        predictions: With :data:`atypia.inference.predictions.PREDICTIONS_SCHEMA`. Figures without
            a label are left out.
        classifier: The classifier that made them.
        metrics: Names in :data:`atypia.statistics.metrics.METRICS`; None: all.
        by_domain: Whether to add rows for each domain, where any domain is known.
        dataset: Name for all data sets together, instead of the joined names.

    Returns:
        A table with :data:`RESULTS_SCHEMA`. A single :class:`UndefinedMetricWarning` states how many
        values are NaN.

    Raises:
        DataError: As :func:`check_predictions`.
        InputError: A metric is unknown, or one group has several thresholds.
    """
    check_predictions(predictions)
    names = list(METRICS if metrics is None else metrics)
    about = asdict(classifier)
    rows: list[dict[str, Any]] = []
    for (run_id, fold, part), group in _groups(predictions, [r.RUN_ID, r.FOLD, r.PART]):
        given = {**about, r.RUN_ID: run_id, r.FOLD: fold, r.PART: part, r.THRESHOLD: _threshold(group)}
        for place, picked in _places(group, by_domain, dataset):
            rows += _metric_rows(picked, {**given, **place}, names)
    undefined = sum(np.isnan(row[VALUE]) for row in rows)
    if undefined:
        warnings.warn(
            f"{undefined} of {len(rows)} result values are undefined: a class is absent from that domain or part",
            UndefinedMetricWarning,
            stacklevel=2,
        )
    return pa.Table.from_pylist(rows, schema=RESULTS_SCHEMA)


def predictions_fingerprint(predictions: pa.Table) -> str:
    """Content hash of a predictions table, independent of its memory layout."""
    return fingerprint(content_hashes(predictions))


def concat_rows(tables: Sequence[pa.Table]) -> pa.Table:
    """Result rows of several predictions as one table; without tables, an empty one."""
    return pa.concat_tables(tables) if tables else RESULTS_SCHEMA.empty_table()


def write_rows(path: Path, rows: pa.Table) -> Path:
    """Writes result rows as Parquet, atomically.

    Raises:
        InputError: The table has other columns than :data:`RESULTS_SCHEMA`.
    """
    if not rows.schema.remove_metadata().equals(RESULTS_SCHEMA):
        raise InputError(must("rows", "a table with RESULTS_SCHEMA", ", ".join(rows.column_names), "use result_rows"))
    with atomic_file(path) as file:
        pq.write_table(rows, file, compression="zstd")
    return path


def read_rows(path: Path) -> pa.Table:
    """Reads what :func:`write_rows` wrote.

    Raises:
        DataError: The file is absent, damaged, or holds no result rows of this version.
    """
    table = read_parquet(path, "evaluate again")
    table = table.replace_schema_metadata(None)
    if not table.schema.equals(RESULTS_SCHEMA):
        raise DataError(f"{path} holds no result rows of this version; fix: evaluate again")
    return table


def _floats(table: pa.Table, column: str) -> npt.NDArray[np.float64]:
    return table[column].to_numpy().astype(np.float64)


def _groups(table: pa.Table, keys: list[str]) -> Iterator[tuple[tuple[Any, ...], pa.Table]]:
    """The rows of each combination of keys, in order of first appearance; null counts as a value."""
    found: dict[tuple[Any, ...], list[int]] = {}
    for row, key in enumerate(zip(*(table[k].to_pylist() for k in keys), strict=True)):
        found.setdefault(key, []).append(row)
    for key, picked in found.items():
        yield key, table.take(pa.array(picked, pa.int64()))


def _threshold(group: pa.Table) -> float:
    values = group[r.THRESHOLD].unique().to_pylist()
    if len(values) != 1:
        raise InputError(
            must(r.THRESHOLD, "one value per run, fold and part", sorted(values), "evaluate them separately")
        )
    return values[0]


def _places(group: pa.Table, by_domain: bool, dataset: str | None) -> Iterator[tuple[dict[str, Any], pa.Table]]:
    """The subsets of a group that are scored: all, each of several data sets, each domain."""
    known = sorted(set(group[r.DATASET].drop_null().to_pylist()))
    whole = dataset or "+".join(known) or None
    yield {r.DATASET: whole, r.DOMAIN: None}, group
    several = list(_groups(_null_named(group, r.DATASET), [r.DATASET]))
    if len(several) > 1:
        if dataset in known:
            raise InputError(
                must("dataset", "a name other than those of its parts", dataset, "choose another name, or pass None")
            )
        for (name,), picked in several:
            yield {r.DATASET: name, r.DOMAIN: None}, picked
    if by_domain and group[r.DOMAIN].null_count < group.num_rows:
        domains = _groups(_null_named(group, r.DOMAIN), [r.DOMAIN])
        for (domain,), picked in sorted(domains, key=lambda item: (item[0][0] == UNKNOWN, item[0][0])):
            yield {r.DATASET: whole, r.DOMAIN: domain}, picked


def _null_named(table: pa.Table, column: str) -> pa.Table:
    position = table.schema.get_field_index(column)
    named = [UNKNOWN if value is None else value for value in table[column].to_pylist()]
    return table.set_column(position, table.schema.field(position), pa.array(named, pa.string()))


def _metric_rows(picked: pa.Table, given: dict[str, Any], names: list[str]) -> list[dict[str, Any]]:
    labelled = picked.filter(picked[r.LABEL].is_valid())
    labels = labelled[r.LABEL].to_numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)  # result_rows counts them and warns once
        values = compute(labels, _floats(labelled, r.P_ATYPICAL), labelled[r.DECISION].to_numpy(), names)
    about = {
        **given,
        N: len(labels),
        N_POSITIVE: int(np.count_nonzero(labels)),
        PREDICTIONS: predictions_fingerprint(picked),
    }
    return [{**about, METRIC: name, VALUE: value} for name, value in values.items()]
