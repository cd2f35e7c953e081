"""Figures that are added to training parts: generated ones, or another set; never to validation or test.

The added figures become rows of one pooled manifest, and each fold's training part gets its share of
them; everything after that is an ordinary training. Every training calls :func:`check_generated`: a
generator that saw validation or test figures of a fold is leakage for that fold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from atypia.base import records as r
from atypia.base.errors import InputError, count_noun, must
from atypia.base.seeds import derive_seed, generator
from atypia.data.audit.findings import raise_leakage
from atypia.data.audit.pairs import measured_findings, pair_findings
from atypia.data.manifest import Manifest
from atypia.splits.split import Fold, Split, count_positives

FOLD: Final = "{fold}"
"""Stands for the fold's name in a reference: each fold then gets figures of its own generator."""


@dataclass(frozen=True)
class Addition:
    """What is added to training parts.

    Attributes:
        sets: References as ``--data`` takes them; :data:`FOLD` in one stands for the fold's name.
        ratio: Positives per negative that a training part is to have: 1 makes classes equal.
        negatives: Added negatives, as a share of the real ones; 0 adds none.
        seed: Decides which figures are taken if there are more than needed.
        count: Positives added to each training part, whatever its classes are; None: according to ``ratio``.
    """

    sets: tuple[str, ...]
    ratio: float = 1.0
    negatives: float = 0.0
    seed: int = 0
    count: int | None = None

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 1:
            raise InputError(must("add_count", "at least 1", self.count, "leave it out to add by ratio"))
        for name, value in (("ratio", self.ratio), ("negatives", self.negatives)):
            if not 0 <= value <= 1000:
                raise InputError(must(name, "between 0 and 1000", value, "for instance 1"))

    def wanted(self, negatives: int, positives: int) -> tuple[int, int]:
        """Figures of class 0 and 1 that a training part of so many real ones is to get.

        >>> Addition((), ratio=1.0).wanted(100, 30), Addition((), count=50).wanted(100, 30)
        ((0, 70), (0, 50))
        """
        more = round(self.negatives * negatives)
        if self.count is not None:
            return more, self.count
        return more, max(0, round(self.ratio * (negatives + more)) - positives)


Opener = Callable[[str], Manifest]


def open_additions(addition: Addition, folds: Sequence[str], opener: Opener) -> dict[str, list[Manifest]]:
    """The added sets of each fold; each set is opened once.

    Raises:
        AbsentError, DataError, InputError: As :func:`atypia.data.sources.opening.open_data`.
    """
    known: dict[str, Manifest] = {}
    found: dict[str, list[Manifest]] = {}
    for fold in folds:
        for reference in addition.sets:
            place = reference.replace(FOLD, fold)
            if place not in known:
                known[place] = opener(place)
            found.setdefault(fold, []).append(known[place])
    return found


def with_extra_figures(
    manifest: Manifest, split: Split, sets: Mapping[str, Sequence[Manifest]], addition: Addition
) -> tuple[Manifest, Split]:
    """Pools a manifest with added sets, and puts their figures into the training parts of its split.

    Args:
        manifest: The figures that the split divides.
        split: The folds; those that ``sets`` does not name are left out.
        sets: For each fold the sets that it gets figures from.
        addition: How many are taken.

    Returns:
        The pooled manifest, and its split. Validation and test parts are unchanged.

    Raises:
        DataError: Sets use the same figure ids, or are of another task.
        InputError: A fold gets no figure at all.
    """
    pools = {fold: [m for m in sets[fold] if len(m)] for fold in sets}
    different = list({id(m): m for members in pools.values() for m in members}.values())
    pooled = replace(Manifest.concat([manifest, *different]), name=_pooled_name(manifest, different))
    labels = dict(zip(pooled.ids, pooled.table[r.LABEL].to_pylist(), strict=True))
    folds, notes = [], []
    for fold in split.folds:
        if fold.name not in pools:
            continue
        real = [labels[figure] for figure in fold.train]
        wanted = addition.wanted(real.count(0), real.count(1))
        taken, said = _taken(fold.name, pools[fold.name], wanted, addition.seed)
        folds.append(Fold(fold.name, (*fold.train, *taken), fold.val, fold.test))
        notes.append(said)
    if not folds:
        raise InputError(must("folds", f"among {', '.join(f.name for f in split.folds)}", "none of them", "name one"))
    added = {
        "sets": sorted(m.fingerprint for m in different),
        "ratio": addition.ratio,
        "negatives": addition.negatives,
        "seed": addition.seed,
        **({} if addition.count is None else {"count": addition.count}),
    }
    kept = tuple(folds)
    return pooled, replace(
        split,
        params={**split.params, "added": added},
        manifest=pooled.fingerprint,
        folds=kept,
        warnings=(*split.warnings, *notes),
        positives=count_positives(kept, pooled),
    )


def check_generated(split: Split, manifest: Manifest, allow: Sequence[str] = ()) -> list[str]:
    """Checks generated figures of a training: none is in a validation or test part, and no generator saw these parts.

    Args:
        split: The folds.
        manifest: The figures that it divides.
        allow: Leakage findings that the user has named as exceptions.

    Returns:
        Messages of findings that are allowed, for every table.

    Raises:
        LeakageError: Names each fold and its generator.
    """
    if not manifest.synthetic.any():
        return []
    found = [
        finding for fold in split.folds for finding in measured_findings(fold.name, fold.parts(), manifest, manifest)
    ]
    return raise_leakage(found, allow, f"training on {manifest.name}")


