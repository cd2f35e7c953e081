"""Names of folds that say how the fold was made: written and read in one place."""

from __future__ import annotations

import re
from typing import Final

_FRACTION: Final = re.compile(r"-fraction-([0-9.e+-]+)$")
_REPEAT: Final = re.compile(r"-repeat-([0-9]+)$")


def fraction_fold(draw: str, fraction: float) -> str:
    """The name of a fold that trains on a fraction of the data.

    Args:
        draw: Name of the draw, for instance ``repeat-2``.
        fraction: In (0, 1].

    >>> fraction_fold("repeat-2", 0.01)
    'repeat-2-fraction-0.01'
    """
    return f"{draw}-fraction-{fraction:g}"


def fraction_of(fold: str) -> float | None:
    """The fraction of the data that a fold trains on; None for folds without one.

    >>> fraction_of("repeat-2-fraction-0.01"), fraction_of("fold-1")
    (0.01, None)
    """
    found = _FRACTION.search(fold)
    return float(found[1]) if found else None


def domain_fold(domain: str, repeat: int) -> str:
    """The name of a fold that trains on one domain.

    Args:
        domain: What stands for the domain in names (:func:`atypia.splits.protocols.domains.fold_names`).
        repeat: Number of the draw, from 1.

    >>> domain_fold("aperio-cs2", 3)
    'aperio-cs2-repeat-3'
    """
    return f"{domain}-repeat-{repeat}"


def domain_of(fold: str) -> str | None:
    """What stands for the domain that a fold trains on; None for folds without one.

    >>> domain_of("aperio-cs2-repeat-3"), domain_of("fold-1")
    ('aperio-cs2', None)
    """
    found = _REPEAT.search(fold)
    return fold[: found.start()] if found else None
