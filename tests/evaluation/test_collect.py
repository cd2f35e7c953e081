"""Result rows are recomputed from predictions alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from atypia.base import records as r
from atypia.base import runs
from atypia.base.errors import DataError, InputError
from atypia.data.images.geometry import CropGeometry
from atypia.data.manifest import Manifest
from atypia.evaluation.collect import collect
from atypia.evaluation.rows import read_rows
from atypia.inference.bundles.bundle import PROBE, Bundle, probe_tensors
from atypia.inference.bundles.decision import Decision
from atypia.inference.predictions import predictions_table, write_predictions

BUNDLE = Bundle(
    "hand", "atypical", PROBE, "tiny-cnn", None, 32, CropGeometry(), probe_tensors(np.zeros(256), 0.0), Decision(0.5),
    training={"recipe": "by hand", "protocol": "none", "data": "made up", "warnings": ["a warning"]},
)  # fmt: skip


def manifest(labels: list[int | None]) -> Manifest:
    rows = [
        {r.FIGURE_ID: f"f{i}", r.DATASET: "d", r.IMAGE: f"{i}.png", r.LABEL: label, r.CASE_ID: f"c{i}"}
        for i, label in enumerate(labels)
    ]
    return Manifest.from_rows(rows, "d")


def write_fold(folder: Path, name: str, labels: list[int | None], p: list[float], facts: dict | None = None) -> None:
    """A run folder as far as results need it."""
    run = folder / name
    table = predictions_table(manifest(labels), np.array(p), 0.5, fold=name, part=runs.VALIDATION, run_id=name)
    write_predictions(run / runs.PREDICTIONS, table, facts)
    (run / runs.RUN).write_text("{}", "utf-8")


def asked(folder: Path, warnings: list[str]) -> None:
    content = {
        "name": "hand",
        "recipe": {"backbone": "tiny-cnn", "adaptation": "probe"},
        "split": {"protocol": "kfold"},
        "data": {"name": "made up"},
        "warnings": warnings,
    }
    (folder / runs.TRAINING).write_text(json.dumps(content), "utf-8")


def value(folder: Path, fold: str, metric: str) -> float:
    rows = [row for row in collect(folder).rows.to_pylist() if row[r.FOLD] == fold and row["metric"] == metric]
    assert len(rows) == 1
    return rows[0]["value"]


def test_metrics_by_hand(tmp_path: Path) -> None:
    asked(tmp_path, [])
    # Decisions 1 0 1 0 0: sensitivity 1/2, specificity 2/3; pairs in order 5 of 6.
    write_fold(tmp_path, "fold-1", [1, 1, 0, 0, 0], [0.9, 0.45, 0.6, 0.2, 0.1])

    assert value(tmp_path, "fold-1", "sensitivity") == pytest.approx(1 / 2)
    assert value(tmp_path, "fold-1", "specificity") == pytest.approx(2 / 3)
    assert value(tmp_path, "fold-1", "balanced_accuracy") == pytest.approx(7 / 12)
    assert value(tmp_path, "fold-1", "accuracy") == pytest.approx(3 / 5)
    assert value(tmp_path, "fold-1", "auroc") == pytest.approx(5 / 6)
    assert value(tmp_path, "fold-1", "brier") == pytest.approx((0.1**2 + 0.55**2 + 0.6**2 + 0.2**2 + 0.1**2) / 5)


def test_changed_predictions_change_the_results(tmp_path: Path) -> None:
    asked(tmp_path, [])
    write_fold(tmp_path, "fold-1", [1, 0], [0.9, 0.1])
    assert value(tmp_path, "fold-1", "balanced_accuracy") == 1
    write_fold(tmp_path, "fold-1", [1, 0], [0.1, 0.9])

    assert value(tmp_path, "fold-1", "balanced_accuracy") == 0
    assert read_rows(tmp_path / runs.RESULTS).equals(collect(tmp_path).rows)


def test_folds_come_in_natural_order_and_hidden_folders_are_not_read(tmp_path: Path) -> None:
    asked(tmp_path, [])
    for name in ("fold-10", "fold-2", ".fold-2.x.part", ".fold-1.x.old"):
        write_fold(tmp_path, name, [1, 0], [0.9, 0.1])
    (tmp_path / "fold-3").mkdir()  # begun, not complete

    assert collect(tmp_path).rows[r.FOLD].unique().to_pylist() == ["fold-2", "fold-10"]


def test_warnings_of_training_and_evaluations_are_gathered_once(tmp_path: Path) -> None:
    asked(tmp_path, ["of the training"])
    write_fold(tmp_path, "fold-1", [1, 0], [0.9, 0.1])
    table = predictions_table(manifest([1, 0]), np.array([0.2, 0.7]), 0.5, fold="fold-1", part=runs.EXTERNAL)
    for name in ("fold-1", "fold-2"):
        write_predictions(
            tmp_path / runs.EVALUATIONS / "d-1" / f"{name}.parquet", table, {runs.WARNINGS: ["of the evaluation"]}
        )

    assert collect(tmp_path).warnings == ("of the training", "of the evaluation")


def test_a_class_that_is_absent_gives_nan_without_noise(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    asked(tmp_path, [])
    write_fold(tmp_path, "fold-1", [0, 0], [0.9, 0.1])

    assert np.isnan(value(tmp_path, "fold-1", "auroc")) and np.isnan(value(tmp_path, "fold-1", "sensitivity"))
    assert value(tmp_path, "fold-1", "specificity") == 0.5
    assert not recwarn.list


def test_a_lone_bundle_describes_itself(tmp_path: Path) -> None:
    BUNDLE.save(tmp_path / "mine")
    table = predictions_table(manifest([1, 0]), np.array([0.9, 0.1]), 0.5, fold="bundle", part=runs.EXTERNAL)
    write_predictions(tmp_path / "mine" / runs.EVALUATIONS / "d-1" / "bundle.parquet", table)
    collected = collect(tmp_path / "mine")

    row = collected.rows.to_pylist()[0]
    assert (row["model"], row["recipe"], row["protocol"], row["train_data"]) == ("hand", "by hand", "none", "made up")
    assert collected.warnings == ("a warning",)


def test_nothing_to_collect_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no predictions; fix: train, or evaluate a bundle, first"):
        collect(tmp_path)


def test_damaged_predictions_are_named(tmp_path: Path) -> None:
    asked(tmp_path, [])
    write_fold(tmp_path, "fold-1", [1, 0], [0.9, 0.1])
    path = tmp_path / "fold-1" / runs.PREDICTIONS
    path.write_bytes(path.read_bytes()[:-9])

    with pytest.raises(DataError, match=r"fold-1/predictions\.parquet is not a readable Parquet file"):
        collect(tmp_path)
