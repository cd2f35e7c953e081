"""The case's rate corrected for the classifier's errors, as the summary and the page of a case give it.

Probabilities are counted in bins while results pass by: a case of any size takes the same memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from atypia.base.errors import InputError, must
from atypia.statistics.error_rates import CONFIDENCE, KnownErrors
from atypia.statistics.rates import CorrectedRate, corrected_rate, expected_rate, likeliest_rate

DISAGREEING: Final = "Estimates that disagree"
BINS: Final = 2000
"""Of the probabilities, from 0 to 1."""


@dataclass(frozen=True)
class CaseRates:
    """Rates of a case beside the raw one.

    Attributes:
        corrected: Corrected for the classifier's errors; None where these are not known.
        likeliest: Rate under which the probabilities are likeliest; NaN where it is not known.
        expected: Mean of the probabilities, at the known prevalence or the training's; NaN where that is not known.
    """

    corrected: CorrectedRate | None
    likeliest: float
    expected: float


class RateCorrection:
    """Corrects the rate of one case; give it the probabilities of the classified figures.

    Args:
        known: What is known of the classifier's errors.
        prevalence: Share of atypical figures in the population that the case comes from, where it is known.

    Raises:
        InputError: The prevalence is not between 0 and 1, or the calibration's share of atypical figures, which it
            replaces, is not known.
    """

    def __init__(self, known: KnownErrors, prevalence: float | None = None) -> None:
        if prevalence is not None:
            check_prevalence(prevalence)
        if prevalence is not None and known.prior is None:
            fix = "name one model with a fitted decision, and no average (--tta, several --model)"
            raise InputError(must("prevalence", "left out where no rate can be corrected", known.words, fix))
        self.known, self.prevalence = known, prevalence
        self._bins = np.zeros(BINS, dtype=np.int64)

    def add(self, probabilities: Iterable[float]) -> None:
        """Counts classified figures by their probability of atypical."""
        places = np.minimum((np.array(list(probabilities), dtype=np.float64) * BINS).astype(np.int64), BINS - 1)
        self._bins += np.bincount(places, minlength=BINS)

    def rates(self, atypical: int, figures: int) -> CaseRates:
        """The rates of a case with so many figures called atypical of so many classified ones."""
        errors, prior = self.known.errors, self.known.prior
        corrected = None if errors is None or figures == 0 else corrected_rate(atypical, figures, errors)
        if prior is None or not self._bins.any():
            return CaseRates(corrected, math.nan, math.nan)
        kept = np.flatnonzero(self._bins)
        p, counts = (kept + 0.5) / BINS, self._bins[kept]
        expected = expected_rate(p, prior, self.prevalence or prior, counts)
        return CaseRates(corrected, likeliest_rate(p, prior, counts), expected)

    def as_dict(self, atypical: int, figures: int) -> dict[str, Any]:
        """JSON-able values; what is unknown or undefined is None."""
        found, errors = self.rates(atypical, figures), self.known.errors
        hits, right = ((None, None), (None, None)) if errors is None else errors.limits()
        rate = found.corrected
        value, low, high = _headline(found)
        return {
            "rate": _known(value),
            "rate_low": _known(low),
            "rate_high": _known(high),
            "says": rate is not None and rate.says,
            "rogan_gladen": None if rate is None else _known(rate.rate),
            "likeliest_rate": _known(found.likeliest),
            "prevalence": self.prevalence,
            "sensitivity": None if errors is None else errors.sensitivity,
            "sensitivity_limits": list(hits),
            "specificity": None if errors is None else errors.specificity,
            "specificity_limits": list(right),
            "known_from": self.known.words,
        }

    def sentence(self, atypical: int, figures: int) -> str:
        """The answer in one line.

        «Corrected for the classifier's errors: 20.6 % atypical (95 % interval 0.0 to 61.2 %)».
        """
        found, errors = self.rates(atypical, figures), self.known.errors
        rate = found.corrected
        if figures == 0:
            return "No corrected rate: no figure was classified."
        if rate is None or errors is None:
            return f"No corrected rate: {self.known.words}."
        value, low, high = _headline(found)
        span = f"{100 * CONFIDENCE:.0f} % interval {100 * low:.1f} to {100 * high:.1f} %"
        if rate.says:
            return f"Corrected for the classifier's errors: {100 * value:.1f} % atypical ({span})."
        return f"Corrected for the classifier's errors, nothing can be said of the true rate ({span})."

    def notes(self, atypical: int, figures: int) -> list[str]:
        """What a reader must know about it."""
        found, errors = self.rates(atypical, figures), self.known.errors
        if errors is None or found.corrected is None:
            return []
        hits, right = errors.limits()
        known, moved = not math.isnan(found.expected), self.prevalence is not None
        share = self.prevalence if moved else self.known.prior
        point = (
            f"the mean of the figures' probabilities, which hold where {100 * (share or 0):.3g} % of the figures are atypical "
            f"({'the given prevalence' if moved else 'as in the training; --prevalence for a known population'})"
            if known
            else "Rogan and Gladen's estimate"
        )
        notes = [
            f"Corrected rate: {point}. Its interval holds the chance of which figures were seen, and a sensitivity of "
            f"{errors.sensitivity:.2f} ({hits[0]:.2f} to {hits[1]:.2f} where it was not trained) and specificity of "
            f"{errors.specificity:.2f} ({right[0]:.2f} to {right[1]:.2f}), known from {self.known.words}."
        ]
        if known and found.corrected.says:
            notes.append(
                f"Other estimates, less bound to that share but with larger errors: from the counts {100 * found.corrected.rate:.1f} % (Rogan "
                f"and Gladen), from the probabilities {100 * found.likeliest:.1f} % (likeliest rate, Saerens)."
            )
            if not found.corrected.low <= found.expected <= found.corrected.high:
                notes.append(
                    f"{DISAGREEING}: the mean of the probabilities lies outside the interval that the counts give "
                    f"({100 * found.corrected.low:.1f} to {100 * found.corrected.high:.1f} %), which was widened to hold it. Either the share "
                    "of atypical figures is far from that of the training, or these figures are unlike it (look-alikes, a wrong µm/px): "
                    "check them, name a known share (--prevalence), or measure the model on them (`atypia calibrate`)."
                )
        return notes


def check_prevalence(prevalence: float) -> None:
    """Refuses what is no share of a population.

    Raises:
        InputError: It is not between 0 and 1.
    """
    if not 0 < prevalence < 1:
        raise InputError(must("prevalence", "between 0 and 1", prevalence, "give a share: 0.2 for 20 %"))


def _headline(found: CaseRates) -> tuple[float, float, float]:
    """The rate that is given, and its interval, which holds it; NaN where they are unknown.

    The mean of the probabilities had the smallest error on cases of laboratories that were left out
    (``docs/results/rate.md``).
    """
    rate = found.corrected
    if rate is None:
        return math.nan, math.nan, math.nan
    if not rate.says:
        return math.nan, rate.low, rate.high
    value = rate.rate if math.isnan(found.expected) else found.expected
    return value, min(rate.low, value), max(rate.high, value)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
