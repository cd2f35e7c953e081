"""Identity of a training: everything that changes its result, and nothing else.

Values that equal their key's default are left out, and so are summaries and names: a key that a later version adds, or
another wording, changes no identity. Changes of the code itself, and of the value of a default, are covered by a version
that is raised by hand (:data:`FIT_VERSIONS`).

Version 0.1 hashed every key. A folder that was begun then keeps its identities (:func:`resumed_request`): they are computed
from the values that it stores, so its runs are recognised whatever keys there are today.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from atypia.base import runs
from atypia.base.artifacts import fingerprint, read_json
from atypia.base.config import StrictModel
from atypia.base.errors import AtypiaError, InputError, WorkError
from atypia.base.plugins import versions
from atypia.methods.catalogue import PROBES
from atypia.splits.split import Fold, Split
from atypia.training.origins import entries_of
from atypia.training.recipe import OLD_TERMS, parse_recipe
from atypia.training.schema import ProbeRecipe, Recipe

FIT_VERSIONS: Final = {"probe": 2, "network": 2}
"""For each kind of training, a number that is raised when the code gives another result from the same inputs,
or when a default of its recipe changes."""
IDENTITY: Final = "identity"
"""Key of :data:`SCHEME` in the files that store a request; absent in those of version 0.1."""
SCHEME: Final = 2
FIRST_VERSION: Final = 2
"""Version of all trainings under version 0.1's identities."""
FIRST_GAMMA: Final = 2.0
"""Value that version 0.1 stored as ``loss.gamma`` for losses that do not use it."""
LATER: Final = ("swa", "swad", "patches")
"""Sections that version 0.1 did not have."""
LATER_KEYS: Final = {("geometry", "outside"): "refuse", ("select", "over"): "figures", ("sampler", "random_share"): 0.0,
                     ("sampler", "curriculum"): None}  # fmt: skip
"""Keys of sections that version 0.1 did not have, with their defaults."""
PREPARED: Final = ("normalisation", "pooling")
"""Keys of a recipe that may repeat what the backbone's entry says."""
WORDING: Final = frozenset({"summary"})
"""Keys of a recipe that change no result."""


def identity_values(values: StrictModel, without: frozenset[str] = WORDING) -> dict[str, Any]:
    """The part of a configuration that can change a result, JSON-like: without defaults and the keys ``without``."""
    return values.model_dump(mode="json", exclude_defaults=True, exclude=set(without))


def recipe_identity(recipe: Recipe) -> dict[str, Any]:
    """The part of a recipe that can change a result; a probe's own options by the probe's schema.

    An entry that is not part of Atypia (a plug-in's backbone, for instance) is included with its package and its own
    version: another package's entry of that name, or a later version, is another training.

    >>> from atypia.training.recipe import parse_recipe
    >>> values = {"summary": "any words", "adaptation": "probe", "backbone": "tiny-cnn", "probe": "atypia"}
    >>> recipe_identity(parse_recipe({**values, "threshold": 0.5}, "a recipe"))
    {'backbone': 'tiny-cnn', 'adaptation': 'probe', 'probe': 'atypia'}
    """
    found = in_first_keys(identity_values(recipe))
    found = {key: value for key, value in found.items() if key not in PREPARED or key in _prepared(recipe)}
    if isinstance(recipe, ProbeRecipe):
        options = identity_values(PROBES[recipe.probe].parse_options(recipe.options), frozenset())
        found = {key: value for key, value in {**found, "options": options}.items() if key != "options" or options}
    others = versions(entries_of(recipe))
    return {**found, "plugins": others} if others else found


def _prepared(recipe: Recipe) -> frozenset[str]:
    """Which of the keys :data:`PREPARED` make a difference: not those that say what the backbone's entry says anyway."""
    apart = recipe.preparation.apart(recipe.backbone)
    return frozenset(key for key, value in zip(PREPARED, (apart.mean, apart.pooling), strict=True) if value is not None)


