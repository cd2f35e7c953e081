"""Means over folds and repeats, and a t-test corrected for overlapping training parts."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must
from atypia.statistics.casestats import RESOLUTION
from atypia.statistics.metrics import UndefinedMetricWarning


@dataclass(frozen=True)
class MeanSd:
    """Mean and standard deviation of repeated results.

    Attributes:
        mean: Mean; NaN where any value is.
        sd: √(Σ (x − mean)² / (n − ddof)); NaN for a single value.
        n: Number of values.
        ddof: 0: population sd, 1: sample sd.
    """

    mean: float
    sd: float
    n: int
    ddof: int

    def __str__(self) -> str:
        return f"{self.mean:.4f} ± {self.sd:.4f} (n = {self.n}, ddof {self.ddof})"


@dataclass(frozen=True)
class CorrectedT:
    """Outcome of the corrected resampled t-test.

    Attributes:
        mean: Mean difference.
        se: Corrected standard error.
        t: mean / se.
        df: Degrees of freedom, J − 1.
        p: Two-sided p-value.
        low: Lower end of the confidence interval of the mean difference.
        high: Upper end.
        level: Nominal coverage, in (0, 1).
    """

    mean: float
    se: float
    t: float
    df: int
    p: float
    low: float
    high: float
    level: float


def mean_sd(values: npt.ArrayLike, ddof: int = 0) -> MeanSd:
    """Mean and standard deviation, with the divisor of the latter stated.

    Args:
        values: Shape (n,); with a NaN both results are NaN, because a mean over the others would describe other runs.
        ddof: 0 or 1.

    Returns:
        Both, with n and ddof.

    Raises:
        InputError: ``ddof`` is neither 0 nor 1, or there are no values.
    """
    array = _differences("values", values)
    if ddof not in (0, 1):
        raise InputError(must("ddof", "0 or 1", ddof, "0 is the population sd, 1 the sample sd"))
    sd = float(np.std(array, ddof=ddof)) if len(array) > 1 else math.nan
    return MeanSd(float(np.mean(array)), sd, len(array), ddof)


def corrected_t(differences: npt.ArrayLike, n_train: float, n_test: float, level: float = 0.95) -> CorrectedT:
    """Corrected resampled t-test (Nadeau & Bengio, Machine Learning 2003, section 3).

    t = d̄ / √((1/J + n_test/n_train) s²), with s² the sample variance (ddof 1) of the J differences,
    against Student's t with J − 1 degrees of freedom. The second term corrects for overlapping training
    parts; without it the test finds differences that do not exist.

    Use it for results on each fold's *own* held-out part (cross-validation, Monte-Carlo repeats). Fold
    models that are all scored on one test set also share that test set, which this test ignores: there, use
    a bootstrap of the test set's cases.

    Args:
        differences: Shape (J,), result of the first classifier minus that of the second, one per held-out part.
        n_train: Training figures (or cases) in a fold, mean over folds.
        n_test: Held-out figures (or cases) in a fold, mean over folds.
        level: Nominal coverage of the interval, in (0, 1).

    Returns:
        The outcome; t, p and interval are NaN, with a warning, where there are fewer than two
        differences, one is NaN, or all are equal.

    Raises:
        InputError: A size is not positive, or the level is outside (0, 1).
    """
    from scipy.stats import t as student

    d = _differences("differences", differences)
    if not (n_train > 0 and n_test > 0):
        raise InputError(must("n_train and n_test", "positive", (n_train, n_test), "count figures or cases"))
    if not 0 < level < 1:
        raise InputError(must("level", "between 0 and 1", level, "use 0.95"))
    mean, df = float(np.mean(d)), len(d) - 1
    se = math.sqrt((1 / len(d) + n_test / n_train) * float(np.var(d, ddof=1))) if df > 0 else math.nan
    # Equal differences still vary by the rounding of the results they were computed from, which are about 1 or more.
    if not se > RESOLUTION * max(1.0, float(np.abs(d).max())):
        why = "a difference is missing" if df > 0 and math.isnan(se) else "the differences do not vary"
        warnings.warn(f"corrected t-test is undefined: {why}", UndefinedMetricWarning, stacklevel=2)
        return CorrectedT(mean, se, math.nan, df, math.nan, math.nan, math.nan, level)
    half = float(student.ppf((1 + level) / 2, df)) * se
    return CorrectedT(
        mean, se, mean / se, df, float(2 * student.sf(abs(mean / se), df)), mean - half, mean + half, level
    )


def _differences(name: str, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise InputError(must(name, "of shape (n,), n ≥ 1", f"shape {array.shape}", "pass one value per fold"))
    return array
