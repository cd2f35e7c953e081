"""Named rules by which the kept epoch is chosen. They see validation metrics only; greater is better."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from atypia.base.registry import Registry

SELECTIONS = Registry[Callable[[Mapping[str, float]], float]]("selection rule")


@SELECTIONS.register("balanced_accuracy")
def by_balanced_accuracy(validation: Mapping[str, float]) -> float:
    """Balanced accuracy at the recipe's threshold."""
    return validation["balanced_accuracy"]


@SELECTIONS.register("auroc")
def by_auroc(validation: Mapping[str, float]) -> float:
    """Area under the ROC curve."""
    return validation["auroc"]


@SELECTIONS.register("loss")
def by_loss(validation: Mapping[str, float]) -> float:
    """Negative log loss of the hard labels, so that greater is better."""
    return -validation["loss"]
