"""Conformal prediction sets, split by class: «uncertain» with a guarantee.

The prediction set of a new figure contains its true class with at least the chosen
probability, separately for atypical and for normal figures (Mondrian), as long as new figures are
exchangeable with those that the sets were fitted on: same scanners, same laboratory, same selection.

The nonconformity of a figure with class y is s_y = 1 − p(y). With n_y calibration figures of class y
and coverage c, the limit q_y is their ⌈(n_y + 1) c⌉-th smallest nonconformity, or infinite if
there are fewer than that, and y is in the set if s_y ≤ q_y. A class with too few figures is
therefore in every set.

A set depends only on the order of the probabilities, so a strictly monotone calibration fitted on
the same figures changes no set and the guarantee still holds.

Sources: Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005, section 4.5;
Sadinle, Lei and Wasserman, JASA 2019.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must
from atypia.base.records import ATYPICAL_TASK, CLASS_NAMES
from atypia.inference.bundles.calibration import Floats
from atypia.statistics.confusion import check_finite, check_probabilities

COVERAGES: Final = tuple(percent / 100 for percent in range(50, 100))
"""Coverages whose limits are stored: 0.50, 0.51, …, 0.99."""
CLASSES: Final = CLASS_NAMES[ATYPICAL_TASK]
DEFAULT_COVERAGE: Final = 0.9


class Sets(NamedTuple):
    """Prediction sets of n figures.

    Attributes:
        normal: Whether *normal* is in the set, shape (n,), bool.
        atypical: Whether *atypical* is in the set, shape (n,), bool.
    """

    normal: npt.NDArray[np.bool_]
    atypical: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Conformal:
    """Limits of the nonconformity for a grid of coverages.

    Attributes:
        coverages: Increasing, in (0, 1).
        normal: Limit of s_normal = p(atypical) at each coverage, never decreasing; may end in ∞.
        atypical: Limit of s_atypical = 1 − p(atypical), likewise.
        n_normal: Normal figures that they were fitted on.
        n_atypical: Atypical ones.
    """

    coverages: tuple[float, ...]
    normal: tuple[float, ...]
    atypical: tuple[float, ...]
    n_normal: int
    n_atypical: int

    def __post_init__(self) -> None:
        grid = check_finite("coverages", self.coverages)
        if not len(grid) or grid[0] <= 0 or grid[-1] >= 1 or bool((np.diff(grid) <= 0).any()):
            raise InputError(must("coverages", "increasing, in (0, 1)", "others", "fit it again"))
        for name, limits in zip(CLASSES, (self.normal, self.atypical), strict=True):
            ordered = all(before <= after for before, after in pairwise(limits))
            # NaN fails every comparison.
            if len(limits) != len(grid) or not ordered or not all(limit >= 0 for limit in limits):
                raise InputError(
                    must(f"limits of {name}", "one a coverage, never decreasing", "others", "fit it again")
                )

    def limits(self, coverage: float) -> tuple[float, float]:
        """q_normal and q_atypical; for a coverage between two stored ones those of the higher.

        Raises:
            InputError: The coverage is above the highest stored one, or not above 0.
        """
        found = int(np.searchsorted(self.coverages, coverage - 1e-9))  # 0.9 from elsewhere may differ in a digit
        if not 0 < coverage < 1 or found == len(self.coverages):
            expected = f"above 0 and at most {self.coverages[-1]:g}"
            raise InputError(must("coverage", expected, coverage, "choose a coverage such as 0.9"))
        return self.normal[found], self.atypical[found]

    def sets(self, probabilities: npt.ArrayLike, coverage: float) -> Sets:
        """Prediction sets.

        Args:
            probabilities: Calibrated probability of atypical, shape (n,), in [0, 1].
            coverage: Share of either class whose set holds the true class, in (0, 0.99].

        Raises:
            InputError: The coverage is not stored, or the probabilities are not finite.
        """
        p = check_finite("probabilities", probabilities)
        q_normal, q_atypical = self.limits(coverage)
        return Sets(p <= q_normal, 1 - p <= q_atypical)

    def as_dict(self) -> dict[str, Any]:
        """JSON form; an infinite limit is null."""
        return {
            "coverages": list(self.coverages),
            **{name: [q if math.isfinite(q) else None for q in qs] for name, qs in self._by_class().items()},
            "figures": {CLASSES[0]: self.n_normal, CLASSES[1]: self.n_atypical},
        }

    def _by_class(self) -> dict[str, tuple[float, ...]]:
        return {CLASSES[0]: self.normal, CLASSES[1]: self.atypical}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Conformal:
        """Reads what :meth:`as_dict` gave.

        Raises:
            InputError: A value is missing or wrong.
        """
        try:
            normal, atypical = (tuple(math.inf if q is None else float(q) for q in values[name]) for name in CLASSES)
            figures = tuple(int(values["figures"][name]) for name in CLASSES)
            return cls(tuple(float(c) for c in values["coverages"]), normal, atypical, *figures)
        except (KeyError, TypeError) as error:
            raise InputError(must("conformal", "a mapping as it was saved", repr(error), "fit it again")) from None


def fit_conformal(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, coverages: tuple[float, ...] = COVERAGES
) -> Conformal:
    """Fits the limits of both classes.

    Args:
        labels: Shape (n,), 1 = atypical, 0 = normal, of figures that the network was not trained on.
        probabilities: Calibrated probability of atypical, shape (n,), in [0, 1].
        coverages: Increasing, in (0, 1).

    Raises:
        InputError: Shapes differ, or a value is out of range. A class that is absent is no error:
            it is in every set.
    """
    y, p = check_probabilities(labels, probabilities)
    normal, atypical = np.sort(p[~y]), np.sort(1 - p[y])
    return Conformal(
        coverages,
        tuple(quantile(normal, c) for c in coverages),
        tuple(quantile(atypical, c) for c in coverages),
        len(normal),
        len(atypical),
    )


def quantile(ascending: Floats, coverage: float) -> float:
    """The ⌈(n + 1) c⌉-th smallest of n values; ∞ where there are fewer.

    >>> quantile(np.arange(1.0, 10.0), 0.9), quantile(np.arange(1.0, 9.0), 0.9)
    (9.0, inf)
    """
    rank = max(math.ceil((len(ascending) + 1) * coverage - 1e-9), 1)  # 100 · 0.07 is a little more than 7
    return float(ascending[rank - 1]) if rank <= len(ascending) else math.inf
