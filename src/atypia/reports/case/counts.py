"""How many figures of a case were called what, and their rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from atypia.inference import results as res
from atypia.statistics.rates import exact_interval

CONFIDENCE: Final = 0.95


@dataclass
class Counts:
    """Number of figures of each call.

    Attributes:
        normal: Called normal: the certain normal ones.
        atypical: Called atypical: the certain atypical ones.
        uncertain: Called uncertain, on either side of the threshold.
        refused: Not classified: unreadable, outside the slide, or unlike the training data.
        decided_atypical: Figures, without refused ones, whose probability reached the threshold;
          the atypical figures of the rate, whether or not they are called uncertain.
        uncertain_atypical: Of these, those called uncertain.
    """

    normal: int = 0
    atypical: int = 0
    uncertain: int = 0
    refused: int = 0
    decided_atypical: int = 0
    uncertain_atypical: int = 0

    def add(self, call: str, decision: int | None) -> None:
        """Counts one figure."""
        if call == res.CALLED_REFUSED:
            self.refused += 1
            return
        if call == res.CALLED_NORMAL:
            self.normal += 1
        elif call == res.CALLED_ATYPICAL:
            self.atypical += 1
        else:
            self.uncertain += 1
            self.uncertain_atypical += decision == 1
        self.decided_atypical += decision == 1

    @property
    def decided_normal(self) -> int:
        """Classified figures with a probability below the threshold, whatever their call."""
        return self.scored - self.decided_atypical

    @property
    def uncertain_normal(self) -> int:
        """Of :attr:`decided_normal`, those called uncertain."""
        return self.uncertain - self.uncertain_atypical

    @property
    def scored(self) -> int:
        """Figures that were classified."""
        return self.normal + self.atypical + self.uncertain

    @property
    def figures(self) -> int:
        """All figures."""
        return self.scored + self.refused

    @property
    def rate(self) -> float:
        """Share of the classified figures whose probability reached the threshold; NaN without any."""
        return self.decided_atypical / self.scored if self.scored else math.nan

    @property
    def share_uncertain(self) -> float:
        """Share of the classified figures that are called uncertain; NaN without any."""
        return self.uncertain / self.scored if self.scored else math.nan

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """Exact interval of :attr:`rate` (:func:`exact_interval`)."""
        return exact_interval(self.decided_atypical, self.scored, confidence)
