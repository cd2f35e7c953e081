"""Training, evaluation and studies from Python: result objects that hold what the command line prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from atypia.base.errors import AbsentError, InputError
from atypia.data.sources.opening import open_data
from atypia.splits.protocol import make_split
from atypia.training.recipe import load_recipe
from atypia.workflows.data import describe_data, import_source, split_data
from atypia.workflows.dividing import chosen_split
from atypia.workflows.evaluate import evaluate
from atypia.workflows.recipes import (
    shipped_studies,
    training_recipe_listing,
    training_recipe_text,
    training_recipes,
)
from atypia.workflows.studies.study import plan_study, study_folder
from atypia.workflows.train import train

TINY = ("geometry.out_px=32", "input_px=32")


def test_a_training_is_evaluated_and_both_give_tables(small_csv: Path, other_csv: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = {"backbone": "tiny-cnn", "overrides": TINY, "protocol": "kfold", "protocol_settings": {"folds": 2}}
    trained = train("probe", small_csv, out, **asked)
    assert (trained.trained, trained.kept) == (("fold-1", "fold-2"), 0)
    assert [folder.name for folder in trained.folds] == ["fold-1", "fold-2"]
    again = train("probe", open_data(str(small_csv)), out, **asked)
    assert (again.trained, again.kept) == ((), 2)

    told: list[str] = []
    found = evaluate(out, [open_data(str(other_csv))], on_warning=told.append)
    assert [(one.name, one.figures, one.left_out, len(one.predictions)) for one in found.sets] == [
        ("figures", 40, 0, 2)
    ]
    assert tuple(dict.fromkeys(told)) == found.warnings
    assert found.out == found.target == out
    before, after = trained.table().rows, found.table().rows
    assert len(after) > 0 and len(before) == len(after)  # both read all predictions of the folder


def test_an_opened_recipe_and_split_are_taken_and_not_changed(small_csv: Path, tmp_path: Path) -> None:
    _, recipe = load_recipe("probe", ["backbone=tiny-cnn", *TINY])
    manifest = open_data(str(small_csv))
    split = make_split("kfold", manifest, 0, folds=2)
    with pytest.raises(InputError, match="`overrides` must be left out with an opened recipe, got seed=1"):
        train(recipe, manifest, tmp_path / "no", overrides=["seed=1"])
    trained = train(recipe, manifest, tmp_path / "out", split=split, folds=["fold-1"], name="mine")
    assert trained.trained == ("fold-1",)
    assert "mine · tiny-cnn" in trained.table().to_text()


def test_what_divides_is_checked_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown protocol 'kfolds'"):
        chosen_split("kfolds")
    with pytest.raises(InputError, match="protocol kfold"):
        chosen_split("kfold", {"fold": 2})
    with pytest.raises(InputError, match="does not go with `--split`"):
        chosen_split("kfold", ["folds=2"], tmp_path / "split.json")


def test_data_are_counted_and_divided(small_csv: Path, tmp_path: Path) -> None:
    described = describe_data(str(small_csv))
    assert sum(negative + positive for _, _, negative, positive in described.domain_counts()) == 80
    assert described.warnings == [] and described.counts["broken"] == {}
    divided = split_data(str(small_csv), tmp_path / "split.json", "kfold", {"folds": 2})
    assert len(divided.folds) == 2 and (tmp_path / "split.json").is_file()
    with pytest.raises(AbsentError, match="ami-br was not found under the data root; fix: name its folder"):
        import_source("ami-br", root=tmp_path)


def test_what_ships_is_found_by_name() -> None:
    assert training_recipe_listing() == [
        (n, r.adaptation, r.backbone, r.summary) for n, r in training_recipes().items()
    ]
    assert "probe" in training_recipes() and "adaptation: probe" in training_recipe_text("probe")
    with pytest.raises(InputError, match="unknown recipe 'prob'; choices: "):
        training_recipe_text("prob")
    names = [study.name for study in shipped_studies()]
    assert study_folder(names[0], "cpu") == Path("studies") / f"{names[0]}-cpu"


def test_a_plan_says_what_cannot_be_done_here(tmp_path: Path) -> None:
    planned = plan_study("banerjee-table3", "full", tmp_path / "study", root=tmp_path)
    assert planned.warnings and all(text.startswith(("left out: ", "not tested on ")) for text in planned.warnings)
    assert not (tmp_path / "study").exists() and f"in {tmp_path / 'study'}" in repr(planned)
