"""Augmentation of colour and stain of images in [0, 1]: every step draws for each figure on its own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from atypia.data.augment.draws import change_chosen, happens, per_figure, uniform
from atypia.data.augment.steps import registered_step

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the luminance (ITU-R BT.601)."""

# Rows: optical density of hematoxylin, eosin and DAB (Ruifrok and Johnston 2001). In H&E the third
# takes up what the first two do not explain.
STAINS = ((0.650, 0.704, 0.286), (0.072, 0.990, 0.105), (0.268, 0.570, 0.776))
OD_FLOOR = 1 / 255
"""Transmission below which the optical density is cut off: one step of an 8-bit image."""


def luminance(images: Tensor) -> Tensor:
    """Luminance (b, 1, h, w) of RGB images (b, 3, h, w)."""
    weights = torch.tensor(LUMA, device=images.device, dtype=images.dtype)[None, :, None, None]
    return (images * weights).sum(1, keepdim=True)


def map_colours(images: Tensor, matrices: Tensor, shifts: Tensor) -> Tensor:
    """``M x + t`` for every pixel x, a new tensor.

    Args:
        images: Shape (b, 3, h, w).
        matrices: M, shape (b, 3, 3): output channels in rows.
        shifts: t, shape (b, 3).
    """
    mapped = torch.baddbmm(
        shifts.to(images.device, images.dtype)[:, :, None],
        matrices.to(images.device, images.dtype),
        images.flatten(2),
    )
    return mapped.reshape(images.shape)


@registered_step("jitter")
@dataclass(frozen=True)
class Jitter:
    """Brightness, contrast, saturation and hue: factors from 1 ± each, hue a turn of ± a share of the circle.

    In this order: hue, saturation, brightness, contrast (towards the mean luminance), each of
    them a linear map, so that all four are one, and one clamp to [0, 1] at the end. The hue is
    turned in the chroma plane of YIQ, which keeps the luminance and needs no branch a pixel; for
    the small turns used here it differs little from a turn in HSV.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    probability: float = 1.0

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Shape and range stay."""
        count = len(images)
        chosen = happens(count, self.probability, generator)
        brightness, contrast, saturation = (
            uniform(count, 1 - v, 1 + v, generator) for v in (self.brightness, self.contrast, self.saturation)
        )
        angle = uniform(count, -self.hue, self.hue, generator) * 2 * math.pi
        matrix = colour_matrices(brightness, saturation, angle)
        # The contrast's centre, the mean luminance after the other maps, follows from the channels' means.
        means = images.mean((2, 3)).to("cpu", torch.float32)[:, :, None]
        centre = torch.tensor(LUMA) @ (matrix @ means)
        shift = ((1 - contrast)[:, None] * centre).expand(count, 3)
        matrix = contrast[:, None, None] * matrix
        # Figures that are not chosen get the identity, which is exact and cheaper than taking them out.
        matrix = torch.where(chosen[:, None, None], matrix, torch.eye(3))
        return map_colours(images, matrix, shift * chosen[:, None]).clamp_(0, 1)


