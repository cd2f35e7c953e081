"""Alignment of domains by the variance of their mean features (Atey et al.)."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from atypia.methods.catalogue import TERMS
from atypia.methods.options import TermOptions
from atypia.methods.ramps import dann_ramp
from atypia.methods.term import ALIGNED, DOMAINS, Batch, Term


class AlignmentOptions(TermOptions):
    """``ramp``: the weight follows the ramp of Ganin et al. from 0."""

    weight: float = Field(default=1.0, gt=0)
    ramp: bool = True


@TERMS.register("alignment")
class Alignment(Term[AlignmentOptions]):
    """Log-variance of the domains' mean features; see :func:`alignment_loss`."""

    Options = AlignmentOptions
    summary = "variance of the domains' mean features; with CBAM, of the maps that it refines"
    formula = "1/C Σ_c log(1 + s_c²), s_c² the variance of the domain means of channel c"
    source = "Atey et al., section 2 B"
    needs = frozenset({DOMAINS, ALIGNED})
    least_domains = 2

    def weight(self, batch: Batch) -> float:
        return self.options.weight * (dann_ramp(batch.done) if self.options.ramp else 1.0)

    def forward(self, batch: Batch) -> Tensor:
        return alignment_loss(batch.out.aligned.float(), batch.domains)


def domain_means(features: Tensor, domains: Tensor) -> Tensor:
    """Mean feature of each domain that occurs in the batch.

    Args:
        features: Shape (b, c), or (b, c, h, w), which is pooled over h and w first.
        domains: Shape (b,), integer codes; −1 where the domain is unknown, which is left out.

    Returns:
        Shape (D, c): the D domains that occur, in ascending order of their codes.
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
