"""Sheets drawn while a generator is trained: reconstructions, and samples of each class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from atypia.artifacts import atomic_file
from atypia.data.sheets import contact_sheet
from atypia.records import CLASS_NAMES
from atypia.synthesis.diffusion import Process, SamplingConfig, draw_latents, noise_generators
from atypia.synthesis.latents import Latents
from atypia.synthesis.networks import Denoiser
from atypia.synthesis.pixels import as_crops, scaled
from atypia.synthesis.schema import CLASS

COLUMNS = 8
SETTINGS = SamplingConfig(guidance=2.0, steps=25)
"""How sheets are sampled: fewer steps than a set, always the same noise."""


@torch.inference_mode()
def reconstruction_sheet(autoencoder: Any, crops: npt.NDArray[np.uint8], title: str, path: Path) -> None:
    """Real crops, and below them what the autoencoder makes of them."""
    device = next(autoencoder.parameters()).device
    images = scaled(crops, device)
    made = as_crops(autoencoder.decode(autoencoder.encode(images).latent_dist.mean).sample)
    captions = ["real"] * len(crops) + ["made"] * len(crops)
    _save(contact_sheet(np.concatenate([crops, made]), captions, len(crops), title=title), path)


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
    """Samples from the same noise: one row a class, or one row of none.

    Args:
        autoencoder: Its decoder turns latents into images.
        denoiser: The averaged one, in evaluation mode.
        latents: Their standardisation is undone.
        labelled: Whether classes are told.
        title: Of the sheet.
        path: Of the file (.png).
        task: Key of :data:`atypia.records.CLASS_NAMES`.
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
    crops = as_crops(autoencoder.decode(drawn * scale + shift).sample)
    names = ["no class" if label is None else CLASS_NAMES[task][label] for label in labels]
    captions = [name for name in names for _ in range(COLUMNS)]
    marks = [label for label in labels for _ in range(COLUMNS)]
    said = f"{title}: generated, guidance {settings.guidance:g}"
    _save(contact_sheet(crops, captions, COLUMNS, title=said, labels=marks, task=task), path)


def _save(sheet: Image.Image, path: Path) -> None:
    with atomic_file(path) as file:
        sheet.save(file, "PNG")
