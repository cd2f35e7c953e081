"""Random draws for a batch, from one CPU generator so that they do not depend on the device."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """Uniform draws, shape (count,), float32."""
    return low + (high - low) * torch.rand(count, generator=generator)


def happens(count: int, probability: float, generator: torch.Generator) -> Tensor:
    """Whether something happens to each figure, shape (count,), bool."""
    return torch.rand(count, generator=generator) < probability


def per_figure(values: Tensor, images: Tensor) -> Tensor:
    """Values of figures (b,) shaped (b, 1, 1, 1), on the device and of the type of the images."""
    return values.to(images.device, images.dtype)[:, None, None, None]


def change_chosen(images: Tensor, chosen: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Changes the chosen figures and leaves the others bit for bit; figures that are not chosen cost nothing.

    Args:
        images: Shape (b, c, h, w); not modified.
        chosen: Shape (b,), bool, on the CPU, so that no device is waited for.
        change: Takes the chosen images and their rows (on the CPU), gives new images of the same shape.

    Returns:
        Shape (b, c, h, w); ``images`` itself where nothing is chosen.
    """
    rows = torch.nonzero(chosen).flatten()
    if len(rows) == 0:
        return images
    if len(rows) == len(images):
        return change(images, rows)
    at = rows.to(images.device)
    out = images.clone()
    out[at] = change(images[at], rows)
    return out
