"""What became slower by more than noise: the rule, which docs/results/speed.md states in words.

A run is compared with the last ``RUNS`` quiet runs on the same processor with as many cores. A ratio is slower if

1. its median fell by ``LEAST`` or more below the median of their pairs, which is more than machines drift from day to
   day, and
2. Welch's one-sided t-test on the logarithms of the pairs gives p < ``LEVEL`` after Holm's correction over all ratios
   that are compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.stats import ttest_ind

from atypia.statistics.differences.multiple import holm
from benchmarks.measuring.history import Run

RUNS: Final = 5
LEAST: Final = 0.1
LEVEL: Final = 0.01
LEAST_PAIRS: Final = 3


@dataclass(frozen=True)
class Compared:
    """One ratio against what it was.

    Attributes:
        name: Of the ratio.
        before: Median of the pairs of the runs that it is compared with.
        now: Median of the run's own.
        p: One-sided, corrected.
        slower: By the rule.
    """

    name: str
    before: float
    now: float
    p: float
    slower: bool

    @property
    def change(self) -> float:
        """−0.2: the speed fell by a fifth."""
        return self.now / self.before - 1


def references(run: Run, earlier: Sequence[Run]) -> list[Run]:
    """The runs that a run is compared with, oldest first."""
    fit = [one for one in earlier if one.machine == run.machine and one.source is None and not one.busy]
    return fit[-RUNS:]


def compare(run: Run, earlier: Sequence[Run]) -> list[Compared]:
    """Every ratio that has at least ``LEAST_PAIRS`` pairs now and before; nothing for a run on a busy machine."""
    if run.busy:
        return []
    fit, found = references(run, earlier), []
    for name, now in run.pairs.items():
        before = [value for one in fit for value in one.pairs.get(name, ())]
        if min(len(now), len(before)) >= LEAST_PAIRS:
            found.append((name, before, now))
    corrected = holm([_p(before, now) for _, before, now in found]) if found else []
    rows = []
    for (name, before, now), p in zip(found, corrected, strict=True):
        was, became = float(np.median(before)), float(np.median(now))
        rows.append(Compared(name, was, became, float(p), became <= (1 - LEAST) * was and float(p) < LEVEL))
    return rows


def _p(before: Sequence[float], now: Sequence[float]) -> float:
    """Welch's test that the logarithms fell."""
    was, became = np.log(before), np.log(now)
    if math.isclose(was.std() + became.std(), 0, abs_tol=1e-9):  # the test divides by it
        return 0.0 if became.mean() < was.mean() else 1.0
    return float(ttest_ind(became, was, equal_var=False, alternative="less").pvalue)  # pyright: ignore[reportAttributeAccessIssue]
