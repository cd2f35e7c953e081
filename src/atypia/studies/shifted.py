"""Test figures of a study under fixed changes of their crops: the shifted validation."""

from __future__ import annotations

from pathlib import Path

from atypia.base import records as r
from atypia.base.errors import InputError, must
from atypia.data.images.shifts import check_shift
from atypia.data.manifest import Manifest
from atypia.studies import files
from atypia.studies.schema import DataSection


def shifted_set(manifest: Manifest, shift: str) -> Manifest:
    """The same figures under ids of their own, so that their predictions are told apart; the images are the same.

    Args:
        manifest: A training set.
        shift: One of :data:`atypia.data.images.shifts.SHIFTS`.

    Raises:
        InputError: There is no such change.
    """
    name = check_shift(shift)
    rows = [
        {**row, r.FIGURE_ID: f"{row[r.FIGURE_ID]}~{name}", r.DATASET: f"{row[r.DATASET]}, {name}"}
        for row in manifest.table.to_pylist()
    ]
    return Manifest.from_rows(rows, f"{manifest.name}, {name}", manifest.task, manifest.root, manifest.notes)


def planned_shifts(asked: DataSection, opened: Manifest | str, out: Path) -> dict[str, tuple[str, str]]:
    """Fingerprint, name and change of the training set under each change that a study asks for; the sets are saved.

    Args:
        asked: The study's data.
        opened: Its training set, or why it is missing: then there are none, and the trainings say so.
        out: The study's folder.

    Raises:
        InputError: There are several training sets.
    """
    if len(asked.train) > 1:
        fix = "make a study of each"
        raise InputError(must("data.train", "one set where `shifts` are given", f"{len(asked.train)} sets", fix))
    if isinstance(opened, str) or opened.root is None:
        return {}
    found = {}
    for shift in asked.shifts:
        changed = shifted_set(opened, shift)
        changed.save(out / files.MANIFESTS / f"{changed.fingerprint}.parquet")
        found[changed.fingerprint] = (changed.name, shift)
    return found
