"""The share of atypical figures in a case, corrected for the errors of the classifier that counted them.

A classifier with sensitivity s and specificity c calls a share q = π s + (1 − π)(1 − c) of figures atypical where π are:
with 0.8 and 0.9 a true rate of 10 % reads 17 %. Solved for π this is the estimate of Rogan and Gladen,

    π = (q + c − 1) / (s + c − 1).

Neither s nor c is known for the laboratory at hand: they differ between laboratories by more than the chance of which
figures they were counted on. What is known of them is a distribution (:mod:`atypia.statistics.error_rates`). The probability
of the count at each π is averaged over it; the interval is the shortest set of π that holds 95 % of that
(every π being equally likely beforehand). So a count that hardly fits the errors that are known (none atypical in a
hundred) tells of the errors as well.

From calibrated probabilities instead of counts: the π of the largest likelihood (:func:`likeliest_rate`), the fixed point
of the iteration of Saerens et al., and with a known share in the population the mean of the probabilities moved to it
(:func:`expected_rate`).

Sources: Rogan and Gladen, American Journal of Epidemiology 107, 1978, 71-76; Lang and Reiczigel, Preventive Veterinary
Medicine 113, 2014 (the interval must hold the uncertainty of s and c); Saerens, Latinne and Decaestecker, Neural Computation 14, 2002, eq. 2.4 and 2.9 (another prior).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must
from atypia.statistics.confusion import FloatArray
from atypia.statistics.error_rates import CONFIDENCE, ErrorRates

LEAST_DISTANCE: Final = 0.2
"""Sensitivity + specificity − 1 below which a count says nothing of the rate."""
WIDEST: Final = 0.9
"""Width of an interval from which it says nothing."""
MOST_FIGURES: Final = 20_000
"""A larger case counts as one of this size with the same share, where the errors have a spread: that is then all of the
uncertainty, and the count's own would be narrower than the distance of the points."""
COARSE: Final = 41
"""Rates, from 0 to 1, that are tried first, to see where they are likely."""
GRID: Final = 201
"""Rates that are tried there."""


@dataclass(frozen=True)
class CorrectedRate:
    """A rate corrected for the classifier's errors.

    Attributes:
        rate: Rogan and Gladen's estimate, kept within [0, 1]; NaN where nothing can be said.
        low: Lower end of its interval; NaN without figures.
        high: Upper end.
        says: Whether the count says anything of the rate.
    """

    rate: float
    low: float
    high: float
    says: bool


