"""Terms of the objective: a term is one summand, with its options, its needs and its formula in one file.

A term is a class in ``atypia/methods/terms/`` that is registered by the name that recipes use::

    class ShrinkOptions(TermOptions):
        weight: float = Field(default=0.01, gt=0)

    @TERMS.register("shrink")
    class Shrink(Term[ShrinkOptions]):
        Options = ShrinkOptions
        summary = "keeps features small"
        formula = "mean of ‖h‖²"
        source = "an example"
        needs = frozenset({HIDDEN})

        def forward(self, batch):
            return batch.out.hidden.float().square().sum(1).mean()

A recipe then says ``terms: [{name: shrink, weight: 0.1}]``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Generic, TypeVar

import torch
from torch import Tensor, nn

from atypia.methods.mixing import Mix
from atypia.methods.network import Output
from atypia.methods.options import TermOptions

O = TypeVar("O", bound=TermOptions)  # noqa: E741

DOMAINS: Final = "domains"
HIDDEN: Final = "hidden features"
ALIGNED: Final = "aligned maps"
SECOND: Final = "second view"
TEACHER: Final = "moving average or teachers"
MODULES: Final = "own modules"
RENDERED: Final = "rendered figures"
PHASES: Final = "phases of raters"
NEEDS: Final = (DOMAINS, HIDDEN, ALIGNED, SECOND, TEACHER, MODULES, RENDERED, PHASES)
"""What a term may need. ``domains``: training figures of at least two domains; ``second view``: the loop augments each
batch twice; ``rendered figures``: those that the term's options ask for are rendered once; ``phases of raters``: figures of at
least two phases. The others are always available and are declared for the reader."""


@dataclass(frozen=True)
class Rendered:
    """Rendered figures that a term may draw at each step.

    Attributes:
        categories: What a figure can be, by code; more than one.
        draw: Gives, for a seed and a count b, normalised crops (b, 3, h, w), cut and augmented as the training figures
            are, and their categories (b,), int64; both on the device of the training. Each category of the set is
            drawn equally often.
    """

    categories: tuple[str, ...]
    draw: Callable[[int, int], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class NamedPhases:
    """Phases, and forms of atypia, that raters named.

    Attributes:
        names: Every one that is named, more than one.
        shares: Share of a figure's raters that named each, for each row of the data, shape (n, k), float32; NaN for rows
            without a phase.
    """

    names: tuple[str, ...]
    shares: Tensor


@dataclass(frozen=True)
class Setting:
    """What the constructor of a term is given.

    Attributes:
        features: Dimension of the pooled features.
        domains: Number of domains in the training part.
        teachers: The networks of the classifiers that the term's options name; none where ``answers`` are given.
        answers: Logits of these classifiers for each row of the data, shape (n,), NaN for rows that are not
            trained on; None if they score each batch.
        rendered: The rendered figures that the term's options ask for; None where they ask for none.
        phases: Phases of the data's figures; None where no term needs them.
    """

    features: int
    domains: int
    teachers: Sequence[nn.Module] = ()
    answers: Tensor | None = None
    rendered: Rendered | None = None
    phases: NamedPhases | None = None


@dataclass(frozen=True)
class Batch:
    """One batch, after the network has scored it.

    Attributes:
        images: Normalised crops as the network saw them (mixed, where MixUp is on), shape (b, 3, h, w).
        targets: Labels or soft labels of these, shape (b,), in [0, 1].
        domains: Domain codes of the figures, shape (b,), −1 where unknown.
        out: The network's output, with gradient.
        losses: The main loss of each figure, shape (b,).
        risk: The main loss of each figure for other logits (b,) of the same figures.
        done: Share of the training that is done, in [0, 1].
        epoch: The same in epochs.
        seed: Of what a term draws for this batch.
        mix: How figures were mixed; None if they were not.
        average: The moving average of the network; None if none is kept.
        second: The network's output for another augmentation of the same figures; None unless a term needs it.
        rows: Rows of the figures in the data, shape (b,), int64, before mixing; None if not known.
        network: The network, for a term that scores further images; None if not known.
    """

    images: Tensor
    targets: Tensor
    domains: Tensor
    out: Output
    losses: Tensor
    risk: Callable[[Tensor], Tensor]
    done: float
    epoch: float
    seed: int
    mix: Mix | None = None
    average: nn.Module | None = None
    second: Output | None = None
    rows: Tensor | None = None
    network: Callable[[Tensor], Output] | None = None


class Term(nn.Module, ABC, Generic[O]):
    """A summand of the objective. Its parameters are trained with the network; its state is kept in checkpoints.

    Attributes:
        Options: Schema of its options.
        summary: One line for listings.
        formula: What it adds, without the weight.
        source: Paper and equation.
        needs: Members of :data:`NEEDS`.
        least_domains: Known domains that a batch must have; with fewer the term has no effect.

    Args:
        options: Its options.
        setting: Facts about the training that it may need.
    """

    Options: ClassVar[type[TermOptions]] = TermOptions
    summary: ClassVar[str]
    formula: ClassVar[str]
    source: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()
    least_domains: ClassVar[int] = 1

    def __init__(self, options: O, setting: Setting) -> None:
        super().__init__()
        self.options = options

    def move(self, device: torch.device) -> None:
        """Moves the term's tensors to the device of the training."""
        self.to(device)

    def weight(self, batch: Batch) -> float:
        """Factor of the term at this moment of the training."""
        return self.options.weight

    def is_idle(self, batch: Batch) -> bool:
        """Whether the term is 0 because the batch has too few domains; for terms that need domains."""
        return len(batch.domains[batch.domains >= 0].unique()) < self.least_domains

    @abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """The term of a batch: a scalar with gradient."""
