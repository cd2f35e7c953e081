"""A tiny network that is trained with one term."""

from __future__ import annotations

from atypia.training.recipe import parse_recipe
from atypia.training.schema import NetworkRecipe

SIDE = 32


def recipe_with(term: str, **changes: object) -> NetworkRecipe:
    """The recipe of a tiny network, whose only term is this one with its defaults."""
    values = {
        "summary": "x", "adaptation": "full", "backbone": "tiny-cnn", "input_px": SIDE, "pretrained": False,
        "terms": [{"name": term}], "head": {"hidden": [8]}, **changes,
    }  # fmt: skip
    made = parse_recipe(values, "x")
    assert isinstance(made, NetworkRecipe)
    return made
