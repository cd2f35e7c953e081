"""Protocols: named ways to divide figures into training, validation and test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from atypia.base.config import StrictModel
from atypia.base.registry import Registry
from atypia.splits.figures import LabelledFigures, Rows

NO_ROWS: Rows = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class FoldRows:
    """A fold as positions in :class:`atypia.splits.figures.LabelledFigures`."""

    name: str
    train: Rows
    val: Rows
    test: Rows = field(default_factory=lambda: NO_ROWS)


@dataclass(frozen=True, eq=False)
class Division:
    """What a protocol returns: the folds, and warnings for every table."""

    folds: list[FoldRows]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Protocol:
    """A way to divide figures.

    Attributes:
        name: Its name.
        summary: One line on what it does.
        source: Where it comes from: a paper, a published file, or Atypia itself.
        leakage: What can be shared between its parts, in one line.
        options: Schema of its options.
        divide: Function from figures, options and master seed to the folds.
        fixed_seed: The published seed, where the protocol has one; any other seed is ignored.
        caveat: A warning for every table, where the protocol as published leaks.
        validated: Whether every fold has a validation part.
    """

    name: str
    summary: str
    source: str
    leakage: str
    options: type[StrictModel]
    divide: Callable[[LabelledFigures, Any, int], Division]
    fixed_seed: int | None = None
    caveat: str | None = None
    validated: bool = True


GROUPED = "none: no case is in two parts"
""":attr:`Protocol.leakage` of protocols that keep cases together."""

PROTOCOLS: Registry[Protocol] = Registry("protocol", "atypia.splits.protocols", "protocols")
"""Every protocol, by name; one module per family in ``atypia.splits.protocols``."""


def add(protocol: Protocol) -> Protocol:
    """Adds a protocol to :data:`PROTOCOLS` under its own name."""
    return PROTOCOLS.add(protocol.name, protocol)