def colour_matrices(brightness: Tensor, saturation: Tensor, angle: Tensor) -> Tensor:
    """One 3×3 matrix a figure for hue, then saturation, then brightness; all arguments of shape (b,).

    Args:
        brightness: Factor; 1 leaves it.
        saturation: Factor of the distance from the luminance; 0 is grey, 1 leaves it.
        angle: Turn in the chroma plane, in radians.
    """
    luma = torch.tensor(LUMA).expand(3, 3)
    to_yiq = torch.tensor([[*LUMA], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
    c, s, one, zero = torch.cos(angle), torch.sin(angle), torch.ones_like(angle), torch.zeros_like(angle)
    turn = torch.stack([one, zero, zero, zero, c, -s, zero, s, c], dim=1).reshape(-1, 3, 3)
    # I + A⁻¹ (R − I) A rather than A⁻¹ R A: no turn then is the identity without rounding.
    hue = torch.eye(3) + torch.linalg.solve(to_yiq, (turn - torch.eye(3)) @ to_yiq)
    saturate = luma + saturation[:, None, None] * (torch.eye(3) - luma)
    return brightness[:, None, None] * (saturate @ hue)


@registered_step("stain-jitter")
@dataclass(frozen=True)
class StainJitter:
    """Strength and offset of the stains in optical density (Tellez et al. 2018, «HED»).

    ``OD = −ln max(I, 1/255)`` is split into hematoxylin, eosin and a rest by the inverse of
    Ruifrok and Johnston's matrix; each amount c becomes ``α c + β``, α from 1 ± ``strength``,
    β from ± ``offset``; the sum is turned back into an image.
    """

    strength: float = 0.2
    offset: float = 0.02
    probability: float = 1.0

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Shape and range stay."""
        count = len(images)
        chosen = happens(count, self.probability, generator)
        alpha = uniform(count * 3, 1 - self.strength, 1 + self.strength, generator).reshape(count, 3)
        beta = uniform(count * 3, -self.offset, self.offset, generator).reshape(count, 3)
        return change_chosen(images, chosen, lambda part, rows: jitter_stains(part, alpha[rows], beta[rows]))


def jitter_stains(images: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """The formula of :class:`StainJitter` for given factors and offsets (b, 3) of the three stains."""
    stains = F.normalize(torch.tensor(STAINS), dim=1)
    # With pixels as rows OD' = (OD S⁻¹ diag(α) + β) S. The sign of the logarithm is kept: x = ln I = −OD.
    matrix = torch.linalg.inv(stains) @ torch.diag_embed(alpha) @ stains
    logs = images.clamp(min=OD_FLOOR).log_()
    return map_colours(logs, matrix.transpose(1, 2), -(beta @ stains)).exp_().clamp_(0, 1)


@registered_step("gamma")
@dataclass(frozen=True)
class Gamma:
    """``I^γ`` with ln γ from ± ln ``limit``, with a probability."""

    limit: float = 1.3
    probability: float = 0.5

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Shape and range stay."""
        chosen = happens(len(images), self.probability, generator)
        bound = math.log(self.limit)
        gamma = torch.exp(uniform(len(images), -bound, bound, generator))
        return change_chosen(images, chosen, lambda part, rows: part ** per_figure(gamma[rows], part))


@registered_step("auto-contrast")
@dataclass(frozen=True)
class AutoContrast:
    """Stretches each channel to the whole range, with a probability; a channel of one value stays."""

    probability: float = 0.2

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Shape and range stay."""
        chosen = happens(len(images), self.probability, generator)
        return change_chosen(images, chosen, lambda part, rows: stretched(part))


def stretched(images: Tensor) -> Tensor:
    """Channels of images (b, c, h, w) stretched to [0, 1]."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    flat = high <= low
    low, span = torch.where(flat, 0, low), torch.where(flat, 1, high - low)
    return ((images - low) / span).clamp_(0, 1)


@registered_step("posterize")
@dataclass(frozen=True)
class Posterize:
    """Keeps the upper ``bits`` of eight, with a probability."""

    bits: int = 5
    probability: float = 0.1

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Shape and range stay."""
        chosen = happens(len(images), self.probability, generator)
        step = 2 ** (8 - self.bits)
        # Half a level is added so that a level that was stored as float does not fall to the one below.
        return change_chosen(
            images, chosen, lambda part, rows: part.mul(255).add_(0.5).div_(step).floor_().mul_(step / 255)
        )


@registered_step("solarize")
@dataclass(frozen=True)
class Solarize:
    """Inverts what is brighter than ``threshold``, with a probability."""

    threshold: float = 0.9
    probability: float = 0.05

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Shape and range stay."""
        chosen = happens(len(images), self.probability, generator)
        return change_chosen(images, chosen, lambda part, rows: torch.where(part >= self.threshold, 1 - part, part))
