"""Groups of models compared by fold, as benchmarks do, and by model, as their data allow."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

import numpy as np

from atypia.base.errors import InputError, must
from atypia.statistics.differences.ranks import RankTest, rank_sum, signed_rank

BY_FOLD: Final = "fold"
BY_MODEL: Final = "model"
Unit = Literal["fold", "model"]
Model = TypeVar("Model", bound=Hashable)
"""What a model is known by."""

NOT_INDEPENDENT: Final = (
    "Values of the same model in different folds share most of their training data and the whole test set, and all "
    "models share both: they are repeated measurements, not independent ones, so a p-value by fold is too small. "
    "The test by model takes each model's mean once."
)
"""Why reports show the test by model beside the test by fold."""


@dataclass(frozen=True)
class GroupTest:
    """One test of two groups of models.

    Attributes:
        unit: What counts as one value: ``fold`` (model and fold) or ``model`` (mean over folds).
        outcome: The test.
    """

    unit: Unit
    outcome: RankTest


def paired_groups(first: Mapping[Model, Sequence[float]], second: Mapping[Model, Sequence[float]]) -> list[GroupTest]:
    """Compares two ways to adapt the same models: exact signed-rank tests by fold and by model.

    Args:
        first: Model to its values, one per fold.
        second: The same models and folds, in the same order of folds.

    Returns:
        The test of all (model, fold) pairs and that of the models' means.

    Raises:
        InputError: The models differ, or a model has different numbers of folds.
    """
    if set(first) != set(second):
        lone = ", ".join(sorted(map(str, set(first) ^ set(second))))
        raise InputError(must("models", "the same in both groups", f"{lone} in one only", "leave them out"))
    for model, values in first.items():
        if len(values) != len(second[model]):
            got = f"{len(values)} and {len(second[model])}"
            raise InputError(must(f"folds of {model}", "as many in both groups", got, "finish the runs"))
    models = list(first)
    by_fold = signed_rank(_folds(first, models), _folds(second, models))
    return [
        GroupTest(BY_FOLD, by_fold),
        GroupTest(BY_MODEL, signed_rank(_means(first, models), _means(second, models))),
    ]


def independent_groups(
    first: Mapping[Model, Sequence[float]], second: Mapping[Model, Sequence[float]]
) -> list[GroupTest]:
    """Compares two groups of different models: U tests by fold (asymptotic) and by model (exact).

    Args:
        first: Model to its values, one per fold.
        second: Other models to theirs.

    Returns:
        The test of all values, with corrections for ties and continuity, and the exact test of the models' means.
    """
    ours, theirs = list(first), list(second)
    by_model = rank_sum(_means(first, ours), _means(second, theirs), "exact")
    by_fold = rank_sum(_folds(first, ours), _folds(second, theirs), "asymptotic")
    return [GroupTest(BY_FOLD, by_fold), GroupTest(BY_MODEL, by_model)]


def _folds(group: Mapping[Model, Sequence[float]], models: list[Model]) -> list[float]:
    return [value for model in models for value in group[model]]


def _means(group: Mapping[Model, Sequence[float]], models: list[Model]) -> list[float]:
    empty = [model for model in models if not len(group[model])]
    if empty:
        raise InputError(
            must("folds", "at least one per model", f"none of {', '.join(map(str, empty))}", "leave it out")
        )
    return [float(np.mean(group[model])) for model in models]
