"""The phases, and forms of atypia, that raters wrote down for figures."""

from __future__ import annotations

import re
from collections import Counter

from atypia.base import records as r
from atypia.data.manifest import Manifest


def named_phases(manifest: Manifest) -> list[list[str]]:
    """What each figure's raters named, in one spelling; empty where they named nothing.

    «Metaphase», «metaphase» and «META-PHASE » differ in case, spaces, hyphens or underscores alone: all take the spelling
    that occurs most. Spelled apart they would be several phases, which tell who wrote them and not what was seen.

    >>> rows = [{"figure_id": str(i), "dataset": "mine", "image": "x", "phase": p}
    ...         for i, p in enumerate([["ring shape", "Ring-shape"], None, [None, "ring shape"]])]
    >>> named_phases(Manifest.from_rows(rows, "mine"))
    [['ring shape', 'ring shape'], [], ['ring shape']]
    """
    given = [
        [phase.strip() for phase in one or () if phase and phase.strip()] for one in manifest.table[r.PHASE].to_pylist()
    ]
    counts = Counter(phase for one in given for phase in one)
    spelling: dict[str, str] = {}
    for phase in sorted(counts, key=lambda phase: (-counts[phase], phase)):
        spelling.setdefault(_alike(phase), phase)
    return [[spelling[_alike(phase)] for phase in one] for one in given]


def _alike(phase: str) -> str:
    return re.sub(r"[\s_-]+", "", phase).casefold()
