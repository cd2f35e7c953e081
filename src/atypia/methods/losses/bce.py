"""Binary cross-entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atypia.base.errors import InputError, must
from atypia.methods.catalogue import LOSSES
from atypia.methods.loss import Loss, check_shapes
from atypia.methods.options import LossOptions

if TYPE_CHECKING:
    from torch import Tensor


@LOSSES.register("bce")
class BinaryCrossEntropy(Loss[LossOptions]):
    """See :func:`binary_cross_entropy`."""

    summary = "binary cross-entropy"
    source = "as torch.nn.BCEWithLogitsLoss"

    def __call__(self, logits: Tensor, targets: Tensor, positive_weight: float = 1.0) -> Tensor:
        return binary_cross_entropy(logits, targets, positive_weight)


def binary_cross_entropy(logits: Tensor, targets: Tensor, positive_weight: float = 1.0) -> Tensor:
    """``−w₊ y log σ(z) − (1 − y) log(1 − σ(z))``, one value per figure.

    Args:
        logits: Shape (b,), float; the logit of the positive class.
        targets: Shape (b,), in [0, 1]; soft labels are taken as they are.
        positive_weight: w₊ > 0, the weight of the positive class.

    Returns:
        Shape (b,), ≥ 0.
    """
    import torch
    import torch.nn.functional as F

    check_shapes(logits, targets)
    if not positive_weight > 0:
        raise InputError(must("positive_weight", "positive", positive_weight, "use 1 for no weighting"))
    weight = torch.tensor(positive_weight, dtype=logits.dtype, device=logits.device)
    return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), pos_weight=weight, reduction="none")
