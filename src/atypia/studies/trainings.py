"""Expands a sized study into trainings: one recipe, data set and seed each, before any data is opened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

from atypia.backbones.catalogue import BACKBONES
from atypia.base.config import read_settings, shipped_or_named, with_value
from atypia.base.errors import InputError, must
from atypia.studies.schema import DataConfig, Factor, Level, ModelConfig, Sized, SyntheticConfig
from atypia.training.recipe import for_backbone, parse_recipe, renewed, renewed_key, shipped_recipes, warn_of_old
from atypia.training.schema import NetworkRecipe, Recipe


@dataclass(frozen=True)
class RequestedTraining:
    """A training requested by a study.

    Attributes:
        label: Name in tables: the model's label and its levels.
        model: The model's label without levels.
        factors: Name of each factor and the label of its level.
        recipe_name: Name of the recipe.
        recipe: The recipe with all changes.
        data: The training set.
        seed: Master seed.
        synthetic: Generated figures to add to training parts; None for none.
        positives: Share of the positives of each training part to use.
    """

    label: str
    model: str
    factors: Mapping[str, str]
    recipe_name: str
    recipe: Recipe
    data: DataConfig
    seed: int
    synthetic: SyntheticConfig | None = None
    positives: float = 1.0


@dataclass(frozen=True)
class _Row:
    label: str
    recipe_name: str
    values: Mapping[str, Any]
    adaptation: str
    model: ModelConfig = field(compare=False)


def requested_trainings(study: Sized) -> list[RequestedTraining]:
    """All trainings requested by a study, in the order of its table.

    Raises:
        InputError: A recipe or a change of it is not valid, a label occurs twice, or the baseline is not a row.
    """
    found: list[RequestedTraining] = []
    _warn_of_old(study)
    for row in _rows(study.models):
        for levels in _combinations(study.factors, row.adaptation):
            values = renewed(row.values, f"recipe {row.recipe_name}")
            for change in (row.model, *(level for _, level in levels), study.changes):
                for key, value in change.of(row.adaptation).items():
                    values = with_value(values, renewed_key(key), value)
            factors = {factor.name: level.label for factor, level in levels}
            label = " · ".join([row.label, *factors.values()])
            recipe = parse_recipe(values, f"recipe {row.recipe_name} of «{label}»")
            _check_trackable(recipe, label)
            found += [
                RequestedTraining(
                    label,
                    row.label,
                    factors,
                    row.recipe_name,
                    recipe,
                    data,
                    seed,
                    _synthetic(study, row.model),
                    row.model.positives,
                )
                for data in study.data.train
                for seed in study.seeds
            ]
    if not found:
        raise InputError(f"{study.study.name} asks for no training: no model has a level of every factor")
    labels = {requested.label for requested in found}
    if len(labels) * len(study.data.train) * len(study.seeds) != len(found):
        counts = [requested.label for requested in found]
        twice = next(label for label in counts if counts.count(label) > len(study.data.train) * len(study.seeds))
        raise InputError(must("label", "different in every row", f"{twice!r} twice", "give the models labels"))
    if study.baseline is not None and study.baseline not in labels:
        raise InputError(must("baseline", f"one of {', '.join(sorted(labels))}", study.baseline, "name a row"))
    return found


def _warn_of_old(study: Sized) -> None:
    levels = [level for factor in study.factors for level in factor.levels]
    changes = [*study.models, *levels, study.changes]
    keys = [key for change in changes for key in (*change.set, *change.networks)]
    warn_of_old({}, list(dict.fromkeys(keys)), f"study {study.study.name}")
    for model in study.models:
        name, values = recipe_values(model.recipe)
        warn_of_old(values, (), f"recipe {name}")


def _synthetic(study: Sized, model: ModelConfig) -> SyntheticConfig | None:
    if model.synthetic is None:
        return None
    if model.synthetic not in study.synthetic:
        known = ", ".join(study.synthetic) or "none"
        raise InputError(must("synthetic", f"a key of the study's `synthetic` ({known})", model.synthetic, "add it"))
    return study.synthetic[model.synthetic]


def _rows(models: Sequence[ModelConfig]) -> Iterator[_Row]:
    for model in models:
        name, values = recipe_values(model.recipe)
        for backbone in model.backbones or (str(values.get("backbone")),):
            _ = BACKBONES[backbone]
            label = model.label.replace("{backbone}", backbone).replace("{recipe}", name)
            own = for_backbone(values, f"recipe {name}", backbone)
            yield _Row(label, name, own, str(values.get("adaptation")), model)


def _combinations(factors: Sequence[Factor], adaptation: str) -> Iterator[tuple[tuple[Factor, Level], ...]]:
    choices = [[(factor, level) for level in factor.levels if adaptation in level.adaptations] for factor in factors]
    yield from product(*choices)


def recipe_values(reference: str) -> tuple[str, Mapping[str, Any]]:
    """Name and values of a recipe file or of a shipped recipe.

    Raises:
        InputError: There is no such recipe.
    """
    path = shipped_or_named("recipe", reference, shipped_recipes())
    return path.stem, _values_of(path, path.stat().st_mtime_ns if path.is_file() else 0)


@lru_cache(maxsize=256)
def _values_of(path: Path, changed_ns: int) -> Mapping[str, Any]:
    return read_settings(path)


def _check_trackable(recipe: Recipe, label: str) -> None:
    """Refuses saved teachers: a run's id does not cover files that a recipe only refers to."""
    if isinstance(recipe, NetworkRecipe) and recipe.classifiers:
        raise InputError(
            must(f"recipe of «{label}»", "one without saved teachers", "terms.distillation.teachers",
                 "train it with `atypia train`, or distil from the moving average (an `ema` section)")
        )  # fmt: skip
