"""Recipes: everything that decides a training, as strict YAML."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from atypia.backbones.catalogue import BACKBONES
from atypia.base.config import as_named_list, parse, read_shipped, shipped_yaml, with_overrides, with_value
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


BY_BACKBONE: Final = "by_backbone"
"""Key of a recipe's file: for some backbones other values, by dotted key; see :func:`for_backbone`."""


def for_backbone(values: Mapping[str, Any], where: str, backbone: str | None = None) -> dict[str, Any]:
    """A recipe's values for a backbone: what ``by_backbone`` has for it is set, and ``by_backbone`` is gone.

    Args:
        values: Of a recipe's file.
        where: What they are, for messages.
        backbone: Instead of the recipe's own.

    Raises:
        InputError: ``by_backbone`` is no mapping of backbones to mappings of keys.

    >>> file = {"backbone": "uni", "lr": 1, "by_backbone": {"virchow": {"lr": 2}}}
    >>> for_backbone(file, "a recipe"), for_backbone(file, "a recipe", "virchow")
    ({'backbone': 'uni', 'lr': 1}, {'backbone': 'virchow', 'lr': 2})
    """
    own = {key: value for key, value in values.items() if key != BY_BACKBONE}
    if backbone is not None:
        own["backbone"] = backbone
    presets = values.get(BY_BACKBONE, {})
    if not isinstance(presets, Mapping) or not all(isinstance(preset, Mapping) for preset in presets.values()):
        expected = "a mapping of backbones to mappings of keys"
        raise InputError(must(f"{BY_BACKBONE} of {where}", expected, presets, "for instance {uni: {epochs: 3}}"))
    if unknown := [name for name in presets if name not in BACKBONES]:
        raise InputError(must(f"{BY_BACKBONE} of {where}", "of known backbones", unknown[0], "see `atypia doctor`"))
    for key, value in presets.get(own.get("backbone"), {}).items():
        own = with_value(own, key, value)
    return own


OLD_TERMS: Final = ("alignment", "adversarial", "contrastive", "distillation")
"""Sections that version 0.1 had for its terms, in the order in which it summed them; read until version 0.3."""


def load_recipe(reference: str, overrides: Sequence[str] = ()) -> tuple[str, Recipe]:
    """Reads a recipe and applies ``key=value`` overrides.

    Warns (FutureWarning) about keys of version 0.1 and names their replacement.

    Args:
        reference: A shipped recipe's name, or the path of a YAML file.
        overrides: As ``--set`` takes them.

    Returns:
        The recipe's name (the file's stem) and the recipe.

    Raises:
        InputError: No such recipe, or it is not valid.
    """
    name, values = read_shipped("recipe", reference, shipped_recipes())
    where = f"recipe {reference}"
    changes = [renewed_key(change) for change in overrides]
    asked = with_overrides({}, [change for change in changes if change.startswith("backbone=")]).get("backbone")
    own = for_backbone(renewed(values, where), where, asked if isinstance(asked, str) else None)
    changed = with_overrides(own, changes)
    warn_of_old(values, [change.partition("=")[0] for change in overrides], where)
    return name, parse_recipe(changed, where)


def parse_recipe(values: Mapping[str, Any], where: str) -> Recipe:
    """Validates a recipe's values, also of version 0.1, by the schema of its adaptation.

    Raises:
        InputError: No such adaptation, or a value or key is not valid.
    """
    adaptation = values.get("adaptation")
    if not isinstance(adaptation, str) or adaptation not in SCHEMAS:
        raise InputError(must("adaptation", f"one of {', '.join(SCHEMAS)}", adaptation, f"correct {where}"))
    return parse(SCHEMAS[adaptation], renewed(values, where), where)


def renewed(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A recipe's values with current keys: sections of version 0.1 become ``terms``.

    Raises:
        InputError: A term is given in both forms.
    """
    values = _without_idle_gamma(values)
    if not values.keys() & set(OLD_TERMS):
        return dict(values)
    sections = as_named_list({name: values.get(name) for name in OLD_TERMS})
    rest = {key: value for key, value in values.items() if key not in OLD_TERMS}
    listed = as_named_list(rest.get("terms", []))
    if not sections or not isinstance(listed, list | tuple):
        return rest
    names = [item.get("name") for item in listed if isinstance(item, Mapping)]
    if both := [name for name in OLD_TERMS if values.get(name) is not None and name in names]:
        raise InputError(
            must(f"{both[0]} of {where}", "in `terms` alone", "there and in a section", "drop the section")
        )
    return {**rest, "terms": [*sections, *listed]}


def _without_idle_gamma(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Version 0.1 stored ``loss.gamma``, which only the focal loss uses, for every loss."""
    loss = values.get("loss")
    if not isinstance(loss, Mapping) or "gamma" not in loss or loss.get("name", "bce") not in ("bce", "ce"):
        return values
    return {**values, "loss": {key: value for key, value in loss.items() if key != "gamma"}}


def renewed_key(key: str) -> str:
    """A dotted key of version 0.1 in its current form.

    >>> renewed_key("distillation.weight=0.9"), renewed_key("optimiser.lr=0.1")
    ('terms.distillation.weight=0.9', 'optimiser.lr=0.1')
    """
    first = key.partition("=")[0].partition(".")[0]
    return f"terms.{key}" if first in OLD_TERMS else key


def warn_of_old(values: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
    """One warning about the keys of version 0.1 in values and in dotted keys, with their replacement."""
    sections = [name for name in OLD_TERMS if values.get(name) is not None]
    dotted = [key for key in keys if renewed_key(key) != key]
    if not sections and not dotted:
        return
    items = ", ".join(f"{{name: {name}, …}}" for name in sections)
    instead = [f"`terms: [{items}]`"] if sections else []
    instead += [f"`{renewed_key(key)}`" for key in dotted]
    old = ", ".join(f"`{key}`" for key in [*sections, *dotted])
    warnings.warn(
        f"{where}: {old} will not be read after the next version; fix: write {' and '.join(instead)}",
        FutureWarning,
        stacklevel=3,
    )
