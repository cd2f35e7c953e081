"""Trainings of probes: run folders, resuming, leakage, quarantined images, killed processes."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from atypia.base import records as r
from atypia.base import runs
from atypia.base.errors import AbsentError, AtypiaError, DataError, InputError, LeakageError, WorkError
from atypia.data.manifest import Manifest
from atypia.data.sources.opening import open_data
from atypia.evaluation.collect import collect
from atypia.inference.bundles.bundle import load_bundle
from atypia.inference.predictions import read_predictions
from atypia.splits.protocol import make_split
from atypia.splits.split import Fold, Split
from atypia.training.recipe import load_recipe, shipped_recipes
from atypia.training.train import TrainedRun, train
from atypia.training.trainer import TrainingRequest

SMALL = ("backbone=tiny-cnn", "geometry.out_px=32", "input_px=32")
SAME = 1e-9
"""What is promised of a fold that is fitted alone, on any processor; with AVX2 and later it is the same to the last bit."""
PROBE_RECIPES = [name for name in shipped_recipes() if load_recipe(name)[1].adaptation == "probe"]


def halves(manifest: Manifest) -> Split:
    return make_split("kfold", manifest, 0, folds=2)


def fit(
    manifest: Manifest | Path,
    out: Path,
    changes: Sequence[str] = (),
    recipe: str = "probe",
    split: Split | Callable[[Manifest], Split] = halves,
    **more: Any,
) -> TrainedRun:
    name, loaded = load_recipe(recipe, [*SMALL, *changes])
    opened = manifest if isinstance(manifest, Manifest) else open_data(str(manifest))
    return train(TrainingRequest(name, loaded, opened, split, out, **more))


def probabilities(run: Path) -> dict[str, float]:
    table, _ = read_predictions(run / runs.PREDICTIONS)
    return dict(zip(table[r.FIGURE_ID].to_pylist(), table[r.P_ATYPICAL].to_pylist(), strict=True))


def stamps(run: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}


def rewrite(table: Path, change: Callable[[list[dict[str, str]]], None]) -> Path:
    with open(table, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = list(rows[0])
    change(rows)
    with open(table, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return table


# What a training leaves -----------------------------------------------------------------------


@pytest.mark.parametrize("recipe", PROBE_RECIPES)
def test_every_probe_trains_on_the_phantom_set_and_a_fold_refitted_alone_is_the_same(
    recipe: str, phantom_folder: Path, tmp_path: Path
) -> None:
    manifest = open_data(str(phantom_folder))
    trained = fit(manifest, tmp_path / "out", recipe=recipe)

    assert trained.fitted == ("fold-1", "fold-2")
    scored = {figure: p for run in trained.folds for figure, p in probabilities(run).items()}
    assert sorted(scored) == sorted(manifest.ids)
    assert all(0 <= p <= 1 for p in scored.values()) and len(set(scored.values())) > len(scored) // 2
    assert any("simulated" in warning for warning in trained.warnings)

    before = probabilities(tmp_path / "out" / "fold-2")
    (tmp_path / "out" / "fold-2" / runs.RUN).unlink()
    assert fit(manifest, tmp_path / "out", recipe=recipe).fitted == ("fold-2",)
    assert probabilities(tmp_path / "out" / "fold-2") == pytest.approx(before, abs=SAME)


def test_a_run_folder_holds_what_is_promised(trained_folder: Path) -> None:
    run = trained_folder / "fold-1"

    assert {path.name for path in run.iterdir()} == {
        runs.CONFIG, runs.SPLIT, runs.METRICS, runs.BUNDLE, runs.PREDICTIONS, runs.ENVIRONMENT, runs.LOG, runs.RUN,
    }  # fmt: skip
    assert yaml.safe_load((run / runs.CONFIG).read_text())["backbone"] == "tiny-cnn"
    assert json.loads((run / runs.ENVIRONMENT).read_text())["torch"] != "absent"
    assert [json.loads(line) for line in (run / runs.METRICS).read_text().splitlines()]
    fold = Split.load(run / runs.SPLIT).folds
    whole = Split.load(trained_folder / runs.SPLIT)
    assert fold == whole.folds[:1]
    table, facts = read_predictions(run / runs.PREDICTIONS)
    assert sorted(table[r.FIGURE_ID].to_pylist()) == sorted(fold[0].val)
    assert set(table[r.PART].to_pylist()) == {runs.VALIDATION}
    bundle = load_bundle(run / runs.BUNDLE)
    assert facts == {"bundle": bundle.fingerprint, "manifest": whole.manifest}
    assert json.loads((run / runs.RUN).read_text())["bundle_fingerprint"] == bundle.fingerprint


def test_the_stripes_are_learned(trained_folder: Path) -> None:
    table, _ = read_predictions(trained_folder / "fold-1" / runs.PREDICTIONS)
    labels, p = table[r.LABEL].to_numpy(), table[r.P_ATYPICAL].to_numpy()

    assert p[labels == 1].mean() > p[labels == 0].mean() + 0.2


def test_equal_inputs_give_bit_equal_predictions(small_csv: Path, trained_folder: Path, tmp_path: Path) -> None:
    name, recipe = load_recipe("probe", ["backbone=tiny-cnn", "geometry.out_px=32"])
    trained = train(TrainingRequest(name, recipe, open_data(str(small_csv)), halves, tmp_path / "again"))

    for run in trained.folds:
        assert probabilities(run) == probabilities(trained_folder / run.name)
        assert (run / "bundle/model.safetensors").read_bytes() == (
            trained_folder / run.name / "bundle/model.safetensors"
        ).read_bytes()


# Resuming -------------------------------------------------------------------------------------


def test_complete_folds_are_kept(small_csv: Path, tmp_path: Path) -> None:
    first = fit(small_csv, tmp_path / "out")
    before = [stamps(run) for run in first.folds]
    second = fit(small_csv, tmp_path / "out")

    assert second.fitted == () and second.folds == first.folds
    assert [stamps(run) for run in first.folds] == before


@pytest.mark.parametrize(
    "damage", ["bundle/model.safetensors", "bundle/config.json", "predictions.parquet", "run.json"]
)
def test_a_fold_whose_files_are_damaged_is_fitted_anew_and_the_other_is_kept(
    damage: str, small_csv: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    fit(small_csv, out)
    before, kept = probabilities(out / "fold-1"), stamps(out / "fold-2")
    path = out / "fold-1" / damage
    path.write_bytes(path.read_bytes()[:-20])

    assert fit(small_csv, out).fitted == ("fold-1",)
    assert probabilities(out / "fold-1") == pytest.approx(before, abs=SAME)
    assert stamps(out / "fold-2") == kept


def test_single_folds_can_be_trained_and_completed(small_csv: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    assert fit(small_csv, out, folds=("fold-2",)).folds == (out / "fold-2",)
    assert not (out / "fold-1").exists()
    assert fit(small_csv, out).fitted == ("fold-1",)


def test_an_unknown_fold_is_refused_before_features_are_computed(
    small_csv: Path, tmp_path: Path, own_home: Path
) -> None:
    with pytest.raises(InputError, match=r"`fold` must be one of fold-1, fold-2, got fold-9"):
        fit(small_csv, tmp_path / "out", folds=("fold-9",))
    assert not (own_home / "cache" / "features").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "more", "differs"),
    [(["threshold=0.4"], {}, "recipe"), ([], {"seed": 1}, "seed"), ([], {"allow": ("case-across-parts",)}, "allow")],
)
def test_another_training_in_the_same_folder_is_refused(
    changes: list[str], more: dict[str, Any], differs: str, small_csv: Path, tmp_path: Path
) -> None:
    fit(small_csv, tmp_path / "out", folds=("fold-1",))
    before = stamps(tmp_path / "out" / "fold-1")

    with pytest.raises(InputError, match=rf"holds another training \(it differs in: {differs}\); fix: choose another"):
        fit(small_csv, tmp_path / "out", changes, **more)
    assert stamps(tmp_path / "out" / "fold-1") == before


def test_other_data_in_the_same_folder_is_refused(small_csv: Path, other_csv: Path, tmp_path: Path) -> None:
    fit(small_csv, tmp_path / "out", folds=("fold-1",))

    with pytest.raises(InputError, match=r"differs in: data, split"):
        fit(other_csv, tmp_path / "out")


@pytest.mark.parametrize("content", ["[]", "{", ""])
def test_a_damaged_record_of_what_was_asked_is_named(content: str, small_csv: Path, tmp_path: Path) -> None:
    (tmp_path / runs.TRAINING).write_text(content, "utf-8")

    with pytest.raises(WorkError, match=r"training\.json is damaged .*fix:"):
        fit(small_csv, tmp_path)


KILLED = """
import os, signal, sys
from pathlib import Path
from atypia.data.sources.opening import open_data
from atypia.splits.protocol import make_split
from atypia.training import train as fit
from atypia.training.trainer import TrainingRequest
from atypia.training.recipe import load_recipe

