"""Losses on one logit of the positive class, with hard or soft targets.

All functions take logits, never probabilities, and return one value a figure, so that samplers
and hard-example mining see them; :func:`mean` reduces.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from atypia.base.errors import InputError, must
from atypia.base.registry import Registry

Loss = Callable[..., Tensor]

LOSSES = Registry[Loss]("loss", plugins="losses")


def smoothed(targets: Tensor, smoothing: float) -> Tensor:
    """Moves targets towards one half: ``y (1 − ε) + ε/2`` (Szegedy et al. 2016, for two classes).

    Args:
        targets: Shape (b,), in [0, 1], 1 = positive class.
        smoothing: ε in [0, 1).
    """
    return targets if smoothing == 0 else targets * (1 - smoothing) + smoothing / 2


@LOSSES.register("bce")
def binary_cross_entropy(logits: Tensor, targets: Tensor, positive_weight: float = 1.0) -> Tensor:
    """``−w₊ y log σ(z) − (1 − y) log(1 − σ(z))``, one value a figure.

    Args:
        logits: Shape (b,), float; the logit of the positive class.
        targets: Shape (b,), in [0, 1]; soft labels are taken as they are.
        positive_weight: w₊ > 0, the weight of the positive class.

    Returns:
        Shape (b,), ≥ 0.
    """
    _check(logits, targets)
    if not positive_weight > 0:
        raise InputError(must("positive_weight", "positive", positive_weight, "use 1 for no weighting"))
    weight = torch.tensor(positive_weight, dtype=logits.dtype, device=logits.device)
    return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), pos_weight=weight, reduction="none")


@LOSSES.register("ce")
def cross_entropy(logits: Tensor, targets: Tensor, positive_weight: float = 1.0) -> Tensor:
    """Cross-entropy over two logits ``(0, z)``, reduced as ``torch.nn.CrossEntropyLoss`` reduces class indices.

    With one logit it equals :func:`binary_cross_entropy` but for the reduction: values are scaled
    so that their mean over the batch is the weighted mean ``Σ wᵢ ℓᵢ / Σ wᵢ``, where a soft target
    has the weight ``1 + (w₊ − 1) y``.

    Args:
        logits: Shape (b,), the logit of the positive class against 0 for the other.
        targets: Shape (b,), in [0, 1].
        positive_weight: Weight of the positive class; the other's is 1.

    Returns:
        Shape (b,), ≥ 0.
    """
    values = binary_cross_entropy(logits, targets, positive_weight)
    weights = 1 + (positive_weight - 1) * targets.to(logits.dtype)
    return values * (len(weights) / weights.sum())


@LOSSES.register("focal")
def focal(logits: Tensor, targets: Tensor, positive_weight: float = 1.0, gamma: float = 2.0) -> Tensor:
    """``(1 − p_t)^γ · BCE(z, y; w₊)`` with ``p_t = y p + (1 − y)(1 − p)`` (Lin et al. 2017; Giedziun et al.).

    Args:
        logits: Shape (b,).
        targets: Shape (b,), in [0, 1]; with soft labels p_t is the formula as it stands.
        positive_weight: w₊, for instance :func:`observed_positive_weight`, renewed every epoch.
        gamma: γ ≥ 0; 0 gives :func:`binary_cross_entropy`.

    Returns:
        Shape (b,), ≥ 0.
    """
    plain = binary_cross_entropy(logits, targets, positive_weight)
    y = targets.to(logits.dtype)
    # 1 − p_t without the difference of two numbers close to 1, and never 0, where γ < 1 has no gradient.
    missed = y * torch.sigmoid(-logits) + (1 - y) * torch.sigmoid(logits)
    return missed.clamp(min=torch.finfo(logits.dtype).tiny) ** gamma * plain


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


def mean(values: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean of one value a figure, weighted where weights are given: ``Σ wᵢ vᵢ / Σ wᵢ``."""
    return values.mean() if weights is None else (values * weights).sum() / weights.sum()


def _check(logits: Tensor, targets: Tensor) -> None:
    if logits.shape != targets.shape or logits.ndim != 1:
        got: Any = (tuple(logits.shape), tuple(targets.shape))
        raise InputError(must("logits and targets", "of one shape (b,)", got, "squeeze the head's output"))
