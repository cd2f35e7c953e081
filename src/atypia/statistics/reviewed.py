"""The share of atypical figures in a case of which people decided some figures and a classifier called the others.

What people decided counts as they decided it. Of the others it is unknown how many are atypical: a figure that was
called atypical is so with the probability

    P(atypical | called atypical) = π s / (π s + (1 − π)(1 − c)),

one that was called normal with π (1 − s) / (π (1 − s) + (1 − π) c), where s and c are the classifier's sensitivity and
specificity and π the case's rate. The distribution of (π, s, c) follows from the calls on all figures of the case and
from what is known of the classifier in laboratories that it never saw (:class:`~atypia.statistics.error_rates.ErrorRates`).
The number of atypical figures T = decided ones + two binomial draws of the others, and the rate, which these n figures
are a sample of, is Beta(T + 1, n − T + 1), every rate being equally likely beforehand. The interval is the shortest
one that holds 95 % of that mixture. It becomes the rate's interval without review where nobody decided anything, and the
exact one of a proportion where everything is decided.

Decisions do not change what is known of s and c, although a random part of the figures that both decided would tell
(double sampling: Tenenbein, JASA 65, 1970): reviewers look at uncertain or suspicious figures first, and then that
estimate's 95 % interval holds the rate in 74 to 98 % of the cases (``docs/results/rate.md``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from atypia.base.errors import InputError, must
from atypia.base.seeds import generator
from atypia.statistics.confusion import FloatArray
from atypia.statistics.error_rates import CONFIDENCE, ErrorRates
from atypia.statistics.rates import (
    GRID,
    WIDEST,
    CorrectedRate,
    corrected_rate,
    densest,
    exact_interval,
    posterior,
    rogan_gladen,
)

SAMPLES: Final = 2**17
"""Draws of the number of atypical figures: with 4,096 an end of a wide interval was up to 0.08 off, further out for the most part."""
STEPS: Final = 200
"""Most different numbers of them that are told apart."""


@dataclass(frozen=True)
class ReviewedCounts:
    """Figures of a case that are mitoses as far as is known.

    Attributes:
        atypical: Decided as atypical by people, ≥ 0.
        normal: Decided as normal by people.
        called: Of all figures that the classifier called, how many it called atypical, and normal.
        rest: The same of those that nobody decided; no more than ``called``.
    """

    atypical: int
    normal: int
    called: tuple[int, int]
    rest: tuple[int, int]

    def __post_init__(self) -> None:
        counts = (self.atypical, self.normal, *self.called, *self.rest)
        if min(counts) < 0 or self.rest[0] > self.called[0] or self.rest[1] > self.called[1]:
            raise InputError(must("counts", "at least 0, and `rest` a part of `called`", counts, "count again"))
        decided = self.called[0] - self.rest[0] + self.called[1] - self.rest[1]
        if decided > self.atypical + self.normal:
            got = f"{decided} of {self.atypical + self.normal}"
            raise InputError(must("decided figures with a call", "no more than decided ones", got, "count again"))

    @property
    def decided(self) -> int:
        """Figures that people decided."""
        return self.atypical + self.normal

    @property
    def open(self) -> int:
        """Figures that the classifier alone decided."""
        return sum(self.rest)

    @property
    def figures(self) -> int:
        """All of them."""
        return self.decided + self.open


def reviewed_rate(counts: ReviewedCounts, errors: ErrorRates, confidence: float = CONFIDENCE) -> CorrectedRate:
    """The rate of a case that was reviewed in part, with an interval of sampling and of the classifier's errors.

    Args:
        counts: What people decided and the classifier called.
        errors: What is known of the classifier where it was not trained.
        confidence: In (0, 1).

    Returns:
        ``rate``: decided atypical figures plus the expected ones among the others at Rogan and Gladen's rate of all
        calls, of all figures; NaN where nothing can be said, as without review.

    Raises:
        InputError: Confidence is out of range.

    >>> errors = ErrorRates(0.8, 0.9, (0.3, 0.3))
    >>> found = reviewed_rate(ReviewedCounts(5, 35, (15, 85), (7, 53)), errors)  # 40 of 100 figures decided
    >>> round(found.rate, 3), round(found.low, 2), round(found.high, 2)
    (0.086, 0.03, 0.21)
    """
    if not 0 < confidence < 1:
        raise InputError(must("confidence", "between 0 and 1", confidence, "pass 0.95"))
    n, atypical = counts.figures, counts.atypical
    if not counts.open:
        low, high = exact_interval(atypical, n, confidence)
        return CorrectedRate(atypical / n if n else math.nan, low, high, says=n > 0)
    if not counts.decided:
        return corrected_rate(counts.rest[0], n, errors, confidence)
    numbers, weights = _numbers(counts, errors)
    spread = 5 * math.sqrt(0.25 / n)
    ends = max(float(numbers[0]) / n - spread, 1e-9), min(float(numbers[-1]) / n + spread, 1 - 1e-9)
    rates = np.linspace(*ends, 2 * GRID)
    low, high = densest(rates, _mixture(rates, numbers, weights, n), confidence)
    low, high = (0.0 if low == ends[0] < 1e-6 else low), (1.0 if high == ends[1] > 1 - 1e-6 else high)
    rate = _expected(counts, errors)
    if high - low >= WIDEST or math.isnan(rate):
        return CorrectedRate(math.nan, low, high, says=False)
    return CorrectedRate(rate, min(low, rate), max(high, rate), says=True)


def _expected(counts: ReviewedCounts, errors: ErrorRates) -> float:
    """Share of atypical figures with what the others hold on average; NaN where the classifier tells nothing."""
    rate = rogan_gladen(counts.called[0] / sum(counts.called), errors.sensitivity, errors.specificity)
    one, other = _values(np.array([rate]), np.array([errors.sensitivity]), np.array([1 - errors.specificity]))
    return (counts.atypical + counts.rest[0] * float(one[0]) + counts.rest[1] * float(other[0])) / counts.figures


def _values(rates: FloatArray, hits: FloatArray, false: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Probability of atypical of a figure that was called atypical, and of one that was called normal."""
    called, missed = rates * hits, rates * (1 - hits)
    return (
        called / np.maximum(called + (1 - rates) * false, 1e-300),
        missed / np.maximum(missed + (1 - rates) * (1 - false), 1e-300),
    )


