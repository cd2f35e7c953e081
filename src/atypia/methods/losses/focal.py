"""Focal loss (Lin et al. 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from atypia.methods.catalogue import LOSSES
from atypia.methods.loss import Loss
from atypia.methods.losses.bce import binary_cross_entropy
from atypia.methods.options import LossOptions

if TYPE_CHECKING:
    from torch import Tensor


class FocalOptions(LossOptions):
    """``gamma``: γ; the larger, the less figures count that are already classified correctly."""

    gamma: float = Field(default=2.0, ge=0)


@LOSSES.register("focal")
class Focal(Loss[FocalOptions]):
    """See :func:`focal`."""

    Options = FocalOptions
    summary = "figures that are already classified correctly count less (`gamma`)"
    source = "Lin et al. 2017; Giedziun et al."

    def __call__(self, logits: Tensor, targets: Tensor, positive_weight: float = 1.0) -> Tensor:
        return focal(logits, targets, positive_weight, self.options.gamma)


def focal(logits: Tensor, targets: Tensor, positive_weight: float = 1.0, gamma: float = 2.0) -> Tensor:
    """``(1 − p_t)^γ · BCE(z, y; w₊)`` with ``p_t = y p + (1 − y)(1 − p)`` (Lin et al. 2017; Giedziun et al.).

    Args:
        logits: Shape (b,).
        targets: Shape (b,), in [0, 1]; p_t is computed by the same formula for soft labels.
        positive_weight: w₊, for instance :func:`observed_positive_weight`, renewed every epoch.
        gamma: γ ≥ 0; 0 gives :func:`binary_cross_entropy`.

    Returns:
        Shape (b,), ≥ 0.
    """
    import torch

    plain = binary_cross_entropy(logits, targets, positive_weight)
    y = targets.to(logits.dtype)
    # 1 − p_t, without subtracting two numbers close to 1; never 0, because the gradient for γ < 1 is undefined there.
    missed = y * torch.sigmoid(-logits) + (1 - y) * torch.sigmoid(logits)
    return missed.clamp(min=torch.finfo(logits.dtype).tiny) ** gamma * plain
