"""Sheets: images of reconstructions and samples during training, and of real beside generated crops afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from atypia.base.artifacts import atomic_file
from atypia.base.records import CLASS_NAMES
from atypia.data.images.sheets import contact_sheet
from atypia.synthesis.model.diffusion import Process, SamplingConfig, draw_latents, noise_generators
from atypia.synthesis.model.latents import Latents
from atypia.synthesis.model.networks import Denoiser
from atypia.synthesis.model.pixels import crops_to_images, images_to_crops
from atypia.synthesis.schema import CLASS

COLUMNS = 8
SCORED = 10
"""Crops per line of a score's sheet."""
SETTINGS = SamplingConfig(guidance=2.0, steps=25)
"""Sampling for sheets: fewer steps than for a set, always the same noise."""


@torch.inference_mode()
def reconstruction_sheet(autoencoder: Any, crops: npt.NDArray[np.uint8], title: str, path: Path) -> None:
    """Real crops, and below them their reconstructions by the autoencoder."""
    device = next(autoencoder.parameters()).device
    images = crops_to_images(crops, device)
    made = images_to_crops(autoencoder.decode(autoencoder.encode(images).latent_dist.mean).sample)
    captions = ["real"] * len(crops) + ["made"] * len(crops)
    save_sheet(contact_sheet(np.concatenate([crops, made]), captions, len(crops), title=title), path)


@torch.inference_mode()
def denoiser_sheet(
    autoencoder: Any,
    denoiser: Denoiser,
    latents: Latents,
    labelled: bool,
    title: str,
    path: Path,
    task: str,
    amp: torch.dtype | None = None,
) -> None:
    """Samples from the same noise: one row per class, or one row without class.

    Args:
        autoencoder: Its decoder turns latents into images.
        denoiser: The averaged denoiser, in evaluation mode.
        latents: For their standardisation, which is undone.
        labelled: Whether classes are told.
        title: Title of the sheet.
        path: Path of the file (.png).
        task: Key of :data:`atypia.base.records.CLASS_NAMES`.
        amp: Precision of the denoiser's passes.
    """
    device = next(denoiser.parameters()).device
    config = denoiser.recipe.diffusion
    process = Process(config)
    settings = SamplingConfig(SETTINGS.guidance if labelled else 1.0, min(SETTINGS.steps, config.steps))
    labels = [0, 1] if labelled else [None]
    codes = denoiser.nothing(len(labels) * COLUMNS)
    for row, label in enumerate(labels):
        if label is not None:
            codes[row * COLUMNS : (row + 1) * COLUMNS, list(denoiser.words).index(CLASS)] = label
    noise = noise_generators([seed for _ in labels for seed in range(COLUMNS)])
    drawn = draw_latents(denoiser, process, codes.to(device), noise, settings, amp)
    scale, shift = (
        torch.tensor(values, dtype=torch.float32, device=device)[:, None, None]
        for values in (latents.scale, latents.shift)
    )
    crops = images_to_crops(autoencoder.decode(drawn * scale + shift).sample)
    names = ["no class" if label is None else CLASS_NAMES[task][label] for label in labels]
    captions = [name for name in names for _ in range(COLUMNS)]
    marks = [label for label in labels for _ in range(COLUMNS)]
    said = f"{title}: generated, guidance {settings.guidance:g}"
    save_sheet(contact_sheet(crops, captions, COLUMNS, title=said, labels=marks, task=task), path)


def score_sheet(rows: Sequence[tuple[str, int | None, npt.NDArray[np.uint8]]], title: str, task: str) -> Image.Image:
    """Real beside generated crops: one line per group, with as many columns as the smallest group has crops.

    Args:
        rows: Caption, class and crops of each group, shape (n, h, h, 3), n ≥ 1, all of one side.
        title: Title of the sheet.
        task: Key of :data:`atypia.base.records.CLASS_NAMES`.
    """
    columns = min(SCORED, *(len(crops) for _, _, crops in rows))
    crops = np.concatenate([crops[:columns] for _, _, crops in rows])
    captions = [caption for caption, _, _ in rows for _ in range(columns)]
    labels = [label for _, label, _ in rows for _ in range(columns)]
    return contact_sheet(crops, captions, columns, title=title, labels=labels, task=task)


def save_sheet(sheet: Image.Image, path: Path) -> None:
    """Writes a sheet as PNG."""
    with atomic_file(path) as file:
        sheet.save(file, "PNG")
