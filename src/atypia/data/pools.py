"""Figures as they are trained on: what several sets hold twice left out, repeated crops too, labels by their votes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from atypia.base import records as r
from atypia.base.errors import DataError, InputError, count_noun, must
from atypia.data.audit.contamination import datasets, known_contamination, known_overlap, matching_positions
from atypia.data.audit.duplicates import file_copies
from atypia.data.audit.findings import AuditFinding
from atypia.data.manifest import Manifest
from atypia.data.sources.layouts import majority
from atypia.data.sources.opening import open_data, parts_of

PUBLISHED: Final = "published"
VOTES: Final = "votes"
LABELS: Final = (PUBLISHED, VOTES)
"""Whose labels are taken: the source's, or the majority of the votes where there is one."""


@dataclass(frozen=True)
class Picked:
    """Which of the figures are taken, and with which labels.

    Attributes:
        drop_overlap: In a pool, figures that an earlier set has too are left out.
        drop_repeats: Of crops whose image files are the same, the first is kept; of those with both labels, none.
        labels: Member of :data:`LABELS`.
        where: Columns, members of :data:`FILTERS`, and the values to keep; of the label the names of classes.
    """

    drop_overlap: bool = False
    drop_repeats: bool = False
    labels: str = PUBLISHED
    where: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.labels not in LABELS:
            raise InputError(must("labels", " or ".join(LABELS), self.labels, "leave it out for the published ones"))


ALL: Final = Picked()
"""Every figure, with the published labels."""

FILTERS: Final = (r.DATASET, r.PART, *r.DOMAIN_PARTS, r.DOMAIN, r.LABEL)
"""Columns of a manifest by which figures can be selected."""


