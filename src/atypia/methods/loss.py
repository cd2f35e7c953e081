"""Main losses: one value per figure, from one logit of the positive class and hard or soft targets.

A loss is a class in ``atypia/methods/losses/``, registered by the name that recipes use in ``loss: {name: …}``. It takes
logits, never probabilities, and returns one value per figure, which samplers and terms use; :func:`mean` reduces them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import torch

from atypia.base.errors import InputError, must
from atypia.methods.options import LossOptions

if TYPE_CHECKING:  # a recipe names its loss also where torch is not installed
    from torch import Tensor

L = TypeVar("L", bound=LossOptions)


class Loss(ABC, Generic[L]):
    """The main loss of a recipe.

    Attributes:
        Options: Schema of its options.
        summary: One line for listings.
        source: Paper.
    """

    Options: ClassVar[type[LossOptions]] = LossOptions
    summary: ClassVar[str]
    source: ClassVar[str]

    def __init__(self, options: L) -> None:
        self.options = options

    @abstractmethod
    def __call__(self, logits: Tensor, targets: Tensor, positive_weight: float = 1.0) -> Tensor:
        """One value per figure, shape (b,), ≥ 0.

        Args:
            logits: Shape (b,), float; the logit of the positive class.
            targets: Shape (b,), in [0, 1].
            positive_weight: w₊ > 0, the weight of the positive class.
        """


def smoothed(targets: Tensor, smoothing: float) -> Tensor:
    """Moves targets towards one half: ``y (1 − ε) + ε/2`` (Szegedy et al. 2016, for two classes).

    Args:
        targets: Shape (b,), in [0, 1], 1 = positive class.
        smoothing: ε in [0, 1).
    """
    return targets if smoothing == 0 else targets * (1 - smoothing) + smoothing / 2


def observed_positive_weight(targets: Tensor) -> float:
    """``w₊ = N₋ / N₊`` over the figures that were drawn (Giedziun et al.); soft labels count as shares.

    Raises:
        InputError: One of the classes was not drawn at all.
    """
    positive = float(targets.sum())
    negative = float(len(targets) - positive)
    if positive <= 0 or negative <= 0:
        raise InputError(must("targets", "of both classes", f"{positive:g} positive of {len(targets)}", "add data"))
    return negative / positive


def domain_weights(domains: Tensor) -> Tensor:
    """``w_d = n / (D n_d)``: each domain has the same share of the loss over the training figures.

    Args:
        domains: Domain code of each training figure, shape (n,), −1 where unknown: not counted.

    Returns:
        Shape (D,), > 0.

    >>> domain_weights(torch.tensor([0, 0, 0, 1, -1]))
    tensor([0.6667, 2.0000])
    """
    counts = torch.bincount(domains[domains >= 0]).float()
    return counts.sum() / (len(counts) * counts.clamp(min=1))


def mean(values: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean of one value per figure, weighted if weights are given: ``Σ wᵢ vᵢ / Σ wᵢ``."""
    return values.mean() if weights is None else (values * weights).sum() / weights.sum()


def check_shapes(logits: Tensor, targets: Tensor) -> None:
    """Refuses logits and targets that do not both have the same shape (b,)."""
    if logits.shape != targets.shape or logits.ndim != 1:
        got: Any = (tuple(logits.shape), tuple(targets.shape))
        raise InputError(must("logits and targets", "of one shape (b,)", got, "squeeze the head's output"))
