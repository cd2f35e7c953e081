"""The gain by generated figures: each row that adds them, compared by fold with the row that differs only in this."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from atypia.base import records as r
from atypia.base.artifacts import fingerprint
from atypia.base.errors import InputError, must
from atypia.base.runs import EXTERNAL
from atypia.evaluation import rows as e
from atypia.statistics.differences.crossvalidation import corrected_t
from atypia.statistics.metrics import UndefinedMetricWarning
from atypia.studies import files
from atypia.studies.plan import Plan, PlannedTraining
from atypia.studies.table import model_label

METRICS = ("balanced_accuracy", "auroc", "sensitivity", "specificity")


@dataclass(frozen=True)
class SyntheticGain:
    """A difference over paired folds: with generated figures minus without.

    Attributes:
        row: Label of the row that adds generated figures.
        against: Label of the row without generated figures.
        positives: Share of the real positives that both use.
        n_positives: Real positives in a training part, mean over folds.
        dataset: Name of the test data.
        part: Its part: ``val``, ``test`` or ``external``.
        metric: Its name.
        folds: Paired folds.
        mean: Mean difference.
        low: Lower end of the 95 % interval; NaN if undefined.
        high: Upper end.
        each: The differences, in the order of the folds.
    """

    row: str
    against: str
    positives: float
    n_positives: float
    dataset: str
    part: str
    metric: str
    folds: int
    mean: float
    low: float
    high: float
    each: tuple[float, ...]


def synthetic_gains(out: Path, metrics: Sequence[str] = METRICS) -> list[SyntheticGain]:
    """The gains of a study with existing tables.

    The interval is that of the corrected resampled t-test (Nadeau and Bengio 2003), whose variance term
    corrects for overlapping training parts. On external sets all folds share the test figures, which it
    ignores: intervals there are too narrow.

    Args:
        out: The study's folder.
        metrics: Metrics to compare.

    Raises:
        InputError: The study adds no generated figures, or its tables are missing.
    """
    plan = Plan.load(out)
    partners = {
        number: other
        for number, training in enumerate(plan.trainings)
        if training.synthetic is not None and (other := _partner(training, plan.trainings)) is not None
    }
    if not partners:
        expected = "one with rows that add generated figures, and rows without"
        raise InputError(must("study", expected, plan.name, "run `atypia study run benito-synthetic`"))
    path = out / files.RESULTS
    if not path.is_file():
        raise InputError(must("results", f"in {path}", "nothing", f"run `atypia study report {plan.name}` first"))
    values = _values(pq.read_table(path), metrics)
    found = []
    pairs = list(
        dict.fromkeys((plan.trainings[one].label, plan.trainings[other].label) for one, other in partners.items())
    )
    for row, against in pairs:
        trainings = {one: other for one, other in partners.items() if plan.trainings[one].label == row}
        for decision in plan.decisions:
            found += _gains_of(plan, out, (row, against), decision, trainings, values)
    return found


def _partner(training: PlannedTraining, trainings: Sequence[PlannedTraining]) -> int | None:
    for number, other in enumerate(trainings):
        if other.synthetic is None and _same(training, other):
            return number
    return None


def _same(one: PlannedTraining, other: PlannedTraining) -> bool:
    def about(training: PlannedTraining) -> str:
        recipe = {key: value for key, value in training.recipe.items() if key != "summary"}
        return fingerprint(recipe, training.manifest, training.data, training.seed, training.positives, training.split)

    return about(one) == about(other)


def _values(table: pa.Table, metrics: Sequence[str]) -> dict[tuple[Any, ...], tuple[float, int]]:
    """Value and number of figures by run id, model, data set, part, fold and metric, of all domains together."""
    names = [e.MODEL, r.RUN_ID, r.DATASET, r.PART, r.FOLD, e.METRIC, r.DOMAIN, e.VALUE, e.N]
    found = {}
    for row in table.select(names).to_pylist():
        if row[r.DOMAIN] is None and row[e.METRIC] in metrics:
            key = tuple(row[name] for name in names[:6])
            found[key] = (row[e.VALUE], row[e.N])
    return found


def _gains_of(
    plan: Plan, out: Path, rows: tuple[str, str], decision: str, trainings: dict[int, int],
    values: dict[tuple[Any, ...], Any],
) -> list[SyntheticGain]:  # fmt: skip
    """The gains of a row at a decision over another row, each by its label in the study."""
    positives = _positives(plan, out, next(iter(trainings)))
    runs_of = {(run.training, run.fold): run for run in plan.runs}
    pairs: dict[tuple[str, str, str], list[tuple[float, int, int]]] = {}
    ids = _run_ids(out)
    row, against = (model_label(label, decision, plan) for label in rows)
    for one, other in trainings.items():
        for fold in [run.fold for run in plan.runs if run.training == one]:
            mine, its = runs_of.get((one, fold)), runs_of.get((other, fold))
            if mine is None or its is None or mine.id not in ids or its.id not in ids:
                continue
            for key, (value, n) in values.items():
                if key[0] == row and key[1] == ids[mine.id] and key[4] == fold:
                    base = values.get((against, ids[its.id], *key[2:]))
                    if base is not None:
                        pairs.setdefault((key[2], key[3], key[5]), []).append((value - base[0], mine.sizes[0], n))
    found = []
    for (dataset, part, metric), lines in sorted(pairs.items()):
        each = [line[0] for line in lines]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UndefinedMetricWarning)
            n_test = float(np.mean([line[2] for line in lines])) if part != EXTERNAL else 1e-9
            test = corrected_t(each, float(np.mean([line[1] for line in lines])), n_test)
        found.append(
            SyntheticGain(row, against, plan.trainings[next(iter(trainings))].positives, positives, str(dataset), part, metric,
                 len(each), test.mean, test.low, test.high, tuple(each))
        )  # fmt: skip
    return found


def _run_ids(out: Path) -> dict[str, str]:
    """The run id in the predictions, for each run of the plan."""
    table = pq.read_table(out / files.RUN_TABLE, columns=["run", r.RUN_ID])
    return {run: own for run, own in zip(*(column.to_pylist() for column in table.columns), strict=True) if own}


def _positives(plan: Plan, out: Path, training: int) -> float:
    from atypia.splits.split import Split

    split = Split.load(out / files.SPLITS / f"{plan.trainings[training].split}.json")
    return float(np.mean([counts[0] for counts in split.positives.values()])) if split.positives else float("nan")


def synthetic_gains_table(gains: Sequence[SyntheticGain]) -> pa.Table:
    """The gains as a table, one line each."""
    return pa.Table.from_pylist([{**one.__dict__, "each": list(one.each)} for one in gains])
