"""An auxiliary task on the figures themselves: which phase, or form of atypia, their raters saw."""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from atypia.base.errors import InputError, must
from atypia.methods.catalogue import TERMS
from atypia.methods.options import TermOptions
from atypia.methods.term import MODULES, PHASES, Batch, NamedPhases, Setting, Term


class PhasesOptions(TermOptions):
    """``weight``: factor of the auxiliary loss."""

    weight: float = Field(default=0.3, gt=0)


@TERMS.register("phases")
class Phases(Term[PhasesOptions]):
    """Cross-entropy of a linear head on the pooled features with the shares of raters that named each phase.

    Two figures of one class may look alike to no eye: a metaphase plate and two plates of an anaphase are both normal.
    What raters wrote down tells them apart. Figures without a phase add nothing; the mean is over the others of the
    batch. The gradient reaches the backbone (and CBAM) through the pooled features; the classifier's own layers after
    them are not used, and the saved classifier has no part of the term. With MixUp the shares are mixed as the images are.
    """

    Options = PhasesOptions
    summary = "a head of its own learns the phases and forms of atypia that the raters named"
    formula = "CE(phases head(pooled(x)), shares of the raters)"
    source = "Atypia; auxiliary tasks: Caruana 1997"
    needs = frozenset({MODULES, PHASES})

    def __init__(self, options: PhasesOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        if setting.phases is None:
            raise InputError(must("setting of the term phases", "one with phases", None, "give Objective the phases"))
        self.phases: NamedPhases = setting.phases
        self.head = nn.Linear(setting.features, len(self.phases.names))

    def forward(self, batch: Batch) -> Tensor:
        if batch.rows is None:
            raise InputError(must("batch", "one with rows", None, "give Batch the rows of its figures"))
        shares = self.phases.shares[batch.rows.cpu()].to(batch.out.pooled.device)
        if batch.mix is not None:  # NaN of one of both is NaN of the mixed figure
            shares = batch.mix.shares(shares)
        known = ~shares.isnan().any(1)
        if not bool(known.any()):
            return batch.out.pooled.sum() * 0
        return F.cross_entropy(self.head(batch.out.pooled[known].float()), shares[known])
