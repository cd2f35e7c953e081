"""Copies within and between sets, and the findings made from them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from atypia.base import records as r
from atypia.base.errors import count_noun
from atypia.base.process.progress import Progress, silent
from atypia.data.audit import hashes
from atypia.data.audit.findings import AuditFinding
from atypia.data.manifest import Manifest

IDENTICAL: Final = "identical"
TURNED: Final = "turned"
NEAR: Final = "near"
_WORDS = {
    IDENTICAL: "crops with the same pixels",
    TURNED: "crops that are flips or rotations of each other",
    NEAR: "crops that show the same picture",
}

Member = tuple[int, int]
"""A set's position among the sets, and a row of its manifest."""


@dataclass(frozen=True)
class Pixels:
    """A set whose crops are available.

    Attributes:
        manifest: The set.
        crops: ``(m, px, px, 3)`` uint8 RGB.
        usable: ``(m,)`` mask; False if a crop is missing.
        rows: ``(m,)`` row of the manifest of each crop, -1 where it has none.
    """

    manifest: Manifest
    crops: npt.NDArray[np.uint8]
    usable: npt.NDArray[np.bool_]
    rows: npt.NDArray[np.int64]

    @classmethod
    def of_store(cls, manifest: Manifest, store: Any) -> Pixels:
        """The crops of a store that was opened for this manifest, or for the one that it was
        taken from by leaving the quarantined figures out.

        Args:
            manifest: The set.
            store: A :class:`atypia.data.crops.store.CropStore`, or an object with its ``crops`` and ``usable``.

        Raises:
            ValueError: The store is of another manifest.
        """
        usable = np.asarray(store.usable)
        rows = np.full(len(usable), -1, dtype=np.int64)
        if len(manifest) == len(usable):
            rows[:] = np.arange(len(usable))
        elif len(manifest) == int(usable.sum()):
            rows[usable] = np.arange(len(manifest))
        else:
            raise ValueError(f"the store has {len(usable)} crops, {manifest.name} has {len(manifest)} figures")
        return cls(manifest, store.crops, usable, rows)


@dataclass(frozen=True)
class Copies:
    """Crops that are the same.

    Attributes:
        kind: ``identical``, ``turned`` or ``near``. A turned group has at least one pair that
            is not identical, a near group one that is not turned.
        members: Two or more, sorted.
    """

    kind: str
    members: tuple[Member, ...]


def find_copies(sets: Sequence[Pixels], near: bool = True, progress: Progress = silent) -> list[Copies]:
    """All groups of copies within and across sets.

    Args:
        sets: The sets.
        near: Whether to search near-duplicates too.
        progress: Receives progress: crops hashed and compared.

    Returns:
        The groups, first the identical ones, then the turned, then the near.
    """
    crops = [one.crops for one in sets]
    usable = [one.usable & (one.rows >= 0) for one in sets]
    identical = hashes.equal_groups(crops, usable)
    turned = hashes.equal_groups(crops, usable, turned=True)
    same = {tuple(group) for group in identical}
    found = [(IDENTICAL, group) for group in identical]
    found += [(TURNED, group) for group in turned if tuple(group) not in same]
    if near:
        found += [(NEAR, group) for group in _near_groups(sets, usable, turned, progress)]
    rows = [one.rows for one in sets]
    return [Copies(kind, tuple((number, int(rows[number][row])) for number, row in group)) for kind, group in found]


def file_copies(manifests: Sequence[Manifest]) -> list[Copies]:
    """Groups of figures whose image files have the same checksum; no image is read.

    Positions on slides are left out: many figures share one file.
    """
    groups: dict[str, list[Member]] = defaultdict(list)
    for number, manifest in enumerate(manifests):
        checksums = manifest.table[r.SHA256].to_pylist()
        for row, (checksum, x) in enumerate(zip(checksums, manifest.table[r.X_PX].to_pylist(), strict=True)):
            if checksum is not None and x is None:
                groups[checksum].append((number, row))
    return [Copies(IDENTICAL, tuple(group)) for group in groups.values() if len(group) > 1]


def within_findings(copies: Sequence[Copies], manifests: Sequence[Manifest]) -> list[AuditFinding]:
    """Copies inside each set, one finding per kind and affected set."""
    findings = []
    for number, manifest in enumerate(manifests):
        for kind in (IDENTICAL, TURNED, NEAR):
            inside = [[m for m in c.members if m[0] == number] for c in copies if c.kind == kind]
            groups = [group for group in inside if len(group) > 1]
            if groups:
                message, figures, facts = _described(kind, groups, manifests, manifest.name)
                findings.append(AuditFinding(f"{kind}-within-set", message, figures, facts))
    return findings


