"""Recipes: the shipped ones, overrides, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from atypia.backbones.catalogue import BACKBONES
from atypia.base.errors import InputError
from atypia.methods.catalogue import PROBES
from atypia.training.recipe import load_recipe, parse_recipe, shipped_recipes
from atypia.training.schema import NetworkRecipe, ProbeRecipe
from atypia.training.train import check_recipe

PROBE = {"summary": "s", "adaptation": "probe", "backbone": "tiny-cnn", "probe": "atypia"}


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_a_shipped_recipe_is_whole(name: str) -> None:
    found, recipe = load_recipe(name)

    assert found == name
    assert recipe.summary and "\n" not in recipe.summary
    assert recipe.backbone in BACKBONES
    if isinstance(recipe, ProbeRecipe):
        PROBES[recipe.probe].parse_options(recipe.options)


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_a_shipped_recipe_that_is_dumped_and_read_again_is_the_same(name: str, tmp_path: Path) -> None:
    _, recipe = load_recipe(name)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")), "utf-8")

    assert load_recipe(str(path)) == ("mine", recipe)


def test_there_are_recipes_for_probes_and_networks() -> None:
    kinds = {type(load_recipe(name)[1]) for name in shipped_recipes()}

    assert kinds == {ProbeRecipe, NetworkRecipe}


def test_an_unknown_recipe_lists_the_choices() -> None:
    with pytest.raises(InputError, match=r"unknown recipe 'prob'; choices: .*probe.*or a \.yaml file"):
        load_recipe("prob")


def test_an_absent_file_is_named() -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml does not exist; fix: check the path"):
        load_recipe("nowhere.yaml")


def test_a_file_may_have_a_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_bytes(b"\xef\xbb\xbf" + yaml.safe_dump(PROBE).replace("\n", "\r\n").encode())

    assert load_recipe(str(path))[1] == parse_recipe(PROBE, "test")


def test_overrides_reach_nested_values() -> None:
    _, recipe = load_recipe("probe", ["geometry.side_um=32", "options.strengths=[1.0]", "backbone=tiny-cnn"])

    assert recipe.geometry.side_um == 32
    assert isinstance(recipe, ProbeRecipe) and recipe.options == {"strengths": [1.0]}
    assert recipe.backbone == "tiny-cnn"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("treshold=0.4", r"`treshold` is not a known key; known here: .*threshold"),
        ("geometry.out=64", r"`geometry\.out` is not a known key; known here: out_px"),
        ("threshold=1.5", r"`threshold`: .*less than 1, got 1\.5"),
        ("geometry.out_px=many", r"`geometry\.out_px`: .*got 'many'"),
        ("threshold", r"`--set` must be key=value, got threshold"),
        ("threshold.low=1", r"`threshold`: .*got \{'low': 1\}"),
        ("adaptation=glue", r"`adaptation` must be one of probe, .*, got glue; fix: "),
        ("adaptation=[probe]", r"`adaptation` must be one of probe, .*, got \['probe'\]"),
        ("adaptation=", r"`adaptation` must be one of probe, .*, got None"),
        ("probe.name=x", r"`--set` must be a key below a mapping, 'probe' is none, got probe\.name"),
        ("threshold=.nan", r"`threshold`: .*got nan"),
        ("input_px=[", r"no valid YAML value"),
    ],
)
def test_a_wrong_override_names_the_key(change: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_recipe("probe", [change])


def test_a_key_that_is_no_text_is_refused() -> None:
    with pytest.raises(InputError, match="not valid"):
        parse_recipe({**PROBE, 7: "x"}, "test")  # pyright: ignore[reportArgumentType]


def test_options_of_a_probe_are_checked_before_work() -> None:
    _, recipe = load_recipe("probe", ["backbone=tiny-cnn", "options.strenghts=[1.0]"])

    with pytest.raises(InputError, match=r"`strenghts` is not a known key; known here: strengths"):
        check_recipe(recipe)


def test_an_unknown_probe_and_backbone_list_the_choices() -> None:
    with pytest.raises(InputError, match=r"unknown probe 'atipia'; did you mean 'atypia'"):
        check_recipe(parse_recipe({**PROBE, "probe": "atipia"}, "test"))
    with pytest.raises(InputError, match=r"unknown backbone 'tiny-cmn'; did you mean 'tiny-cnn'"):
        check_recipe(parse_recipe({**PROBE, "backbone": "tiny-cmn"}, "test"))


def test_a_frozen_backbone_must_be_pretrained() -> None:
    with pytest.raises(InputError, match=r"pretrained: false does not go with adaptation lora; fix: adaptation: full"):
        load_recipe("lora", ["backbone=tiny-vit", "pretrained=false"])
