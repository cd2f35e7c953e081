"""Provenance of generated figures: their generator, and the figures that it saw.

A generated set's folder contains ``seen.parquet`` beside its images: a manifest, without images, of all
figures that the generator learned from, including those of its pretraining and of classifiers that selected its
samples. Each row names that table by its fingerprint (column ``seen``), so that these figures
can be compared with the data that a classifier is measured on, wherever the rows are used.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

from atypia.base import records as r
from atypia.base.errors import DataError
from atypia.data.manifest import SCHEMA, Manifest

SEEN_NAME: Final = "seen.parquet"
DATASET_NAME: Final = "synthetic"
"""Value of the column ``dataset`` in rows of generated figures."""
IDENTITY: Final = (r.FIGURE_ID, r.DATASET, r.IMAGE, r.CASE_ID, r.SLIDE_ID, r.SHA256)
"""Columns of a table of seen figures: they identify figures, cases and files."""


@dataclass(frozen=True, eq=False)
class GeneratorRecord:
    """A generator, as recorded in the rows of its figures.

    Attributes:
        generator: Content hash of its checkpoint.
        fold: The fold that it was trained for; None without folds.
        seen: All figures that it learned from; None if their table is not available or does not match.
        figures: Ids of the generated figures.
    """

    generator: str
    fold: str | None
    seen: Manifest | None
    figures: tuple[str, ...]

    @property
    def shown(self) -> str:
        """Its name in messages."""
        return f"generator {self.generator[:8]}" + (f" of {self.fold}" if self.fold else "")


def seen_table(manifests: Iterable[Manifest], name: str) -> Manifest:
    """A table of the figures that a model learned from: their identities, without labels or images.

    Args:
        manifests: The figures; repeated figures are kept once.
        name: Their name in messages.

    Raises:
        DataError: Different data sets use one figure id.
    """
    rows: dict[tuple[str, str], dict[str, str | None]] = {}
    for manifest in manifests:
        for row in manifest.table.select(list(IDENTITY)).to_pylist():
            rows.setdefault((row[r.DATASET], row[r.FIGURE_ID]), row)
    # The order of the sets must not matter to the fingerprint.
    table = pa.Table.from_pylist([rows[key] for key in sorted(rows)], schema=SCHEMA)
    seen = Manifest(table, name)
    seen.validate()
    return seen


def generator_records(manifest: Manifest) -> list[GeneratorRecord]:
    """The generators of a manifest's figures; empty if all are real.

    The table of seen figures is searched in each image's folder and the one above.
    """
    made = manifest.synthetic
    if not made.any():
        return []
    part = manifest.take(made)
    columns = [part.table[name].to_pylist() for name in (r.GENERATOR, r.GENERATOR_FOLD, r.SEEN, r.IMAGE, r.FIGURE_ID)]
    groups: dict[tuple[str, str | None, str, Path | None], list[str]] = {}
    for generator, fold, seen, image, figure in zip(*columns, strict=True):
        folder = None if part.root is None else (part.root / image).parent
        groups.setdefault((generator or "?", fold, seen or "", folder), []).append(figure)
    tables: dict[tuple[str, Path | None], Manifest | None] = {}
    found: dict[tuple[str, str | None, str, bool], list[str]] = {}
    kept: dict[tuple[str, str | None, str, bool], Manifest | None] = {}
    for (generator, fold, seen, folder), figures in groups.items():
        if (seen, folder) not in tables:
            tables[seen, folder] = _seen_near(folder, seen)
        table = tables[seen, folder]
        key = (generator, fold, seen, table is not None)
        found.setdefault(key, []).extend(figures)
        kept[key] = table
    return [GeneratorRecord(key[0], key[1], kept[key], tuple(figures)) for key, figures in found.items()]


def _seen_near(folder: Path | None, fingerprint: str) -> Manifest | None:
    """The table with that fingerprint in the image's folder or the one above; None if there is none."""
    if folder is None or not fingerprint:
        return None
    for place in (folder.parent, folder):
        path = place / SEEN_NAME
        if path.is_file():
            try:
                seen = Manifest.load(path)
            except DataError:
                continue
            if seen.fingerprint == fingerprint:
                return seen
    return None