def exact_interval(successes: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Exact confidence interval of a proportion (Clopper and Pearson 1934).

    The bounds are the quantiles α/2 of Beta(k, n - k + 1) and 1 - α/2 of Beta(k + 1, n - k), with
    k successes of n trials and α = 1 - ``confidence``.

    Args:
        successes: k, from 0 to n.
        trials: n, at least 0.
        confidence: In (0, 1).

    Returns:
        Lower and upper bound, in [0, 1]; NaN without trials.

    Raises:
        InputError: Counts or confidence are out of range.
    """
    from scipy.special import betaincinv

    if not 0 <= successes <= trials:
        raise InputError(must("successes", f"from 0 to {trials}", successes, "count again"))
    if not 0 < confidence < 1:
        raise InputError(must("confidence", "between 0 and 1", confidence, "pass 0.95"))
    if trials == 0:
        return math.nan, math.nan
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else float(betaincinv(successes, trials - successes + 1, tail))
    high = 1.0 if successes == trials else float(betaincinv(successes + 1, trials - successes, 1 - tail))
    return low, high


def rogan_gladen(called: float, sensitivity: float, specificity: float) -> float:
    """The true rate of which a classifier calls a share ``called`` atypical, kept within [0, 1].

    NaN where sensitivity + specificity ≤ 1: then more calls do not mean more atypical figures.

    >>> round(rogan_gladen(0.17, 0.8, 0.9), 10)
    0.1
    """
    distance = sensitivity + specificity - 1
    return min(max((called + specificity - 1) / distance, 0.0), 1.0) if distance > 0 else math.nan


def corrected_rate(atypical: int, figures: int, errors: ErrorRates, confidence: float = CONFIDENCE) -> CorrectedRate:
    """The rate of a case corrected for the classifier's errors, with an interval of sampling and of these errors.

    Args:
        atypical: Figures called atypical, from 0 to ``figures``.
        figures: Figures that were classified.
        errors: What is known of the classifier where it was not trained.
        confidence: In (0, 1).

    Returns:
        The estimate. It says nothing where the classifier hardly tells the classes apart (:data:`LEAST_DISTANCE`) or
        the interval is as wide as :data:`WIDEST`.

    Raises:
        InputError: Counts or confidence are out of range.

    >>> found = corrected_rate(17, 100, ErrorRates(0.8, 0.9))
    >>> round(found.rate, 3), round(found.low, 3), round(found.high, 3)
    (0.1, 0.011, 0.211)
    """
    if not 0 <= atypical <= figures:
        raise InputError(must("atypical", f"from 0 to {figures}", atypical, "count again"))
    if not 0 < confidence < 1:
        raise InputError(must("confidence", "between 0 and 1", confidence, "pass 0.95"))
    if figures == 0:
        return CorrectedRate(math.nan, math.nan, math.nan, says=False)
    rates, weighed = posterior(atypical, figures, errors)[:2]
    low, high = densest(rates, weighed.sum(1), confidence)
    rate = rogan_gladen(atypical / figures, errors.sensitivity, errors.specificity)
    says = errors.distance >= LEAST_DISTANCE and high - low < WIDEST
    return (
        CorrectedRate(rate, min(low, rate), max(high, rate), says) if says else CorrectedRate(math.nan, low, high, says)
    )


def posterior(atypical: int, figures: int, errors: ErrorRates) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Distribution of a case's rate and of the classifier's errors in it, after a count, every rate being equally likely before.

    Args:
        atypical: Figures called atypical.
        figures: Figures that were classified, at least 1.
        errors: What is known of the classifier where it was not trained.

    Returns:
        Rates, shape (:data:`GRID`,), evenly spaced; the weight of each with each pair of errors, shape (:data:`GRID`, k), up to a common
        factor; sensitivities and shares of false positives, shape (k,).
    """
    count: float = atypical
    if figures > MOST_FIGURES and max(errors.spread) > 0:
        count, figures = atypical * (MOST_FIGURES / figures), MOST_FIGURES
    hits, false, prior = errors.nodes()
    rates = np.linspace(0, 1, COARSE)
    weighed = likelihood(count, figures, rates, hits, false) * prior
    most = weighed.max(0)
    kept = most > 1e-10 * most.max()
    hits, false, prior = hits[kept], false[kept], prior[kept]
    rates = near_peak(rates, weighed.sum(1))
    return rates, likelihood(count, figures, rates, hits, false) * prior, hits, false


def likelihood(atypical: float, figures: int, rates: FloatArray, hits: FloatArray, false: FloatArray) -> FloatArray:
    """Probability of a count at each rate (rows) under each pair of errors (columns), up to a common factor."""
    from scipy.special import xlog1py, xlogy

    share = rates[:, None] * hits + (1 - rates[:, None]) * false
    logs = xlogy(atypical, share) + xlog1py(figures - atypical, -share)
    return np.exp(logs - logs.max())


def near_peak(rates: FloatArray, density: FloatArray) -> FloatArray:
    """:data:`GRID` evenly spaced rates where the density is not negligible: a large case has a narrow peak."""
    near = np.flatnonzero(density > 1e-7 * density.max())
    first, last = max(int(near[0]) - 1, 0), min(int(near[-1]) + 1, len(rates) - 1)
    return np.linspace(rates[first], rates[last], GRID)


def densest(rates: FloatArray, density: FloatArray, confidence: float) -> tuple[float, float]:
    """Ends of the shortest set of rates, evenly spaced, that holds this share of the density."""
    fine = np.linspace(rates[0], rates[-1], 20 * len(rates))
    values = np.interp(fine, rates, density)
    order = np.argsort(-values, kind="stable")
    held = np.cumsum(values[order])
    inside = order[: int(np.searchsorted(held, confidence * held[-1])) + 1]
    return float(fine[inside.min()]), float(fine[inside.max()])


def likeliest_rate(probabilities: npt.ArrayLike, prior: float, weights: npt.ArrayLike | None = None) -> float:
    """The rate under which calibrated probabilities are likeliest: the fixed point of Saerens et al., eq. 2.9.

    The likelihood Π (π p / π₀ + (1 − π)(1 − p) / (1 − π₀)) is concave in π: its maximum is found by halving.

    Args:
        probabilities: Of atypical, shape (n,), in [0, 1]; n ≥ 1.
        prior: π₀, share of atypical figures among those that the calibration was fitted on, in (0, 1).
        weights: How often each counts, shape (n,); None: once.

    Raises:
        InputError: There is no figure, or a value is out of range.

    >>> likeliest_rate([0.9, 0.1], 0.5)
    0.5
    """
    high, low, w = _ratios(probabilities, prior, weights)
    ends = [0.0, 1.0]

    def slope(rate: float) -> float:
        return float((w * (high - low) / np.maximum(rate * high + (1 - rate) * low, 1e-300)).sum())

    if slope(1e-9) <= 0:
        return 0.0
    if slope(1 - 1e-9) >= 0:
        return 1.0
    for _ in range(50):
        middle = (ends[0] + ends[1]) / 2
        gain = slope(middle)
        if gain == 0:
            return middle
        ends[gain < 0] = middle
    return (ends[0] + ends[1]) / 2


def expected_rate(
    probabilities: npt.ArrayLike, prior: float, prevalence: float, weights: npt.ArrayLike | None = None
) -> float:
    """Mean of calibrated probabilities that were moved to a known share in the population (Saerens et al., eq. 2.4).

    Args:
        probabilities: As for :func:`likeliest_rate`.
        prior: π₀ of the calibration, in (0, 1).
        prevalence: Share of atypical figures in the population that the case comes from, in (0, 1).
        weights: How often each counts, shape (n,); None: once.

    Raises:
        InputError: There is no figure, or a value is out of range.

    >>> expected_rate([0.5, 0.5], 0.5, 0.25)
    0.25
    """
    if not 0 < prevalence < 1:
        raise InputError(must("prevalence", "between 0 and 1", prevalence, "give a share: 0.2 for 20 %"))
    high, low, w = _ratios(probabilities, prior, weights)
    moved = prevalence * high / (prevalence * high + (1 - prevalence) * low)
    return float((w * moved).sum() / w.sum())


def _ratios(p: npt.ArrayLike, prior: float, weights: npt.ArrayLike | None) -> tuple[FloatArray, FloatArray, FloatArray]:
    """p / π₀, (1 − p) / (1 − π₀) and weights."""
    values = np.asarray(p, dtype=np.float64)
    w = np.ones_like(values) if weights is None else np.asarray(weights, dtype=np.float64)
    good = values.ndim == 1 and values.shape == w.shape and bool(((values >= 0) & (values <= 1) & (w >= 0)).all())
    if not good or not w.sum() > 0:
        raise InputError(must("probabilities", "at least one, from 0 to 1, with weights of at least 0", values.shape,
                              "pass those of classified figures"))  # fmt: skip
    if not 0 < prior < 1:
        raise InputError(must("prior", "between 0 and 1", prior, "give the share of the calibration's figures"))
    return values / prior, (1 - values) / (1 - prior), w
