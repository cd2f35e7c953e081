"""How a command's options become folds: a saved split, or a protocol that divides the figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atypia.base.config import parse, with_overrides
from atypia.base.errors import InputError
from atypia.base.process.progress import Progress, silent
from atypia.splits.catalogue import PROTOCOLS
from atypia.splits.protocol import make_split
from atypia.splits.split import Split

if TYPE_CHECKING:
    from atypia.data.manifest import Manifest
    from atypia.training.schema import Recipe

Divider = Callable[["Manifest"], Split]
"""Divides a manifest into folds."""
Settings = Mapping[str, Any] | Sequence[str]
"""Values by key, or ``key=value`` texts as ``--set`` takes them."""


def chosen_split(
    protocol: str = "official", settings: Settings = (), split: Split | Path | None = None, seed: int = 0
) -> Split | Divider:
    """A saved split, or the function that divides a manifest; the options are checked before any work.

    Args:
        protocol: Name in :data:`atypia.splits.catalogue.PROTOCOLS`.
        settings: The protocol's options.
        split: A split, or the file of one, instead of a protocol.
        seed: Of protocols that divide at random.

    Raises:
        InputError: No such protocol or setting, a setting for a saved split, or a damaged file.
    """
    if split is not None:
        if settings:
            raise InputError("`--protocol-set` does not go with `--split`: the folds are saved; fix: leave one out")
        return split if isinstance(split, Split) else Split.load(split)
    params = settings_of(settings)
    parse(PROTOCOLS[protocol].options, params, f"protocol {protocol}")
    return lambda manifest: make_split(protocol, manifest, seed, **params)


def settings_of(settings: Settings) -> dict[str, Any]:
    """Values by key.

    Raises:
        InputError: A text is not ``key=value``.
    """
    return dict(settings) if isinstance(settings, Mapping) else with_overrides({}, settings)


def usable_and_divided(
    manifest: Manifest, chosen: Split | Divider, recipe: Recipe, progress: Progress = silent
) -> tuple[Manifest, Split]:
    """The figures and folds of a training before other figures are added to it.

    Figures whose images cannot be used are left out before a protocol divides the rest, as in any training.
    """
    from atypia.data.crops.store import open_store

    if isinstance(chosen, Split):
        chosen.check_manifest(manifest)
        return manifest, chosen
    store = open_store(manifest, recipe.geometry.build(), progress=progress)
    usable = manifest if store.usable.all() else manifest.take(store.usable)
    return usable, chosen(usable)
