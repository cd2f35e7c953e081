"""Group distributionally robust optimisation (Sagawa et al. 2020): groups with a larger loss get larger weights."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from atypia.methods.catalogue import TERMS
from atypia.methods.options import TermOptions
from atypia.methods.term import DOMAINS, MODULES, Batch, Setting, Term


class GroupDroOptions(TermOptions):
    """``step``: η, the step size of the weights. ``groups``: domains, or each class of a domain.

    ``weight`` is the share of the main loss that is re-weighted: with 1 the robust loss replaces the mean.
    """

    weight: float = Field(default=1.0, gt=0, le=1)
    step: float = Field(default=0.01, gt=0)
    groups: Literal["domain", "domain-and-class"] = "domain"


@TERMS.register("group-dro")
class GroupDro(Term[GroupDroOptions]):
    """The robust loss minus the mean loss; added to the mean it gives the robust loss.

    Weights q of the groups start equal and are multiplied by ``exp(η L_g)`` after each batch for the groups in it
    (Sagawa et al. 2020, algorithm 1). Groups that are not in the batch add nothing; the weights of the others
    are scaled to the sum 1, so that the size of the loss does not depend on which groups are in the batch.
    """

    Options = GroupDroOptions
    summary = "re-weights the main loss: the weight of groups with a larger loss grows"
    formula = "Σ_g q_g L_g − mean loss, q_g ← q_g exp(η L_g) / Σ, over the groups of the batch"
    source = "Sagawa et al. 2020, algorithm 1"
    needs = frozenset({DOMAINS, MODULES})

    shares: Tensor

    def __init__(self, options: GroupDroOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.classes = 2 if options.groups == "domain-and-class" else 1
        count = setting.domains * self.classes
        self.register_buffer("shares", torch.full((count,), 1 / count))

    def forward(self, batch: Batch) -> Tensor:
        groups = self.groups(batch)
        if not bool((groups >= 0).any()):
            return batch.losses.sum() * 0
        losses, there = group_means(batch.losses, groups, len(self.shares))
        self.shares.copy_(raised(self.shares, losses.detach(), there, self.options.step))
        weights = self.shares / self.shares[there].sum()
        known = groups >= 0
        robust = (weights * losses)[there].sum()
        # Figures of unknown domain keep their weight in the mean.
        share = known.to(losses.dtype).mean()
        return share * (robust - batch.losses[known].mean())

    def is_idle(self, batch: Batch) -> bool:
        groups = self.groups(batch)
        return len(groups[groups >= 0].unique()) < 2

    def groups(self, batch: Batch) -> Tensor:
        """Group of each figure, shape (b,); −1 if its domain is unknown."""
        if self.classes == 1:
            return batch.domains
        return torch.where(batch.domains < 0, -1, 2 * batch.domains + (batch.targets >= 0.5).long())


def group_means(losses: Tensor, groups: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Mean loss of each group, shape (count,), 0 if it has no figure, and which groups have figures, bool."""
    known = groups >= 0
    sums = losses.new_zeros(count).index_add(0, groups[known], losses[known])
    sizes = torch.bincount(groups[known], minlength=count)
    return sums / sizes.clamp(min=1), sizes > 0


def raised(shares: Tensor, losses: Tensor, there: Tensor, step: float) -> Tensor:
    """``q_g exp(η L_g)`` for the groups with figures, the others unchanged; all scaled to the sum 1.

    >>> raised(torch.tensor([0.5, 0.5]), torch.tensor([0.0, 1.0986123]), torch.tensor([True, True]), 1.0).tolist()
    [0.25, 0.75]
    """
    grown = torch.where(there, shares * torch.exp(step * losses), shares)
    return grown / grown.sum()
