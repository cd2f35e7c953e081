"""How far a laboratory's scores lie from those that a classifier was fitted on: an empirical Bayes estimate.

Scores (logits) of either class are taken as normal. The *reference* are the figures that a decision was fitted on. In a
laboratory that the classifier never saw, class c has its mean shifted by δ_c and its standard deviation multiplied by
r_c, both in units of the reference. Over laboratories

    (δ₀, δ₁) ~ N(0, τ² [[1, ρ], [ρ, 1]]),    log r_c ~ N(0, υ²),

whose τ, ρ and υ (:class:`LaboratoryPrior`) are estimated from laboratories that were left out of trainings. From few
labelled figures of one laboratory follow the posterior means

    log r_c  = log r̂_c · υ² / (υ² + 1 / (2 (m_c − 1))),
    δ        = (Σ⁻¹ + W)⁻¹ W δ̂,    Σ = τ² [[1, ρ], [ρ, 1]],  W = diag(m_c / r_c²),

with δ̂ and r̂ as observed and m_c the number of independent figures that class c is worth: figures of one case resemble
each other. Without figures nothing is shifted; with ever more of them the estimate becomes the laboratory's own.

The shrunken means: Efron and Morris, JASA 68, 1973; Morris, JASA 78, 1983. Figures that a cluster is worth: Kish, Survey
Sampling, 1965, sec. 5.4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must
from atypia.statistics.confusion import FloatArray, check_binary, check_length
from atypia.statistics.resampling import case_codes

MOST_RATIO: Final = 4.0
"""Largest ratio of standard deviations that is believed, and its inverse the smallest: of few or equal scores."""
LOCATIONS: Final = tuple(float(x) for x in np.geomspace(0.02, 2.0, 41))
TOGETHER: Final = (0.0, 0.25, 0.5, 0.75, 0.9)
SCALES: Final = tuple(float(x) for x in np.geomspace(0.01, 1.0, 41))
"""Values among which the likeliest prior is looked for."""


@dataclass(frozen=True)
class ClassScores:
    """The scores of one class.

    Attributes:
        mean: Their mean; 0 where there are none.
        sd: Their standard deviation (ddof 1), ≥ 0; NaN where there are fewer than two.
        figures: How many there are.
        worth: How many independent figures they are worth, in [0, figures].
    """

    mean: float
    sd: float
    figures: int
    worth: float


Classes = tuple[ClassScores, ClassScores]
"""Of class 0 and class 1."""


@dataclass(frozen=True)
class LaboratoryPrior:
    """How much laboratories differ.

    Attributes:
        location: τ, standard deviation of a class's shift, in standard deviations of the reference, ≥ 0.
        together: ρ, correlation of the two classes' shifts, in [0, 1).
        scale: υ, standard deviation of the logarithm of a class's ratio of standard deviations, ≥ 0.
        case_share: Share of the scores' variance within a class that lies between cases, in [0, 1].

    Raises:
        InputError: A value is out of range.
    """

    location: float
    together: float
    scale: float
    case_share: float

    def __post_init__(self) -> None:
        for name, high in (("location", math.inf), ("together", 1.0), ("scale", math.inf), ("case_share", 1.0)):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if not number or not 0 <= value <= high or (name == "together" and value == 1):
                raise InputError(must(f"prior {name}", f"from 0 to {high:g}", value, "estimate it again"))


class AffineMap(NamedTuple):
    """The map ``factor · score + offset`` from a laboratory's scores to the reference's."""

    factor: float
    offset: float


NO_SHIFT: Final = AffineMap(1.0, 0.0)


@dataclass(frozen=True)
class Shift:
    """A laboratory's classes in terms of the reference.

    Attributes:
        shifts: δ of class 0 and 1, in standard deviations of the reference.
        ratios: r of class 0 and 1.
        errors: Posterior standard deviation of each δ.
    """

    shifts: tuple[float, float]
    ratios: tuple[float, float]
    errors: tuple[float, float]


def class_scores(
    labels: npt.ArrayLike, scores: npt.ArrayLike, cases: Sequence[Any] | npt.NDArray[Any] | None, case_share: float
) -> Classes:
    """Mean, standard deviation and worth of the scores of either class.

    n figures in cases of k₁, k₂, … of them are worth n² / (Σ k² · ι + n (1 − ι)) independent ones, with ι the share of
    the variance that lies between cases: all n where ι = 0 or every case has one, as many as there are cases where
    ι = 1 and all have the same number.

    Args:
        labels: Shape (n,), 0 or 1.
        scores: Shape (n,), finite.
        cases: Shape (n,), the case of each; None: each is its own.
        case_share: ι, in [0, 1].

    Raises:
        InputError: Shapes differ, or a value is not finite or no label.

    >>> class_scores([0, 0, 1], [1.0, 3.0, 4.0], ["a", "a", "a"], 1.0)[0]
    ClassScores(mean=2.0, sd=1.4142135623730951, figures=2, worth=1.0)
    """
    y, z = check_binary("labels", labels), np.asarray(scores, dtype=np.float64)
    check_length(y, "scores", z)
    if not bool(np.isfinite(z).all()):
        raise InputError(must("scores", "finite", "NaN or infinity", "find out which figure gave it"))
    codes = np.arange(len(y)) if cases is None else case_codes(cases, len(y))[0]
    found = []
    for chosen in (~y, y):
        # Sorted, as a sum in another order differs in its last digit and the order of figures must not matter.
        own, n = np.sort(z[chosen]), int(chosen.sum())
        sizes = np.unique(codes[chosen], return_counts=True)[1].astype(np.float64)
        worth = n**2 / (float((sizes**2).sum()) * case_share + n * (1 - case_share)) if n else 0.0
        found.append(
            ClassScores(float(own.mean()) if n else 0.0, float(own.std(ddof=1)) if n > 1 else math.nan, n, worth)
        )
    return found[0], found[1]


def check_reference(reference: Classes) -> Classes:
    """The reference, which must hold two classes that spread, the second above the first.

    Raises:
        InputError: It does not.
    """
    zero, one = reference
    spread = all(math.isfinite(c.mean) and math.isfinite(c.sd) and c.sd > 0 for c in reference)
    if not spread or one.mean <= zero.mean:
        got = f"means {zero.mean:g} and {one.mean:g}, standard deviations {zero.sd:g} and {one.sd:g}"
        fix = "choose a classifier that tells the classes apart on the figures that it was fitted on"
        raise InputError(must("reference", "two classes that spread, atypical above normal", got, fix))
    return reference


def observed(reference: Classes, own: Classes) -> tuple[FloatArray, FloatArray, FloatArray]:
    """δ̂, log r̂ and worth of both classes, each of shape (2,); δ̂ is 0 without figures, log r̂ 0 with fewer than two."""
    limit = math.log(MOST_RATIO)
    shifts, logs = np.zeros(2), np.zeros(2)
    for c, (base, mine) in enumerate(zip(reference, own, strict=True)):
        if mine.figures:
            shifts[c] = (mine.mean - base.mean) / base.sd
        if mine.figures > 1:
            logs[c] = float(np.clip(math.log(mine.sd / base.sd), -limit, limit)) if mine.sd > 0 else -limit
    return shifts, logs, np.array([c.worth for c in own])


def posterior(reference: Classes, own: Classes, prior: LaboratoryPrior) -> Shift:
    """Where a laboratory's classes lie, from few figures and what is known of other laboratories.

    Args:
        reference: Scores of the figures that the decision was fitted on.
        own: Scores of the laboratory's labelled figures.
        prior: How much laboratories differ.

    Raises:
        InputError: The reference has no two classes.
    """
    check_reference(reference)
    shifts, logs, worth = observed(reference, own)
    degrees = np.maximum(worth - 1, 0.0)
    between = prior.scale**2
    # υ² / (υ² + 1 / (2 d)), written so that d = 0 gives 0.
    ratios = np.exp(logs * (2 * degrees * between / (2 * degrees * between + 1)))
    if prior.location == 0:
        return Shift((0.0, 0.0), (float(ratios[0]), float(ratios[1])), (0.0, 0.0))
    rho = prior.together
    weight = worth / ratios**2
    inverse = np.array([[1, -rho], [-rho, 1]]) / (prior.location**2 * (1 - rho**2))
    covariance = np.linalg.inv(inverse + np.diag(weight))
    found, errors = covariance @ (weight * shifts), np.sqrt(np.diag(covariance))
    return Shift(
        (float(found[0]), float(found[1])), (float(ratios[0]), float(ratios[1])), (float(errors[0]), float(errors[1]))
    )


def affine(reference: Classes, shift: Shift) -> AffineMap | None:
    """The map from a laboratory's scores to the reference's.

    It leads the score at which the laboratory's classes are equally likely to the reference's, and gives the log
    likelihood ratio of the classes the same slope there: so a probability that was fitted on the reference is one of
    the laboratory's, and a threshold parts its classes as the old one parted the reference's.

    Args:
        reference: The reference.
        shift: Where the laboratory's classes lie.

    Returns:
        The map; None where the laboratory's normal figures do not lie below its atypical ones.
    """
    if shift.shifts == (0.0, 0.0) and shift.ratios == (1.0, 1.0):
        return NO_SHIFT
    sds = np.array([c.sd for c in reference])
    means = np.array([c.mean for c in reference])
    base = _crossing(float(means[0]), float(means[1]), float(sds[0]), float(sds[1]))
    moved, spread = means + np.array(shift.shifts) * sds, sds * np.array(shift.ratios)
    own = _crossing(float(moved[0]), float(moved[1]), float(spread[0]), float(spread[1]))
    if base is None or own is None:
        return None
    factor = own[1] / base[1]
    return AffineMap(factor, base[0] - factor * own[0])


def _crossing(low: float, high: float, sd_low: float, sd_high: float) -> tuple[float, float] | None:
    """The score between two normal densities at which they are equal, and the slope of their log ratio there.

    log N(x; high) − log N(x; low) = a x² + b x + c; None where it has no root between the means at which it rises.
    """
    if not low < high:
        return None
    a = (sd_low**-2 - sd_high**-2) / 2
    b = high / sd_high**2 - low / sd_low**2
    c = (low / sd_low) ** 2 / 2 - (high / sd_high) ** 2 / 2 + math.log(sd_low / sd_high)
    if abs(a) * (high - low) < 1e-9 * abs(b):
        x = -c / b
    else:
        inside = b**2 - 4 * a * c
        if inside <= 0:
            return None
        x = (-b + math.sqrt(inside)) / (2 * a)  # the root at which the ratio rises: 2 a x + b = √inside
    return (x, 2 * a * x + b) if low < x < high else None


@dataclass(frozen=True)
class Laboratory:
    """A laboratory that was left out of a training.

    Attributes:
        name: What it is called.
        reference: Scores of the training's own validation figures.
        own: Scores of the laboratory's figures.
    """

    name: str
    reference: Classes
    own: Classes


def fit_prior(laboratories: Sequence[Laboratory], case_share: float, strength: float = 1.0) -> LaboratoryPrior:
    """The likeliest prior of laboratories that were left out, on a grid; its means are 0.

    The marginal likelihood of (δ̂₀, δ̂₁) is N(0, Σ + W⁻¹), of log r̂_c N(0, υ² + 1 / (2 (m_c − 1))).

    Args:
        laboratories: At least two.
        case_share: Share of the variance between cases, by which the laboratories' worth was counted.
        strength: By how much the prior's precision is multiplied, > 0: more than 1 moves decisions less.

    Raises:
        InputError: There are fewer than two laboratories.
    """
    if len(laboratories) < 2 or not strength > 0:
        got = f"{len(laboratories)} laboratories, strength {strength:g}"
        raise InputError(must("prior", "estimated from two laboratories or more", got, "leave more laboratories out"))
    seen = [observed(lab.reference, lab.own) for lab in laboratories]
    degrees = [np.maximum(worth - 1, 0.5) for _, _, worth in seen]

    def located(tau: float, rho: float) -> float:
        sigma = tau**2 * np.array([[1, rho], [rho, 1]])
        total = 0.0
        for shifts, logs, worth in seen:
            spread = sigma + np.diag(np.exp(2 * logs) / np.maximum(worth, 1e-9))
            total -= float(shifts @ np.linalg.solve(spread, shifts)) + float(np.linalg.slogdet(spread)[1])
        return total

    def scaled(upsilon: float) -> float:
        pairs = [(logs, upsilon**2 + 1 / (2 * d)) for (_, logs, _), d in zip(seen, degrees, strict=True)]
        return -sum(float((logs**2 / v + np.log(v)).sum()) for logs, v in pairs)

    tau, rho = max(((t, r) for t in LOCATIONS for r in TOGETHER), key=lambda pair: located(*pair))
    return LaboratoryPrior(tau / math.sqrt(strength), rho, max(SCALES, key=scaled) / math.sqrt(strength), case_share)


def between_cases(groups: Sequence[tuple[npt.ArrayLike, Sequence[Any] | npt.NDArray[Any]]]) -> float:
    """Share of the variance within groups that lies between cases, by analysis of variance, in [0, 1].

    The intraclass correlation of a one-way layout with unequal groups, (MSB − MSW) / (MSB + (k₀ − 1) MSW) with
    k₀ = (N − Σ k² / N) / (C − 1) for C cases (Donner, International Statistical Review 54, 1986, eq. 2.2), whose sums of
    squares are pooled over groups.

    Args:
        groups: For each group (a class of a laboratory) the scores, shape (n,), and their cases.

    Returns:
        The share; 0 where no group has both several cases and a case with several figures.
    """
    between = within = size = 0.0
    free_between = free_within = 0
    for scores, cases in groups:
        z = np.asarray(scores, dtype=np.float64)
        codes, count = case_codes(cases, len(z))
        if count < 2 or len(z) == count:
            continue
        sizes = np.bincount(codes, minlength=count).astype(np.float64)
        means = np.bincount(codes, z, count) / sizes
        between += float((sizes * (means - z.mean()) ** 2).sum())
        within += float(((z - means[codes]) ** 2).sum())
        size += len(z) - float((sizes**2).sum()) / len(z)
        free_between += count - 1
        free_within += len(z) - count
    if not free_between or not free_within or within == 0:
        return 0.0
    msb, msw, k = between / free_between, within / free_within, size / free_between
    return float(np.clip((msb - msw) / (msb + (k - 1) * msw), 0.0, 1.0))
