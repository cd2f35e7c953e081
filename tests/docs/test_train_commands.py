"""The trainings that pages show: recipe, settings, backbone and protocol are taken as they stand, without data."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from atypia.splits.catalogue import PROTOCOLS
from atypia.training.recipe import load_recipe

from .test_docs import COMMANDS, ROOT, words_of

TRAININGS = [(page, words) for page, line in COMMANDS if (words := words_of(line))[:2] == ["atypia", "train"]]
OF_PLUGINS = "mylab"
OF_THE_READER = {"mine.yaml"}


def values(words: list[str], option: str) -> list[str]:
    return [value for name, value in pairwise(words) if name == option]


def changes(words: list[str]) -> list[str]:
    return [*(f"backbone={name}" for name in values(words, "--backbone")), *values(words, "--set")]


@pytest.mark.parametrize(("page", "words"), TRAININGS, ids=lambda given: given if isinstance(given, str) else given[2])
def test_a_training_that_is_shown_can_begin(page: str, words: list[str]) -> None:
    if OF_PLUGINS in " ".join(words) or words[2] in OF_THE_READER:
        assert "docs/plugins.md" in page or page == "docs/training.md"
        return
    name, recipe = load_recipe(words[2], changes(words))
    assert name == words[2] and recipe.adaptation in ("probe", "lora", "full")
    assert set(values(words, "--protocol")) <= set(PROTOCOLS), page


def test_the_page_s_own_recipe_is_one(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "training.md").read_text("utf-8")
    (block,) = (b for b in re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE) if "name: irm" in b)
    full = yaml.safe_load((ROOT / "src/atypia/recipes/full.yaml").read_text("utf-8"))
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(full | yaml.safe_load(block)), "utf-8")
    (words,) = (words for _, words in TRAININGS if words[2] == "mine.yaml")
    _, recipe = load_recipe(str(tmp_path / "mine.yaml"), changes(words))
    assert {term.name: term.weight for term in recipe.terms} == {"irm": 10.0}  # pyright: ignore[reportAttributeAccessIssue]
