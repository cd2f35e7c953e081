"""Opens the data sets of a study: existing ones, rendered ones, or parts of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from atypia.base.process.progress import Progress, silent
from atypia.data.manifest import Manifest
from atypia.data.pools import Picked, open_figures, taken_where
from atypia.studies.schema import DataConfig


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
        from atypia.data.phantom.dataset import cached_phantom

        wanted = data.phantom
        manifest = taken_where(cached_phantom(wanted.n, wanted.seed, wanted.domains, progress=progress), data.where)
    else:
        manifest = open_figures(str(data.open), root, picked)
    if data.name:
        return replace(manifest, name=data.name)
    if data.where:
        picked = "; ".join(f"{column} {' or '.join(values)}" for column, values in data.where.items())
        return replace(manifest, name=f"{manifest.name} ({picked})")
    return manifest
