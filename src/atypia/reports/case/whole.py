"""The rate of a whole case of which people decided a part and a classifier called the rest.

The rule: decided figures count as decided; the others as the mean of the classifier's probabilities, whose errors where
it was not trained widen the interval (:mod:`atypia.statistics.reviewed`).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from atypia.statistics.error_rates import CONFIDENCE, KnownErrors
from atypia.statistics.rates import exact_interval, expected_rate
from atypia.statistics.reviewed import ReviewedCounts, reviewed_rate

RULE = (
    "Figures that people decided count as decided; the others as the mean of the model's probabilities, taken for "
    "mitoses. The interval holds the chance of which figures were seen and the model's errors where it was not trained."
)


@dataclass(frozen=True)
class WholeRate:
    """What the API and the report say of all figures; JSON-able by :meth:`as_dict`.

    Attributes:
        rate: Share of atypical figures; None where nothing can be said.
        rate_low: Lower end of its 95 % interval; None likewise without figures or known errors.
        rate_high: Upper end.
        says: Whether anything can be said.
        decided: Figures that people decided as atypical or normal.
        by_model: Figures that the model alone decided.
        left_out: Figures that neither decided: refused, or without a probability.
        text: The answer in one line.
        notes: The rule, and from where the model's errors are known.
    """

    rate: float | None
    rate_low: float | None
    rate_high: float | None
    says: bool
    decided: int
    by_model: int
    left_out: int
    text: str
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON-able values."""
        return {**asdict(self), "notes": list(self.notes)}


def whole_rate(
    counts: ReviewedCounts, rest: npt.NDArray[np.float64], known: KnownErrors, left_out: int = 0
) -> WholeRate:
    """The rate of all figures of a case.

    Args:
        counts: What people decided and the model called.
        rest: The model's probability of *atypical* of each figure that nobody decided, shape (n,), in [0, 1].
        known: The model's errors.
        left_out: Figures that neither decided.

    >>> from atypia.statistics.error_rates import ErrorRates
    >>> known = KnownErrors(ErrorRates(0.8, 0.9, (0.3, 0.3)), 0.25, "five laboratories")
    >>> whole_rate(ReviewedCounts(5, 35, (15, 85), (7, 53)), np.full(60, 0.1), known).text
    'All 100 figures, 60 of them decided by the model alone: 11.0 % atypical (95 % interval 2.8 to 20.5 %).'
    """
    n, alone = counts.figures, counts.open
    sizes = {"decided": counts.decided, "by_model": alone, "left_out": left_out}
    if n == 0:
        return WholeRate(None, None, None, False, **sizes, text="No figure is decided or called.", notes=())
    if not alone:
        low, high = exact_interval(counts.atypical, n)
        rate, told = counts.atypical / n, f"All {n:,} figures are decided"
    elif known.errors is None:
        text = f"No rate of all {n:,} figures: {known.words}."
        return WholeRate(None, None, None, False, **sizes, text=text, notes=())
    else:
        found = reviewed_rate(counts, known.errors)
        rate, low, high = found.rate, found.low, found.high
        if found.says and known.prior is not None:
            rate = (counts.atypical + alone * expected_rate(rest, known.prior, known.prior)) / n
            low, high = min(low, rate), max(high, rate)
        told = f"All {n:,} figures, {alone:,} of them decided by the model alone"
    if left_out:
        told += f", {left_out:,} more decided by nobody"
    says = not math.isnan(rate)
    span = f"95 % interval {100 * low:.1f} to {100 * high:.1f} %"
    text = f"{told}: {100 * rate:.1f} % atypical ({span})." if says else f"{told}: nothing can be said ({span})."
    return WholeRate(rate if says else None, low, high, says, **sizes, text=text, notes=_notes(known, alone))


def _notes(known: KnownErrors, by_model: int) -> tuple[str, ...]:
    errors = known.errors
    if errors is None or not by_model:
        return ()
    hits, right = errors.limits(CONFIDENCE)
    return (
        RULE,
        f"Errors: sensitivity {errors.sensitivity:.2f} ({hits[0]:.2f} to {hits[1]:.2f}), specificity "
        f"{errors.specificity:.2f} ({right[0]:.2f} to {right[1]:.2f}), known from {known.words}.",
    )
