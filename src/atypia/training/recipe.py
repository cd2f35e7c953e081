"""Recipes: everything that decides a training, as strict YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from atypia.base.config import parse, read_shipped, shipped_yaml
from atypia.base.errors import InputError, must
from atypia.training.schema import NetworkRecipe, ProbeRecipe, Recipe

SCHEMAS: dict[str, type[ProbeRecipe] | type[NetworkRecipe]] = {
    "probe": ProbeRecipe,
    "full": NetworkRecipe,
    "lora": NetworkRecipe,
    "partial": NetworkRecipe,
}
"""The schema of each adaptation."""


def shipped_recipes() -> dict[str, Path]:
    """Name and file of every recipe that ships with Atypia, in alphabetical order."""
    return shipped_yaml("recipes")


def load_recipe(reference: str, overrides: Sequence[str] = ()) -> tuple[str, Recipe]:
    """Reads a recipe and applies ``key=value`` overrides.

    Args:
        reference: A shipped recipe's name, or the path of a YAML file.
        overrides: As ``--set`` takes them.

    Returns:
        The recipe's name (the file's stem) and the recipe.

    Raises:
        InputError: No such recipe, or it is not valid.
    """
    name, values = read_shipped("recipe", reference, shipped_recipes(), overrides)
    return name, parse_recipe(values, f"recipe {reference}")


def parse_recipe(values: Mapping[str, Any], where: str) -> Recipe:
    """Validates a recipe's values by the schema of its adaptation.

    Raises:
        InputError: No such adaptation, or a value or key is not valid.
    """
    adaptation = values.get("adaptation")
    if not isinstance(adaptation, str) or adaptation not in SCHEMAS:
        raise InputError(must("adaptation", f"one of {', '.join(SCHEMAS)}", adaptation, f"correct {where}"))
    return parse(SCHEMAS[adaptation], values, where)