def across_findings(copies: Sequence[Copies], manifests: Sequence[Manifest]) -> list[AuditFinding]:
    """Copies between sets, one finding per kind and affected pair of sets."""
    findings = []
    for first, second in combinations(range(len(manifests)), 2):
        where = f"{manifests[first].name} and {manifests[second].name}"
        for kind in (IDENTICAL, TURNED, NEAR):
            both = [[m for m in c.members if m[0] in (first, second)] for c in copies if c.kind == kind]
            groups = [group for group in both if len({number for number, _ in group}) == 2]
            if groups:
                message, figures, facts = _described(kind, groups, manifests, where)
                findings.append(AuditFinding(f"{kind}-across-sets", message, figures, facts))
    return findings


def conflict_findings(copies: Sequence[Copies], manifests: Sequence[Manifest]) -> list[AuditFinding]:
    """Certain copies with different labels of one task: one finding per set, one across sets."""
    labels = [manifest.table[r.LABEL].to_pylist() for manifest in manifests]
    by_place: dict[str, list[list[Member]]] = defaultdict(list)
    for group in _largest(c.members for c in copies if c.kind != NEAR):
        for task in dict.fromkeys(manifests[number].task for number, _ in group):
            members = [m for m in group if manifests[m[0]].task == task and labels[m[0]][m[1]] is not None]
            if len({labels[number][row] for number, row in members}) > 1:
                names = dict.fromkeys(manifests[number].name for number, _ in members)
                by_place[" and ".join(names)].append(members)
    findings = []
    for place, groups in by_place.items():
        members = [member for group in groups for member in group]
        figures = _names(members, manifests)
        message = (
            f"{place}: {count_noun(len(groups), 'group')} of crops with the same pixels carry different labels "
            f"({count_noun(len(members), 'file')}); fix: leave these figures out (--drop-repeats), or label them again"
        )
        facts = _facts(groups, manifests)
        facts["labels"] = [[labels[number][row] for number, row in group] for group in groups]
        findings.append(AuditFinding("conflicting-labels", message, figures, facts))
    return findings


def part_findings(
    name: str, parts: Mapping[str, Iterable[str]], manifest: Manifest, copies: Sequence[Copies]
) -> list[AuditFinding]:
    """Leakage between the parts of one split.

    Args:
        name: Name of the split in messages.
        parts: Name of each part, and its figure ids.
        manifest: The set that is divided.
        copies: Groups of copies; members of set 0 are rows of ``manifest``, others are left out.

    Returns:
        At most one finding per code.
    """
    position = {figure: row for row, figure in enumerate(manifest.ids)}
    where: dict[int, set[str]] = defaultdict(set)
    unknown = []
    for part, figures in parts.items():
        for figure in figures:
            if figure in position:
                where[position[figure]].add(part)
            else:
                unknown.append(figure)
    findings = []
    if unknown:
        message = f"{name}: {count_noun(len(unknown), 'figure')} of the split are not in {manifest.name}"
        findings.append(AuditFinding("unknown-figures", message, tuple(unknown)))
    twice = sorted(row for row, inside in where.items() if len(inside) > 1)
    if twice:
        message = f"{name}: {count_noun(len(twice), 'figure')} in two parts or more"
        findings.append(AuditFinding("figure-across-parts", message, tuple(manifest.ids[row] for row in twice)))
    findings += _cases_across(name, where, manifest)
    for kind in (IDENTICAL, TURNED, NEAR):
        inside = [[m for m in c.members if m[0] == 0 and m[1] in where] for c in copies if c.kind == kind]
        groups = [g for g in inside if len({part for _, row in g for part in where[row]}) > 1 and len(g) > 1]
        if groups:
            message, figures, facts = _described(kind, groups, [manifest], f"{name}: parts of {manifest.name}")
            findings.append(AuditFinding(f"{kind}-across-parts", message, figures, facts))
    return findings


