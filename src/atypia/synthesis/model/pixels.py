"""Converts between stored crops and the images that networks see."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

VIEWS: Final = 8
"""Number of flips and quarter turns of a crop."""


def turn_images(images: Tensor, views: Tensor) -> Tensor:
    """Each image in one of its eight flips and quarter turns.

    Args:
        images: Shape (b, c, h, h).
        views: Shape (b,), on the CPU, 0 to 7: 0 to 3 quarter turns, 4 to 7 the same after a flip.
    """
    out = torch.empty_like(images)
    for view in range(VIEWS):
        picked = views == view
        if picked.any():
            flipped = images[picked].flip(-1) if view >= 4 else images[picked]
            out[picked] = torch.rot90(flipped, view % 4, (2, 3))
    return out


def crops_to_images(crops: npt.NDArray[np.uint8], device: torch.device) -> Tensor:
    """Crops (b, h, h, 3) as images in [−1, 1], shape (b, 3, h, h)."""
    images = torch.from_numpy(np.ascontiguousarray(crops)).to(device).permute(0, 3, 1, 2)
    return images.float().div_(127.5).sub_(1)


def images_to_crops(images: Tensor) -> npt.NDArray[np.uint8]:
    """Images in [−1, 1], shape (b, 3, h, h), as crops (b, h, h, 3); values outside are clipped."""
    bounded = images.float().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    return bounded.permute(0, 2, 3, 1).contiguous().cpu().numpy()
