"""Opens the data sets of a study: existing ones, rendered ones, or parts of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from atypia.base.artifacts import fingerprint
from atypia.base.paths import cache_root
from atypia.base.process.progress import Progress, silent
from atypia.data.manifest import Manifest
from atypia.data.pools import Picked, open_figures, taken_where
from atypia.studies.schema import DataConfig, PhantomConfig


def open_set(data: DataConfig, root: Path | None = None, progress: Progress = silent) -> Manifest:
    """Opens a data set of a study.

    Args:
        data: The data set, and which part of it.
        root: Data root in which sources are looked for.
        progress: Receives progress: rendered figures.

    Raises:
        AbsentError: It is not on this machine; names the remedy.
        DataError: It is invalid, or no figure has the requested values.
        InputError: The reference cannot be opened.
    """
    picked = Picked(data.drop_overlap, data.drop_repeats, data.labels, data.where)
    if data.phantom:
        manifest = taken_where(_phantom(data.phantom, progress), data.where)
    else:
        manifest = open_figures(str(data.open), root, picked)
    if data.name:
        return replace(manifest, name=data.name)
    if data.where:
        picked = "; ".join(f"{column} {' or '.join(values)}" for column, values in data.where.items())
        return replace(manifest, name=f"{manifest.name} ({picked})")
    return manifest


def _phantom(wanted: PhantomConfig, progress: Progress) -> Manifest:
    from atypia.data.phantom.dataset import write_phantom

    key = fingerprint("study-phantom", wanted.model_dump(mode="json"))[:16]
    folder = cache_root() / "phantom" / f"{wanted.n}-{wanted.seed}-{key}"
    return write_phantom(folder, wanted.n, wanted.seed, list(wanted.domains) or None, progress=progress)