def check_real(
    manifest: Manifest, split: Split, sets: Mapping[str, Sequence[Manifest]], allow: Sequence[str] = ()
) -> list[str]:
    """Checks real figures that are added: they may share nothing with the validation and test parts of their fold.

    Args and errors as :func:`check_generated`; ``sets`` as :func:`with_extra_figures` takes them.
    """
    found = []
    for fold in split.folds:
        ids = [*fold.val, *fold.test]
        for members in sets.get(fold.name, ()):
            real = members.take(~members.synthetic)
            if len(real) and ids:
                measured = replace(manifest.take(manifest.rows_of(ids)), name=f"the measured part of {fold.name}")
                found += pair_findings(real, measured)
    return raise_leakage(found, allow, f"adding to {manifest.name}")


def subset_of_positives(split: Split, manifest: Manifest, share: float, seed: int) -> Split:
    """Keeps a share of the positives of each training part; validation and test parts stay whole.

    The figures kept at a smaller share are among those kept at a larger one.

    Args:
        split: The folds.
        manifest: The figures that it divides.
        share: In (0, 1]; at least two positives are kept, if there are two.
        seed: Decides which.

    Raises:
        InputError: The share is not in (0, 1].
    """
    if not 0 < share <= 1:
        raise InputError(must("positives", "in (0, 1]", share, "for instance 0.1"))
    if share == 1:
        return split
    labels = dict(zip(manifest.ids, manifest.table[r.LABEL].to_pylist(), strict=True))
    folds = []
    for fold in split.folds:
        positives = sorted(figure for figure in fold.train if labels[figure] == 1)
        order = generator(seed, "positives", fold.name).permutation(len(positives))
        count = max(min(2, len(positives)), round(share * len(positives)))
        kept = {positives[i] for i in order[:count]}
        train = tuple(figure for figure in fold.train if labels[figure] != 1 or figure in kept)
        folds.append(Fold(fold.name, train, fold.val, fold.test))
    parts = tuple(folds)
    params = {**split.params, "positives": share, "positives_seed": seed}
    said = f"{100 * share:g} % of the positives of each training part are used"
    return replace(
        split, params=params, folds=parts, warnings=(*split.warnings, said), positives=count_positives(parts, manifest)
    )


def _pooled_name(manifest: Manifest, sets: Sequence[Manifest]) -> str:
    names = list(dict.fromkeys(member.name for member in sets))
    return "+".join([manifest.name, *names]) if len(names) < 3 else f"{manifest.name}+{len(names)} added sets"


def _taken(fold: str, sets: Sequence[Manifest], wanted: tuple[int, int], seed: int) -> tuple[tuple[str, ...], str]:
    """Ids of the figures that a fold gets, and a sentence about them."""
    taken: list[str] = []
    said: list[str] = []
    for label, count in enumerate(wanted):
        there = sorted(
            figure
            for members in sets
            for figure, own in zip(members.ids, members.table[r.LABEL].to_pylist(), strict=True)
            if own == label
        )
        order = np.random.default_rng(derive_seed(seed, "added", fold, label)).permutation(len(there))
        taken += sorted(there[i] for i in order[:count])
        short = f" of {count:,} wanted" if len(there) < count else ""
        if count:
            said.append(f"{count_noun(min(count, len(there)), r.CLASS_NAMES[sets[0].task][label] + ' figure')}{short}")
    if not taken and sum(wanted):
        raise InputError(
            must(f"sets added to {fold}", f"with {' and '.join(said)}", "none of these", "sample the class that lacks")
        )
    return tuple(taken), f"{fold}: added to training: {' and '.join(said) or 'nothing, classes are balanced'}"


def add_figures(
    manifest: Manifest, split: Split, addition: Addition, folds: Sequence[str], root: Path | None, allow: Sequence[str]
) -> tuple[Manifest, Split, list[str]]:
    """Opens added sets, checks them and extends the training parts.

    Args:
        manifest: The figures that the split divides.
        split: The folds.
        addition: What is added.
        folds: Names of the folds that are trained; empty for all. A split with added figures holds no other.
        root: Data root in which sources are looked for.
        allow: Leakage findings that the user has named as exceptions.

    Returns:
        The pooled manifest, its split, and warnings.

    Raises:
        LeakageError: Added figures share something with a fold's validation or test part.
        InputError: A set cannot be opened, or there is no fold of that name.
    """
    from atypia.data.sources.opening import open_data

    unknown = [name for name in folds if name not in {fold.name for fold in split.folds}]
    if unknown:
        known = ", ".join(fold.name for fold in split.folds)
        raise InputError(must("fold", f"one of {known}", unknown[0], "name a fold of this protocol"))
    names = list(folds) or [fold.name for fold in split.folds]
    sets = open_additions(addition, names, lambda reference: open_data(reference, root))
    for members in {id(m): m for all_of in sets.values() for m in all_of}.values():
        if members.task != manifest.task:
            raise InputError(must(f"task of {members.name}", manifest.task, members.task, "add figures of one task"))
    warnings = check_real(manifest, split, sets, allow)
    pooled, divided = with_extra_figures(manifest, split, sets, addition)
    return pooled, divided, warnings