def _numbers(counts: ReviewedCounts, errors: ErrorRates) -> tuple[FloatArray, FloatArray]:
    """Numbers of atypical figures that are possible, ascending, and the weight of each."""
    rates, weighed, hits, false = posterior(counts.called[0], sum(counts.called), errors)
    held = np.cumsum(weighed.ravel())
    # Evenly spaced in the cumulated weight: less noise than independent draws.
    places = np.searchsorted(held, (np.arange(SAMPLES) + 0.5) / SAMPLES * held[-1])
    row, column = np.divmod(np.minimum(places, len(held) - 1), len(hits))
    one, other = _values(rates[row], hits[column], false[column])
    random = generator(0, "reviewed-rate")
    total = counts.atypical + random.binomial(counts.rest[0], one) + random.binomial(counts.rest[1], other)
    edges = np.unique(np.linspace(total.min(), total.max() + 1, min(STEPS, int(np.ptp(total)) + 1) + 1))
    weights, _ = np.histogram(total, edges)
    sums, _ = np.histogram(total, edges, weights=total)
    kept = weights > 0
    return sums[kept] / weights[kept], weights[kept] / SAMPLES


def _mixture(rates: FloatArray, numbers: FloatArray, weights: FloatArray, figures: int) -> FloatArray:
    """Density of the rate at each of ``rates``, up to a factor."""
    from scipy.special import betaln

    a, b = numbers[:, None] + 1, figures - numbers[:, None] + 1
    logs = (a - 1) * np.log(rates) + (b - 1) * np.log1p(-rates) - betaln(a, b)
    return (weights[:, None] * np.exp(logs - logs.max())).sum(0)
