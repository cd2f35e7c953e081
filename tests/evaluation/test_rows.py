"""Result rows: which groups are scored, from which figures, and what is refused."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn import metrics as sk

from atypia.base import records as r
from atypia.base.errors import DataError, InputError
from atypia.evaluation import rows as e
from atypia.inference.predictions import PREDICTIONS_SCHEMA
from atypia.statistics.metrics import METRICS, UndefinedMetricWarning, balanced_accuracy

CLASSIFIER = e.ClassifierLabels("ViT-S/14", "vit-s14", "probe", "probe", "official", "ami-br")


def predictions(n: int = 60, seed: int = 0, threshold: float = 0.5, **changes: Any) -> pa.Table:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    p = np.clip(0.5 + 0.2 * (labels - 0.5) + 0.2 * rng.normal(size=n), 0, 1)
    columns: dict[str, Any] = {
        r.FIGURE_ID: [f"f{i}" for i in range(n)],
        r.P_ATYPICAL: p,
        r.DECISION: pa.array((p >= threshold).astype(np.int8)),
        r.THRESHOLD: np.full(n, threshold),
        r.LABEL: pa.array(labels.astype(np.int8)),
        r.CASE_ID: [None] * n,
        r.DOMAIN: [None] * n,
        r.DATASET: ["ami-br"] * n,
        r.FOLD: ["fold-1"] * n,
        r.PART: ["test"] * n,
        r.RUN_ID: ["run"] * n,
    }
    return pa.table({**columns, **changes}, schema=PREDICTIONS_SCHEMA)


def value(rows: pa.Table, metric: str, **where: str | None) -> float:
    found = [
        row for row in rows.to_pylist() if row[e.METRIC] == metric and all(row[key] == v for key, v in where.items())
    ]
    assert len(found) == 1, found
    return found[0][e.VALUE]


def test_every_metric_is_that_of_scikit_learn_on_the_same_figures() -> None:
    table = predictions()
    rows = e.result_rows(table, CLASSIFIER)
    assert rows.schema.equals(e.RESULTS_SCHEMA)
    assert rows[e.METRIC].to_pylist() == list(METRICS)
    labels, p, decided = (table[name].to_numpy() for name in (r.LABEL, r.P_ATYPICAL, r.DECISION))
    assert value(rows, "balanced_accuracy") == pytest.approx(sk.balanced_accuracy_score(labels, decided))
    assert value(rows, "auroc") == pytest.approx(sk.roc_auc_score(labels, p))
    assert value(rows, "average_precision") == pytest.approx(sk.average_precision_score(labels, p))
    assert value(rows, "brier") == pytest.approx(sk.brier_score_loss(labels, p))


def test_a_row_says_whose_result_it_is() -> None:
    row = e.result_rows(predictions(), CLASSIFIER, ["auroc"]).to_pylist()[0]
    assert row[e.PREDICTIONS] == e.predictions_fingerprint(predictions())
    del row[e.VALUE], row[e.PREDICTIONS]
    assert row == {
        "run_id": "run",
        "model": "ViT-S/14",
        "backbone": "vit-s14",
        "adaptation": "probe",
        "recipe": "probe",
        "protocol": "official",
        "train_data": "ami-br",
        "dataset": "ami-br",
        "part": "test",
        "domain": None,
        "fold": "fold-1",
        "metric": "auroc",
        "n": 60,
        "n_positive": int(predictions()[r.LABEL].to_numpy().sum()),
        "threshold": 0.5,
    }


def test_domains_are_scored_apart_and_unknown_ones_together() -> None:
    domains = ["b", "a", None] * 20
    table = predictions(**{r.DOMAIN: domains})
    rows = e.result_rows(table, CLASSIFIER, ["balanced_accuracy"])
    assert rows[r.DOMAIN].to_pylist() == [None, "a", "b", e.UNKNOWN]
    assert rows[e.N].to_pylist() == [60, 20, 20, 20]
    labels, decided = table[r.LABEL].to_numpy(), table[r.DECISION].to_numpy()
    for domain, given in (("a", "a"), ("b", "b"), (e.UNKNOWN, None)):
        mask = np.array([d == given for d in domains])
        expected = balanced_accuracy(labels[mask], decided[mask])
        assert value(rows, "balanced_accuracy", domain=domain) == expected


def test_a_domain_that_is_called_unknown_is_pooled_with_the_unknown_ones() -> None:
    rows = e.result_rows(predictions(**{r.DOMAIN: ["unknown", None, "a"] * 20}), CLASSIFIER, ["auroc"])
    assert rows[r.DOMAIN].to_pylist() == [None, "a", "unknown"]
    assert rows[e.N].to_pylist() == [60, 20, 40]


def test_without_any_domain_or_when_told_there_are_no_domain_rows() -> None:
    assert e.result_rows(predictions(), CLASSIFIER, ["auroc"]).num_rows == 1
    table = predictions(**{r.DOMAIN: ["a", "b"] * 30})
    assert e.result_rows(table, CLASSIFIER, ["auroc"], by_domain=False).num_rows == 1


def test_parts_folds_and_runs_are_never_mixed() -> None:
    tables = [
        predictions(seed=i, **{r.FOLD: [fold] * 60, r.PART: [part] * 60, r.RUN_ID: [fold] * 60})
        for i, (fold, part) in enumerate([("fold-1", "val"), ("fold-1", "test"), ("fold-2", "test")])
    ]
    together = e.result_rows(pa.concat_tables(tables), CLASSIFIER)
    apart = e.concat_rows([e.result_rows(table, CLASSIFIER) for table in tables])
    assert together.equals(apart)


def test_several_data_sets_are_scored_together_and_apart() -> None:
    table = predictions(**{r.DATASET: ["b"] * 40 + ["a"] * 20})
    rows = e.result_rows(table, CLASSIFIER, ["brier"])
    assert rows[r.DATASET].to_pylist() == ["a+b", "b", "a"]
    assert rows[e.N].to_pylist() == [60, 40, 20]
    assert rows[e.VALUE][0].as_py() == pytest.approx(
        (40 * rows[e.VALUE][1].as_py() + 20 * rows[e.VALUE][2].as_py()) / 60
    )
    named = e.result_rows(table, CLASSIFIER, ["brier"], dataset="both")
    assert named[r.DATASET].to_pylist() == ["both", "b", "a"]
    with pytest.raises(InputError, match=r"`dataset` must be a name other than those of its parts, got a; fix: "):
        e.result_rows(table, CLASSIFIER, ["brier"], dataset="a")


def test_unlabelled_figures_are_left_out() -> None:
    table = predictions()
    labels = table[r.LABEL].to_pylist()
    half = predictions(**{r.LABEL: pa.array([*labels[:30], *([None] * 30)], pa.int8())})
    rows = e.result_rows(half, CLASSIFIER)
    assert set(rows[e.N].to_pylist()) == {30}
    assert rows[e.VALUE].to_pylist() == e.result_rows(table.slice(0, 30), CLASSIFIER)[e.VALUE].to_pylist()


def test_undefined_values_are_nan_and_told_once() -> None:
    labels = pa.array([1] * 20 + [0, 1] * 20, pa.int8())
    table = predictions(**{r.LABEL: labels, r.DOMAIN: ["only positive"] * 20 + ["both"] * 40})
    with pytest.warns(UndefinedMetricWarning, match="1 of 6 result values are undefined") as caught:
        rows = e.result_rows(table, CLASSIFIER, ["auroc", "accuracy"])
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert math.isnan(value(rows, "auroc", domain="only positive"))
    assert math.isfinite(value(rows, "accuracy", domain="only positive"))


def test_no_predictions_give_no_rows_and_no_labels_give_nan() -> None:
    assert e.result_rows(PREDICTIONS_SCHEMA.empty_table(), CLASSIFIER).num_rows == 0
    assert e.concat_rows([]).equals(e.RESULTS_SCHEMA.empty_table())
    with pytest.warns(UndefinedMetricWarning):
        rows = e.result_rows(predictions(**{r.LABEL: pa.array([None] * 60, pa.int8())}), CLASSIFIER, ["auroc"])
    assert rows[e.N].to_pylist() == [0]


def test_the_threshold_is_the_runs_own() -> None:
    strict = e.result_rows(predictions(threshold=0.6), CLASSIFIER)
    assert set(strict[r.THRESHOLD].to_pylist()) == {0.6}
    assert value(strict, "sensitivity") < value(e.result_rows(predictions(), CLASSIFIER), "sensitivity")
    mixed = pa.concat_tables([predictions(), predictions(threshold=0.6, **{r.FIGURE_ID: [f"g{i}" for i in range(60)]})])
    with pytest.raises(InputError, match=r"`threshold` must be one value per run, fold and part, got \[0.5, 0.6\]"):
        e.result_rows(mixed, CLASSIFIER)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({r.P_ATYPICAL: [1.5] * 60, r.DECISION: pa.array([1] * 60, pa.int8())}, "`p_atypical` must be between 0 and 1"),
        ({r.P_ATYPICAL: [math.nan] * 60, r.DECISION: pa.array([0] * 60, pa.int8())}, "`p_atypical` must be between"),
        ({r.LABEL: pa.array([2] * 60, pa.int8())}, "`label` must be 0, 1 or null"),
        ({r.FIGURE_ID: ["f"] * 60}, "`figure_id` must be unique in a run's fold and part, got 59 repeated"),
        (
            {r.DECISION: pa.array([0] * 60, pa.int8())},
            r"`decision` must be 1 where `p_atypical` ≥ threshold, got \d+ other",
        ),
    ],
)
def test_predictions_that_contradict_themselves_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        e.result_rows(predictions(**changes), CLASSIFIER)


def test_foreign_columns_and_unknown_metrics_are_refused() -> None:
    with pytest.raises(DataError, match="predictions have other columns"):
        e.check_predictions(pa.table({"a": [1]}))
    with pytest.raises(InputError, match="unknown metric 'auc'"):
        e.result_rows(predictions(), CLASSIFIER, ["auc"])


def test_the_same_figure_may_be_in_several_folds() -> None:
    again = pa.concat_tables([predictions(), predictions(**{r.FOLD: ["fold-2"] * 60})])
    rows = e.result_rows(again, CLASSIFIER, ["accuracy"])
    counted = {(row[r.FOLD], row[e.N]) for row in rows.to_pylist() if row[r.DOMAIN] is None}
    assert counted == {("fold-1", 60), ("fold-2", 60)}


def test_fingerprints_follow_the_content() -> None:
    table = predictions()
    halves = pa.concat_tables([table.slice(0, 7), table.slice(7)])
    assert e.predictions_fingerprint(halves) == e.predictions_fingerprint(table)
    assert e.predictions_fingerprint(table.slice(1)) != e.predictions_fingerprint(table)


def test_rows_are_written_and_read(tmp_path: Path) -> None:
    rows = e.result_rows(predictions(), CLASSIFIER)
    path = e.write_rows(tmp_path / "out" / "results.parquet", rows)
    assert e.read_rows(path).equals(rows)
    assert [p.name for p in path.parent.iterdir()] == ["results.parquet"]


def test_undefined_values_survive_the_file_as_nan(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = e.result_rows(predictions(**{r.LABEL: pa.array([1] * 60, pa.int8())}), CLASSIFIER, ["auroc"])
    read = e.read_rows(e.write_rows(tmp_path / "results.parquet", rows))
    assert read[e.VALUE].null_count == 0
    assert math.isnan(read[e.VALUE][0].as_py())


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"`rows` must be a table with RESULTS_SCHEMA, got a; fix: use result_rows"):
        e.write_rows(tmp_path / "r.parquet", pa.table({"a": [1]}))
    with pytest.raises(DataError, match="does not exist; fix: check the path"):
        e.read_rows(tmp_path / "r.parquet")
    (tmp_path / "r.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="is not a readable Parquet file"):
        e.read_rows(tmp_path / "r.parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "r.parquet")
    with pytest.raises(DataError, match="holds no result rows of this version"):
        e.read_rows(tmp_path / "r.parquet")