def _cases_across(name: str, where: Mapping[int, set[str]], manifest: Manifest) -> list[AuditFinding]:
    cases = manifest.table[r.CASE_ID].to_pylist()
    # Case names are unique only within a data set, except published ones; pooled sets may repeat names.
    sets = manifest.table[r.DATASET].to_pylist()
    parts: dict[tuple[str, str], set[str]] = defaultdict(set)
    rows: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, inside in where.items():
        if cases[row] is not None:
            key = (case_scope(sets[row], cases[row]), cases[row])
            parts[key] |= inside
            rows[key].append(row)
    split = [key for key, inside in parts.items() if len(inside) > 1]
    if not split:
        return []
    figures = tuple(manifest.ids[row] for key in split for row in sorted(rows[key]))
    shown = ", ".join(sorted(case for _, case in split)[:5])
    message = (
        f"{name}: {count_noun(len(split), 'case')} in two parts or more ({shown}{', …' if len(split) > 5 else ''})"
    )
    facts = {"n_cases": len(split), "cases": sorted(case for _, case in split)}
    return [AuditFinding("case-across-parts", message, figures, facts)]


def case_scope(dataset: str, case: str) -> str:
    """The scope in which a case name is unique: all published sources, or its own data set.

    The published sources name a case ``COLLECTION/number``, the same in every set that has it.
    """
    from atypia.data.sources.catalogue import SOURCES

    return "published" if dataset in SOURCES and "/" in case else f"set {dataset}"


def _near_groups(
    sets: Sequence[Pixels], usable: Sequence[npt.NDArray[np.bool_]], turned: list[list[Member]], progress: Progress
) -> list[list[Member]]:
    """Groups of near copies; certain copies are represented by their first member and added again afterwards."""
    others = {member for group in turned for member in group[1:]}
    whole = {group[0]: group for group in turned}
    members: list[Member] = []
    thumbs = []
    for number, one in enumerate(sets):
        rows = [int(row) for row in np.flatnonzero(usable[number]) if (number, int(row)) not in others]
        members += [(number, row) for row in rows]
        for start in range(0, len(rows), hashes.BLOCK):
            thumbs.append(hashes.thumbnails(one.crops[rows[start : start + hashes.BLOCK]]))
            progress(min(start + hashes.BLOCK, len(rows)), len(rows), f"crops of {one.manifest.name} hashed")
    if not thumbs:
        return []
    pairs = hashes.near_pairs(np.concatenate(thumbs), progress=progress)
    groups = hashes.connected_groups([(pair.a, pair.b) for pair in pairs])
    return [sorted(m for k in group for m in whole.get(members[k], [members[k]])) for group in groups]


def _largest(groups: Iterable[tuple[Member, ...]]) -> list[tuple[Member, ...]]:
    """Groups that are not part of another group: a turned group contains its identical ones."""
    kept: list[tuple[Member, ...]] = []
    seen: set[Member] = set()
    for group in sorted(groups, key=len, reverse=True):
        if not seen.intersection(group):
            kept.append(group)
            seen.update(group)
    return sorted(kept)


def _described(
    kind: str, groups: Sequence[Sequence[Member]], manifests: Sequence[Manifest], where: str
) -> tuple[str, tuple[str, ...], dict[str, Any]]:
    facts = _facts(groups, manifests)
    differing = (
        f"; {count_noun(facts['n_conflicting'], 'group')} with different labels" if facts["n_conflicting"] else ""
    )
    message = (
        f"{where}: {count_noun(len(groups), 'group')} of {_WORDS[kind]} ({count_noun(facts['n_files'], 'file')}, "
        f"{facts['n_redundant']:,} redundant){differing}"
    )
    return message, _names([m for group in groups for m in group], manifests), facts


def _facts(groups: Sequence[Sequence[Member]], manifests: Sequence[Manifest]) -> dict[str, Any]:
    several = len({number for group in groups for number, _ in group}) > 1
    named = [[_name(member, manifests, several) for member in group] for group in groups]
    labels = [manifest.table[r.LABEL].to_pylist() for manifest in manifests]
    known = [
        {(manifests[n].task, labels[n][row]) for n, row in group if labels[n][row] is not None} for group in groups
    ]
    conflicting = sum(any((task, 0) in one and (task, 1) in one for task, _ in one) for one in known)
    files = sum(len(group) for group in groups)
    return {
        "n_groups": len(groups),
        "n_files": files,
        "n_redundant": files - len(groups),
        "n_conflicting": conflicting,
        "groups": named,
    }


def _names(members: Sequence[Member], manifests: Sequence[Manifest]) -> tuple[str, ...]:
    several = len({number for number, _ in members}) > 1
    return tuple(_name(member, manifests, several) for member in members)


def _name(member: Member, manifests: Sequence[Manifest], several: bool) -> str:
    number, row = member
    figure = manifests[number].ids[row]
    return f"{manifests[number].name}: {figure}" if several else figure
