"""Evaluation of trained classifiers on other data: what is written, kept, refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from atypia.base import records as r
from atypia.base import runs
from atypia.base.errors import AbsentError, DataError, InputError, LeakageError
from atypia.data.manifest import Manifest
from atypia.data.sources.opening import open_data
from atypia.evaluation import external
from atypia.evaluation.collect import collect
from atypia.evaluation.external import evaluate, open_target
from atypia.inference.predict import score
from atypia.inference.predictions import read_predictions
from atypia.splits.protocol import make_split
from atypia.training.recipe import load_recipe
from atypia.training.train import train
from atypia.training.trainer import TrainingRequest


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations of lone bundles go to the current folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def training(trained_folder: Path, tmp_path: Path) -> Path:
    """A copy of the trained folder that a test may change."""
    return Path(shutil.copytree(trained_folder, tmp_path / "probe"))


@pytest.fixture
def other(other_csv: Path) -> Manifest:
    return open_data(str(other_csv))


@pytest.fixture
def scorings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the bundles that were asked to score, in order."""
    asked: list[str] = []

    def counted(bundle, *args, **more):
        asked.append(bundle.name)
        return score(bundle, *args, **more)

    monkeypatch.setattr(external, "score", counted)
    return asked


def test_every_fold_scores_every_figure(training: Path, other: Manifest) -> None:
    files, warnings = evaluate(open_target(training), other)

    assert warnings == []
    assert [file.stem for file in files] == ["fold-1", "fold-2"]
    assert files[0].parent.parent == training / runs.EVALUATIONS
    for file in files:
        table, facts = read_predictions(file)
        assert table[r.FIGURE_ID].to_pylist() == other.ids
        assert set(table[r.PART].to_pylist()) == {runs.EXTERNAL} and set(table[r.FOLD].to_pylist()) == {file.stem}
        run_id = json.loads((training / file.stem / runs.RUN).read_text())["run_id"]
        assert set(table[r.RUN_ID].to_pylist()) == {run_id}
        assert facts["manifest"] == other.fingerprint


@pytest.mark.parametrize(("recipe", "backbone"), [("probe", "tiny-cnn"), ("full", "tiny-cnn"), ("lora", "tiny-vit")])
def test_a_bundle_predicts_what_its_training_predicted(
    recipe: str, backbone: str, small_csv: Path, tmp_path: Path
) -> None:
    changes = [f"backbone={backbone}", "geometry.out_px=32", "input_px=32"]
    if recipe != "probe":
        changes += ["epochs=1", "schedule={}", "precision=fp32"]
    name, loaded = load_recipe(recipe, changes)
    manifest = open_data(str(small_csv))
    split = make_split("kfold", manifest, 0, folds=2)
    train(TrainingRequest(name, loaded, manifest, split, tmp_path / "out", folds=("fold-1",), device="cpu"))
    run = tmp_path / "out" / "fold-1"
    files, _ = evaluate(open_target(run), manifest, allow=("figure-across-sets",))

    own, loaded_again = (read_predictions(path)[0] for path in (run / runs.PREDICTIONS, files[0]))
    again = dict(zip(loaded_again[r.FIGURE_ID].to_pylist(), loaded_again[r.P_ATYPICAL].to_pylist(), strict=True))
    expected = [again[figure] for figure in own[r.FIGURE_ID].to_pylist()]
    assert len(expected) == 40
    np.testing.assert_allclose(own[r.P_ATYPICAL].to_numpy(), expected, atol=1e-5)


def test_what_is_there_and_valid_is_kept(training: Path, other: Manifest, scorings: list[str]) -> None:
    files, _ = evaluate(open_target(training), other)
    stamps = [file.stat().st_mtime_ns for file in files]
    evaluate(open_target(training), other)

    assert len(scorings) == 2
    assert [file.stat().st_mtime_ns for file in files] == stamps


def test_what_is_damaged_is_predicted_anew(training: Path, other: Manifest, scorings: list[str]) -> None:
    files, _ = evaluate(open_target(training), other)
    before, _ = read_predictions(files[1])
    files[1].write_bytes(files[1].read_bytes()[:-50])
    evaluate(open_target(training), other)

    assert len(scorings) == 3 and scorings[2] == scorings[1]
    assert read_predictions(files[1])[0].equals(before)


