"""Invariant risk minimisation (Arjovsky et al. 2019): one classifier that is optimal in every domain."""

from __future__ import annotations

from collections.abc import Callable

import torch
from pydantic import Field
from torch import Tensor

from atypia.methods.catalogue import TERMS
from atypia.methods.options import TermOptions
from atypia.methods.term import DOMAINS, Batch, Term


class IrmOptions(TermOptions):
    """``warmup_epochs``: the weight is at most 1 in these epochs, as in the authors' code, until features are learned."""

    weight: float = Field(default=100.0, gt=0)
    warmup_epochs: float = Field(default=1.0, ge=0)


@TERMS.register("irm")
class Irm(Term[IrmOptions]):
    """The penalty of IRMv1; see :func:`irm_penalty`."""

    Options = IrmOptions
    summary = "penalises logits whose best scale differs between domains"
    formula = "1/D Σ_d (∂/∂w R_d(w·z) at w = 1)², R_d the mean main loss in domain d"
    source = "Arjovsky et al. 2019, eq. IRMv1"
    needs = frozenset({DOMAINS})

    def weight(self, batch: Batch) -> float:
        return min(1.0, self.options.weight) if batch.epoch < self.options.warmup_epochs else self.options.weight

    def forward(self, batch: Batch) -> Tensor:
        return irm_penalty(batch.out.logits.float(), batch.domains, batch.risk)


def irm_penalty(logits: Tensor, domains: Tensor, risk: Callable[[Tensor], Tensor]) -> Tensor:
    """``1/D Σ_d ‖∇_{w | w=1} R_d(w · z)‖²`` over the D domains of the batch (Arjovsky et al. 2019, eq. IRMv1).

    The paper sums risks and penalties over domains; here the main loss is a mean, so the penalty is a mean as well, and
    the weight λ has the same meaning. The penalty is estimated from all figures of a domain in the batch; DomainBed's
    product of two halves would be unbiased, but with twice the variance.

    Args:
        logits: Shape (b,), with gradient.
        domains: Shape (b,), integer codes; −1 is unknown, and left out.
        risk: The loss of each figure for given logits, both of shape (b,).

    Returns:
        A scalar ≥ 0, with a gradient of second order; 0 if no domain is known.

    >>> z = torch.tensor([1.0, -1.0], requires_grad=True)
    >>> float(irm_penalty(z, torch.tensor([0, 1]), lambda logits: (logits - 2.0) ** 2))  # (−2·1, then −6·−1)
    20.0
    """
    known = domains >= 0
    if not bool(known.any()):
        return logits.sum() * 0
    codes, inverse = torch.unique(domains[known], return_inverse=True)
    # One scale per figure: the derivative with respect to a domain's scale is the sum over its figures.
    scales = torch.ones_like(logits, requires_grad=True)
    (slopes,) = torch.autograd.grad(risk(logits * scales).sum(), scales, create_graph=True)
    sums = logits.new_zeros(len(codes)).index_add(0, inverse, slopes[known])
    sizes = torch.bincount(inverse, minlength=len(codes)).to(sums.dtype)
    return (sums / sizes).square().mean()
