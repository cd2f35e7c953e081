"""Makes a study's tables from the predictions of its runs; nothing is trained, and no model is opened.

Files written to the study's folder:

* ``results.parquet``: result rows (:mod:`atypia.evaluation.rows`) of every complete run; ``model`` is the label
  of the study's row, ``protocol`` includes the fraction of the data if the protocol has fractions;
* ``runs.parquet``: one line per run and label: factors, seed, fold, sizes, state, seconds, folder, ``run_id``
  (the key for joining the other tables);
* ``deltas.parquet``, with a baseline: result rows whose value is the difference from the baseline's run of the same
  data, fold and seed;
* ``shift.parquet`` and ``matrix.parquet``, for training on single domains: in-domain and out-of-domain rows,
  and one line for each pair of domains.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from atypia.base import records as r
from atypia.base import runs
from atypia.base.artifacts import atomic_file
from atypia.base.errors import AtypiaError, InputError
from atypia.evaluation import rows as e
from atypia.evaluation.rows import ClassifierLabels, concat_rows, result_rows, write_rows
from atypia.inference.bundles.operating import balanced_point
from atypia.inference.predictions import read_predictions
from atypia.splits.foldnames import fraction_of
from atypia.statistics.metrics import UndefinedMetricWarning
from atypia.studies import files
from atypia.studies.ledger import DONE, Ledger
from atypia.studies.notes import distinct_notes
from atypia.studies.plan import Plan, PlannedTraining, Run
from atypia.studies.run import LACKING
from atypia.studies.schema import FITTED
from atypia.studies.shift import domain_groups, matrix_rows, shift_rows, with_groups

RUNS_SCHEMA = pa.schema(
    [
        pa.field("run", pa.string(), nullable=False),
        pa.field(r.RUN_ID, pa.string()),
        pa.field(e.MODEL, pa.string(), nullable=False),
        pa.field("row", pa.string(), nullable=False),
        pa.field("factors", pa.map_(pa.string(), pa.string())),
        pa.field("decision", pa.string(), nullable=False),
        pa.field(e.RECIPE, pa.string()),
        pa.field(e.BACKBONE, pa.string()),
        pa.field(e.ADAPTATION, pa.string()),
        pa.field(e.TRAIN_DATA, pa.string()),
        pa.field("seed", pa.int64()),
        pa.field(r.FOLD, pa.string()),
        pa.field("n_train", pa.int64()),
        pa.field("n_val", pa.int64()),
        pa.field("n_test", pa.int64()),
        pa.field("state", pa.string(), nullable=False),
        pa.field("seconds", pa.float64()),
        pa.field("folder", pa.string(), nullable=False),
    ]
)
"""Columns of ``runs.parquet``. ``model`` is what result rows call it, ``row`` the label of the study's row without the
decision, ``decision`` one of :data:`atypia.studies.schema.DECISIONS`."""


TOLD_BY: Final = (e.MODEL, e.TRAIN_DATA, r.RUN_ID, r.FOLD)
"""Columns that result rows and ``runs.parquet`` share, which together are of one run, row of the study and decision."""


@dataclass(frozen=True)
class StudyResults:
    """A study's tables.

    Attributes:
        rows: Result rows.
        runs: With :data:`RUNS_SCHEMA`.
        deltas: Differences from the baseline, as result rows; empty without one.
        shift: In-domain and out-of-domain, as result rows; empty if no single domains are trained on.
        matrix: One line for each model, metric, training and test domain; empty likewise.
        warnings: Warnings of the tables.
    """

    rows: pa.Table
    runs: pa.Table
    deltas: pa.Table
    shift: pa.Table
    matrix: pa.Table
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class RunPredictions:
    """The predictions of one complete run.

    Attributes:
        run: The run.
        cell: Its cell.
        parts: Tables of predictions: for its own fold, then for other data sets.
        sets: Fingerprint of the manifest of each.
        warnings: Warnings for tables made from them.
    """

    run: Run
    training: PlannedTraining
    parts: tuple[pa.Table, ...]
    sets: tuple[str, ...]
    warnings: tuple[str, ...]


PredictionsCallback = Callable[[RunPredictions, Mapping[str, float | None]], None]
"""Called for each complete run with its predictions and the threshold for each decision (None: the predictions' own)."""


def predictions_of(plan: Plan, out: Path) -> Iterator[RunPredictions]:
    """The predictions of all complete runs, one run at a time to save memory.

    Raises:
        DataError: A file is damaged; names it.
    """
    ledger = Ledger(out)
    for run in plan.runs:
        folder = ledger.folder(run.id)
        if plan.trainings[run.training].lacks or ledger.done(run.id) is None:
            continue
        training = plan.trainings[run.training]
        own, _ = read_predictions(folder / run.fold / runs.PREDICTIONS)
        parts, sets, notes = [own], [training.manifest], [*_training_warnings(folder)]
        for fingerprint, path in evaluations(folder, plan.tests):
            table, facts = read_predictions(path)
            parts.append(table)
            sets.append(fingerprint)
            notes += facts.get(runs.WARNINGS, ())
        yield RunPredictions(run, training, tuple(parts), tuple(sets), tuple(notes))


def collect_study(
    plan: Plan, out: Path, metrics: Iterable[str] | None = None, watch: PredictionsCallback | None = None
) -> StudyResults:
    """Computes every table of a study from its predictions and writes them.

    Args:
        plan: The study's plan.
        out: Its folder.
        metrics: Names in :data:`atypia.statistics.metrics.METRICS`; None: all.
        watch: Called with the predictions of each complete run.

    Raises:
        InputError: No run is complete yet.
        DataError: A file of predictions is damaged.
    """
    names = None if metrics is None else list(metrics)
    groups = domain_groups(plan, out)
    tables: list[pa.Table] = []
    run_ids: dict[str, str] = {}
    notes: list[str] = []
    computed: dict[tuple[str, str], list[pa.Table]] = {}
    thresholds: dict[str, dict[str, float | None]] = {}
    named = set_names(plan, out)
    with warnings.catch_warnings():
        # A domain without one of the classes is common and shows as n/a in the table.
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        for found in predictions_of(plan, out):
            run_ids[found.run.id] = found.parts[0][r.RUN_ID][0].as_py()
            notes += found.warnings
            if found.run.id not in thresholds:
                thresholds[found.run.id] = _thresholds(found, plan.decisions, notes)
            for decision, threshold in thresholds[found.run.id].items():
                key = (found.run.id, decision)
                if key not in computed:
                    computed[key] = _rows_of(found, threshold, names, groups, named)
                tables += [_relabelled(table, found.training, plan, decision) for table in computed[key]]
            if watch is not None:
                watch(found, thresholds[found.run.id])
    if not tables:
        raise InputError(f"no run of {plan.name} is complete in {out}; fix: `atypia study run {plan.name}`")
    rows = concat_rows(tables)
    about = run_table(plan, out, run_ids)
    deltas = paired_deltas(rows, about, plan)
    shift = shift_rows(rows, plan)
    matrix = matrix_rows(rows, plan)
    write_rows(out / files.RESULTS, rows)
    write_rows(out / files.DELTAS, deltas)
    write_rows(out / files.SHIFT, shift)
    for name, table in ((files.RUN_TABLE, about), (files.MATRIX, matrix)):
        with atomic_file(out / name) as file:
            pq.write_table(table, file, compression="zstd")
    return StudyResults(rows, about, deltas, shift, matrix, distinct_notes(notes))


def model_label(row: str, decision: str, plan: Plan) -> str:
    """What result rows call a row of the study at a decision; the decision is told only where there are several."""
    return row if len(plan.decisions) == 1 else f"{row} · {decision} threshold"


def run_table(plan: Plan, out: Path, run_ids: Mapping[str, str]) -> pa.Table:
    """One line per run, label and decision; with :data:`RUNS_SCHEMA`."""
    ledger = Ledger(out)
    states = ledger.states({run.id for run in plan.runs}, plan.tests)
    seconds = {run: (ledger.done(run) or {}).get("seconds") for run, state in states.items() if state == DONE}
    lines = []
    for run in plan.runs:
        training = plan.trainings[run.training]
        lines += [
            {
                "run": run.id,
                r.RUN_ID: run_ids.get(run.id),
                e.MODEL: model_label(training.label, decision, plan),
                "row": training.label,
                "factors": list(training.factors.items()),
                "decision": decision,
                e.RECIPE: training.recipe_name,
                e.BACKBONE: training.backbone,
                e.ADAPTATION: training.adaptation,
                e.TRAIN_DATA: training.data,
                "seed": training.seed,
                r.FOLD: run.fold,
                "n_train": run.sizes[0],
                "n_val": run.sizes[1],
                "n_test": run.sizes[2],
                "state": LACKING if training.lacks else states[run.id],
                "seconds": seconds.get(run.id),
                "folder": f"{files.RUNS}/{run.id}",
            }
            for decision in plan.decisions
        ]
    return pa.Table.from_pylist(lines, schema=RUNS_SCHEMA)


def paired_deltas(rows: pa.Table, about: pa.Table, plan: Plan) -> pa.Table:
    """Differences of each model from the baseline, run by run: the same data, fold, seed and decision.

    Returns:
        Result rows whose ``value`` is model − baseline; rows without a partner are left out. NaN if either value is NaN.
    """
    if plan.baseline is None:
        return e.RESULTS_SCHEMA.empty_table()
    trainings = [plan.trainings[run.training] for run in plan.runs for _ in plan.decisions]
    of_run = {
        tuple(line[name] for name in TOLD_BY): (training.label, training.manifest, training.seed, line["decision"])
        for line, training in zip(about.to_pylist(), trainings, strict=True)
        if line[r.RUN_ID] is not None
    }
    base: dict[tuple[Any, ...], float] = {}
    others: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    for row in rows.to_pylist():
        label, *made_from = of_run[tuple(row[name] for name in TOLD_BY)]
        place = [row[name] for name in (e.TRAIN_DATA, e.PROTOCOL, r.DATASET, r.PART, r.DOMAIN, r.FOLD, e.METRIC)]
        key = (*place, *made_from)
        if label == plan.baseline:
            base[key] = row[e.VALUE]
        else:
            others.append((key, row))
    found = [{**row, e.VALUE: row[e.VALUE] - base[key]} for key, row in others if key in base]
    return pa.Table.from_pylist(found, schema=e.RESULTS_SCHEMA)


def _thresholds(found: RunPredictions, decisions: Sequence[str], notes: list[str]) -> dict[str, float | None]:
    """The run's threshold for each decision, if it has one; None: the one in its predictions."""
    given: dict[str, float | None] = {}
    for decision in decisions:
        if decision != FITTED:
            given[decision] = None
        elif (threshold := _fitted_threshold(found, notes)) is not None:
            given[decision] = threshold
    return given


def _rows_of(
    found: RunPredictions, threshold: float | None, metrics: Sequence[str] | None, groups: Mapping[str, str],
    named: Mapping[str, str],
) -> list[pa.Table]:  # fmt: skip
    """Result rows of a run, under a label that is replaced later."""
    placeholder = ClassifierLabels(found.run.id)
    tables = []
    for position, (fingerprint, part) in enumerate(zip(found.sets, found.parts, strict=True)):
        predictions = with_groups(part, groups) if groups else part
        if threshold is not None:
            predictions = decided_at(predictions, threshold)
        name = named.get(fingerprint) if position else None
        within = set(part[r.DATASET].unique().to_pylist())
        tables.append(result_rows(predictions, placeholder, metrics, dataset=None if name in within else name))
    return tables


def _fitted_threshold(found: RunPredictions, notes: list[str]) -> float | None:
    """The threshold with the best balanced accuracy on the run's validation part; None without such a part."""
    own = found.parts[0]
    validation = own.filter(pa.array([part == runs.VALIDATION for part in own[r.PART].to_pylist()]))
    try:
        return balanced_point(validation[r.LABEL].to_numpy(), validation[r.P_ATYPICAL].to_numpy()).threshold
    except AtypiaError:
        notes.append(f"{found.run.fold}: no threshold can be fitted because its validation part lacks a class")
        return None


def decided_at(predictions: pa.Table, threshold: float) -> pa.Table:
    """The predictions with decisions at another threshold, in (0, 1)."""
    p = predictions[r.P_ATYPICAL].to_numpy()
    schema = predictions.schema
    changed = predictions.set_column(
        schema.get_field_index(r.DECISION), schema.field(r.DECISION), pa.array((p >= threshold).astype(np.int8))
    )
    return changed.set_column(
        schema.get_field_index(r.THRESHOLD), schema.field(r.THRESHOLD), pa.array(np.full(len(p), threshold))
    )


def _relabelled(table: pa.Table, training: PlannedTraining, plan: Plan, decision: str) -> pa.Table:
    """Result rows with the labels of a cell; one run may belong to several cells with equal content."""
    folds = table[r.FOLD].to_pylist()
    values = {
        e.MODEL: model_label(training.label, decision, plan),
        e.BACKBONE: training.backbone,
        e.ADAPTATION: training.adaptation,
        e.RECIPE: training.recipe_name,
        e.TRAIN_DATA: training.data,
    }
    for name, value in values.items():
        position = table.schema.get_field_index(name)
        table = table.set_column(position, table.schema.field(name), pa.array([value] * len(folds), pa.string()))
    position = table.schema.get_field_index(e.PROTOCOL)
    protocols = pa.array([division(plan.protocol[0], fold) for fold in folds], pa.string())
    return table.set_column(position, table.schema.field(e.PROTOCOL), protocols)


def division(protocol: str, fold: str) -> str:
    """Name of a fold's division in tables: the protocol, with the fraction of the data if it has fractions.

    >>> division("monte-carlo", "repeat-2-fraction-0.01")
    'monte-carlo, 1 % of the data'
    """
    fraction = fraction_of(fold)
    return protocol if fraction is None else f"{protocol}, {percentage(fraction)}"


def percentage(fraction: float) -> str:
    """What tables call a fraction of the data.

    >>> percentage(0.01)
    '1 % of the data'
    """
    return f"{100 * fraction:g} % of the data"


def evaluations(folder: Path, tests: Mapping[str, str]) -> list[tuple[str, Path]]:
    """Prediction files of the plan's test sets, in its order; a copied run may have been tested on more sets.

    Args:
        folder: The run's folder.
        tests: Fingerprint and name of the test sets.

    Returns:
        Fingerprint of the set and path of each.
    """
    found: list[tuple[str, Path]] = []
    for fingerprint in tests:
        paths = sorted((folder / runs.EVALUATIONS).glob(f"*-{fingerprint[:8]}/*.parquet"))
        found += [(fingerprint, path) for path in paths]
    return found


def set_names(plan: Plan, out: Path) -> dict[str, str]:
    """Names of the test sets in tables: the data set of their figures, or the study's name if two would be equal."""
    natural = {key: _dataset(out / files.MANIFESTS / f"{key}.parquet", name) for key, name in plan.tests.items()}
    taken = list(natural.values())
    return {key: name if taken.count(name) == 1 else plan.tests[key] for key, name in natural.items()}


def _dataset(path: Path, name: str) -> str:
    if not path.is_file():
        return name
    column = pq.read_table(path, columns=[r.DATASET])[r.DATASET]
    return "+".join(sorted(set(column.unique().to_pylist()) - {None}))


def _training_warnings(folder: Path) -> list[str]:
    from atypia.base.artifacts import read_json

    return [str(text) for text in read_json(folder / runs.TRAINING)["warnings"]]