def test_one_fold_and_one_bundle_give_the_same_predictions_as_the_training(training: Path, other: Manifest) -> None:
    whole, _ = evaluate(open_target(training), other)
    fold, _ = evaluate(open_target(training / "fold-2"), other)
    target = open_target(training / "fold-2" / runs.BUNDLE)
    lone, _ = evaluate(target, other)

    expected = read_predictions(whole[1])[0][r.P_ATYPICAL].to_pylist()
    assert [file.stem for file in fold] == ["fold-2"] and [file.stem for file in lone] == ["bundle"]
    for file in (*fold, *lone):
        assert read_predictions(file)[0][r.P_ATYPICAL].to_pylist() == expected
    assert collect(target.out, about=target.folder).rows[r.DATASET].unique().to_pylist() == ["figures"]
    (_, bundle), *_ = target.bundles
    assert target.out == Path("evaluations") / f"{bundle.name}-{bundle.fingerprint[:8]}"
    assert sorted(file.name for file in target.folder.iterdir()) == ["card.md", "config.json", "model.safetensors"]


def test_evaluations_go_where_they_are_sent_and_are_not_mixed(training: Path, other: Manifest, tmp_path: Path) -> None:
    out = tmp_path / "sent"
    files, _ = evaluate(open_target(training / "fold-1", out), other)
    assert files[0].parent.parent.parent == out and not (training / "fold-1" / runs.EVALUATIONS).exists()
    open_target(training, out)  # the training's first fold is the same classifier
    with pytest.raises(InputError, match=r"`out` must be new, or of the same classifier, got .*; fix: choose another"):
        open_target(training / "fold-2", out)
    with pytest.raises(InputError, match="holds evaluations of another"):
        open_target("atypia", out)


@pytest.mark.parametrize("part", [".", "fold-1", "fold-1/bundle"])
def test_the_training_data_itself_is_refused(part: str, training: Path, small_csv: Path) -> None:
    manifest = open_data(str(small_csv))

    with pytest.raises(LeakageError, match=r"refused: .*--allow figure-across-sets"):
        evaluate(open_target(training / part), manifest)
    assert not (training / part / runs.EVALUATIONS).exists()


def test_a_bundle_that_was_moved_still_knows_its_data(training: Path, small_csv: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(training / "fold-1" / runs.BUNDLE, tmp_path / "elsewhere" / "mine"))

    with pytest.raises(LeakageError, match=r"was trained on the figures of figures; .*--allow figure-across-sets"):
        evaluate(open_target(moved), open_data(str(small_csv)))


def test_a_manifest_beside_a_moved_bundle_is_not_taken_for_its_training_data(
    training: Path, other_csv: Path, tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(training / "fold-1" / runs.BUNDLE, tmp_path / "data" / "mine"))
    renamed = Path(shutil.copy(other_csv, other_csv.parent / "others.csv"))
    other = open_data(str(renamed))
    other.save(tmp_path / "data" / runs.MANIFEST)

    assert len(evaluate(open_target(moved), other)[0]) == 1


def test_a_bundle_that_was_moved_is_not_tested_on_a_set_of_the_same_name(
    training: Path, other: Manifest, tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(training / "fold-1" / runs.BUNDLE, tmp_path / "elsewhere" / "mine"))

    with pytest.raises(LeakageError, match=r"figures holds figures, on which the classifier was trained"):
        evaluate(open_target(moved), other)


def test_allowed_leakage_is_a_warning_in_the_table_for_good(training: Path, small_csv: Path) -> None:
    manifest = open_data(str(small_csv))
    _, warnings = evaluate(open_target(training), manifest, allow=("figure-across-sets",))

    assert any("figure-across-sets" in warning for warning in warnings)
    assert set(warnings) <= set(collect(training).warnings)
    assert set(warnings) <= set(collect(training).warnings)


def test_a_copied_image_is_found_under_another_name(
    training: Path, small_csv: Path, paint: Callable[..., Path], tmp_path: Path
) -> None:
    table = paint(tmp_path / "new", cases=4, seed=2)
    shutil.copy(small_csv.parent / "s0-000.png", tmp_path / "new" / "s2-000.png")

    with pytest.raises(LeakageError, match=r"--allow identical-across-sets"):
        evaluate(open_target(training), open_data(str(table)))


