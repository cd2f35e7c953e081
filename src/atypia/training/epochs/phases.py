"""Phases that raters named, for terms that learn from them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
import torch

from atypia.base import records as r
from atypia.base.errors import InputError, must
from atypia.data.manifest import Manifest
from atypia.methods.term import NamedPhases


def phases_of(manifest: Manifest, rows: npt.NDArray[np.int64], count: int) -> NamedPhases:
    """Share of the raters that named each phase, of these figures alone.

    Args:
        manifest: The figures.
        rows: Those that are trained on.
        count: Rows of the data: the manifest's, then those of random places, which have no phase.

    Raises:
        InputError: Their raters named fewer than two.
    """
    named = manifest.table[r.PHASE].take(rows).to_pylist()
    counts = [Counter(phase for phase in one or () if phase) for one in named]
    names = tuple(sorted(set().union(*counts)))
    if len(names) < 2:
        got = ", ".join(names) or "none"
        raise InputError(
            must(f"figures of {manifest.name} for the term phases", "of at least two phases that raters named", got,
                 "drop the term (terms.phases=null), or give a column `phase`, such as metaphase|ring")
        )  # fmt: skip
    shares = torch.full((count, len(names)), torch.nan)
    for row, one in zip(rows.tolist(), counts, strict=True):
        if one:
            shares[row] = torch.tensor([one[name] / one.total() for name in names])
    return NamedPhases(names, shares)
