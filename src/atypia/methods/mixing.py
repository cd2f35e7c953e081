"""Mixing: MixUp of images and labels, MixStyle of feature statistics."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from atypia.base.errors import InputError, must


def beta_sample(alpha: float, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
    """Draws from Beta(α, α) with a generator, which ``torch.distributions`` does not take.

    ``X / (X + Y)`` of two Gamma(α, 1) variates X and Y, as logarithms: for the small α that
    mixing uses the variates underflow, and the share would be 0/0.

    Args:
        alpha: α > 0.
        shape: Shape of the result.
        generator: Source of randomness (CPU).

    Returns:
        float32 tensor on the CPU, in [0, 1].
    """
    if alpha <= 0:
        raise InputError(must("alpha", "positive", alpha, "use 0.2, or drop the mixing"))
    count = int(torch.Size(shape).numel())
    drawn = _log_gamma_sample(alpha, 2 * count, generator)
    a, b = drawn[:count], drawn[count:]
    return torch.sigmoid(a - b).to(torch.float32).reshape(shape)


def _log_gamma_sample(alpha: float, count: int, generator: torch.Generator | None) -> Tensor:
    """Logarithms of Gamma(α, 1) variates (Marsaglia and Tsang 2000); for α < 1 of Gamma(α + 1) times U^(1/α)."""
    boosted = alpha < 1
    d = (alpha + 1 if boosted else alpha) - 1 / 3
    c = 1 / (9 * d) ** 0.5
    out = torch.empty(count, dtype=torch.float64)
    pending = torch.arange(count)
    while len(pending):
        x = torch.randn(len(pending), generator=generator, dtype=torch.float64)
        u = torch.rand(len(pending), generator=generator, dtype=torch.float64)
        v = (1 + c * x) ** 3
        positive = v > 0
        log_v = torch.log(v.clamp(min=1e-300))
        accepted = positive & (torch.log(u.clamp(min=1e-300)) < 0.5 * x * x + d - d * v + d * log_v)
        out[pending[accepted]] = torch.log(torch.tensor(d, dtype=torch.float64)) + log_v[accepted]
        pending = pending[~accepted]
    if boosted:
        out += torch.log(torch.rand(count, generator=generator, dtype=torch.float64).clamp(min=1e-300)) / alpha
    return out


@dataclass(frozen=True)
class Mix:
    """How a batch is mixed: figure i becomes ``λ_i x_i + (1 − λ_i) x_partner(i)``.

    Attributes:
        partner: Shape (b,), int64.
        share: λ, shape (b,), in [0, 1].
    """

    partner: Tensor
    share: Tensor

    def images(self, images: Tensor) -> Tensor:
        """Mixes images (b, c, h, w), float."""
        share = self.share.to(images.device, images.dtype)[:, None, None, None]
        return torch.lerp(images[self.partner.to(images.device)], images, share)

    def shares(self, shares: Tensor) -> Tensor:
        """Mixes shares (b, k) of k categories."""
        return torch.lerp(shares[self.partner.to(shares.device)], shares, self.share.to(shares)[:, None])

    def targets(self, targets: Tensor) -> Tensor:
        """Mixes targets (b,) in [0, 1]."""
        share = self.share.to(targets.device, targets.dtype)
        return torch.lerp(targets[self.partner.to(targets.device)], targets, share)


def mixup(count: int, alpha: float, generator: torch.Generator | None = None, domains: Tensor | None = None) -> Mix:
    """Plans MixUp of a batch (Zhang et al. 2018): one λ ~ Beta(α, α) for the batch, a random partner each.

    Args:
        count: Batch size b.
        alpha: α; Giedziun et al. name a standard and a strong setting, here 0.2 and 1.0 (the
            paper gives no values).
        generator: Source of randomness (CPU).
        domains: Domain codes (b,), −1 where unknown, for the domain-aware variant: a partner is
            drawn from another known domain where the batch holds one, so that appearance is mixed
            across domains; a figure of unknown domain takes any partner.

    Returns:
        The plan.
    """
    share = beta_sample(alpha, (1,), generator).expand(count)
    partner = torch.randperm(count, generator=generator)
    if domains is not None:
        partner = _other_domain(partner, domains.cpu(), generator)
    return Mix(partner, share)


def _other_domain(partner: Tensor, domains: Tensor, generator: torch.Generator | None) -> Tensor:
    """Replaces partners of the same or of unknown domain by a random figure of another, where there is one."""
    other = (domains[:, None] != domains[None, :]) & (domains[:, None] >= 0) & (domains[None, :] >= 0)
    fits = other.gather(1, partner[:, None])[:, 0]
    wrong = torch.nonzero(~fits & other.any(1)).flatten()
    if len(wrong) == 0:
        return partner
    partner = partner.clone()
    partner[wrong] = torch.multinomial(other[wrong].float(), 1, generator=generator)[:, 0]
    return partner


class MixStyle(nn.Module):
    """Mixes channel means and deviations of feature maps between figures (Zhou et al. 2021; Atey et al., 2 A).

    ``x̃ = σ̃ (x − μ(x)) / σ(x) + μ̃`` with ``μ̃ = λ μ(x) + (1 − λ) μ(x')`` and σ̃ likewise,
    λ ~ Beta(α, α) for each figure, and ε under the root, ``σ² = var + ε``, as in Zhou et al.
    (Atey et al. add it to σ). Statistics carry no gradient. It acts in training mode only,
    on a whole batch with probability ``p``; its draws come from torch's global CPU generator, which
    the training loop seeds before every step.

    Args:
        alpha: α, 0.1 in the paper.
        p: Probability that a batch is mixed; 0.5 as in Zhou et al.
        eps: ε > 0.
    """

    def __init__(self, alpha: float = 0.1, p: float = 0.5, eps: float = 1e-6) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise InputError(must("p", "between 0 and 1", p, "use 0.5 as Zhou et al. do"))
        self.alpha, self.p, self.eps = alpha, p, eps

    def forward(self, maps: Tensor) -> Tensor:
        """Mixes maps (b, c, h, w); shape and labels stay."""
        if not self.training or len(maps) < 2 or float(torch.rand(())) >= self.p:
            return maps
        share = beta_sample(self.alpha, (len(maps), 1, 1, 1)).to(maps.device)
        partner = torch.randperm(len(maps)).to(maps.device)
        return mix_style(maps, partner, share, self.eps)


def mix_style(maps: Tensor, partner: Tensor, share: Tensor, eps: float = 1e-6) -> Tensor:
    """The formula of :class:`MixStyle` for given partners (b,) and shares (b, 1, 1, 1)."""
    with torch.no_grad():
        # In bf16 the variance of small differences would be mostly rounding error.
        variance, mu = torch.var_mean(maps.float(), (2, 3), keepdim=True, correction=0)
        sigma, share = (variance + eps).sqrt(), share.float()
        scale = torch.lerp(sigma[partner], sigma, share) / sigma
        shift = torch.lerp(mu[partner], mu, share) - scale * mu
    return torch.addcmul(shift.to(maps.dtype), maps, scale.to(maps.dtype))
