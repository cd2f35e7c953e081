"""Random draws for a batch, from one CPU generator so that they do not depend on the device."""

from __future__ import annotations

import torch
from torch import Tensor


def uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """Uniform draws, shape (count,), float32."""
    return low + (high - low) * torch.rand(count, generator=generator)


def happens(count: int, probability: float, generator: torch.Generator) -> Tensor:
    """Whether something happens to each figure, shape (count,), bool."""
    return torch.rand(count, generator=generator) < probability


def expand(values: Tensor, images: Tensor) -> Tensor:
    """Values of figures (b,) shaped (b, 1, 1, 1), on the device and of the type of the images."""
    return values.to(images.device, images.dtype)[:, None, None, None]


def keep(changed: Tensor, images: Tensor, chosen: Tensor) -> Tensor:
    """The changed images where ``chosen`` (b,) is true, else the images as they were."""
    if bool(chosen.all()):
        return changed
    return torch.where(chosen.to(images.device)[:, None, None, None], changed, images)
