"""Where generated figures come from: which generator made them, and what it had seen.

A generated set's folder holds ``seen.parquet`` beside its images: a manifest, without images, of all
figures that the generator learned from, those of its pretraining and of classifiers that picked its
samples included. Each row names that table by its fingerprint (column ``seen``), so that what a
generator saw can be compared with what a classifier is measured on, wherever the rows are taken.
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
"""What a table of seen figures keeps of them: by which they, their cases and their files are recognised."""


@dataclass(frozen=True, eq=False)
class Maker:
    """A generator, as the rows of its figures name it.

    Attributes:
        generator: Content hash of its checkpoint.
        fold: The fold that it was trained for; None where it was trained for none.
        seen: All figures that it learned from; None where their table is not at hand or is another one.
        figures: Ids of the generated figures.
    """

    generator: str
    fold: str | None
    seen: Manifest | None
    figures: tuple[str, ...]

    @property
    def shown(self) -> str:
        """What messages call it."""
        return f"generator {self.generator[:8]}" + (f" of {self.fold}" if self.fold else "")


def seen_table(manifests: Iterable[Manifest], name: str) -> Manifest:
    """A table of the figures that a model learned from: their identities, without labels or images.

    Args:
        manifests: The figures; what occurs several times is kept once.
        name: What messages call them.

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


def makers(manifest: Manifest) -> list[Maker]:
    """The generators of a manifest's figures; none where all are real.

    The table of seen figures is looked for beside and above each image's folder.
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
    return [Maker(key[0], key[1], kept[key], tuple(figures)) for key, figures in found.items()]


def _seen_near(folder: Path | None, fingerprint: str) -> Manifest | None:
    """The table of that fingerprint in the image's folder or the one above; None where there is none."""
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