def test_figures_without_a_label_are_refused(training: Path, other: Manifest) -> None:
    position = other.table.schema.get_field_index(r.LABEL)
    labels = [None, *other.table[r.LABEL].to_pylist()[1:]]
    import pyarrow as pa

    table = other.table.set_column(position, other.table.schema.field(position), pa.array(labels, pa.int8()))
    with pytest.raises(DataError, match=r"1 of 40 figures have no label; fix: label or drop them"):
        evaluate(open_target(training), replace(other, table=table))


def test_another_task_is_refused(training: Path, other: Manifest) -> None:
    with pytest.raises(InputError, match=r"trained for the task 'atypical', .*'mitosis'; fix: choose"):
        evaluate(open_target(training), replace(other, task="mitosis"))


def test_quarantined_figures_are_counted(training: Path, paint: Callable[..., Path], tmp_path: Path) -> None:
    table = paint(tmp_path / "new", cases=4, seed=2)
    path = tmp_path / "new" / "s2-003.png"
    path.write_bytes(path.read_bytes()[:-300])
    files, warnings = evaluate(open_target(training), open_data(str(table)))

    assert warnings == ["figures: 1 figure left out because their images cannot be read"]
    assert read_predictions(files[0])[0].num_rows == 39
    assert warnings[0] in collect(training).warnings


def test_crops_of_another_field_than_the_model_s_are_told(training: Path) -> None:
    bundle = replace(open_target(training).bundles[0][1], name="mine", field_um=8.0)
    row = {r.DATASET: "d", r.LABEL: 1, r.WIDTH_PX: 32, r.HEIGHT_PX: 40}
    scales = (0.25, 0.23, None, 0.5)  # 0.25 and 0.23 are in one published set
    rows = [row | {r.FIGURE_ID: f"{n}", r.IMAGE: f"{n}.png", r.MPP: mpp} for n, mpp in enumerate(scales)]
    (said,) = external.other_fields(bundle, Manifest.from_rows(rows, "theirs"))
    assert said.startswith(
        "theirs: by their µm/px 1 crop shows a field of 16 µm, and mine was trained on 8 µm; they are"
    )
    assert external.other_fields(bundle, Manifest.from_rows(rows[:3], "theirs")) == []
    assert external.other_fields(replace(bundle, field_um=None), Manifest.from_rows(rows, "theirs")) == []


def test_training_images_that_are_gone_do_not_stop_an_evaluation(
    training: Path, other: Manifest, tmp_path: Path
) -> None:
    manifest = Manifest.load(training / runs.MANIFEST)
    replace(manifest, root=None).save(training / runs.MANIFEST)

    files, _ = evaluate(open_target(training), other)
    assert len(files) == 2


def test_a_path_that_holds_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no training, run or bundle; fix: give the --out folder"):
        open_target(tmp_path)
    with pytest.raises(InputError, match=r"holds no training"):
        open_target(tmp_path / "absent")


def test_a_damaged_bundle_stops_the_evaluation(training: Path) -> None:
    path = training / "fold-2" / runs.BUNDLE / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])

    with pytest.raises(DataError, match=r"fold-2/bundle is a damaged bundle"):
        open_target(training)


def test_other_weights_are_refused(training: Path, other: Manifest) -> None:
    target = open_target(training)
    changed = tuple((name, replace(bundle, weights_sha256="1" * 64)) for name, bundle in target.bundles)

    with pytest.raises(AbsentError, match=r"not those that .* was made with"):
        evaluate(replace(target, bundles=changed), other)


def test_two_sets_of_one_name_do_not_overwrite_each_other(
    training: Path, other: Manifest, paint: Callable[..., Path], tmp_path: Path
) -> None:
    another = open_data(str(paint(tmp_path / "new", cases=4, seed=2)))
    assert another.name == other.name
    first, _ = evaluate(open_target(training), other)
    second, _ = evaluate(open_target(training), another)

    assert not set(first) & set(second)
    assert np.isfinite(read_predictions(first[0])[0][r.P_ATYPICAL].to_numpy()).all()
