"""Photometric augmentation of images in [0, 1]: every step draws for each figure on its own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from atypia.data.augment.draws import expand, happens, keep, uniform

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the luminance (ITU-R BT.601)."""

# Rows: optical density of hematoxylin, eosin and a residual (Ruifrok and Johnston 2001), unit length.
STAINS = ((0.650, 0.704, 0.286), (0.072, 0.990, 0.105), (0.268, 0.570, 0.776))
OD_FLOOR = 1 / 255
"""Transmission below which the optical density is cut off: one step of an 8-bit image."""


def luminance(images: Tensor) -> Tensor:
    """Luminance (b, 1, h, w) of RGB images (b, 3, h, w)."""
    weights = torch.tensor(LUMA, device=images.device, dtype=images.dtype)[None, :, None, None]
    return (images * weights).sum(1, keepdim=True)


@dataclass(frozen=True)
class Jitter:
    """Brightness, contrast, saturation and hue: factors from 1 ± each, hue a turn of ± a share of the circle.

    The hue is turned in the chroma plane of YIQ, which keeps the luminance and needs no branch a
    pixel; for the small turns used here it differs little from a turn in HSV.
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
        factor = [uniform(count, 1 - v, 1 + v, generator) for v in (self.brightness, self.contrast, self.saturation)]
        angle = uniform(count, -self.hue, self.hue, generator) * 2 * math.pi
        matrix = _colour_matrices(factor[0], factor[2], angle).to(images.device, images.dtype)
        out = torch.einsum("bij,bjhw->bihw", matrix, images)
        if self.contrast:
            middle = luminance(out).mean((2, 3), keepdim=True)
            out = torch.lerp(middle.expand_as(out), out, expand(factor[1], images))
        return keep(out.clamp(0, 1), images, chosen)


def _colour_matrices(brightness: Tensor, saturation: Tensor, angle: Tensor) -> Tensor:
    """One 3×3 matrix a figure for brightness, saturation and hue together."""
    luma = torch.tensor(LUMA).expand(3, 3)
    to_yiq = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
    c, s, one, zero = torch.cos(angle), torch.sin(angle), torch.ones_like(angle), torch.zeros_like(angle)
    turn = torch.stack([one, zero, zero, zero, c, -s, zero, s, c], dim=1).reshape(-1, 3, 3)
    hue = torch.linalg.inv(to_yiq) @ turn @ to_yiq
    saturate = luma + saturation[:, None, None] * (torch.eye(3) - luma)
    return brightness[:, None, None] * (saturate @ hue)


@dataclass(frozen=True)
class StainJitter:
    """Strength and offset of hematoxylin and eosin in optical density (Tellez et al. 2018, «HED»).

    ``OD = −ln max(I, 1/255)`` is split into stains by the inverse of Ruifrok and Johnston's
    matrix; each stain's amount c becomes ``α c + β``, α from 1 ± ``strength``, β from ±
    ``offset``; the sum is turned back into an image.
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
        stains = F.normalize(torch.tensor(STAINS), dim=1)
        # OD' = (OD · S⁻¹ · diag(α) + β) · S is one affine map of the three channels a figure.
        matrix = torch.linalg.inv(stains) @ torch.diag_embed(alpha) @ stains
        shift = beta @ stains
        density = -torch.log(images.clamp(min=OD_FLOOR))
        mapped = torch.einsum("bij,bihw->bjhw", matrix.to(images.device, images.dtype), density)
        mapped = mapped + shift.to(images.device, images.dtype)[:, :, None, None]
        return keep(torch.exp(-mapped).clamp(0, 1), images, chosen)


@dataclass(frozen=True)
class Blur:
    """Gaussian blur with a deviation from ``sigma_px``, with a probability."""

    sigma_px: tuple[float, float] = (0.1, 2.0)
    probability: float = 0.1

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Shape and range stay; the border is reflected."""
        count = len(images)
        chosen = happens(count, self.probability, generator)
        sigma = uniform(count, *self.sigma_px, generator)
        rows = torch.nonzero(chosen).flatten()
        if not len(rows):
            return images
        rows = rows.to(images.device)
        out = images.clone()
        out[rows] = blur(images[rows], sigma[chosen])
        return out


def blur(images: Tensor, sigma_px: Tensor) -> Tensor:
    """Gaussian blur of each figure (b, c, h, w) by its own deviation (b,), separable, reflected border."""
    radius = max(1, math.ceil(3 * float(sigma_px.max())))
    radius = min(radius, images.shape[-1] - 1)
    x = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-(x[None] ** 2) / (2 * sigma_px[:, None].clamp(min=1e-3) ** 2))
    kernel = (kernel / kernel.sum(1, keepdim=True)).to(images.device, images.dtype)
    count, channels, h, w = images.shape
    kernel = kernel.repeat_interleave(channels, 0)[:, None]
    flat = images.reshape(1, count * channels, h, w)
    flat = F.conv2d(F.pad(flat, (radius, radius, 0, 0), "reflect"), kernel[:, :, None], groups=count * channels)
    flat = F.conv2d(F.pad(flat, (0, 0, radius, radius), "reflect"), kernel[..., None], groups=count * channels)
    return flat.reshape(count, channels, h, w)


@dataclass(frozen=True)
class Sharpness:
    """Sharpens or softens: ``I + f (I − blur(I))`` with f from ± ``strength``, with a probability."""

    strength: float = 0.25
    probability: float = 0.5

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Shape and range stay."""
        chosen = happens(len(images), self.probability, generator)
        factor = uniform(len(images), -self.strength, self.strength, generator)
        smooth = blur(images, torch.full((len(images),), 1.0))
        return keep((images + expand(factor, images) * (images - smooth)).clamp(0, 1), images, chosen)


