"""The names of shipped recipes, generator recipes and studies, and their files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from atypia.base.errors import InputError

if TYPE_CHECKING:
    from atypia.studies.schema import StudyConfig
    from atypia.synthesis.schema import GeneratorRecipe
    from atypia.training.schema import Recipe


def training_recipes() -> dict[str, Recipe]:
    """The shipped recipes of trainings, by name."""
    from atypia.training.recipe import load_recipe, shipped_recipes

    return {name: load_recipe(name)[1] for name in shipped_recipes()}


def training_recipe_listing() -> list[tuple[str, str, str, str]]:
    """Name, adaptation, backbone and summary of every shipped recipe of a training.

    They are read from the files without checking the rest of them: that would import the terms that recipes name, and
    with them the network library.
    """
    from atypia.base.config import read_yaml
    from atypia.training.recipe import shipped_recipes

    listed = []
    for name, path in shipped_recipes().items():
        values = read_yaml(path)
        listed.append((name, str(values["adaptation"]), str(values["backbone"]), str(values["summary"])))
    return listed


def training_recipe_text(name: str) -> str:
    """The file of a shipped recipe, a starting point for your own.

    Raises:
        InputError: No such recipe; lists them.
    """
    from atypia.training.recipe import shipped_recipes

    return _text("recipe", name, shipped_recipes)


def generator_recipes() -> dict[str, GeneratorRecipe]:
    """The shipped recipes of generators, by name."""
    from atypia.synthesis.schema import load_generator_recipe, shipped_generators

    return {name: load_generator_recipe(name)[1] for name in shipped_generators()}


def generator_recipe_text(name: str) -> str:
    """The file of a generator's shipped recipe.

    Raises:
        InputError: No such recipe; lists them.
    """
    from atypia.synthesis.schema import shipped_generators

    return _text("generator recipe", name, shipped_generators)


def shipped_studies() -> list[StudyConfig]:
    """The studies that ship with Atypia."""
    from atypia.studies.files import load_study
    from atypia.studies.files import shipped_studies as files

    return [load_study(name) for name in files()]


def _text(what: str, name: str, shipped: Callable[[], Mapping[str, Path]]) -> str:
    files = shipped()
    if name not in files:
        raise InputError(f"unknown {what} {name!r}; choices: {', '.join(files)}")
    return files[name].read_text("utf-8")
