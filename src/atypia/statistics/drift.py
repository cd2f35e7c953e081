"""How far a case lies from the laboratories of a training, measure by measure.

A *measure* is one number a figure: a colour, a sharpness, a novelty (:mod:`atypia.data.images.appearance`). Cases of one
laboratory differ, and laboratories differ; so a case is compared by its median m with the medians of the training's cases.
With [l, h] the range of these over all laboratories and s the spread between cases within a laboratory, the mean over those
of which it is known,

    distance = max(l − m, m − h, 0) / √(s² + e²),    e = 1.2533 · sd / √n,

where e is the standard error of the median of its own n figures (Kendall and Stuart, The Advanced Theory of Statistics 1,
sec. 10.10, for a normal distribution). The distance is 0 for a case like any of the training's. A measure may have a least
spread: a µm/px is the same in all cases of a scanner, and the next scanner's differs in the third digit without showing
another field.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must

LEVELS: Final = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
"""Of the quantiles that are kept of a laboratory's figures."""
LIKE: Final = 1.0
"""Distance up to which a case is like the training's."""
UNLIKE: Final = 2.0
"""Distance from which it is unlike them; between both it lies at the edge."""
FEWEST: Final = 8
"""Figures of a case whose median is counted, in a reference and in a report."""
NORMAL_IQR: Final = 1.349
"""Interquartile range of the normal distribution, in standard deviations."""


@dataclass(frozen=True)
class MeasureRange:
    """One measure in one laboratory.

    Attributes:
        figures: Quantiles of its figures at :data:`LEVELS`.
        cases: Lowest, quartiles and highest of its cases' medians, length 5.
    """

    figures: tuple[float, ...]
    cases: tuple[float, ...]

    def __post_init__(self) -> None:
        for name, values, length in (("figures", self.figures, len(LEVELS)), ("cases", self.cases, 5)):
            whole = len(values) == length and all(math.isfinite(v) for v in values)
            if not whole or list(values) != sorted(values):
                raise InputError(must(name, f"{length} finite quantiles that do not fall", values, "measure it again"))

    @property
    def between_cases(self) -> float:
        """Standard deviation between cases, by the quartiles of their medians."""
        return (self.cases[3] - self.cases[1]) / NORMAL_IQR

    @property
    def cases_known(self) -> bool:
        """Whether the spread between cases is known: the medians are those of cases, or no figure differs from another."""
        return self.cases[4] > self.cases[0] or self.figures[-1] == self.figures[0]

    @property
    def between_figures(self) -> float:
        """Standard deviation between figures, by their quartiles."""
        return (self.figures[4] - self.figures[2]) / NORMAL_IQR


@dataclass(frozen=True)
class MeasureDrift:
    """How far one measure of a case lies from the laboratories.

    Attributes:
        median: Of the case's figures.
        low: Lowest median of a case of the laboratories.
        high: Highest.
        distance: From that range, in standard deviations between cases: negative below it, 0 within.
        figures: How many the case has.
    """

    median: float
    low: float
    high: float
    distance: float
    figures: int

    @property
    def like(self) -> bool:
        """Whether it is like the training's cases."""
        return abs(self.distance) <= LIKE

    @property
    def unlike(self) -> bool:
        """Whether it is unlike them; neither is true at the edge."""
        return abs(self.distance) >= UNLIKE


def measure_range(values: npt.ArrayLike, cases: Sequence[Any], fewest: int = FEWEST) -> MeasureRange:
    """A laboratory's quantiles of a measure.

    Args:
        values: Shape (n,), n ≥ 2; NaN where a figure has none.
        cases: The case of each, length n; None where it is not known.
        fewest: Figures from which a case's median counts. Without three such cases the figures' median stands for them.

    Raises:
        InputError: Fewer than two values are known.
    """
    x = np.asarray(values, dtype=np.float64)
    known = np.isfinite(x)
    if len(x) != len(cases) or known.sum() < 2:
        raise InputError(must("values", "two that are known, one a case's name", f"{known.sum()}", "leave it out"))
    names = np.array([str(case) for case, one in zip(cases, known, strict=True) if one])
    named = np.array([case is not None for case, one in zip(cases, known, strict=True) if one])
    x = x[known]
    medians = []
    for name in np.unique(names[named]):
        own = x[named & (names == name)]
        if len(own) >= fewest:
            medians.append(float(np.median(own)))
    medians = medians if len(medians) >= 3 else [float(np.median(x))]
    at = [0, 0.25, 0.5, 0.75, 1]
    return MeasureRange(tuple(map(float, np.quantile(x, LEVELS))), tuple(map(float, np.quantile(medians, at))))


def departure(values: npt.ArrayLike, laboratories: Sequence[MeasureRange], least: float = 0.0) -> MeasureDrift | None:
    """How far a case lies from laboratories.

    Args:
        values: Of its figures, shape (n,); NaN where a figure has none.
        laboratories: The measure in each, at least one.
        least: Least spread, as a share of the end of their range that the case lies beyond, ≥ 0.

    Returns:
        The departure; None where fewer than :data:`FEWEST` values are known.
    """
    x = np.asarray(values, dtype=np.float64)
    x = x[np.isfinite(x)]
    if len(x) < FEWEST or not laboratories:
        return None
    median = float(np.median(x))
    low, high = min(one.cases[0] for one in laboratories), max(one.cases[4] for one in laboratories)
    known = [one.between_cases for one in laboratories if one.cases_known]
    between = float(np.mean(known)) if known else 0.0
    own = float(np.subtract(*np.quantile(x, [0.75, 0.25]))) / NORMAL_IQR
    unit = math.hypot(between, 1.2533 * own / math.sqrt(len(x)))
    unit = max(unit, least * abs(low if median < low else high))
    outside = min(median - low, 0.0) + max(median - high, 0.0)
    # A measure without any spread, in the laboratories and here, is either the same or entirely another.
    distance = outside / unit if unit > 0 else math.copysign(math.inf, outside) if outside else 0.0
    return MeasureDrift(median, low, high, distance, len(x))