def in_first_keys(values: Mapping[str, Any], absent: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Values of a recipe by the keys of version 0.1, as far as it had them: a section for each of its terms.

    Identities are computed from these, so that both forms of a recipe have the same runs. A list with
    other terms, or in another order, in which sums are rounded differently, stays a list.

    Args:
        values: JSON-like values of a recipe.
        absent: Value for a term that is not used; None leaves its key out.

    >>> in_first_keys({"epochs": 3, "terms": [{"name": "contrastive", "weight": 0.4}]})
    {'epochs': 3, 'contrastive': {'weight': 0.4}}
    """
    if "terms" not in values:
        return dict(values)
    terms = {term["name"]: {key: value for key, value in term.items() if key != "name"} for term in values["terms"]}
    if list(terms) != [name for name in OLD_TERMS if name in terms]:
        return dict(values)
    rest = {key: value for key, value in values.items() if key != "terms"}
    if absent is None:
        return {**rest, **terms}
    rest = {key: value for key, value in rest.items() if key not in LATER or value is not None}
    return {**rest, "loss": {"gamma": FIRST_GAMMA, **rest["loss"]}, **absent, **terms}


def fit_version(recipe: Recipe) -> int | str:
    """The version of a recipe's kind of training, with the terms whose formula changed for such a recipe.

    >>> from atypia.training.recipe import load_recipe
    >>> [fit_version(load_recipe("giedziun", changes)[1]) for changes in (["mixup=null"], [])]
    [2, '2, adversarial 2']
    """
    if isinstance(recipe, ProbeRecipe):
        return FIT_VERSIONS["probe"]
    mixes = recipe.mixup is not None and recipe.mixup.probability > 0
    changed = [f"{term.name} {term.version(mixes)}" for term in recipe.terms if term.version(mixes) > 1]
    return ", ".join([str(FIT_VERSIONS["network"]), *changed]) if changed else FIT_VERSIONS["network"]


def run_id(recipe: Recipe, seed: int, inputs: str, fold: Fold, begun_with: Mapping[str, Any] | None = None) -> str:
    """Identity of the training of one fold.

    Args:
        recipe: The recipe.
        seed: Master seed.
        inputs: Fingerprint of crops or features, weights and teachers.
        fold: The fold.
        begun_with: The recipe's values as stored in a folder of version 0.1; None for any other folder.
    """
    parts = [list(part) for part in (fold.train, fold.val, fold.test)]
    if begun_with is not None:
        return fingerprint(FIRST_VERSION, without_wording(begun_with), seed, inputs, parts, fold.name)
    return fingerprint("run", fit_version(recipe), recipe_identity(recipe), seed, inputs, parts, fold.name)


def without_wording(values: Mapping[str, Any], wording: frozenset[str] = WORDING) -> dict[str, Any]:
    """A recipe's stored values as version 0.1 hashed them: every key except those that change no result."""
    first = in_first_keys(values, dict.fromkeys(OLD_TERMS))
    for (section, key), default in LATER_KEYS.items():
        inner = first.get(section)
        if isinstance(inner, Mapping) and inner.get(key) == default:
            first[section] = {name: value for name, value in inner.items() if name != key}
    first = {key: value for key, value in first.items() if key != "patches" or value is not None}
    return {key: value for key, value in first.items() if key not in wording}


@dataclass(frozen=True)
class SavedRequest:
    """The request of a training's folder, as stored in ``training.json``.

    Attributes:
        values: The file's values, without the warnings.
    """

    values: Mapping[str, Any]

    @property
    def recipe(self) -> Mapping[str, Any] | None:
        """The recipe's values, if the folder was begun by version 0.1, whose run ids are computed from them."""
        return None if IDENTITY in self.values else self.values["recipe"]


def request(
    name: str, recipe: Recipe, seed: int, data: Mapping[str, Any], split: Split, allow: Sequence[str]
) -> SavedRequest:
    """The request, for ``training.json``; names and the whole recipe are stored for people."""
    return SavedRequest(
        {
            IDENTITY: SCHEME,
            "version": fit_version(recipe),
            "name": name,
            "recipe": recipe.model_dump(mode="json"),
            "seed": seed,
            "data": dict(data),
            "split": {"protocol": split.protocol, "fingerprint": split.fingerprint},
            "allow": sorted(allow),
        }
    )


def resumed_request(out: Path, asked: SavedRequest, recipe: Recipe, split: Split) -> SavedRequest:
    """The request that a folder was begun with; ``asked`` itself if the folder is new.

    Raises:
        InputError: The folder holds another training.
        WorkError: Its ``training.json`` is damaged.
    """
    path = out / runs.TRAINING
    if not path.exists():
        return asked
    there = asked_before(path)
    there.pop(runs.WARNINGS, None)
    now = asked.values
    same = {
        "version": there.get("version") == now["version"],
        "recipe": is_same_request(there.get("recipe"), recipe_identity(recipe), saved_recipe_identity),
        "seed": there.get("seed") == now["seed"],
        "data": _part(there, "data", "fingerprint") == now["data"]["fingerprint"],
        "split": _part(there, "split", "fingerprint") == split.fingerprint or same_folds(out, split),
        "allow": there.get("allow") == now["allow"],
    }
    refuse_other(out, [key for key, value in same.items() if not value])
    return SavedRequest(there)


def asked_before(path: Path) -> dict[str, Any]:
    """The content of the file with a folder's request.

    Raises:
        WorkError: It is damaged.
    """
    there = read_json(path)
    if not isinstance(there, dict):
        raise WorkError(f"{path} is damaged (it holds no mapping); fix: choose another --out, or delete the folder")
    return there


def is_same_request(
    values: object, wanted: Mapping[str, Any], content_of: Callable[[Mapping[str, Any]], Mapping[str, Any]]
) -> bool:
    """Whether stored values of a recipe, of whatever version, request the same training.

    Args:
        values: As stored in a file.
        wanted: The part of the wanted recipe that can change a result.
        content_of: Gives the same part of stored values; values that are no longer valid count as another request.
    """
    try:
        return isinstance(values, dict) and content_of(values) == wanted
    except AtypiaError:
        return False


def saved_recipe_identity(values: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a stored recipe that can change a result.

    Raises:
        InputError: The recipe is no longer valid.
    """
    return recipe_identity(parse_recipe(values, "a recipe that is kept"))


def refuse_other(out: Path, differs: Sequence[str], what: str = "training") -> None:
    """Refuses a folder that was begun with another request.

    Raises:
        InputError: It differs in something.
    """
    if differs:
        raise InputError(
            f"{out} holds another {what} (it differs in: {', '.join(sorted(differs))}); fix: choose another --out, "
            "or delete it"
        )


def _part(there: Mapping[str, Any], key: str, name: str) -> object:
    inner = there.get(key)
    return inner.get(name) if isinstance(inner, dict) else None


def same_folds(out: Path, split: Split) -> bool:
    """Whether the folder's own split has the same folds, whatever options the protocol has in this version."""
    try:
        there = Split.load(out / runs.SPLIT)
    except AtypiaError:
        return False
    return (there.protocol, there.manifest, there.folds) == (split.protocol, split.manifest, split.folds)
