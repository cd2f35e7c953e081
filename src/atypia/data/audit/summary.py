"""Summary of a data set: counts by class, domain, part and rater agreement; a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atypia.base import records as r
from atypia.base.errors import DataError
from atypia.base.process.cores import core_count
from atypia.base.process.progress import Progress, silent
from atypia.base.seeds import generator
from atypia.data.images.decoding import check_whole
from atypia.data.manifest import Manifest


def summarise(manifest: Manifest) -> dict[str, Any]:
    """Counts of a manifest, as JSON-able values.

    Returns:
        ``name, task, figures, positive, negative, unlabelled, cases, slides, classes, parts,
        raters, agreement`` (share of figures with two or more votes on which all raters agree;
        None without such figures), ``domains`` (a list with ``domain, positive, negative, unlabelled``),
        ``fingerprint`` and ``notes``.
    """
    t = manifest.table
    labels = t[r.LABEL].to_pylist()
    domains = t[r.DOMAIN].to_pylist()
    counts: dict[str, list[int]] = {}
    for domain, label in zip(domains, labels, strict=True):
        counts.setdefault(domain or "unknown", [0, 0, 0])[2 if label is None else label] += 1
    votes = [[v for v in given if v is not None] for given in t[r.VOTES].to_pylist() if given is not None]
    several = [given for given in votes if len(given) > 1]
    parts = t[r.PART].value_counts().to_pylist()
    return {
        "name": manifest.name,
        "task": manifest.task,
        "classes": list(r.CLASS_NAMES[manifest.task]),
        "figures": len(manifest),
        "positive": labels.count(1),
        "negative": labels.count(0),
        "unlabelled": labels.count(None),
        "cases": len(t[r.CASE_ID].drop_null().unique()),
        "slides": len(t[r.SLIDE_ID].drop_null().unique()),
        "parts": {str(c["values"]): c["counts"] for c in parts if c["values"] is not None},
        "raters": max((len(given) for given in votes), default=0),
        "agreement": sum(len(set(given)) == 1 for given in several) / len(several) if several else None,
        "domains": [
            {"domain": domain, "negative": negative, "positive": positive, "unlabelled": unlabelled}
            for domain, (negative, positive, unlabelled) in sorted(counts.items())
        ],
        "images": manifest.root is not None,
        "fingerprint": manifest.fingerprint,
        "notes": list(manifest.notes),
    }


def broken_images(manifest: Manifest) -> dict[str, str]:
    """Reasons by figure id for crops that are counted but cannot be used: truncated or damaged files.

    Pixels are not decoded: only the end of a file and, for PNG, its checksums are checked. Empty if the images are
    not available.
    """
    if manifest.root is None:
        return {}
    root, t = manifest.root, manifest.table
    rows = zip(t[r.FIGURE_ID].to_pylist(), t[r.IMAGE].to_pylist(), t[r.X_PX].to_pylist(), strict=True)
    crops = [(figure, root / image) for figure, image, x in rows if x is None]

    def reason(crop: tuple[str, Path]) -> str | None:
        try:
            check_whole(crop[1])
        except DataError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(core_count()) as pool:
        found = list(pool.map(reason, crops))
    return {figure: text for (figure, _), text in zip(crops, found, strict=True) if text is not None}


def random_sheet(
    manifest: Manifest, path: Path, seed: int = 0, progress: Progress = silent, rows: int = 6, columns: int = 10
) -> Path:
    """Writes a contact sheet of random crops, half of them positive if there are enough.

    Raises:
        AbsentError: The images are not available.
    """
    from atypia.base.artifacts import atomic_file
    from atypia.data.images.sheets import contact_sheet

    crops, labels, picked = _drawn(manifest, rows * columns, seed, progress)
    names = r.CLASS_NAMES[manifest.task]
    captions = [names[labels[i]] if labels[i] >= 0 else "unlabelled" for i in picked]
    known = [int(labels[i]) if labels[i] >= 0 else None for i in picked]
    sheet = contact_sheet(crops, captions, columns=columns, title=manifest.name, labels=known, task=manifest.task)
    with atomic_file(path) as file:
        sheet.save(file, format="PNG", optimize=True)
    return path


def augmented_sheet(
    manifest: Manifest, names: Sequence[str], path: Path, seed: int = 0, progress: Progress = silent, rows: int = 6
) -> Path:
    """Writes a sheet of crops before and after augmentation, half of them positive if there are enough.

    Args:
        manifest: Source of the crops.
        names: Augmentations; one: several draws of it, several: one draw of each.
        path: PNG file.
        seed: Seed for choosing crops and draws.
        progress: Receives progress: crops decoded.
        rows: Crops shown.

    Raises:
        AbsentError: The images are not available.
        InputError: No such augmentation.
    """
    from atypia.data.augment.sheet import augmentation_sheet

    crops, _, _ = _drawn(manifest, rows, seed, progress)
    augmentation_sheet(crops, names, path, seed)
    return path


def _drawn(
    manifest: Manifest, count: int, seed: int, progress: Progress
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[Any], list[int]]:
    """Random crops, the labels of all figures (−1 where there is none), and the rows of the crops."""
    from atypia.data.crops.store import open_store
    from atypia.data.images.geometry import CropGeometry

    store = open_store(manifest, CropGeometry(out_px=128), progress=progress)
    labels = np.array([-1 if label is None else label for label in manifest.table[r.LABEL].to_pylist()])
    picked = _pick(labels, store.usable, count, seed)
    return store.crops[picked], labels, picked


def _pick(labels: npt.NDArray[Any], usable: npt.NDArray[np.bool_], count: int, seed: int) -> list[int]:
    """Random rows, half of each class if there are enough; any rows without labels."""
    rng = generator(seed, "contact sheet")
    picked: list[int] = []
    for wanted in (1, 0):
        pool = np.flatnonzero((labels == wanted) & usable)
        picked += sorted(rng.permutation(pool)[: count // 2].tolist())
    return picked or rng.permutation(np.flatnonzero(usable))[:count].tolist()
