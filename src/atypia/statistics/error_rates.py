"""A classifier's sensitivity and specificity in a laboratory, and case, that it never saw: what is known of them, as a distribution.

Φ⁻¹(sensitivity) and Φ⁻¹(1 − specificity) of an unseen laboratory follow a bivariate t distribution (:class:`ErrorRates`),
pooled from laboratories that were left out of a training (:func:`pooled_errors`).

Sources: DerSimonian and Laird, Controlled Clinical Trials 7, 1986 (spread between laboratories); Higgins, Thompson and
Spiegelhalter, JRSS A 172, 2009 (what an unseen one may have).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
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
NODES: Final = 81
"""Points along each of the two axes on which the distribution of the errors is integrated."""
REACH: Final = 4.5
"""The outermost of them, as u of a = sinh u: 45 standard deviations. A count that hardly fits the known errors (3 of 300) is
explained out there, where the t distribution still has weight and equally likely draws have none."""


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

    def nodes(self, along: int = NODES) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Sensitivities, shares of false positives, and the weight of each pair; each of shape (k,), weights adding up to 1.

        With x = μ + σ a and y = ν + τ (ϱ a + √(1 − ϱ²) b) on the scale of Φ⁻¹, (a, b) has the density (1 + (a² + b²) / ν)
        to the power −(ν + 2) / 2. It is integrated on a grid that is even in u of a = sinh u: dense in the middle, sparse far out.

        Args:
            along: Points along each axis.
        """
        return _nodes(self, along)

    def limits(self, confidence: float = CONFIDENCE) -> tuple[tuple[float, float], tuple[float, float]]:
        """Between what the sensitivity and the specificity of an unseen laboratory lie."""
        from scipy.special import ndtr, ndtri, stdtrit

        tail = (1 + confidence) / 2
        far = float(ndtri(tail) if math.isinf(self.freedom) else stdtrit(self.freedom, tail))
        found = [
            (float(ndtr(ndtri(typical) - spread * far)), float(ndtr(ndtri(typical) + spread * far)))
            for typical, spread in zip((self.sensitivity, self.specificity), self.spread, strict=True)
        ]
        return found[0], found[1]


@lru_cache(maxsize=64)
def _nodes(errors: ErrorRates, along: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    from scipy.special import ndtr, ndtri

    u = np.linspace(-REACH, REACH, along)
    a, b = (axis.ravel() for axis in np.meshgrid(np.sinh(u), np.sinh(u)))
    square, freedom = a**2 + b**2, errors.freedom
    density = np.exp(-square / 2) if math.isinf(freedom) else (1 + square / freedom) ** (-(freedom + 2) / 2)
    weights = density * np.outer(np.cosh(u), np.cosh(u)).ravel()
    kept = weights > 1e-13 * weights.max()
    a, b, weights = a[kept], b[kept], weights[kept]
    false = errors.together * a + math.sqrt(1 - errors.together**2) * b
    return (
        ndtr(ndtri(errors.sensitivity) + errors.spread[0] * a),
        ndtr(ndtri(1 - errors.specificity) + errors.spread[1] * false),
        weights / weights.sum(),
    )


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