@dataclass(frozen=True)
class Noise:
    """White Gaussian noise with a deviation from ``sigma``, with a probability."""

    sigma: tuple[float, float] = (0.0, 0.05)
    probability: float = 0.3

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Shape and range stay."""
        chosen = happens(len(images), self.probability, generator)
        sigma = uniform(len(images), *self.sigma, generator)
        drawn = torch.randn(images.shape, generator=generator).to(images.device, images.dtype)
        return keep((images + expand(sigma, images) * drawn).clamp(0, 1), images, chosen)


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
        return keep(images.clamp(min=1e-4) ** expand(gamma, images), images, chosen)


@dataclass(frozen=True)
class AutoContrast:
    """Stretches each channel to the whole range, with a probability."""

    probability: float = 0.2

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Shape and range stay."""
        low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
        chosen = happens(len(images), self.probability, generator)
        return keep((images - low) / (high - low).clamp(min=1 / 255), images, chosen)


@dataclass(frozen=True)
class Posterize:
    """Keeps the upper ``bits`` of eight, with a probability."""

    bits: int = 5
    probability: float = 0.1

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Shape and range stay."""
        step = 2 ** (8 - self.bits)
        chosen = happens(len(images), self.probability, generator)
        return keep(torch.floor(images * 255 / step) * step / 255, images, chosen)


@dataclass(frozen=True)
class Solarize:
    """Inverts what is brighter than ``threshold``, with a probability."""

    threshold: float = 0.9
    probability: float = 0.05

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Shape and range stay."""
        chosen = happens(len(images), self.probability, generator)
        return keep(torch.where(images >= self.threshold, 1 - images, images), images, chosen)


@dataclass(frozen=True)
class Erase:
    """Blanks ``boxes`` random boxes of an area from ``area`` with the image's mean colour, with a probability."""

    area: tuple[float, float] = (0.02, 0.1)
    boxes: int = 1
    probability: float = 0.5

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Shape and range stay."""
        count, side = len(images), images.shape[-1]
        mean = images.mean((2, 3), keepdim=True)
        ticks = (torch.arange(side) + 0.5) / side
        for _ in range(self.boxes):
            chosen = happens(count, self.probability, generator)
            half = uniform(count, *self.area, generator).sqrt() / 2
            inside = []
            for _ in range(2):
                centre = half + (1 - 2 * half) * torch.rand(count, generator=generator)
                inside.append((ticks[None] - centre[:, None]).abs() < half[:, None])
            box = inside[0][:, None, :, None] & inside[1][:, None, None, :] & chosen[:, None, None, None]
            images = torch.where(box.to(images.device), mean, images)
        return images


@dataclass(frozen=True)
class Spectrum:
    """Random amplitude spectrum synthesis: keeps the phase of the Fourier transform, perturbs its amplitude.

    Each amplitude is multiplied by ``exp(s · n · |f| / |f|_max)`` with n standard normal, drawn for
    each figure, channel and frequency: the layout (low frequencies) stays, texture, sharpness and
    noise vary as scanners and laboratories make them vary. After Qiao et al. 2024 («RASS»), which
    Giedziun et al. test without giving values.
    """

    strength: float = 0.5
    probability: float = 0.5

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Shape and range stay."""
        chosen = happens(len(images), self.probability, generator)
        h, w = images.shape[-2:]
        spectrum = torch.fft.rfft2(images.float())
        radius = (torch.fft.fftfreq(h)[:, None] ** 2 + torch.fft.rfftfreq(w)[None, :] ** 2).sqrt() / math.sqrt(0.5)
        noise = torch.randn(spectrum.shape, generator=generator)
        factor = torch.exp(self.strength * noise * radius).to(images.device)
        out = torch.fft.irfft2(spectrum * factor, s=(h, w)).clamp(0, 1).to(images.dtype)
        return keep(out, images, chosen)


PhotometricStep = (
    Jitter | StainJitter | Blur | Sharpness | Noise | Gamma | AutoContrast | Posterize | Solarize | Erase | Spectrum
)
