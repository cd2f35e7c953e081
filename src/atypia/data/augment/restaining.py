"""Augmentation of stains against a bank: a figure's own haematoxylin and eosin, moved towards others' on record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from atypia.data.augment.draws import change_chosen, happens, uniform
from atypia.data.augment.steps import registered_step
from atypia.data.images.shifts import BANK
from atypia.data.images.stain import EXTREME_PERCENT, FEWEST_STAINED, FLAT, LEAST_DENSITY, LIGHT

VECTORS: Final = torch.stack([torch.from_numpy(stains) for stains in BANK.values()]).float()
"""The bank, shape (k, 3, 2): optical densities of red, green and blue of haematoxylin and eosin."""


@registered_step("stain-mix")
@dataclass(frozen=True)
class StainMix:
    """Stain vectors of each figure mixed with a random one between those of a bank; amounts stay.

    A figure's own haematoxylin and eosin are found as by Macenko et al. (ISBI 2009). Each becomes ``(1 − λ) own + λ
    other`` of unit length, λ from 0 to ``strength``; the other is a mean of :data:`VECTORS` with random weights, uniform
    on the simplex. What the two stains do not explain of a pixel stays as it is. A figure too little of which is
    stained stays, too.
    """

    strength: float = 1.0
    probability: float = 0.5

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Shape and range stay."""
        count = len(images)
        chosen = happens(count, self.probability, generator)
        share = uniform(count, 0, self.strength, generator)
        # Exponential variates divided by their sum are uniform on the simplex; 1 − u is never 0.
        drawn = -torch.log1p(-uniform(count * len(VECTORS), 0, 1, generator)).reshape(count, -1)
        others = torch.einsum("bk,kcs->bcs", drawn / drawn.sum(1, keepdim=True).clamp(min=FLAT), VECTORS)
        return change_chosen(images, chosen, lambda part, rows: mixed_stains(part, others[rows], share[rows]))


def mixed_stains(images: Tensor, others: Tensor, share: Tensor) -> Tensor:
    """The formula of :class:`StainMix` for given vectors (b, 3, 2) and λ (b,)."""
    density = -((255 * images.float() + 1) / LIGHT).log().flatten(2)
    own, found = own_stains(density)
    others, share = others.to(own), share.to(own)[:, None, None]
    amounts = torch.linalg.pinv(own) @ density
    moved = density + (torch.nn.functional.normalize(torch.lerp(own, others, share), dim=1) - own) @ amounts
    made = ((LIGHT * torch.exp(-moved) - 1) / 255).clamp_(0, 1).reshape(images.shape).to(images.dtype)
    return torch.where(found[:, None, None, None], made, images)


def own_stains(density: Tensor) -> tuple[Tensor, Tensor]:
    """Haematoxylin and eosin of each figure by the method of :func:`atypia.data.images.stain.macenko`, in batches.

    Args:
        density: Optical density of the pixels, shape (b, 3, n).

    Returns:
        Unit vectors, shape (b, 3, 2), and whether they could be told, shape (b,), bool; where not, the vectors are those
        of the bank's first entry.
    """
    stained = (density >= LEAST_DENSITY).all(1)
    count = stained.sum(1)
    held = density * stained[:, None]
    centred = (density - held.sum(2, keepdim=True) / count.clamp(min=1)[:, None, None]) * stained[:, None]
    _, vectors = torch.linalg.eigh(centred.double() @ centred.double().transpose(1, 2))
    plane = vectors[:, :, 1:].to(density)
    plane = plane * torch.where(plane.sum(1, keepdim=True) < 0, -1, 1)  # densities are positive: no angle wraps around
    across = plane.transpose(1, 2) @ density
    angles = torch.atan2(across[:, 1], across[:, 0]).masked_fill(~stained, torch.inf).sort(1).values
    ends = torch.stack([_ranked(angles, count, share / 100) for share in (EXTREME_PERCENT, 100 - EXTREME_PERCENT)], 1)
    stains = plane @ torch.stack([ends.cos(), ends.sin()], 1)
    red_first = stains[:, 0, 0] > stains[:, 0, 1]  # haematoxylin absorbs more red
    stains = torch.where(red_first[:, None, None], stains, stains.flip(2))
    found = (count >= FEWEST_STAINED) & (ends[:, 1] - ends[:, 0] >= FLAT)
    return torch.where(found[:, None, None], stains, VECTORS[0].to(density)), found


def _ranked(ascending: Tensor, count: Tensor, share: float) -> Tensor:
    """The quantile of the first ``count`` values of each row, with linear interpolation as numpy's; shape (b,)."""
    at = share * (count - 1).clamp(min=0).to(ascending)
    low = at.long()
    high = (low + 1).minimum((count - 1).clamp(min=0))
    below, above = (ascending.gather(1, rank[:, None])[:, 0] for rank in (low, high))
    return torch.where(count > 0, below + (at - low) * (above - below), 0)
