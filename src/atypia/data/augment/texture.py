"""Augmentation of sharpness, noise, frequencies and occlusion of images in [0, 1]; draws are a figure's own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from atypia.data.augment.draws import change_chosen, happens, per_figure, uniform
from atypia.data.augment.steps import registered_step


@registered_step("blur")
@dataclass(frozen=True)
class Blur:
    """Gaussian blur with a deviation from ``sigma_px``, with a probability."""

    sigma_px: tuple[float, float] = (0.1, 2.0)
    probability: float = 0.1

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Shape and range stay; the border is reflected."""
        chosen = happens(len(images), self.probability, generator)
        sigma = uniform(len(images), *self.sigma_px, generator)
        return change_chosen(images, chosen, lambda part, rows: blur(part, sigma[rows]).clamp_(0, 1))


def blur(images: Tensor, sigma_px: Tensor) -> Tensor:
    """Gaussian blur of each figure (b, c, h, w) by its own deviation (b,), separable, cut off at 3 σ, border reflected."""
    radius = min(max(1, math.ceil(3 * float(sigma_px.max()))), min(images.shape[-2:]) - 1)
    x = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-(x[None] ** 2) / (2 * sigma_px[:, None].clamp(min=1e-3) ** 2))
    kernel = (kernel / kernel.sum(1, keepdim=True)).to(images.device, images.dtype)
    return _slide(_slide(images, kernel, 3), kernel, 2)


def _slide(images: Tensor, kernel: Tensor, dim: int) -> Tensor:
    """Convolves along one axis with symmetric kernels (b, 2 r + 1).

    Sums of shifted views: a grouped convolution would compile a new kernel for every number of
    chosen figures.
    """
    radius, size = kernel.shape[1] // 2, images.shape[dim]
    padding = (radius, radius, 0, 0) if dim == 3 else (0, 0, radius, radius)
    padded = F.pad(images, padding, "reflect")
    out = padded.narrow(dim, radius, size) * per_figure(kernel[:, radius], images)
    for shift in range(1, radius + 1):
        both = padded.narrow(dim, radius - shift, size) + padded.narrow(dim, radius + shift, size)
        out.addcmul_(both, per_figure(kernel[:, radius + shift], images))
    return out


@registered_step("sharpness")
@dataclass(frozen=True)
class Sharpness:
    """``S + f (I − S)``, S the image smoothed by a 3 × 3 kernel, with a probability.

    As torchvision's ``adjust_sharpness``: f = 0 is smooth, 1 leaves the image, 2 sharpens; the
    outermost pixels stay.

    Attributes:
        factor: Range of f.
        probability: Probability for each figure.
    """

    factor: tuple[float, float] = (0.5, 1.5)
    probability: float = 0.5

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Shape and range stay."""
        chosen = happens(len(images), self.probability, generator)
        factor = uniform(len(images), *self.factor, generator)
        return change_chosen(images, chosen, lambda part, rows: sharpened(part, factor[rows]))


def sharpened(images: Tensor, factor: Tensor) -> Tensor:
    """The formula of :class:`Sharpness` for given factors (b,)."""
    inner = images[:, :, 1:-1, 1:-1]
    rows = images[:, :, :-2] + images[:, :, 1:-1] + images[:, :, 2:]
    around = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    smooth = around.add_(inner, alpha=4).div_(13)
    out = images.clone()
    out[:, :, 1:-1, 1:-1] = torch.lerp(smooth, inner, per_figure(factor, images)).clamp_(0, 1)
    return out


@registered_step("noise")
@dataclass(frozen=True)
class Noise:
    """White Gaussian noise with a deviation from ``sigma``, with a probability."""

    sigma: tuple[float, float] = (0.0, 0.05)
    probability: float = 0.3

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Shape and range stay."""
        chosen = happens(len(images), self.probability, generator)
        sigma = uniform(len(images), *self.sigma, generator)

        def noisy(part: Tensor, rows: Tensor) -> Tensor:
            drawn = torch.randn(part.shape, generator=generator).to(part.device, part.dtype)
            return torch.addcmul(part, drawn, per_figure(sigma[rows], part)).clamp_(0, 1)

        return change_chosen(images, chosen, noisy)


@registered_step("erase")
@dataclass(frozen=True)
class Erase:
    """Blanks ``boxes`` random square boxes, each an area from ``area``, with the image's mean colour.

    Each box has the probability on its own and lies inside the image.
    """

    area: tuple[float, float] = (0.02, 0.1)
    boxes: int = 1
    probability: float = 0.5

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Shape and range stay."""
        count, (h, w) = len(images), images.shape[-2:]
        blank = torch.zeros(count, h, w, dtype=torch.bool)
        for _ in range(self.boxes):
            chosen = happens(count, self.probability, generator)
            half = uniform(count, *self.area, generator).sqrt() / 2
            inside = []
            for size in (h, w):
                ticks = (torch.arange(size) + 0.5) / size
                centre = half + (1 - 2 * half) * torch.rand(count, generator=generator)
                inside.append((ticks[None] - centre[:, None]).abs() < half[:, None])
            blank |= inside[0][:, :, None] & inside[1][:, None, :] & chosen[:, None, None]

        def erased(part: Tensor, rows: Tensor) -> Tensor:
            mask = blank[rows, None].to(part.device)
            return torch.where(mask, part.mean((2, 3), keepdim=True), part)

        return change_chosen(images, blank.any(2).any(1), erased)


@registered_step("spectrum")
@dataclass(frozen=True)
class Spectrum:
    """Random amplitude spectrum synthesis: keeps the phase of the Fourier transform, perturbs its amplitude.

    Each amplitude is multiplied by ``exp(s · n · |f| / |f|_max)`` with n standard normal, drawn for
    each figure, channel and frequency: the layout (low frequencies) stays, texture, sharpness and
    noise vary as scanners and laboratories make them vary. After Qiao et al. 2024 («RASS»), which
    Giedziun et al. test without giving values.
    """

    strength: float = 1.0
    probability: float = 0.5

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Shape and range stay."""
        chosen = happens(len(images), self.probability, generator)
        return change_chosen(images, chosen, lambda part, rows: self.perturbed(part, generator).clamp_(0, 1))

    def perturbed(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Every image perturbed, before it is cut to [0, 1]."""
        h, w = images.shape[-2:]
        spectrum = torch.fft.rfft2(images.float())
        radius = (torch.fft.fftfreq(h)[:, None] ** 2 + torch.fft.rfftfreq(w)[None, :] ** 2).sqrt() / math.sqrt(0.5)
        factor = torch.randn(spectrum.shape, generator=generator).mul_(self.strength * radius).exp_()
        return torch.fft.irfft2(spectrum.mul_(factor.to(images.device)), s=(h, w)).to(images.dtype)