write = fit.write_json

def write_and_die(path, value):
    write(path, value)
    if path.name == "run.json" and "fold-2" in path.parent.name:
        os.kill(os.getpid(), signal.SIGKILL)

fit.write_json = write_and_die
name, recipe = load_recipe("probe", sys.argv[3:])
manifest = open_data(sys.argv[1])
split = make_split("kfold", manifest, 0, folds=2)
fit.train(TrainingRequest(name, recipe, manifest, split, Path(sys.argv[2])))
"""


def test_a_killed_training_leaves_nothing_that_is_read_as_whole(small_csv: Path, tmp_path: Path) -> None:
    out, undisturbed = tmp_path / "out", tmp_path / "undisturbed"
    command = [sys.executable, "-c", KILLED, str(small_csv), str(out), *SMALL]
    ended = subprocess.run(command, check=False, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})

    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()[-500:]
    # Killed at the worst moment: everything of the second fold is written, but it has no name yet.
    assert len(list(out.glob(".fold-2.*.part/run.json"))) == 1
    assert runs.run_folders(out) == [out / "fold-1"]
    assert collect(out).rows[r.FOLD].unique().to_pylist() == ["fold-1"]

    assert fit(small_csv, out).fitted == ("fold-2",)
    fit(small_csv, undisturbed)
    assert not list(out.glob(".*.part"))
    for name in ("fold-1", "fold-2"):
        assert probabilities(out / name) == pytest.approx(probabilities(undisturbed / name), abs=SAME)


# Leakage --------------------------------------------------------------------------------------


def cut_at(manifest: Manifest, held_out: Sequence[str]) -> Split:
    """One fold whose validation part are these figures."""
    rest = tuple(figure for figure in manifest.ids if figure not in held_out)
    return Split("by hand", {}, 0, manifest.fingerprint, (Fold("fold-1", rest, tuple(held_out)),))


def case_figures(manifest: Manifest, *cases: str) -> list[str]:
    chosen = manifest.table[r.CASE_ID].to_pylist()
    return [figure for figure, case in zip(manifest.ids, chosen, strict=True) if case in cases]


def test_a_case_on_both_sides_raises_and_the_exception_is_named_everywhere(small_csv: Path, tmp_path: Path) -> None:
    manifest, out = open_data(str(small_csv)), tmp_path / "out"
    leaking = cut_at(manifest, case_figures(manifest, "s0-case-0")[:6] + case_figures(manifest, "s0-case-1"))

    with pytest.raises(LeakageError, match=r"case-across-parts.*--allow case-across-parts"):
        fit(manifest, out, split=leaking)
    assert not out.exists()

    trained = fit(manifest, out, split=leaking, allow=("case-across-parts",))
    said = [warning for warning in trained.warnings if "case-across-parts" in warning]
    assert len(said) == 1
    assert said[0] in json.loads((out / runs.TRAINING).read_text())["warnings"]
    assert said[0] in collect(out).warnings
    assert said[0] in (out / "fold-1" / runs.LOG).read_text()
    assert said[0] in load_bundle(out / "fold-1" / runs.BUNDLE).training["warnings"]


def test_a_turned_copy_on_both_sides_raises(paint: Callable[..., Path], tmp_path: Path) -> None:
    from PIL import Image

    table = paint(tmp_path / "set")
    with Image.open(tmp_path / "set/s0-000.png") as image:
        image.rotate(180).save(tmp_path / "set/s0-075.png")
    rewrite(table, lambda rows: rows[75].update(label="1"))
    manifest = open_data(str(table))
    split = cut_at(manifest, case_figures(manifest, "s0-case-7", "s0-case-6"))

    with pytest.raises(LeakageError, match=r"--allow identical-across-parts"):
        fit(manifest, tmp_path / "out", split=split)
    trained = fit(manifest, tmp_path / "out", split=split, allow=("identical-across-parts",))
    assert any("identical-across-parts" in warning for warning in trained.warnings)


def test_equal_images_with_other_labels_raise(paint: Callable[..., Path], tmp_path: Path) -> None:
    table = paint(tmp_path / "set")
    shutil.copy(tmp_path / "set/s0-000.png", tmp_path / "set/s0-001.png")

    with pytest.raises(LeakageError, match=r"--allow conflicting-labels"):
        fit(table, tmp_path / "out")
    assert fit(table, tmp_path / "out", allow=("conflicting-labels",)).fitted == ("fold-1", "fold-2")


# Images that cannot be used -------------------------------------------------------------------


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-400])


def test_quarantined_figures_are_counted_and_not_scored(paint: Callable[..., Path], tmp_path: Path) -> None:
    table = paint(tmp_path / "set")
    truncate(tmp_path / "set/s0-004.png")
    trained = fit(table, tmp_path / "out")

    assert any("1 figure was left out" in w and "s0-004" in w for w in trained.warnings)
    scored = {figure for run in trained.folds for figure in probabilities(run)}
    assert len(scored) == 79 and "s0-004" not in scored


def test_a_saved_split_goes_on_without_quarantined_figures(paint: Callable[..., Path], tmp_path: Path) -> None:
    table = paint(tmp_path / "set")
    truncate(tmp_path / "set/s0-004.png")
    manifest = open_data(str(table))
    halves(manifest).save(tmp_path / "split.json")
    saved = Split.load(tmp_path / "split.json")
    assert any("s0-004" in part for fold in saved.folds for part in fold.parts().values())

    trained = fit(manifest, tmp_path / "out", split=saved)

    used = Split.load(tmp_path / "out" / runs.SPLIT)
    for before, after in zip(saved.folds, used.folds, strict=True):
        assert [i for i in before.train if i != "s0-004"] == list(after.train)
        assert [i for i in before.val if i != "s0-004"] == list(after.val)
    assert fit(manifest, tmp_path / "out", split=saved).fitted == ()
    assert any("left out" in w for w in trained.warnings)


def test_a_split_of_another_manifest_is_refused(small_csv: Path, other_csv: Path, tmp_path: Path) -> None:
    split = halves(open_data(str(other_csv)))

    with pytest.raises(DataError, match=r"`split` must be one of the manifest figures .*fix: make a new split"):
        fit(small_csv, tmp_path / "out", split=split)


# Before any work ------------------------------------------------------------------------------


def test_absent_weights_are_told_before_any_work(
    small_csv: Path, tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))

    with pytest.raises(AbsentError, match=r"weights of uni are not on this machine: .*fix: .*--weights FILE"):
        fit(small_csv, tmp_path / "out", ["backbone=uni"])
    assert not (own_home / "cache" / "crops").exists() and not (tmp_path / "out").exists()


def test_a_fold_without_both_classes_is_an_input_error(small_csv: Path, tmp_path: Path) -> None:
    manifest = open_data(str(small_csv))
    normal = [figure for figure, label in zip(manifest.ids, manifest.labels, strict=True) if label == 0]
    split = Split("by hand", {}, 0, manifest.fingerprint, (Fold("fold-1", tuple(normal[:20]), tuple(normal[20:30])),))

    with pytest.raises(AtypiaError, match=r"both classes|positive"):
        fit(manifest, tmp_path / "out", split=split, allow=("case-across-parts",))


def test_run_ids_differ_between_folds_and_seeds(small_csv: Path, tmp_path: Path) -> None:
    ids = []
    for seed in (0, 1):
        trained = fit(small_csv, tmp_path / str(seed), seed=seed)
        ids += [json.loads((run / runs.RUN).read_text())["run_id"] for run in trained.folds]

    assert len(set(ids)) == 4


def test_metrics_of_a_training_are_those_of_its_predictions(trained_folder: Path, tmp_path: Path) -> None:
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score

    out = tmp_path / "copy"
    shutil.copytree(trained_folder, out)
    rows = collect(out).rows.to_pylist()
    for run in runs.run_folders(out):
        table, _ = read_predictions(run / runs.PREDICTIONS)
        labels, p = table[r.LABEL].to_numpy(), table[r.P_ATYPICAL].to_numpy()
        told = {row["metric"]: row["value"] for row in rows if row[r.FOLD] == run.name and row[r.DOMAIN] is None}
        assert told["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, p >= 0.5), abs=1e-12)
        assert told["auroc"] == pytest.approx(roc_auc_score(labels, p), abs=1e-12)
        assert np.array_equal(table[r.DECISION].to_numpy(), (p >= 0.5).astype(np.int8))
