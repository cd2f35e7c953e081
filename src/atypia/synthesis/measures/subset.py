"""Writes a subset of a generated set as a new set: without copies, or only crops that a classifier recognises.

A classifier that selects samples passes its training labels on to whatever is trained on them. So its
training figures count as seen by the generator of the new set; if they are unknown, the origin of
the new set is unknown, and training refuses it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from atypia.base import records as r
from atypia.base.artifacts import atomic_folder, disk_errors
from atypia.base.errors import InputError, must
from atypia.data.audit.provenance import SEEN_NAME, seen_table
from atypia.data.manifest import JUDGED_SCHEMA, Manifest
from atypia.data.sources.opening import MANIFEST_NAME
from atypia.synthesis.measures.fidelity import Judgement, intended_probability


def write_subset(
    made: Manifest,
    kept: npt.NDArray[np.bool_],
    seen: Manifest | None,
    judges: Sequence[Judgement],
    folder: Path,
    why: str,
) -> Manifest:
    """Writes the crops that were kept as a set; images are hard-linked if the file system supports it.

    Args:
        made: The set.
        kept: Which crops to keep, shape (n,).
        seen: What its generators learned from; None if unknown.
        judges: Classifiers that selected; empty if none did. Their mean probability of the class that a crop was
            generated as becomes the column ``judged_p``.
        folder: The new set's folder.
        why: Description of the selection, for the manifest's notes.

    Returns:
        The manifest of the new set.

    Raises:
        InputError: Nothing is left, or the folder exists.
        WorkError: The disk is full or not writable.
    """
    if not kept.any():
        raise InputError(must("crops kept", "at least one", "none", "lower the requirements"))
    if folder.exists():
        raise InputError(must("folder", "a new one", f"{folder}, which exists", "choose another --keep, or delete it"))
    assert made.root is not None
    tables = [seen, *(one.seen for one in judges)]
    known = [table for table in tables if table is not None]
    saw = seen_table(known, f"seen by what made {made.name}") if known and len(known) == len(tables) else None
    part = made.take(kept)
    column = part.table.schema.get_field_index(r.SEEN)
    mark = saw.fingerprint if saw is not None else None
    table = part.table.set_column(column, part.table.schema.field(column), pa.array([mark] * len(part), pa.string()))
    if judges:
        p = intended_probability(judges, made)[kept]
        if r.JUDGED_P in table.column_names:
            table = table.drop_columns([r.JUDGED_P])
        table = table.append_column(JUDGED_SCHEMA.field(r.JUDGED_P), pa.array(p, pa.float64()))
    folder = folder.resolve()
    picked = replace(part, table=table, root=folder, notes=(*made.notes, why))
    with disk_errors(folder), atomic_folder(folder) as new:
        for image in part.table[r.IMAGE].to_pylist():
            target = new / image
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(made.root / image, target)
        if saw is not None:
            saw.save(new / SEEN_NAME)
        replace(picked, root=new).save(new / MANIFEST_NAME)
    return Manifest.load(folder / MANIFEST_NAME)


def reason(kept: npt.NDArray[np.bool_], drop_copies: bool, min_p: float | None, judge: str = "") -> str:
    """Describes the selection for notes: «3 of 9 kept, copies dropped, probability … at least 0.5».

    Args:
        kept: Which crops are kept, shape (n,).
        drop_copies: Whether copies were left out.
        min_p: Least probability of the intended class; None for no minimum.
        judge: Name of the classifier, if there is only one.
    """
    said = [f"{int(kept.sum())} of {len(kept)} kept"]
    if drop_copies:
        said.append("copies dropped")
    if min_p is not None:
        said.append(f"probability of the class at least {min_p:g}" + (f" by `{judge}`" if judge else ""))
    return ", ".join(said)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
