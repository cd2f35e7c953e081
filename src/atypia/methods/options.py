"""Options of terms of the objective, losses and samplers, as recipes give them.

This module imports no network library, so that a recipe can be read quickly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from atypia.base.config import StrictModel


@dataclass(frozen=True)
class Variants:
    """The variants in which saved classifiers score each training figure, once, before the training.

    Attributes:
        views: 8 for all flips and quarter turns, 1 for the unchanged crop.
        stains: Number of altered stains in addition to the original stain; each view is scored in all of them.
    """

    views: int
    stains: int

    def __len__(self) -> int:
        return self.views * (1 + self.stains)


RenderedTask = Literal["phases", "classes"]


@dataclass(frozen=True)
class RenderedSet:
    """A phantom set that a term learns from beside the figures.

    Attributes:
        figures: How many figures.
        seed: Of the set; sets of different seeds share no figure.
        task: What is told about a figure: ``phases``, normal phases and forms of atypia one by one, or ``classes``,
            normal and atypical.
    """

    figures: int
    seed: int
    task: RenderedTask


class TermOptions(StrictModel):
    """Options that every term has; a term adds its own.

    Attributes:
        name: Entry of :data:`atypia.methods.catalogue.TERMS`.
        weight: Factor of the term in the objective.
    """

    name: str
    weight: float = Field(default=1.0, gt=0)

    @property
    def classifiers(self) -> tuple[str, ...]:
        """Folders of saved classifiers that the term learns from; ``{fold}`` stands for the fold's name."""
        return ()

    @property
    def variants(self) -> Variants | None:
        """The variants of each figure that these classifiers score once; None: they score every batch."""
        return None

    @property
    def rendered(self) -> RenderedSet | None:
        """The rendered figures that the term needs; None: none."""
        return None

    def version(self, mixes: bool) -> int:
        """The version of the term's formula, raised when its code changes; only for recipes whose results change.

        Args:
            mixes: Whether the recipe mixes figures by MixUp.
        """
        return 1

    def fault(self, averages: bool) -> str:
        """Why the term cannot work in its recipe, and the remedy; empty if it can.

        Args:
            averages: Whether the recipe keeps a moving average of the weights.
        """
        return ""


class CurriculumOptions(StrictModel):
    """Which generated figures take part in which epoch: first those that a classifier is sure of, later more.

    Attributes:
        start: Least ``judged_p`` (probability of the class that a figure was generated as) in the first epoch.
        end: The same from epoch ``epochs`` on; in between it changes in equal steps.
        epochs: Epochs until ``end``.
    """

    start: float = Field(default=0.9, ge=0, le=1)
    end: float = Field(default=0.5, ge=0, le=1)
    epochs: int = Field(default=10, ge=1)

    def least_p(self, epoch: int) -> float:
        """The least ``judged_p`` that takes part in this epoch, counted from 0.

        >>> [round(CurriculumOptions(start=0.9, end=0.5, epochs=4).least_p(epoch), 2) for epoch in range(6)]
        [0.9, 0.8, 0.7, 0.6, 0.5, 0.5]
        """
        return self.start + (self.end - self.start) * min(1.0, epoch / self.epochs)


class SamplerOptions(StrictModel):
    """Options that every sampler has; a sampler may add its own.

    Attributes:
        name: Entry of :data:`atypia.methods.catalogue.SAMPLERS`.
        draws: Figures per epoch; None: the number of training figures.
        positive_share: Share of positives, for samplers that draw a class first.
        hard_share: Share of the training figures, the hardest, whose weight is multiplied by ``hard_factor``; updated
            every epoch (``uniform`` then draws with replacement); 0 turns mining off.
        hard_factor: See ``hard_share``.
        curriculum: Which of the generated figures that a classifier judged take part in an epoch; None: all in every one.
    """

    name: str = "uniform"
    draws: int | None = Field(default=None, ge=1)
    positive_share: float = Field(default=0.5, gt=0, lt=1)
    hard_share: float = Field(default=0.0, ge=0, lt=1)
    hard_factor: float = Field(default=2.0, ge=1)
    curriculum: CurriculumOptions | None = None


class LossOptions(StrictModel):
    """Options that every main loss has; a loss may add its own.

    Attributes:
        name: Entry of :data:`atypia.methods.catalogue.LOSSES`.
        soft_labels: Whether soft labels are the targets, where they are known.
        label_smoothing: Moves targets towards one half.
        positive_weight: A number, or ``observed``: negatives over positives among the figures that were drawn, renewed
            every epoch.
        domain_weights: Whether figures of rarer domains count more: w_d = n / (D n_d), n_d of the n training figures with a
            known domain being of d, one of D; 1 where the domain is unknown.
    """

    name: str = "bce"
    soft_labels: bool = False
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    positive_weight: Annotated[float, Field(gt=0)] | Literal["observed"] = 1.0
    domain_weights: bool = False
