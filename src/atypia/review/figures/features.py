"""Features of the figures that are reviewed, if trainings have left them in the cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atypia.backbones.features import META, VALUES
from atypia.base import runs
from atypia.base.artifacts import read_json
from atypia.base.errors import WorkError
from atypia.base.paths import cache_root
from atypia.data.crops.cutting import META_FILE
from atypia.data.manifest import Manifest
from atypia.inference.bundles.bundle import CONFIG_FILE

Values = npt.NDArray[np.floating[Any]]


def find_features(manifest: Manifest, run_folders: tuple[Path, ...] = (), cache: Path | None = None) -> Values | None:
    """Features of a data set from the cache; nothing is computed here.

    Args:
        manifest: The data set.
        run_folders: Trainings; features of their backbone are preferred.
        cache: Folder of derived files; None for the default.

    Returns:
        Shape (n, d), memory-mapped, in the manifest's row order, rows of figures without a crop NaN;
        None if there are none.
    """
    cache = cache or cache_root()
    stores = {meta.get("fingerprint") for _, meta in _metas(cache / "crops", META_FILE)
              if meta.get("manifest") == manifest.fingerprint}  # fmt: skip
    backbones = {_backbone(run) for run in run_folders}
    candidates = [
        (meta.get("backbone") in backbones, (folder / META).stat().st_mtime_ns, folder)
        for folder, meta in _metas(cache / "features", META)
        if meta.get("store") in stores
    ]
    for *_, folder in sorted(candidates, reverse=True):
        try:
            values = np.load(folder / VALUES, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            continue
        if values.ndim == 2 and len(values) == len(manifest):
            return values
    return None


def _metas(folder: Path, name: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted(folder.glob(f"*/{name}")):
        try:
            meta = read_json(path)
        except WorkError:
            continue
        if isinstance(meta, dict):
            yield path.parent, meta


def _backbone(run: Path) -> str | None:
    try:
        config = read_json(run / runs.BUNDLE / CONFIG_FILE)
    except WorkError:
        return None
    backbone = config.get("backbone") if isinstance(config, dict) else None
    return backbone.get("name") if isinstance(backbone, dict) else None
