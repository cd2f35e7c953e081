"""Latents of all training figures in all training views: computed once, then memory-mapped.

The denoiser sees each figure hundreds of times; encoding it each time would cost more than the
denoiser itself. Stored are mean and standard deviation of the encoder's posterior, in half
precision, for each flip and quarter turn; each step draws a new sample from it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from atypia.base.artifacts import atomic_file, disk_errors
from atypia.base.process.progress import Progress
from atypia.synthesis.model.pixels import VIEWS, crops_to_images, turn_images

BATCH = 32


@dataclass(frozen=True, eq=False)
class Latents:
    """Posteriors of figures, and the standardisation of latents.

    Attributes:
        moments: Shape (n, views, 2, c, h, w), float16: mean and standard deviation.
        shift: Mean of each channel over all figures, shape (c,).
        scale: Standard deviation of each channel, shape (c,), > 0.
    """

    moments: npt.NDArray[np.float16]
    shift: npt.NDArray[np.float64]
    scale: npt.NDArray[np.float64]

    def draw(self, rows: npt.NDArray[np.int64], generator: torch.Generator) -> Tensor:
        """Standardised latents of figures, shape (b, c, h, w), float32: one random view and sample per figure."""
        views = torch.randint(self.moments.shape[1], (len(rows),), generator=generator).numpy()
        mean, std = torch.from_numpy(self.moments[rows, views].astype(np.float32)).unbind(1)
        latents = mean + std * torch.randn(mean.shape, generator=generator)
        return (latents - self._column(self.shift)) / self._column(self.scale)

    @staticmethod
    def _column(values: npt.NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(values.astype(np.float32))[:, None, None]


@torch.inference_mode()
def encode_all(
    autoencoder: Any,
    crops: npt.NDArray[np.uint8],
    rows: npt.NDArray[np.int64],
    path: Path,
    turns: bool,
    progress: Progress,
) -> Latents:
    """Encodes figures, or opens the existing file.

    Args:
        autoencoder: In evaluation mode, on its device.
        crops: Shape (n, h, h, 3), uint8.
        rows: Which crops, in the order of the result.
        path: The file to write; its name, chosen by the caller, must identify its inputs.
        turns: Whether all eight views are encoded.
        progress: Receives the number of figures done.

    Raises:
        WorkError: The disk is full or not writable.
    """
    views = VIEWS if turns else 1
    device = next(autoencoder.parameters()).device
    if not path.is_file():
        with disk_errors(path), atomic_file(path) as file:
            for start in range(0, len(rows), BATCH):
                picked = rows[start : start + BATCH]
                images = crops_to_images(crops[picked], device)
                found = []
                for view in range(views):
                    posterior = autoencoder.encode(turn_images(images, torch.full((len(picked),), view))).latent_dist
                    found.append(torch.stack([posterior.mean, posterior.std], 1))
                block = torch.stack(found, 1).to(torch.float16).cpu().contiguous().numpy()
                if start == 0:
                    header = {"descr": "<f2", "fortran_order": False, "shape": (len(rows), *block.shape[1:])}
                    np.lib.format.write_array_header_1_0(file, header)
                file.write(block.data.cast("B"))
                progress(min(start + BATCH, len(rows)), len(rows), "figures encoded")
    moments = np.load(path, mmap_mode="r", allow_pickle=False)
    shift, scale = _statistics(moments)
    return Latents(moments, shift, scale)


def _statistics(moments: npt.NDArray[np.float16]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and standard deviation of each channel of samples: variance of means + mean variance."""
    count, total, squares = 0, 0.0, 0.0
    for start in range(0, len(moments), 256):
        block = moments[start : start + 256].astype(np.float64)
        mean, std = block[:, :, 0], block[:, :, 1]
        axes = (0, 1, 3, 4)
        total = total + mean.sum(axes)
        squares = squares + (mean**2 + std**2).sum(axes)
        count += mean.size // mean.shape[2]
    shift = np.asarray(total / count)
    scale = np.sqrt(np.maximum(np.asarray(squares / count) - shift**2, 1e-12))
    return shift, scale


def standardisation(latents: Latents) -> Mapping[str, list[float]]:
    """Shift and scale as JSON-like values."""
    return {"shift": latents.shift.tolist(), "scale": latents.scale.tolist()}


def remove(path: Path) -> None:
    """Deletes encoded figures that are no longer needed."""
    if path.exists():
        os.unlink(path)  # noqa: PTH108  a mapped file may be unlinked while it is open
