"""The ensemble of a training's folds, beside the mean of what each reaches."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from atypia.base import records as r
from atypia.base import runs
from atypia.evaluation.collect import collect
from atypia.evaluation.ensemble import ENSEMBLE, ensembles
from atypia.inference.classifier import Classifier
from atypia.inference.predictions import PREDICTIONS_SCHEMA, read_predictions
from atypia.workflows.evaluate import evaluate


def scored(
    fold: str, p: list[float], threshold: float, part: str = runs.EXTERNAL, order: list[int] | None = None
) -> pa.Table:
    order = order or list(range(len(p)))
    rows = [
        {
            r.FIGURE_ID: f"f{i}", r.P_ATYPICAL: p[i], r.DECISION: int(p[i] >= threshold), r.THRESHOLD: threshold,
            r.LABEL: i % 2, r.CASE_ID: f"c{i}", r.DATASET: "d", r.FOLD: fold, r.PART: part, r.RUN_ID: f"run-{fold}",
        }
        for i in order
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=PREDICTIONS_SCHEMA)


def test_probabilities_and_thresholds_are_averaged_figure_by_figure() -> None:
    one = scored("fold-1", [0.1, 0.9, 0.4, 0.2], 0.5)
    two = scored("fold-2", [0.3, 0.5, 0.8, 0.1], 0.2, order=[3, 1, 0, 2])
    (found,) = ensembles([one, two])

    assert found.members == 2
    rows = {row[r.FIGURE_ID]: row for row in found.predictions.to_pylist()}
    assert [rows[f"f{i}"][r.P_ATYPICAL] for i in range(4)] == pytest.approx([0.2, 0.7, 0.6, 0.15])
    assert [rows[f"f{i}"][r.DECISION] for i in range(4)] == [0, 1, 1, 0]
    assert [row[r.THRESHOLD] for row in rows.values()] == pytest.approx([0.35] * 4)
    assert {row[r.FOLD] for row in rows.values()} == {ENSEMBLE} and len({row[r.RUN_ID] for row in rows.values()}) == 1
    assert [rows[f"f{i}"][r.LABEL] for i in range(4)] == [0, 1, 0, 1]


def test_only_runs_that_scored_the_same_figures_are_joined() -> None:
    p = [0.1, 0.9, 0.4, 0.2]
    assert ensembles([scored("fold-1", p, 0.5), scored("fold-2", p[:3], 0.5)]) == []
    assert ensembles([scored("fold-1", p, 0.5)]) == []
    validation = [scored(f"fold-{n}", p, 0.5, runs.VALIDATION) for n in (1, 2)]
    assert ensembles(validation) == []
    both = pa.concat_tables([scored("fold-1", p, 0.5), scored("fold-1", p, 0.5, runs.TEST)])
    found = ensembles([both, scored("fold-2", p, 0.5), scored("fold-3", p, 0.5, runs.TEST)])
    assert [(one.members, one.predictions[r.PART][0].as_py()) for one in found] == [(2, runs.EXTERNAL), (2, runs.TEST)]


def test_evaluate_prints_the_ensemble_s_row_beside_the_folds(
    trained_folder: Path, other_csv: Path, tmp_path: Path, own_home: Path
) -> None:
    folder = Path(shutil.copytree(trained_folder, tmp_path / "probe"))
    found = evaluate(folder, other_csv)
    table = found.table()
    names = [column.name for column in table.columns]
    rows = [dict(zip(names, row, strict=True)) for row in table.rows]

    model = "probe · tiny-cnn"
    assert [(row["model"], row["part"]) for row in rows][-2:] == [
        (model, "external"), (f"{model}, ensemble of 2", "external")
    ]  # fmt: skip
    assert [row["n_runs"] for row in rows[-2:]] == [2, 1] and table.title == model
    text = table.to_text()
    assert text.count(model) == 1 and "mean of runs" in text and "ensemble of 2" in text
    folds = [read_predictions(path)[0] for path in found.sets[0].predictions]
    assert folds[0][r.FIGURE_ID].equals(folds[1][r.FIGURE_ID])
    p = np.mean([fold[r.P_ATYPICAL].to_numpy() for fold in folds], axis=0)
    labels = folds[0][r.LABEL].to_numpy()
    assert rows[-1]["auroc"].mean == pytest.approx(roc_auc_score(labels, p))
    assert rows[-1]["balanced_accuracy"].mean == pytest.approx(balanced_accuracy_score(labels, p >= 0.5))
    # What is saved has the runs alone, so that means and tests over folds are what they were.
    assert ENSEMBLE not in collect(folder).rows[r.FOLD].to_pylist()


def test_the_row_is_what_a_classifier_of_all_folds_says(
    trained_folder: Path, other_csv: Path, tmp_path: Path, own_home: Path
) -> None:
    folder = Path(shutil.copytree(trained_folder, tmp_path / "probe"))
    found = evaluate(folder, other_csv)
    (together,) = ensembles([read_predictions(path)[0] for path in found.sets[0].predictions])
    from atypia.data.crops.store import open_store
    from atypia.data.sources.opening import open_data

    classifier = Classifier.load([run / runs.BUNDLE for run in runs.run_folders(folder)], runtime="torch")
    manifest = open_data(str(other_csv))
    store = open_store(manifest, classifier.geometry)
    p = dict(zip(manifest.ids, classifier.probabilities(np.array(store.crops)), strict=True))
    rows = together.predictions.to_pylist()
    np.testing.assert_allclose([row[r.P_ATYPICAL] for row in rows], [p[row[r.FIGURE_ID]] for row in rows], atol=1e-5)
