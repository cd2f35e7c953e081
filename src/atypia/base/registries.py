"""Registries by the kind of what they hold, for who adds an entry from a notebook or another package."""

from __future__ import annotations

from typing import Any

from atypia.base.errors import InputError
from atypia.base.plugins import KINDS, registry_of
from atypia.base.registry import Registry


def registry(kind: str) -> Registry[Any]:
    """The registry of a kind of entries: a mapping from name to entry, to which entries can be added.

    An entry that is added here is known to this process alone; workers see those of installed packages that name them
    in the entry-point group ``atypia.plugins`` (``docs/plugins.md``).

    Args:
        kind: ``backbones``, ``sources``, ``protocols``, ``probes``, ``augmentations``, ``augmentation-steps``, ``terms``,
            ``losses``, ``samplers``, ``points``, ``detectors``, ``outputs``, ``runtimes``, ``exports`` or ``engines``.

    Raises:
        InputError: There is no such kind; lists them.

    >>> "efficientnet-lite0" in registry("backbones")
    True
    >>> registry("colours")
    Traceback (most recent call last):
    ...
    atypia.base.errors.InputError: unknown kind 'colours'; choices: ...
    """
    if kind not in KINDS:
        raise InputError(f"unknown kind {kind!r}; choices: {', '.join(KINDS)}")
    return registry_of(kind)
