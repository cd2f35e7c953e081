"""Domain generalisation: attention, alignment of domain means, an adversarial domain head, ramps."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from atypia.base.errors import InputError, must


def dann_ramp(progress: float, steepness: float = 10.0) -> float:
    """``2 / (1 + exp(−γ p)) − 1``: from 0 at the start of training to almost 1 at its end.

    Ganin et al. 2016, section 5.2.2; used by Atey et al. for the alignment weight.

    Args:
        progress: p in [0, 1], the share of training that is done.
        steepness: γ, 10 in the paper.

    >>> dann_ramp(0.0)
    0.0
    >>> round(dann_ramp(1.0), 4)
    0.9999
    """
    if not 0 <= progress <= 1:
        raise InputError(must("progress", "between 0 and 1", progress, "divide the step by the number of steps"))
    return 2 / (1 + math.exp(-steepness * progress)) - 1


def domain_means(features: Tensor, domains: Tensor) -> Tensor:
    """Mean feature of each domain that occurs in the batch.

    Args:
        features: Shape (b, c), or (b, c, h, w), which is pooled over h and w first.
        domains: Shape (b,), integer codes; −1 where the domain is unknown, which is left out.

    Returns:
        Shape (D, c) with the D domains that occur, in ascending order of their code.
    """
    pooled = features.flatten(2).mean(2) if features.ndim > 2 else features
    known = domains >= 0
    _, inverse = torch.unique(domains[known], return_inverse=True)
    count = int(inverse.max()) + 1 if len(inverse) else 0
    sums = pooled.new_zeros(count, pooled.shape[1]).index_add_(0, inverse, pooled[known])
    sizes = torch.bincount(inverse, minlength=count).clamp(min=1).to(pooled.dtype)
    return sums / sizes[:, None]


def alignment_loss(features: Tensor, domains: Tensor) -> Tensor:
    """``1/C Σ_c log(1 + s_c²)`` with s_c² the variance of the domain means (Atey et al., section 2 B).

    ``s_c² = 1/D Σ_d (μ_dc − μ̄_c)²`` over the D domains of the batch, ``μ̄_c`` their mean. With
    fewer than two known domains in the batch there is nothing to align and the loss is 0; a training
    counts such batches (``idle_alignment`` in its metrics) and says so.

    Args:
        features: Shape (b, c) or (b, c, h, w).
        domains: Shape (b,), integer codes; −1 is unknown.

    Returns:
        A scalar ≥ 0.
    """
    means = domain_means(features, domains)
    if len(means) < 2:
        return features.sum() * 0
    variance = means.var(dim=0, correction=0)
    return torch.log1p(variance).mean()


class ChannelAttention(nn.Module):
    """Channel attention of CBAM: one MLP on average- and on max-pooled features, summed (Woo et al. 2018, eq. 2)."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, channels, bias=False)
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Scales maps (b, c, h, w) by a gate (b, c, 1, 1) in (0, 1)."""
        gate = torch.sigmoid(self.mlp(maps.mean((2, 3))) + self.mlp(maps.amax((2, 3))))
        return maps * gate[:, :, None, None]


class SpatialAttention(nn.Module):
    """Spatial attention of CBAM: a convolution over channel mean and maximum (Woo et al. 2018, eq. 3)."""

    def __init__(self, kernel: int = 7) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Scales maps (b, c, h, w) by a gate (b, 1, h, w) in (0, 1)."""
        pooled = torch.cat([maps.mean(1, keepdim=True), maps.amax(1, keepdim=True)], dim=1)
        return maps * torch.sigmoid(self.conv(pooled))


class CBAM(nn.Sequential):
    """Convolutional block attention: channel, then spatial (Woo et al. 2018). Maps (b, c, h, w) keep their shape."""

    def __init__(self, channels: int, reduction: int = 16, kernel: int = 7) -> None:
        super().__init__(ChannelAttention(channels, reduction), SpatialAttention(kernel))


class _ReverseGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return -ctx.strength * gradient, None


def reverse_gradient(x: Tensor, strength: float = 1.0) -> Tensor:
    """The identity forwards; multiplies the gradient by ``−strength`` backwards (Ganin et al. 2016)."""
    out: Tensor = _ReverseGradient.apply(x, strength)  # pyright: ignore[reportAssignmentType]
    return out


class DomainHead(nn.Module):
    """A linear classifier of domains behind a gradient reversal (Giedziun et al.; Ganin et al. 2016)."""

    def __init__(self, features: int, domains: int) -> None:
        super().__init__()
        if domains < 2:
            raise InputError(must("domains", "at least 2", domains, "drop the adversarial term, or add a domain"))
        self.linear = nn.Linear(features, domains)

    def forward(self, features: Tensor, strength: float) -> Tensor:
        """Logits of the domains (b, D) from features (b, c); the features receive the reversed gradient."""
        return self.linear(reverse_gradient(features, strength))


def domain_cross_entropy(logits: Tensor, domains: Tensor) -> Tensor:
    """Cross-entropy of domain logits (b, D); figures of unknown domain (−1) are left out; 0 where none is known."""
    if not bool((domains >= 0).any()):
        return logits.sum() * 0
    return nn.functional.cross_entropy(logits, domains, ignore_index=-1)


@torch.no_grad()
def beats_chance(head: nn.Module, features: Tensor, domains: Tensor) -> bool:
    """Whether a domain head's cross-entropy on features (b, c) is below that of guessing, ln D."""
    logits = head(features, 0.0)
    return float(domain_cross_entropy(logits, domains)) < math.log(logits.shape[1])
