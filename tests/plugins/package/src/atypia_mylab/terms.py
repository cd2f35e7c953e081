"""A term of the objective: a class with its options, what it needs, and its formula."""

from pydantic import Field
from torch import Tensor

from atypia.methods.catalogue import TERMS
from atypia.methods.options import TermOptions
from atypia.methods.term import HIDDEN, Batch, Term


class ShrinkOptions(TermOptions):
    """Options of the term.

    Attributes:
        weight: Factor of the term.
        power: Of the norm.
    """

    weight: float = Field(default=0.01, gt=0)
    power: float = Field(default=2.0, gt=0)


@TERMS.register("mylab-shrink", version=1)
class Shrink(Term[ShrinkOptions]):
    """Keeps hidden features small."""

    Options = ShrinkOptions
    summary = "size of the hidden features"
    formula = "mean of Σ_k |h_k|^power over the figures of the batch"
    source = "MyLab et al., 2026"
    needs = frozenset({HIDDEN})

    def forward(self, batch: Batch) -> Tensor:
        return batch.out.hidden.float().abs().pow(self.options.power).sum(1).mean()
