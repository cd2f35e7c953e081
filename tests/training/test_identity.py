"""The identity of a run: what changes its result, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atypia.base import runs
from atypia.base.errors import InputError, WorkError
from atypia.data.sources.opening import open_data
from atypia.methods.catalogue import PROBES
from atypia.methods.terms.adversarial import AdversarialOptions
from atypia.splits.protocol import make_split
from atypia.splits.split import Fold
from atypia.training import identity
from atypia.training import recipe as recipes
from atypia.training.identity import recipe_identity, refuse_other, run_id
from atypia.training.recipe import load_recipe, parse_recipe, shipped_recipes
from atypia.training.schema import ProbeRecipe
from atypia.training.train import TrainedRun, train
from atypia.training.trainer import TrainingRequest

PROBE: dict[str, Any] = {
    "summary": "some words", "adaptation": "probe", "backbone": "tiny-cnn", "probe": "atypia",
    "geometry": {"out_px": 32}, "input_px": 32,
}  # fmt: skip
NETWORK: dict[str, Any] = {"summary": "some words", "adaptation": "full", "backbone": "tiny-cnn", "epochs": 3}
FOLD = Fold("fold-1", ("a", "b"), ("c",), ())


class LaterProbe(ProbeRecipe):
    """The schema of a version that has one optional key more."""

    later: int = 3


def identified(values: dict[str, Any], seed: int = 0, inputs: str = "crops", fold: Fold = FOLD) -> str:
    return run_id(parse_recipe(values, "recipe"), seed, inputs, fold)


def fit(table: Path, out: Path, name: str = "probe", **changes: Any) -> TrainedRun:
    manifest = open_data(str(table))
    recipe = parse_recipe({**PROBE, **changes}, "recipe")
    return train(TrainingRequest(name, recipe, manifest, lambda figures: make_split("kfold", figures, 0, folds=2), out))


def test_ids_are_those_of_the_last_version() -> None:
    """A change here makes every run of every user another: raise a fit version instead."""
    assert identified(PROBE) == "d019c27c40503da8350836cdffe9584f"
    assert identified(NETWORK) == "805d7c5a416b9f00cb05022b7f719f00"
    first = {**PROBE, "threshold": 0.5}
    assert run_id(parse_recipe(PROBE, ""), 0, "crops", FOLD, first) == "92aa2ac0a5110afcd497583444cc0b20"


def test_defaults_and_words_leave_an_id_what_it_is() -> None:
    spelled = {**PROBE, "summary": "other words", "threshold": 0.5, "decision": None, "options": {}}
    assert identified(spelled) == identified(PROBE)
    every = PROBES["atypia"].parse_options({}).model_dump(mode="json")
    assert every and identified({**PROBE, "options": every}) == identified(PROBE)
    assert identified({**NETWORK, "head": {"hidden": []}, "optimiser": {}}) == identified(NETWORK)


def test_whatever_changes_the_result_changes_the_id() -> None:
    changed = [
        identified({**PROBE, "threshold": 0.4}),
        identified({**PROBE, "geometry": {"out_px": 33}}),
        identified({**PROBE, "decision": {}}),
        identified(PROBE, seed=1),
        identified(PROBE, inputs="other crops"),
        identified(PROBE, fold=Fold("fold-1", ("a",), ("c",), ("b",))),
        identified(PROBE, fold=Fold("fold-2", ("a", "b"), ("c",), ())),
        identified(NETWORK),
        identified({**NETWORK, "ema": {}}),
        identified({**NETWORK, "epochs": 4}),
    ]
    assert len({identified(PROBE), *changed}) == len(changed) + 1


@pytest.mark.parametrize("name", shipped_recipes())
def test_content_and_summary_are_all_of_a_recipe(name: str) -> None:
    recipe = load_recipe(name)[1]
    assert parse_recipe({"summary": recipe.summary, **recipe_identity(recipe)}, name) == recipe
    assert parse_recipe(recipe.model_dump(mode="json"), name) == recipe


@given(st.text(max_size=40), st.booleans(), st.sampled_from(["threshold", "input_px", "decision"]))
def test_no_wording_and_no_spelled_default_is_in_the_content(summary: str, spelled: bool, key: str) -> None:
    default = {"threshold": 0.5, "input_px": None, "decision": None}[key]
    values = {name: value for name, value in PROBE.items() if name != key}
    given_values = {**values, "summary": summary, **({key: default} if spelled else {})}
    assert recipe_identity(parse_recipe(given_values, "")) == recipe_identity(parse_recipe(values, ""))


def test_a_raised_version_makes_other_runs_of_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    before = identified(PROBE), identified(NETWORK)
    monkeypatch.setitem(identity.FIT_VERSIONS, "network", identity.FIT_VERSIONS["network"] + 1)
    after = identified(PROBE), identified(NETWORK)
    assert after[0] == before[0] and after[1] != before[1]


def test_a_term_whose_formula_changed_makes_other_runs_only_where_it_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    terms = [{"name": "adversarial", "weight": 0.1}, {"name": "contrastive"}]
    ways = {
        "mixed": {**NETWORK, "mixup": {}, "terms": terms},
        "never": {**NETWORK, "mixup": {"probability": 0.0}, "terms": terms},
        "plain": {**NETWORK, "terms": terms},
        "other": {**NETWORK, "mixup": {}, "terms": terms[1:]},
    }
    now = {name: identified(values) for name, values in ways.items()}
    monkeypatch.setattr(AdversarialOptions, "version", lambda self, mixes: 1)
    before = {name: identified(values) for name, values in ways.items()}
    assert {name for name in ways if now[name] != before[name]} == {"mixed"}


# Folders --------------------------------------------------------------------------------------


def test_a_training_made_before_a_key_was_added_continues_after_it(
    small_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert fit(small_csv, out).fitted == ("fold-1", "fold-2")
    (out / "fold-2" / runs.RUN).unlink()
    monkeypatch.setitem(recipes.SCHEMAS, "probe", LaterProbe)
    assert fit(small_csv, out).fitted == ("fold-2",)
    assert fit(small_csv, out, later=3).fitted == ()
    with pytest.raises(InputError, match=r"holds another training \(it differs in: recipe\)"):
        fit(small_csv, out, later=4)


def test_other_words_and_another_name_keep_a_training(small_csv: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    fit(small_csv, out)
    before = json.loads((out / runs.TRAINING).read_text("utf-8"))
    assert fit(small_csv, out, name="renamed", summary="other words", threshold=0.5).fitted == ()
    assert json.loads((out / runs.TRAINING).read_text("utf-8")) == before


def test_a_recipe_that_is_not_valid_any_more_is_another(small_csv: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    fit(small_csv, out)
    asked = json.loads((out / runs.TRAINING).read_text("utf-8"))
    asked["recipe"]["gone"] = 1
    (out / runs.TRAINING).write_text(json.dumps(asked), "utf-8")
    with pytest.raises(InputError, match=r"it differs in: recipe"):
        fit(small_csv, out)
    (out / runs.TRAINING).write_text("[]", "utf-8")
    with pytest.raises(WorkError, match=r"training.json is damaged"):
        fit(small_csv, out)


def test_a_version_that_was_raised_refuses_the_folder(
    small_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(small_csv, tmp_path / "out")
    monkeypatch.setitem(identity.FIT_VERSIONS, "probe", identity.FIT_VERSIONS["probe"] + 1)
    with pytest.raises(InputError, match=r"it differs in: version"):
        fit(small_csv, tmp_path / "out")


def test_the_refusal_names_what_differs(tmp_path: Path) -> None:
    refuse_other(tmp_path, [])
    expected = r"x holds another set of samples \(it differs in: a, b\); fix: choose another --out, or delete it"
    with pytest.raises(InputError, match=expected):
        refuse_other(Path("x"), ["b", "a"], "set of samples")
