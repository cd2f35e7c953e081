"""Dividing a set by a protocol, and what must hold of every grouped split."""

from __future__ import annotations

from itertools import combinations

from atypia.base import records as r
from atypia.data.manifest import Manifest
from atypia.splits.catalogue import PROTOCOLS
from atypia.splits.protocol import make_split
from atypia.splits.split import Split

OPTIONS = {
    "monte-carlo": {"fractions": [0.1, 1.0]},
    "ammeling-as-published": {"fractions": [0.1, 1.0]},
    "ammeling-probe-as-published": {"fractions": [0.1, 1.0]},
    "ammeling-domains-as-published": {"by": "domain"},
}
"""A thousandth of the small fabricated set is no figure at all."""


def divided(name: str, manifest: Manifest, seed: int = 0, **params) -> Split:
    return make_split(name, manifest, seed, **{**OPTIONS.get(name, {}), **params})


def sides(split: Split, manifest: Manifest):
    """For every fold the cases of its parts, from the table itself."""
    case_of = dict(zip(manifest.ids, manifest.table[r.CASE_ID].to_pylist(), strict=True))
    for fold in split.folds:
        yield fold, {part: {case_of[figure] for figure in ids} for part, ids in fold.parts().items()}


def assert_grouped(split: Split, manifest: Manifest) -> None:
    for fold, cases in sides(split, manifest):
        for one, other in combinations(cases, 2):
            assert not cases[one] & cases[other], f"{fold.name}: {one} and {other} share cases"
        placed = [*fold.train, *fold.val, *fold.test]
        assert len(set(placed)) == len(placed)
        assert fold.train
        assert bool(fold.val) == PROTOCOLS[split.protocol].validated
