"""Phases that raters named, for terms that learn from them."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import numpy.typing as npt
import torch

from atypia.base import records as r
from atypia.base.errors import InputError, must
from atypia.data.manifest import Manifest
from atypia.data.phases import named_phases
from atypia.methods.term import NamedPhases


def phases_of(
    manifest: Manifest, rows: npt.NDArray[np.int64], count: int, part: str = "the training part"
) -> NamedPhases:
    """Share of the raters that named each phase, of these figures alone.

    Args:
        manifest: The figures.
        rows: Those that are trained on.
        count: Rows of the data: the manifest's, then those of random places, which have no phase.
        part: What these rows are, for messages.

    Raises:
        InputError: Their raters named fewer than two.
    """
    every = named_phases(manifest)
    counts = [Counter(every[row]) for row in rows.tolist()]
    names = tuple(sorted(set().union(*counts)))
    if len(names) < 2:
        got = ", ".join(names) or "none"
        raise InputError(
            must(f"figures of {manifest.name} in {part}, for the term phases", "of at least two phases that raters named", got,
                 "drop the term (terms.phases=null), or give a column `phase`, such as metaphase|ring")
        )  # fmt: skip
    shares = torch.full((count, len(names)), torch.nan)
    for row, one in zip(rows.tolist(), counts, strict=True):
        if one:
            shares[row] = torch.tensor([one[name] / one.total() for name in names])
    return NamedPhases(names, shares)


def phases_told_apart(manifest: Manifest) -> list[str]:
    """A warning for each two data sets whose raters share no phase: telling phases is then telling the sets, too."""
    words: dict[str, set[str]] = {}
    for dataset, one in zip(manifest.table[r.DATASET].to_pylist(), named_phases(manifest), strict=True):
        words.setdefault(dataset, set()).update(one)
    named = {dataset: phases for dataset, phases in words.items() if phases}
    return [
        f"{one} and {other} name no phase alike ({min(named[one])}, …; {min(named[other])}, …): the term phases learns to tell "
        "the two sets; write their column `phase` in the same words"
        for one, other in combinations(sorted(named), 2)
        if not named[one] & named[other]
    ]
