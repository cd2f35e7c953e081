"""The sets that fine-tuning reads: how their crops are cut, and the one on which nothing may be lost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from atypia.base import records as r
from atypia.base.errors import InputError, count_noun, must
from atypia.base.process.progress import Progress, silent
from atypia.data.crops.store import CropStore, open_store
from atypia.data.images.geometry import CropGeometry
from atypia.data.manifest import Manifest
from atypia.data.sources.opening import open_data
from atypia.inference.bundles.bundle import Bundle
from atypia.inference.predict import check_task

PHANTOM: Final = "phantom"
"""Name of the rendered set to keep, which every machine can make."""
RENDERED: Final = 240
"""Its figures, of four made-up laboratories."""


@dataclass(frozen=True, eq=False)
class KeptSet:
    """Labelled figures of both classes, of other laboratories.

    Attributes:
        manifest: The figures.
        store: Their crops.
        rows: Those that give a crop, shape (n,).
    """

    manifest: Manifest
    store: CropStore
    rows: npt.NDArray[np.int64]


def own_geometry(bundle: Bundle, manifest: Manifest) -> CropGeometry:
    """The model's field where the figures' µm/px is known, the whole crop where none is: as ``atypia predict`` cuts.

    Figures on slides have the µm/px that their slide states where the table says none.

    Raises:
        InputError: It is known of some crops alone. One training takes one way of cutting, and whole crops of all would
            show several fields.
    """
    table = manifest.table
    known = table[r.MPP].is_valid().to_numpy() | table[r.X_PX].is_valid().to_numpy()
    if bundle.field_um is None or not bundle.geometry.is_whole or not known.any():
        return bundle.geometry
    if not known.all():
        unknown = int(np.count_nonzero(~known))
        got = f"unknown of {unknown} of {count_noun(len(manifest), 'figure')}"
        fix = "state it in the column `mpp` of the others too, or leave these out"
        raise InputError(must("µm/px", f"known of all figures of {manifest.name}, or of none", got, fix))
    return bundle.geometry.with_field(bundle.field_um)


def set_to_keep(keep: str, root: Path | None = None, progress: Progress = silent) -> Manifest:
    """The labelled figures on which nothing may be lost; rendered ones lie in the cache."""
    if keep != PHANTOM:
        return open_data(keep, root)
    from atypia.data.phantom.dataset import cached_phantom

    return cached_phantom(RENDERED, progress=progress)


def open_to_keep(bundle: Bundle, keep: str, root: Path | None = None, progress: Progress = silent) -> KeptSet:
    """Opens the set to keep, with all that could stop its comparison: it is opened before any training.

    Args:
        bundle: The initial model.
        keep: A labelled data set, or :data:`PHANTOM`.
        root: Data root.
        progress: Told about crops.

    Raises:
        InputError: It is of another task, or has one class alone, of which balanced accuracy is not defined.
        DataError: A figure has no label, or none gives a crop.
    """
    manifest = set_to_keep(keep, root, progress)
    check_task(bundle, manifest)
    labels = manifest.labels
    store = open_store(manifest, own_geometry(bundle, manifest), progress=progress)
    rows = np.flatnonzero(store.usable)
    normal, atypical = (int(np.count_nonzero(labels[rows] == label)) for label in (0, 1))
    if not normal or not atypical:
        got = f"{normal} normal, {atypical} atypical in {manifest.name}"
        raise InputError(must("keep", "a set with readable figures of either class", got, "add figures of the other"))
    return KeptSet(manifest, store, rows)
