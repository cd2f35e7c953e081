"""Cross-entropy over two logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atypia.methods.catalogue import LOSSES
from atypia.methods.loss import Loss
from atypia.methods.losses.bce import binary_cross_entropy
from atypia.methods.options import LossOptions

if TYPE_CHECKING:
    from torch import Tensor


@LOSSES.register("ce")
class CrossEntropy(Loss[LossOptions]):
    """See :func:`cross_entropy`."""

    summary = "as `bce`, but reduced as a weighted mean if the positive class has a weight"
    source = "as torch.nn.CrossEntropyLoss"

    def __call__(self, logits: Tensor, targets: Tensor, positive_weight: float = 1.0) -> Tensor:
        return cross_entropy(logits, targets, positive_weight)


def cross_entropy(logits: Tensor, targets: Tensor, positive_weight: float = 1.0) -> Tensor:
    """Cross-entropy over two logits ``(0, z)``, reduced as ``torch.nn.CrossEntropyLoss`` reduces class indices.

    With one logit it equals :func:`binary_cross_entropy` except for the reduction: values are scaled
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
