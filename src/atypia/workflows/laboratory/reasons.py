"""When fine-tuning leaves the initial model as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from atypia.inference.bundles.decision import REFUSED, Verdicts
from atypia.statistics.intervals import Interval

LEVEL: Final = 0.8
"""The new weights are taken where the interval of this level of the gain in balanced accuracy lies above 0."""
MOST_FORGOTTEN: Final = 0.01
"""Balanced accuracy that may be lost on the set that is to be kept."""
MOST_REFUSED: Final = 0.05
"""Share of a set's figures that the new network may refuse beyond those that the initial one refuses."""


class SetVerdicts(NamedTuple):
    """What a network makes of a labelled set, by the initial model's decision.

    Attributes:
        figures: Their number.
        balanced_accuracy: Of the decisions; too high for a network that learned these figures.
        refused: How many it refuses as unlike its training.
    """

    figures: int
    balanced_accuracy: float
    refused: int


def reason_to_stay(sure: Interval, share: float, forgotten: Mapping[str, Interval]) -> str | None:
    """Why the initial model stays; None where the adapted one is better."""
    if share == 0:
        return "the weights as they were do best on cases left out"
    alike = sure.se == 0 and sure.estimate > 0  # the same gain in every draw, which leaves no interval
    if not (sure.low > 0 or alike):
        ends = "unknown" if sure.low != sure.low else f"{sure.low:+.3f} to {sure.high:+.3f}"
        return (
            f"no surely better balanced accuracy on cases left out ({sure.estimate:+.3f}, {LEVEL:.0%} interval {ends})"
        )
    lost = -forgotten["balanced_accuracy"].estimate if forgotten else 0.0
    if lost != lost:
        return "what it would lose on the set that is to be kept is not defined"
    if lost > MOST_FORGOTTEN:
        return f"it would lose {lost:.3f} of balanced accuracy on the set that is to be kept"
    return None


def harm(first: SetVerdicts, new: SetVerdicts) -> str | None:
    """Why the weights that would be written, which no fold measured, are not; None where they are as good as their parts.

    Args:
        first: The initial network on all of the own figures.
        new: The one that would be written, on the same.
    """
    if said := refusals(first, new, "your"):
        return said
    if new.balanced_accuracy >= first.balanced_accuracy - MOST_FORGOTTEN:
        return None
    return (
        "the mean of the folds' weights does worse on your figures, which it learned, than the weights as they were "
        f"(balanced accuracy {new.balanced_accuracy:.3f}, before {first.balanced_accuracy:.3f})"
    )


def refusals(first: SetVerdicts, new: SetVerdicts, whose: str) -> str | None:
    """That a network refuses many more figures, for which its gain in balanced accuracy is then worth nothing; else None."""
    if new.refused - first.refused <= MOST_REFUSED * new.figures:
        return None
    return f"it would refuse {new.refused} of {whose} {new.figures} figures; as it was, {first.refused}"


def judged(verdicts: Verdicts, labels: npt.NDArray[np.int8]) -> SetVerdicts:
    """Counts verdicts on labelled figures of both classes, labels 0 or 1 of shape (n,)."""
    right = verdicts.decision == labels
    balanced = float(np.mean([np.mean(right[labels == label]) for label in (0, 1)]))
    return SetVerdicts(len(labels), balanced, verdicts.call.count(REFUSED))
