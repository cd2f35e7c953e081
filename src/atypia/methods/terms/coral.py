"""Correlation alignment (Sun and Saenko 2016): makes the features' covariances of all domains equal."""

from __future__ import annotations

from itertools import combinations

import torch
from pydantic import Field
from torch import Tensor

from atypia.methods.catalogue import TERMS
from atypia.methods.options import TermOptions
from atypia.methods.term import DOMAINS, Batch, Term


class CoralOptions(TermOptions):
    """``means``: whether the means of the domains are aligned as well, as in DomainBed."""

    weight: float = Field(default=1.0, gt=0)
    means: bool = False


@TERMS.register("coral")
class Coral(Term[CoralOptions]):
    """Distance of the covariances of pooled features between pairs of domains; see :func:`coral_loss`."""

    Options = CoralOptions
    summary = "aligns the covariances of the domains' features"
    formula = "mean over pairs of domains of ‖C_d − C_e‖²_F / (4 c²)"
    source = "Sun and Saenko 2016, eq. 1"
    needs = frozenset({DOMAINS})
    least_domains = 2

    def is_idle(self, batch: Batch) -> bool:
        return len(_groups(batch.domains)) < 2

    def forward(self, batch: Batch) -> Tensor:
        return coral_loss(batch.out.pooled.float(), batch.domains, self.options.means)


def coral_loss(features: Tensor, domains: Tensor, means: bool = False) -> Tensor:
    """``‖C_d − C_e‖²_F / (4 c²)``, mean over the pairs of domains in the batch (Sun and Saenko 2016, eq. 1–3).

    ``C_d`` is the covariance of a domain's features with divisor n_d − 1; a domain with a single figure in the
    batch has none and is left out. With fewer than two domains left the loss is 0, and the batch is counted as idle.

    Args:
        features: Shape (b, c).
        domains: Shape (b,), integer codes; −1 is unknown, and left out.
        means: Whether ``‖μ_d − μ_e‖² / c`` is added for each pair (DomainBed's CORAL).

    Returns:
        A scalar ≥ 0.

    >>> x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [2.0, 0.0], [-2.0, 0.0]])  # variances 2 and 8 in one channel
    >>> float(coral_loss(x, torch.tensor([0, 0, 1, 1])))  # (8 − 2)² / (4 · 2²)
    2.25
    """
    parts = [features[rows] for rows in _groups(domains)]
    if len(parts) < 2:
        return features.sum() * 0
    centres = [part.mean(0) for part in parts]
    covariances = [
        (part - centre).T @ (part - centre) / (len(part) - 1) for part, centre in zip(parts, centres, strict=True)
    ]
    channels = features.shape[1]
    found = [(one - other).square().sum() / (4 * channels**2) for one, other in combinations(covariances, 2)]
    if means:
        apart = [(one - other).square().mean() for one, other in combinations(centres, 2)]
        found = [value + more for value, more in zip(found, apart, strict=True)]
    return torch.stack(found).mean()


def _groups(domains: Tensor) -> list[Tensor]:
    """Rows of each known domain that has at least two figures in the batch."""
    rows = [torch.nonzero(domains == code).flatten() for code in domains[domains >= 0].unique()]
    return [part for part in rows if len(part) > 1]
