"""Group distributionally robust optimisation (Sagawa et al. 2020): the group that does worst counts most."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from atypia.methods.catalogue import TERMS
from atypia.methods.options import TermOptions
from atypia.methods.term import DOMAINS, MODULES, Batch, Setting, Term


class GroupDroOptions(TermOptions):
    """``step``: η, by which weights follow the groups' losses. ``groups``: domains, or each class of a domain.

    ``weight`` is the share of the main loss that is re-weighted: 1 puts the robust loss in place of the mean.
    """

    weight: float = Field(default=1.0, gt=0, le=1)
    step: float = Field(default=0.01, gt=0)
    groups: Literal["domain", "domain-and-class"] = "domain"


@TERMS.register("group-dro")
class GroupDro(Term[GroupDroOptions]):
    """What the robust loss has more than the mean; added to the mean it is the robust loss.

    Weights q of the groups start equal and are multiplied by ``exp(η L_g)`` after each batch for the groups in it
    (Sagawa et al. 2020, algorithm 1). Groups that a batch lacks add nothing to it; the weights of those that it has
    are scaled to the sum 1, so that the loss keeps its size whatever a batch holds.
    """

    Options = GroupDroOptions
    summary = "re-weights the main loss: groups with a larger loss count more and more"
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
        # Figures of unknown domain keep their part in the mean.
        share = known.to(losses.dtype).mean()
        return share * (robust - batch.losses[known].mean())

    def is_idle(self, batch: Batch) -> bool:
        groups = self.groups(batch)
        return len(groups[groups >= 0].unique()) < 2

    def groups(self, batch: Batch) -> Tensor:
        """Group of each figure, shape (b,); −1 where its domain is unknown."""
        if self.classes == 1:
            return batch.domains
        return torch.where(batch.domains < 0, -1, 2 * batch.domains + (batch.targets >= 0.5).long())


def group_means(losses: Tensor, groups: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Mean loss of each group, shape (count,), 0 where it has none, and which groups there are, bool."""
    known = groups >= 0
    sums = losses.new_zeros(count).index_add(0, groups[known], losses[known])
    sizes = torch.bincount(groups[known], minlength=count)
    return sums / sizes.clamp(min=1), sizes > 0


def raised(shares: Tensor, losses: Tensor, there: Tensor, step: float) -> Tensor:
    """``q_g exp(η L_g)`` for the groups that are there, the others as they were; all scaled to the sum 1.

    >>> raised(torch.tensor([0.5, 0.5]), torch.tensor([0.0, 1.0986123]), torch.tensor([True, True]), 1.0).tolist()
    [0.25, 0.75]
    """
    grown = torch.where(there, shares * torch.exp(step * losses), shares)
    return grown / grown.sum()
