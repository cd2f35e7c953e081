"""A domain classifier on the features, behind a gradient reversal (Ganin et al. 2016)."""

from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from atypia.base.errors import InputError, must
from atypia.methods.catalogue import TERMS
from atypia.methods.mixing import Mix
from atypia.methods.options import TermOptions
from atypia.methods.ramps import dann_ramp
from atypia.methods.term import DOMAINS, MODULES, Batch, Setting, Term


class AdversarialOptions(TermOptions):
    """A linear domain head behind a gradient reversal.

    ``ramp``: the reversal follows the ramp of Ganin et al. from 0.
    ``bounded``: the reversed gradient acts only while the head does better than chance. Without this bound the head's
    loss rises above chance, and the domain can be predicted from the features even better than before
    (docs/results/generalisation.md).
    """

    weight: float = Field(default=0.1, gt=0)
    ramp: bool = True
    bounded: bool = False

    def version(self, mixes: bool) -> int:
        """2 with MixUp; version 1 gave a mixed figure only the domain of its first part."""
        return 2 if mixes else 1


@TERMS.register("adversarial")
class Adversarial(Term[AdversarialOptions]):
    """Cross-entropy of a domain head, whose gradient is reversed before it reaches the features."""

    Options = AdversarialOptions
    summary = "a linear domain head behind a gradient reversal"
    formula = "CE(domain head(R(pooled)), domain), R the identity with gradient −λ; with MixUp, CE of both domains, weighted by share"
    source = "Ganin et al. 2016; Giedziun et al."
    needs = frozenset({DOMAINS, MODULES})

    def __init__(self, options: AdversarialOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.head = DomainHead(setting.features, setting.domains)

    def forward(self, batch: Batch) -> Tensor:
        strength = dann_ramp(batch.done) if self.options.ramp else 1.0
        pooled = batch.out.pooled.float()
        if self.options.bounded and not beats_chance(self.head, pooled, batch.domains, batch.mix):
            strength = 0.0
        return domain_cross_entropy(self.head(pooled, strength), batch.domains, batch.mix)


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


def domain_cross_entropy(logits: Tensor, domains: Tensor, mix: Mix | None = None) -> Tensor:
    """Cross-entropy of domain logits (b, D), mean over the figures whose domain is known; 0 if none is.

    Of figure i, mixed with its partner j by MixUp: ``λ_i CE(z_i, d_i) + (1 − λ_i) CE(z_i, d_j)``, as Zhang et al. 2018
    mix the loss of the class. A part of unknown domain is left out, with its share of the mean.

    Args:
        logits: Shape (b, D).
        domains: Domain codes (b,), −1 where unknown.
        mix: How the figures were mixed; None if they were not.
    """
    if mix is None:
        if not bool((domains >= 0).any()):
            return logits.sum() * 0
        return nn.functional.cross_entropy(logits, domains, ignore_index=-1)
    share = mix.share.to(logits.device, logits.dtype)
    partners = domains[mix.partner.to(domains.device)]
    known, theirs = share * (domains >= 0), (1 - share) * (partners >= 0)
    total = (known + theirs).sum()
    if not bool(total > 0):
        return logits.sum() * 0
    own = nn.functional.cross_entropy(logits, domains, ignore_index=-1, reduction="none")
    other = nn.functional.cross_entropy(logits, partners, ignore_index=-1, reduction="none")
    return (known * own + theirs * other).sum() / total


@torch.no_grad()
def beats_chance(head: nn.Module, features: Tensor, domains: Tensor, mix: Mix | None = None) -> bool:
    """Whether a domain head's cross-entropy on features (b, c) is below that of guessing, ln D.

    With ``mix`` both are computed for mixed figures, as in :func:`domain_cross_entropy`; guessing gives ln D there too.
    """
    logits = head(features, 0.0)
    return float(domain_cross_entropy(logits, domains, mix)) < math.log(logits.shape[1])
