"""Augmentation steps by name: schemas made from their fields, recipes that list them, one of a package's own."""

from __future__ import annotations

from dataclasses import dataclass, fields

import pytest
import torch
from torch import Tensor

from atypia.base.errors import InputError
from atypia.data.augment import colour, spatial, texture
from atypia.data.augment.pipeline import AUGMENTATIONS, augmentation
from atypia.data.augment.steps import STEPS, registered_step
from atypia.training.identity import recipe_identity
from atypia.training.recipe import parse_recipe
from atypia.training.schema import NetworkRecipe


def recipe_of(augment: object) -> NetworkRecipe:
    values = {"summary": "x", "adaptation": "full", "backbone": "tiny-cnn", "augment": augment}
    made = parse_recipe(values, "recipe")
    assert isinstance(made, NetworkRecipe)
    return made


@pytest.mark.parametrize("name", STEPS)
def test_defaults_of_a_step_are_those_of_its_class(name: str) -> None:
    entry = STEPS[name]
    options = recipe_of([{"name": name}]).augment[0]
    assert entry.build(options) == entry.make() and entry.summary  # pyright: ignore[reportArgumentType]
    assert set(entry.Options.model_fields) == {"name", *(field.name for field in fields(entry.make))}  # pyright: ignore[reportArgumentType]


def test_every_step_of_the_shipped_pipelines_is_registered_and_valid() -> None:
    known = {entry.make: name for name, entry in STEPS.items()}
    for pipeline in AUGMENTATIONS.values():
        for one in (*pipeline.spatial, *pipeline.photometric):
            values = {field.name: getattr(one, field.name) for field in fields(one)}  # pyright: ignore[reportArgumentType]
            options = recipe_of([{"name": known[type(one)], **values}]).augment[0]
            assert STEPS[known[type(one)]].build(options) == one  # pyright: ignore[reportArgumentType]


def test_a_list_of_steps_is_the_pipeline_that_it_says() -> None:
    listed = recipe_of([
        {"name": "jitter", "brightness": 0.3}, {"name": "affine", "degrees": 10, "scale": [0.9, 1.1]},
        {"name": "flip", "vertical": 0}, {"name": "blur", "sigma_px": [0.1, 1.0], "probability": 0.5},
    ])  # fmt: skip
    assert not isinstance(listed.augment, str)
    made = augmentation(listed.augment)
    assert made.spatial == (spatial.Affine(10, (0.9, 1.1)), spatial.Flip(0.5, 0))
    assert made.photometric == (colour.Jitter(0.3), texture.Blur((0.1, 1.0), 0.5))
    assert recipe_identity(listed)["augment"][0] == {"name": "jitter", "brightness": 0.3}  # defaults are left out
    again = parse_recipe(listed.model_dump(mode="json"), "recipe")
    assert again == listed


@pytest.mark.parametrize(
    ("augment", "said"),
    [
        ([{"name": "jiter"}], "unknown augmentation step 'jiter'; did you mean 'jitter'? choices: "),
        ([{"name": "jitter", "bright": 1}], "`augment.0.bright` is not a known key; known here: name, brightness"),
        ([{"name": "jitter", "brightness": -1}], "`augment.0.brightness`: Input should be greater than or equal to 0"),
        ([{"name": "flip", "horizontal": 1}, {"name": "blur", "probability": 2}], "`augment.1.probability`: "),
        (["robust"], "`augment.0` must be a mapping with the name of a augmentation step, got robust"),
    ],
)
def test_steps_that_are_none_are_refused(augment: object, said: str) -> None:
    with pytest.raises(InputError) as refused:
        recipe_of(augment)
    assert said.replace("a augmentation", "an augmentation") in str(refused.value)


def test_a_step_of_ones_own() -> None:
    try:

        @registered_step("darker")
        @dataclass(frozen=True)
        class Darker:
            """Takes a share of the light."""

            share: float = 0.5

            def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
                return images * (1 - self.share)

        listed = recipe_of([{"name": "darker", "share": 0.25}]).augment
        assert not isinstance(listed, str)
        changed = augmentation(listed)(torch.ones(2, 3, 4, 4), torch.Generator())
        assert torch.equal(changed, torch.full((2, 3, 4, 4), 0.75)) and STEPS["darker"].make is Darker
    finally:
        STEPS.discard("darker")
