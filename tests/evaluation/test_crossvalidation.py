"""Means with their divisor, and the corrected t-test by hand and by simulation."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from scipy import stats

from atypia.base.errors import InputError
from atypia.statistics.differences.crossvalidation import corrected_t, mean_sd
from atypia.statistics.metrics import UndefinedMetricWarning


def test_mean_and_sd_by_hand() -> None:
    values = [0.7474, 0.7423, 0.7276, 0.7415, 0.7781]
    assert mean_sd(values).sd == pytest.approx(statistics.pstdev(values))
    assert mean_sd(values, ddof=1).sd == pytest.approx(statistics.stdev(values))
    assert str(mean_sd(values)) == "0.7474 ± 0.0167 (n = 5, ddof 0)"


def test_unknown_spread_and_unknown_values_are_nan() -> None:
    assert math.isnan(mean_sd([0.5]).sd)
    assert mean_sd([0.5]).mean == 0.5
    assert math.isnan(mean_sd([0.5, math.nan]).mean)
    with pytest.raises(InputError, match="`ddof` must be 0 or 1, got 2"):
        mean_sd([0.5, 0.6], ddof=2)
    with pytest.raises(InputError, match=r"`values` must be of shape \(n,\), n ≥ 1"):
        mean_sd([])


def test_corrected_t_by_hand() -> None:
    # d̄ = 0.03, Σ (d − d̄)² = 0.0010, s² = 0.00025; five-fold: 1/5 + 1/4 = 0.45, se = √0.0001125.
    found = corrected_t([0.01, 0.02, 0.03, 0.04, 0.05], n_train=80, n_test=20)

    assert (found.mean, found.se, found.df) == pytest.approx((0.03, math.sqrt(0.0001125), 4))
    assert found.t == pytest.approx(2.8284271, abs=1e-6)
    assert found.p == pytest.approx(2 * stats.t.sf(2.8284271, 4))
    half = stats.t.ppf(0.975, 4) * found.se
    assert (found.low, found.high) == pytest.approx((0.03 - half, 0.03 + half))


def test_without_overlap_it_is_the_ordinary_t_test() -> None:
    d = np.random.default_rng(0).normal(0.2, 1, 9)
    found, expected = corrected_t(d, n_train=1e12, n_test=1), stats.ttest_1samp(d, 0)
    assert (found.t, found.p) == pytest.approx((expected.statistic, expected.pvalue))


def test_it_keeps_its_level_where_the_ordinary_test_does_not() -> None:
    """Repeated 80/20 splits of figures on which two classifiers differ by chance only."""
    rng = np.random.default_rng(1)
    corrected = ordinary = 0
    for _ in range(300):
        difference = rng.normal(size=100)
        gaps = [difference[rng.permutation(100)[:20]].mean() for _ in range(15)]
        corrected += corrected_t(gaps, 80, 20).p < 0.05
        ordinary += stats.ttest_1samp(gaps, 0).pvalue < 0.05
    assert corrected / 300 < 0.09 < 0.25 < ordinary / 300


def test_undefined() -> None:
    with pytest.warns(UndefinedMetricWarning, match="the differences do not vary"):
        assert math.isnan(corrected_t([0.1, 0.1], 4, 1).p)
    with pytest.warns(UndefinedMetricWarning, match="do not vary"):
        assert math.isnan(corrected_t([0.1], 4, 1).t)
    for scale in (1.0, 100.0):  # equal up to the rounding of what they were subtracted from
        first, second = np.array([0.873, 0.861, 0.9]) * scale, np.array([0.861, 0.849, 0.888]) * scale
        with pytest.warns(UndefinedMetricWarning, match="do not vary"):
            assert math.isnan(corrected_t(first - second, 4, 1).p)
    with pytest.warns(UndefinedMetricWarning, match="a difference is missing"):
        assert math.isnan(corrected_t([0.1, math.nan, 0.2], 4, 1).p)
    with pytest.raises(InputError, match="`n_train and n_test` must be positive"):
        corrected_t([0.1, 0.2], 0, 1)
    with pytest.raises(InputError, match="`level` must be between 0 and 1"):
        corrected_t([0.1, 0.2], 4, 1, level=95)
