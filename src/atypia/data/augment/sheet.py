"""Sheets that show what an augmentation does to crops, so that a reader can judge what survives it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from atypia.base.artifacts import atomic_file
from atypia.base.errors import InputError, must
from atypia.base.seeds import derive_seed
from atypia.data.augment.pipeline import AUGMENTATIONS, augmentation
from atypia.data.images.sheets import contact_sheet

DRAWS = 7
"""Draws of one pipeline beside the original."""


def augmentation_sheet(
    crops: npt.NDArray[np.uint8], names: Sequence[str], path: Path, seed: int = 0, draws: int = DRAWS
) -> Path:
    """Writes a contact sheet of augmented crops: a row a crop, the original in the first column.

    Args:
        crops: RGB, shape (n, h, h, 3), uint8, n ≥ 1.
        names: As :func:`augmentation` takes them. One: several draws of it; several: one draw of each.
        path: The PNG file to write.
        seed: Decides the draws.
        draws: Draws where there is one name.

    Returns:
        ``path``.

    Raises:
        InputError: No name, an unknown one, or crops that are not square RGB.
        WorkError: The file cannot be written.
    """
    if not names:
        raise InputError(must("names", "at least one augmentation", "none", f"choose of {', '.join(AUGMENTATIONS)}"))
    if draws < 1:
        raise InputError(must("draws", "at least 1", draws, f"use {DRAWS}"))
    if crops.ndim != 4 or crops.shape[-1] != 3 or crops.dtype != np.uint8 or len(crops) == 0:
        got = f"shape {crops.shape}, {crops.dtype}"
        raise InputError(must("crops", "RGB of shape (n, h, h, 3), uint8, n ≥ 1", got, "stack the crops"))
    images = torch.from_numpy(np.ascontiguousarray(crops)).permute(0, 3, 1, 2).float().div_(255)
    columns: list[tuple[str, npt.NDArray[np.uint8]]] = [("original", crops)]
    wanted = [(names[0], draw) for draw in range(draws)] if len(names) == 1 else [(name, 0) for name in names]
    for name, draw in wanted:
        generator = torch.Generator().manual_seed(derive_seed(seed, "sheet", name, draw))
        changed = augmentation(name)(images, generator).mul(255).round_().to(torch.uint8)
        columns.append((name if len(names) > 1 else f"draw {draw + 1}", changed.permute(0, 2, 3, 1).numpy()))
    cells = np.stack([column for _, column in columns], axis=1).reshape(-1, *crops.shape[1:])
    captions = [caption for caption, _ in columns] * len(crops)
    title = f"{names[0]}: {augmentation(names[0]).summary}" if len(names) == 1 else "augmentations"
    sheet = contact_sheet(cells, captions, columns=len(columns), title=title)
    with atomic_file(path) as file:
        sheet.save(file, format="PNG")
    return path