def filters_of(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """What to select by, from ``COLUMN=VALUE``; several values of a column: figures with any of them.

    Raises:
        InputError: A text is not of that form.

    >>> filters_of(["part=train", "scanner=Aperio XT", "scanner=Aperio CS2"])
    {'part': ('train',), 'scanner': ('Aperio XT', 'Aperio CS2')}
    """
    wanted: dict[str, tuple[str, ...]] = {}
    for text in texts:
        column, equals, value = (part.strip() for part in text.partition("="))
        if not (column and equals and value):
            raise InputError(must("where", "COLUMN=VALUE", text, "for instance part=train"))
        wanted[column] = (*wanted.get(column, ()), value)
    return wanted


def taken_where(manifest: Manifest, where: Mapping[str, Sequence[str]]) -> Manifest:
    """The figures that have one of the named values in each column.

    Args:
        manifest: Of any figures.
        where: Members of :data:`FILTERS` and the values to keep; of the label the names of classes.

    Raises:
        InputError: There is no such column to select by.
        DataError: No figure has the values; lists those that are there.

    >>> taken_where(open_figures("mine.csv"), {"label": ["atypical"]})
    <Manifest mine: 16 figures (16 atypical), 8 cases, 2 domains>
    """
    for column, wanted in where.items():
        if column not in FILTERS:
            raise InputError(must("where", f"one of {', '.join(FILTERS)}", column, "select by one of these"))
        values = manifest.table[column].to_pylist()
        if column == r.LABEL:
            names = r.CLASS_NAMES[manifest.task]
            values = [None if value is None else names[value] for value in values]
        kept = np.array([value in wanted for value in values])
        if not kept.any():
            there = ", ".join(sorted({str(value) for value in values}))
            raise DataError(must(f"where.{column}", f"among {there}", ", ".join(wanted), "correct the value"))
        manifest = manifest.take(kept)
    return manifest


def open_figures(reference: str | os.PathLike[str], root: Path | None = None, picked: Picked = ALL) -> Manifest:
    """Opens figures as :func:`atypia.data.sources.opening.open_data` does, and takes those that are asked for.

    Warns (RuntimeWarning) of a pool that holds figures twice, or crops with the same pixels, and names the remedy.

    Args:
        reference: A source, a file, a folder, or several of these joined by ``+``.
        root: Data root in which sources are looked for.
        picked: What is left out; the notes of the manifest say how many figures that were.

    Raises:
        InputError, AbsentError, DataError: As ``open_data``; or sets overlap and it is not known in which figures.

    >>> open_figures("mine.csv", picked=Picked(drop_repeats=True)).notes
    ()
    """
    names = parts_of(reference)
    sets = [open_data(name, root) for name in names]
    if picked.labels == VOTES:
        sets = [by_votes(one) for one in sets]
    if picked.drop_repeats:
        sets = [without_repeats(one) for one in sets]
    if len(sets) == 1:
        return taken_where(sets[0], picked.where)
    if picked.drop_overlap:
        return taken_where(Manifest.concat(without_overlap(sets, root)), picked.where)
    pooled = Manifest.concat(sets)
    for finding in overlaps(sets, root):
        said = f"{pooled.name} holds figures twice: {finding.message}; fix: --drop-overlap leaves them out"
        warnings.warn(said, RuntimeWarning, stacklevel=2)
    return taken_where(pooled, picked.where)


def overlaps(sets: list[Manifest], root: Path | None = None) -> list[AuditFinding]:
    """Known overlaps between each two of several sets, by their published sources; none where positions all differ."""
    found = [finding for a, b in combinations(sets, 2) for finding in known_contamination(a, b, root)]
    return [finding for finding in found if finding.facts["same_position"] != 0]


def without_overlap(sets: list[Manifest], root: Path | None = None) -> list[Manifest]:
    """The sets, each without the figures that an earlier one has too.

    The same figure: at the same position of the same slide where positions are published, or the same image file.

    Raises:
        DataError: Two sets overlap, and it is not known in which figures.
    """
    kept: list[Manifest] = []
    for one in sets:
        twice: set[str] = set()
        for earlier in kept:
            twice |= _shared(earlier, one, root)
        if len(twice) == len(one):
            expected = "a set with figures that the others do not have"
            raise DataError(must(one.name, expected, f"all {len(one):,} are in the others", "leave it out"))
        if twice:
            mask = np.array([figure not in twice for figure in one.ids])
            said = f"{count_noun(len(twice), 'figure')} of {one.name} left out, which {_names(kept)} has too"
            one = replace(one.take(mask), notes=(*one.notes, said))
        kept.append(one)
    return kept


def _names(sets: list[Manifest]) -> str:
    return " or ".join(one.name for one in sets)


def _shared(first: Manifest, second: Manifest, root: Path | None) -> set[str]:
    """Figures of the second set that the first has too."""
    groups = [group.members for group in file_copies([first, second])]
    found = {second.ids[row] for group in groups if any(n == 0 for n, _ in group) for n, row in group if n == 1}
    for one in datasets(first):
        for other in datasets(second):
            if known_overlap(one, other) is None:
                continue
            a, b = _only(first, one), _only(second, other)
            if not known_contamination(a, b, root):
                continue
            pairs = matching_positions(b, a, root=root)
            if pairs is None:
                expected = f"sets whose common figures are known for --drop-overlap, as {one} and {other} overlap"
                raise DataError(must("data", expected, "no positions of one of them", "leave one of the two out"))
            found |= {figure for figure, _ in pairs}
    return found


def _only(manifest: Manifest, dataset: str) -> Manifest:
    return manifest.take(np.array(manifest.column(r.DATASET) == dataset))


def without_repeats(manifest: Manifest) -> Manifest:
    """The set without crops whose image file it holds already, and without all that carry both labels."""
    labels = manifest.table[r.LABEL].to_pylist()
    dropped: set[int] = set()
    conflicting = 0
    for group in file_copies([manifest]):
        rows = sorted(row for _, row in group.members)
        both = {labels[row] for row in rows} >= {0, 1}
        conflicting += len(rows) if both else 0
        dropped |= set(rows if both else rows[1:])
    if not dropped:
        return manifest
    if len(dropped) == len(manifest):
        raise DataError(f"{manifest.name}: all figures are repeated crops with both labels; fix: label them again")
    mask = np.ones(len(manifest), dtype=bool)
    mask[list(dropped)] = False
    said = (
        f"{count_noun(len(dropped) - conflicting, 'repeated crop')} of {manifest.name} left out, and "
        f"{count_noun(conflicting, 'crop')} that carry both labels"
    )
    return replace(manifest.take(mask), notes=(*manifest.notes, said))


def by_votes(manifest: Manifest) -> Manifest:
    """The set with the majority of its votes as labels; a figure without votes, or with a tie, keeps its label."""
    labels, votes = (manifest.table[name].to_pylist() for name in (r.LABEL, r.VOTES))
    voted = [None if given is None else majority(given) for given in votes]
    new = [label if vote is None else vote for label, vote in zip(labels, voted, strict=True)]
    changed = sum(one != other for one, other in zip(labels, new, strict=True))
    if all(vote is None for vote in voted):
        raise DataError(must("labels", "published for a set without votes", VOTES, f"leave it out for {manifest.name}"))
    if not changed:
        return manifest
    place = manifest.table.schema.get_field_index(r.LABEL)
    table = manifest.table.set_column(place, manifest.table.schema.field(place), pa.array(new, pa.int8()))
    said = (
        f"{count_noun(changed, 'label')} of {manifest.name} by the majority of the votes instead of the published ones"
    )
    return replace(manifest, table=table, notes=(*manifest.notes, said))
