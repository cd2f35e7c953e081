"""Holm's correction by hand; ranks and critical differences against published tables."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from atypia.base.errors import InputError
from atypia.statistics.differences.multiple import critical_difference, holm, rank_models
from atypia.statistics.metrics import UndefinedMetricWarning


def test_holm_by_hand() -> None:
    # Sorted 0.005 · 4, 0.01 · 3, 0.03 · 2, 0.04 · 1 → 0.02, 0.03, 0.06, max(0.06, 0.04).
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.6, 0.7]), [1.0, 1.0])


def test_holm_leaves_tests_that_were_not_made_out() -> None:
    found = holm([[0.01, math.nan], [0.04, 0.03]])
    np.testing.assert_allclose(found, [[0.03, math.nan], [0.06, 0.06]])
    assert np.isnan(holm([math.nan])).all()
    assert holm([]).shape == (0,)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_lies_between_the_p_values_and_bonferroni(p: list[float]) -> None:
    adjusted = holm(p)
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(1, np.array(p) * len(p)) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()


def test_holm_refuses_what_is_no_p_value() -> None:
    with pytest.raises(InputError, match=r"`p` must be between 0 and 1, got 1\.5"):
        holm([0.5, 1.5])


# Demšar, JMLR 2006, table 5.
Q_005 = (1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164)
Q_010 = (1.645, 2.052, 2.291, 2.459, 2.589, 2.693, 2.780, 2.855, 2.920)


@pytest.mark.parametrize(("alpha", "table"), [(0.05, Q_005), (0.10, Q_010)])
def test_nemenyi_constants(alpha: float, table: tuple[float, ...]) -> None:
    found = [critical_difference(k, 1, alpha) / math.sqrt(k * (k + 1) / 6) for k in range(2, 11)]
    np.testing.assert_allclose(found, table, atol=0.0011)  # three printed digits, the last one not always rounded


# AUROC of C4.5 and three of its variants on 14 data sets: Demšar, JMLR 2006, table 6.
TREES = np.array(
    [
        (0.763, 0.768, 0.771, 0.798),
        (0.599, 0.591, 0.590, 0.569),
        (0.954, 0.971, 0.968, 0.967),
        (0.628, 0.661, 0.654, 0.657),
        (0.882, 0.888, 0.886, 0.898),
        (0.936, 0.931, 0.916, 0.931),
        (0.661, 0.668, 0.609, 0.685),
        (0.583, 0.583, 0.563, 0.625),
        (0.775, 0.838, 0.866, 0.875),
        (1.000, 1.000, 1.000, 1.000),
        (0.940, 0.962, 0.965, 0.962),
        (0.619, 0.666, 0.614, 0.669),
        (0.972, 0.981, 0.9751, 0.975),  # printed alike, but ranked 2 and 3 there
        (0.957, 0.978, 0.946, 0.970),
    ]
)
NAMES = ("C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf")


def test_published_ranking() -> None:
    found = rank_models(TREES, NAMES)

    # Printed there: ranks 3.143, 2.000, 2.893, 1.964; CD 1.25 at 0.05 and 1.12 at 0.10.
    assert found.names == ("C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5")
    assert [round(rank, 3) for rank in found.mean_ranks] == [1.964, 2.000, 2.893, 3.143]
    assert round(found.critical_difference, 2) == 1.25
    assert round(rank_models(TREES, NAMES, alpha=0.10).critical_difference, 2) == 1.12
    # At 0.05 no pair is that far apart; at 0.10 C4.5 is from both variants with m.
    assert found.groups == ((0, 3),)
    assert rank_models(TREES, NAMES, alpha=0.10).groups == ((0, 2), (2, 3))
    # Without its correction for ties χ² is 9.28 and F 3.69.
    ranks, n, k = np.array([3.143, 2.000, 2.893, 1.964]), 14, 4
    plain = 12 * n / (k * (k + 1)) * ((ranks**2).sum() - k * (k + 1) ** 2 / 4)
    assert plain == pytest.approx(9.28, abs=0.02)
    assert found.chi2 > plain


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 8), st.integers(3, 6), st.integers(2, 50))
def test_friedman_is_scipys(seed: int, n: int, k: int, grid: int) -> None:
    scores = np.random.default_rng(seed).integers(0, grid, (n, k)).astype(float)
    scores[0] = np.arange(k)  # at least one row with an order
    expected = stats.friedmanchisquare(*scores.T)
    found = rank_models(scores, [str(i) for i in range(k)])
    assert (found.chi2, found.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert sum(found.mean_ranks) == pytest.approx(k * (k + 1) / 2)


def test_f_by_hand_and_the_direction_of_ranks() -> None:
    scores = [[0.9, 0.8, 0.7], [0.9, 0.8, 0.7], [0.8, 0.9, 0.7]]
    found = rank_models(scores, ["a", "b", "c"])
    # Rank sums 4, 5, 9 around 6: χ² = 2 · (4 + 1 + 9) / (42 − 36) = 14/3; F = 2 · 14/3 / (6 − 14/3) = 7.
    assert (found.chi2, found.f) == pytest.approx((14 / 3, 7))
    assert found.p_f == pytest.approx(stats.f.sf(7, 2, 4))
    assert rank_models(scores, ["a", "b", "c"], higher_is_better=False).names == ("c", "b", "a")
    perfect = rank_models([[3, 2, 1]] * 4, ["a", "b", "c"])
    assert (perfect.f, perfect.p_f) == (math.inf, 0.0)


def test_values_that_print_alike_tie() -> None:
    # 0.1 + 0.2 and 0.3 differ in the last bit.
    found = rank_models([[0.1 + 0.2, 0.3, 0.5]] * 4, ["a", "b", "c"])
    assert dict(zip(found.names, found.mean_ranks, strict=True)) == {"a": 2.5, "b": 2.5, "c": 1.0}


def test_no_model_differs() -> None:
    with pytest.warns(UndefinedMetricWarning, match="Friedman test is undefined: no model differs"):
        found = rank_models(np.ones((3, 3)), ["a", "b", "c"])
    assert math.isnan(found.p)
    assert found.mean_ranks == (2, 2, 2)


@pytest.mark.parametrize(
    ("scores", "names", "message"),
    [
        ([[1.0, 2.0]], ["a", "b"], r"`scores` must be finite, \(data sets ≥ 2, models ≥ 2\), got shape \(1, 2\)"),
        ([[1.0, math.nan], [1, 2]], ["a", "b"], "got NaN or ∞; fix: leave incomplete rows out"),
        ([[1.0, 2.0], [1, 2]], ["a"], r"`names` must be one per model \(2\), got 1"),
    ],
)
def test_wrong_input(scores: Any, names: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        rank_models(scores, names)


def test_wrong_critical_difference() -> None:
    with pytest.raises(InputError, match="`ranking` must be of k ≥ 2 models"):
        critical_difference(1, 5)
