"""The share of atypical figures in a case, corrected for the errors of the classifier that counted them.

A classifier with sensitivity s and specificity c calls a share q = π s + (1 − π)(1 − c) of figures atypical where π are:
with 0.8 and 0.9 a true rate of 10 % reads 17 %. Solved for π this is the estimate of Rogan and Gladen,

    π = (q + c − 1) / (s + c − 1).

Neither s nor c is known for the laboratory at hand: they differ between laboratories by more than the chance of which
figures they were counted on. Here Φ⁻¹(s) and Φ⁻¹(1 − c) of an unseen laboratory follow a bivariate t distribution
(:class:`ErrorRates`), pooled from laboratories that were left out of a training (:func:`pooled_errors`). The probability
of the count at each π is averaged over that distribution; the interval is the shortest set of π that holds 95 % of it
(every π being equally likely beforehand). So a count that hardly fits the errors that are known (none atypical in a
hundred) tells of the errors as well.

From calibrated probabilities instead of counts: the π of the largest likelihood (:func:`likeliest_rate`), the fixed point
of the iteration of Saerens et al., and with a known share in the population the mean of the probabilities moved to it
(:func:`expected_rate`).

Sources: Rogan and Gladen, American Journal of Epidemiology 107, 1978, 71-76; Lang and Reiczigel, Preventive Veterinary
Medicine 113, 2014 (the interval must hold the uncertainty of s and c); DerSimonian and Laird, Controlled Clinical Trials 7,
1986 (spread between laboratories); Higgins, Thompson and Spiegelhalter, JRSS A 172, 2009 (what an unseen one may have);
Saerens, Latinne and Decaestecker, Neural Computation 14, 2002, eq. 2.4 and 2.9 (another prior).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must
from atypia.statistics.confusion import FloatArray

CONFIDENCE: Final = 0.95
TOGETHER: Final = 0.75
"""Correlation of the shifts of sensitivity and false positives between laboratories: most of it moves both classes' scores
one way (``docs/results/calibration.md``). Too few laboratories are left out anywhere to estimate it for one model."""
BETWEEN_CASES: Final = 0.2
"""Standard deviation between cases of one laboratory, on the same scale: 4 % of the variance of scores within a class."""
LEAST_DISTANCE: Final = 0.2
"""Sensitivity + specificity − 1 below which a count says nothing of the rate."""
WIDEST: Final = 0.9
"""Width of an interval from which it says nothing."""
DRAWS: Final = 1024
GRID: Final = 201
"""Points at which rates, from 0 to 1, are tried."""


@dataclass(frozen=True)
class LaboratoryErrors:
    """What a classifier gave in one laboratory.

    Attributes:
        name: What it is called.
        atypical: Atypical figures, at least 1.
        normal: Normal figures, at least 1.
        sensitivity: Share of the atypical ones that were called so, in [0, 1].
        specificity: Share of the normal ones that were called so, in [0, 1].
    """

    name: str
    atypical: int
    normal: int
    sensitivity: float
    specificity: float

    def __post_init__(self) -> None:
        if min(self.atypical, self.normal) < 1 or not (0 <= self.sensitivity <= 1 and 0 <= self.specificity <= 1):
            got = f"{self.atypical} and {self.normal} figures, {self.sensitivity:g} and {self.specificity:g}"
            raise InputError(must(self.name, "a laboratory with figures of both classes and shares from 0 to 1", got,
                                  "leave it out"))  # fmt: skip


@dataclass(frozen=True)
class ErrorRates:
    """Sensitivity and specificity in a laboratory, and case, that the classifier never saw.

    Attributes:
        sensitivity: Typical one, in (0, 1).
        specificity: Typical one, in (0, 1).
        spread: Standard deviations of Φ⁻¹(sensitivity) and of Φ⁻¹(1 − specificity) about that, ≥ 0.
        together: Their correlation, in [−1, 1].
        freedom: Degrees of freedom of the t distribution, ≥ 1; infinite for the normal one.
    """

    sensitivity: float
    specificity: float
    spread: tuple[float, float] = (0.0, 0.0)
    together: float = TOGETHER
    freedom: float = math.inf

    def __post_init__(self) -> None:
        known = 0 < self.sensitivity < 1 and 0 < self.specificity < 1
        if not known or min(self.spread) < 0 or not -1 <= self.together <= 1 or not self.freedom >= 1:
            got = (
                f"{self.sensitivity:g}, {self.specificity:g}, spread {self.spread}, {self.together:g}, {self.freedom:g}"
            )
            fix = "estimate them from figures of both classes"
            raise InputError(must("error rates", "between 0 and 1 with a spread of at least 0", got, fix))

    @property
    def distance(self) -> float:
        """Sensitivity + specificity − 1 (Youden's J): 0 for a coin, 1 without errors."""
        return self.sensitivity + self.specificity - 1

    def draws(self, count: int = DRAWS) -> tuple[FloatArray, FloatArray]:
        """Equally likely pairs, each of shape (count,): sensitivities and shares of false positives, the same at every call.

        Points of an additive recurrence (Roberts 2018) in place of random numbers: they fill the square evenly.
        """
        from scipy.special import chdtri, ndtr, ndtri

        root = 1.2207440846057596  # of x⁴ = x + 1
        steps = np.arange(1, count + 1)[:, None] / root ** np.arange(1, 4)
        u = np.clip((0.5 + steps) % 1, 0.5 / count, 1 - 0.5 / count)
        scale = 1.0 if math.isinf(self.freedom) else np.sqrt(self.freedom / chdtri(self.freedom, u[:, 2]))
        one, other = ndtri(u[:, 0]), ndtri(u[:, 1])
        false = self.together * one + math.sqrt(1 - self.together**2) * other
        return (
            ndtr(ndtri(self.sensitivity) + self.spread[0] * scale * one),
            ndtr(ndtri(1 - self.specificity) + self.spread[1] * scale * false),
        )

    def limits(self, confidence: float = CONFIDENCE) -> tuple[tuple[float, float], tuple[float, float]]:
        """Between what the sensitivity and the specificity of an unseen laboratory lie."""
        hits, false = self.draws()
        tails = [(1 - confidence) / 2, (1 + confidence) / 2]
        low, high = np.quantile(hits, tails)
        least, most = np.quantile(1 - false, tails)
        return (float(low), float(high)), (float(least), float(most))


@dataclass(frozen=True)
class KnownErrors:
    """What is known of a classifier's errors where it was not trained.

    Attributes:
        errors: Their distribution; None where nothing is known.
        prior: Share of atypical figures among those that the calibration was fitted on; None where it is not known.
        words: Where that is known from, or why it is not known.
    """

    errors: ErrorRates | None
    prior: float | None
    words: str


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
    hits, false = errors.draws()
    rates = np.linspace(0, 1, GRID)
    rates = near_peak(rates, likelihood(atypical, figures, rates, hits, false).mean(1))
    low, high = densest(rates, likelihood(atypical, figures, rates, hits, false).mean(1), confidence)
    rate = rogan_gladen(atypical / figures, errors.sensitivity, errors.specificity)
    says = errors.distance >= LEAST_DISTANCE and high - low < WIDEST
    return (
        CorrectedRate(rate, min(low, rate), max(high, rate), says) if says else CorrectedRate(math.nan, low, high, says)
    )


def likelihood(atypical: int, figures: int, rates: FloatArray, hits: FloatArray, false: FloatArray) -> FloatArray:
    """Probability of a count at each rate (rows) under each draw of the errors (columns), up to a common factor."""
    from scipy.special import xlog1py, xlogy

    share = rates[:, None] * hits + (1 - rates[:, None]) * false
    logs = xlogy(atypical, share) + xlog1py(figures - atypical, -share)
    return np.exp(logs - logs.max())


def near_peak(rates: FloatArray, density: FloatArray) -> FloatArray:
    """Evenly spaced rates where the density is not negligible: a large case has a narrow peak."""
    near = np.flatnonzero(density > 1e-7 * density.max())
    first, last = max(int(near[0]) - 1, 0), min(int(near[-1]) + 1, len(rates) - 1)
    return np.linspace(rates[first], rates[last], len(rates))


def densest(rates: FloatArray, density: FloatArray, confidence: float) -> tuple[float, float]:
    """Ends of the shortest set of rates, evenly spaced, that holds this share of the density."""
    fine = np.linspace(rates[0], rates[-1], 20 * len(rates))
    values = np.interp(fine, rates, density)
    order = np.argsort(-values, kind="stable")
    held = np.cumsum(values[order])
    inside = order[: int(np.searchsorted(held, confidence * held[-1])) + 1]
    return float(fine[inside.min()]), float(fine[inside.max()])


def pooled_errors(
    laboratories: Sequence[LaboratoryErrors], between_cases: float = BETWEEN_CASES, together: float = TOGETHER
) -> ErrorRates:
    """What an unseen laboratory may have, from laboratories that were left out of a training.

    On the scale of Φ⁻¹ each share, (k + ½) / (n + 1), has the sampling variance p (1 − p) / ((n + 1) φ²). The variance τ²
    between laboratories is DerSimonian and Laird's; an unseen laboratory's lies about the weighted mean with the variance
    τ² + 1 / Σ w and K − 1 degrees of freedom for K laboratories (Higgins et al. 2009, sec. 4), and a case of it by
    ``between_cases`` more.

    Args:
        laboratories: At least three.
        between_cases: Standard deviation between the cases of a laboratory.
        together: Correlation of the two shifts.

    Raises:
        InputError: There are fewer than three laboratories.
    """
    from scipy.special import ndtr, ndtri

    if len(laboratories) < 3:
        raise InputError(must("laboratories", "three that were left out, or more", len(laboratories), "leave more out"))
    centres, spreads = [], []
    for sizes, shares in (
        ([one.atypical for one in laboratories], [one.sensitivity for one in laboratories]),
        ([one.normal for one in laboratories], [1 - one.specificity for one in laboratories]),
    ):
        n = np.array(sizes, dtype=np.float64)
        p = (np.array(shares) * n + 0.5) / (n + 1)
        x = ndtri(p)
        within = p * (1 - p) / (n + 1) / (np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)) ** 2
        between = between_variance(x, within)
        weight = 1 / (within + between)
        centres.append(float(ndtr((weight * x).sum() / weight.sum())))
        spreads.append(math.sqrt(between + 1 / float(weight.sum()) + between_cases**2))
    freedom = float(len(laboratories) - 1)
    return ErrorRates(centres[0], 1 - centres[1], (spreads[0], spreads[1]), together, freedom)


def between_variance(values: npt.ArrayLike, variances: npt.ArrayLike) -> float:
    """DerSimonian and Laird's variance between groups, ≥ 0: (Q − (K − 1)) / (Σ w − Σ w² / Σ w), w = 1 / variance.

    Args:
        values: One a group, shape (K,), K ≥ 2.
        variances: Sampling variance of each, > 0.

    >>> between_variance([0.0, 2.0], [1.0, 1.0])
    1.0
    """
    x, v = np.asarray(values, dtype=np.float64), np.asarray(variances, dtype=np.float64)
    w = 1 / v
    q = float((w * (x - (w * x).sum() / w.sum()) ** 2).sum())
    return max((q - (len(x) - 1)) / float(w.sum() - (w**2).sum() / w.sum()), 0.0)


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
