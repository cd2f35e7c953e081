"""Ids of a study's runs, from exactly what affects their result; and the ids that earlier plans gave them.

A run's id is the name of its folder. Runs that were planned by version 0.1, which hashed every key, keep the ids that
they have: a plan carries on which id of today each of them is (:attr:`atypia.studies.plan.Plan.known`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from atypia.base.artifacts import fingerprint
from atypia.base.errors import AtypiaError
from atypia.base.records import LABEL
from atypia.data.manifest import Manifest
from atypia.splits.split import Fold, Split
from atypia.training.identity import FIRST_VERSION, fit_version, recipe_identity, without_wording
from atypia.training.recipe import parse_recipe

FIRST_FORMAT: Final = 1
"""Format of plans that version 0.1 hashed into ids."""


class IdentifiedTraining(Protocol):
    """The values of a cell that enter a run's id; see :class:`atypia.studies.plan.PlannedTraining`."""

    @property
    def recipe(self) -> Mapping[str, Any]: ...
    @property
    def recipe_name(self) -> str: ...
    @property
    def manifest(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def weights_sha256(self) -> str | None: ...
    @property
    def synthetic(self) -> Mapping[str, Any] | None: ...


class DividedTraining(IdentifiedTraining, Protocol):
    """A cell with the name of its split's file."""

    @property
    def split(self) -> str: ...


def fold_identity(fold: Fold) -> str:
    """Content hash of the figures of a fold's parts."""
    return fingerprint(list(fold.train), list(fold.val), list(fold.test))


class PlannedFold(NamedTuple):
    """A fold of a plan: its name, the figures of its three parts, what identifies it, and the classes of its validation part."""

    name: str
    sizes: tuple[int, int, int]
    figures: str
    val_classes: int


def planned_folds(split: Split, manifest: Manifest) -> list[PlannedFold]:
    """The folds of a split of a manifest, as a plan keeps them."""
    labels = manifest.table[LABEL].to_pylist()
    return [
        PlannedFold(
            fold.name,
            (len(fold.train), len(fold.val), len(fold.test)),
            fold_identity(fold),
            len({labels[row] for row in manifest.rows_of(fold.val).tolist()}),
        )
        for fold in split.folds
    ]


def run_id(training: IdentifiedTraining, allow: Sequence[str], fold: str, figures: str) -> str:
    """Id of the run of a cell on a fold.

    Args:
        cell: The cell.
        allow: Allowed leakage findings.
        fold: The fold's name.
        figures: From :func:`fold_identity`.

    Raises:
        InputError: The cell's recipe is not valid, or not any more.
    """
    recipe = parse_recipe(training.recipe, f"recipe {training.recipe_name}")
    shared = [training.manifest, training.seed, training.weights_sha256, sorted(allow)]
    about = ["study", fit_version(recipe), recipe_identity(recipe), *shared]
    if training.synthetic is None:
        return fingerprint(*about, fold, figures)
    from atypia.studies.synthetic import generator_identity, synthetic_identity

    return fingerprint(
        *about, fold, figures, synthetic_identity(training.synthetic), *generator_identity(training.synthetic, fold)
    )


def first_run_id(training: IdentifiedTraining, allow: Sequence[str], fold: str, figures: str) -> str:
    """The id that version 0.1 gave such a run, computed with the keys of that version."""
    from atypia.studies.synthetic import generator_identity

    added = [] if training.synthetic is None else [dict(training.synthetic)]
    made = [] if training.synthetic is None else generator_identity(training.synthetic, fold)
    about = fingerprint(
        FIRST_FORMAT, FIRST_VERSION, without_wording(training.recipe), training.manifest, training.seed, training.weights_sha256,
        sorted(allow), *added,
    )  # fmt: skip
    return fingerprint(about, fold, figures, *made)


def is_first(recipe: Mapping[str, Any]) -> bool:
    """Whether trainings with this recipe still give the results of version 0.1.

    Raises:
        InputError: The recipe is not valid, or not any more.
    """
    return fit_version(parse_recipe(recipe, "a recipe that is kept")) == FIRST_VERSION


def ids_of_first(
    runs: Iterable[tuple[DividedTraining, str, str]], allow: Sequence[str], splits: Path
) -> dict[str, str]:
    """Runs of a plan of version 0.1, from its stored values: current id to that version's; without those that changed since.

    Args:
        runs: For each the cell, the fold's name, and the id in the plan.
        allow: Allowed leakage findings.
        splits: Folder of the plan's splits.
    """
    found: dict[str, str] = {}
    figures: dict[str, dict[str, str]] = {}
    for training, fold, first in runs:
        try:
            if training.split not in figures:
                split = Split.load(splits / f"{training.split}.json")
                figures[training.split] = {one.name: fold_identity(one) for one in split.folds}
            content = figures[training.split][fold]
            if is_first(training.recipe) and first_run_id(training, allow, fold, content) == first:
                found[run_id(training, allow, fold, content)] = first
        except (AtypiaError, KeyError):
            continue  # can no longer be requested
    return found
