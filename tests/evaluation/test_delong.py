"""DeLong's variance: against all pairs, a published example, the bootstrap, and in cases."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from atypia.base.errors import InputError
from atypia.statistics.delong import auroc_covariance, auroc_interval, compare_aurocs
from atypia.statistics.intervals import Bootstrap, metric_intervals
from atypia.statistics.metrics import UndefinedMetricWarning, auroc
from atypia.statistics.resampling import PredictedLabels

# Ratings of 58 normal and 51 abnormal CT images on a scale of five: Hanley & McNeil, Radiology 1982, table I.
NORMAL, ABNORMAL = (33, 6, 6, 11, 2), (3, 2, 2, 11, 33)
RATINGS = np.repeat([*range(5), *range(5)], [*NORMAL, *ABNORMAL])
STATUS = np.repeat([0, 1], [58, 51])


def by_pairs(y: npt.NDArray[Any], scores: npt.NDArray[Any]) -> tuple[list[float], npt.NDArray[Any]]:
    """AUROCs and DeLong's covariance from every pair of a positive and a negative."""
    areas, of_positives, of_negatives = [], [], []
    for row in scores:
        wins = (row[y == 1][:, None] > row[y == 0]) + 0.5 * (row[y == 1][:, None] == row[y == 0])
        areas.append(wins.mean())
        of_positives.append(wins.mean(axis=1))
        of_negatives.append(wins.mean(axis=0))
    m, n = (y == 1).sum(), (y == 0).sum()
    return areas, np.atleast_2d(np.cov(of_positives)) / m + np.atleast_2d(np.cov(of_negatives)) / n


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 12), st.integers(2, 12), st.integers(1, 3), st.integers(2, 6))
def test_midranks_give_what_all_pairs_give(seed: int, m: int, n: int, models: int, grid: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.permutation([1] * m + [0] * n)
    scores = rng.integers(0, grid, (models, m + n)) / grid

    areas, covariance = auroc_covariance(y, scores)

    expected_areas, expected = by_pairs(y, scores)
    np.testing.assert_allclose(areas, expected_areas, atol=1e-12)
    np.testing.assert_allclose(covariance, expected, atol=1e-12)
    np.testing.assert_allclose(areas, [auroc(y, row) for row in scores])


def test_published_example() -> None:
    """The manual of Stata's `roctab` prints for these data: 0.8932, 0.0307, 0.83295 to 0.95339."""
    found = auroc_interval(STATUS, RATINGS, logit=False)

    assert round(found.estimate, 4) == 0.8932
    assert round(found.se, 4) == 0.0307
    assert (round(found.low, 5), round(found.high, 5)) == (0.83295, 0.95339)


def test_logit_interval_by_hand() -> None:
    found = auroc_interval(STATUS, RATINGS)

    a, se = found.estimate, found.se
    centre, half = math.log(a / (1 - a)), 1.959963984540054 * se / (a * (1 - a))
    assert found.low == pytest.approx(1 / (1 + math.exp(half - centre)))
    assert found.high == pytest.approx(1 / (1 + math.exp(-half - centre)))
    assert a - found.low > found.high - a  # longer towards ½


def test_comparison_by_hand() -> None:
    rng = np.random.default_rng(4)
    y = np.repeat([0, 1], 40)
    first, second = y + rng.normal(size=80), 0.5 * y + rng.normal(size=80)

    found = compare_aurocs(y, first, second, level=0.9)

    areas, covariance = by_pairs(y, np.stack([first, second]))
    se = math.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    assert found.difference.estimate == pytest.approx(areas[0] - areas[1])
    assert found.z == pytest.approx((areas[0] - areas[1]) / se)
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(found.z)))
    assert found.difference.high - found.difference.low == pytest.approx(2 * stats.norm.ppf(0.95) * se)
    turned = compare_aurocs(y, second, first, level=0.9)
    assert (turned.z, turned.p) == pytest.approx((-found.z, found.p))


def test_cases_by_hand() -> None:
    # Cases a (one of each class), b (positive), c (negative), d (one of each). Placements of the positives
    # 0.9, 0.4, 0.6 among the negatives 0.5, 0.2, 0.7: 1, 1/3, 2/3; of the negatives: 2/3, 1, 1/3. A = 2/3.
    y = np.array([1, 0, 1, 0, 1, 0])
    scores = np.array([0.9, 0.5, 0.4, 0.2, 0.6, 0.7])
    cases = ["a", "a", "b", "c", "d", "d"]

    areas, covariance = auroc_covariance(y, scores[None], cases)

    # Sums of deviations by case: positives a 1/3, b −1/3, d 0; negatives a 0, c 1/3, d −1/3.
    s10 = 3 / (2 * 3) * (1 / 9 + 1 / 9)
    s01 = 3 / (2 * 3) * (1 / 9 + 1 / 9)
    s11 = 4 / 3 * (1 / 3 * 0 + 0 * -1 / 3)
    assert areas[0] == pytest.approx(2 / 3)
    assert covariance[0, 0] == pytest.approx(s10 / 3 + s01 / 3 + 2 * s11 / 9)


def test_cases_agree_with_the_bootstrap_of_cases() -> None:
    rng = np.random.default_rng(5)
    case = np.repeat(np.arange(80), 8)
    y = (rng.random(640) < 0.3).astype(int)
    p = 1 / (1 + np.exp(-(y + rng.normal(0, 1, 80)[case] * 1.5 + rng.normal(0, 0.5, 640))))

    formula = auroc_interval(y, p, case)
    drawn = metric_intervals(y, PredictedLabels(p, (p > 0.5).astype(int)), case, ["auroc"], Bootstrap(1000))["auroc"]

    assert formula.se == pytest.approx(drawn.se, rel=0.1)
    assert formula.se > 1.2 * auroc_interval(y, p).se
    assert (formula.n, formula.n_cases) == (640, 80)


def test_each_figure_its_own_case_changes_nothing() -> None:
    assert auroc_interval(STATUS, RATINGS, range(109)).se == pytest.approx(auroc_interval(STATUS, RATINGS).se)  # type: ignore[arg-type]


def test_undefined() -> None:
    with pytest.warns(UndefinedMetricWarning, match="a class is in fewer than two cases"):
        found = auroc_interval([1, 0, 0], [0.9, 0.1, 0.2])
    assert found.estimate == 1.0
    assert np.isnan([found.se, found.low, found.high]).all()
    with pytest.warns(UndefinedMetricWarning, match="the AUROC is 1 and has no logit"):
        found = auroc_interval([1, 1, 0, 0], [0.9, 0.8, 0.1, 0.2])
    assert math.isnan(found.low)
    with pytest.warns(UndefinedMetricWarning, match="fewer than two"):
        assert math.isnan(auroc_interval([0, 0], [0.1, 0.2]).estimate)
    with pytest.warns(UndefinedMetricWarning, match="the two rankings do not differ"):
        same = compare_aurocs(STATUS, RATINGS, RATINGS * 2)
    assert (same.difference.estimate, same.difference.se) == (0.0, 0.0)
    assert math.isnan(same.p)
    with pytest.warns(UndefinedMetricWarning, match="fewer than two"):
        assert np.isnan(auroc_covariance([1, 0, 0], [[1, 2, 3]])[1]).all()


@pytest.mark.parametrize("logit", [True, False])
@pytest.mark.parametrize("labels", [[1, 1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0]])
@pytest.mark.parametrize("cases", [None, "abcabca"])
def test_a_formula_that_sees_no_spread_gives_no_interval(labels: list[int], logit: bool, cases: str | None) -> None:
    """All scores tied: 0.5 with a width of 0 would be certainty."""
    of = None if cases is None else list(cases)[: len(labels)]
    with pytest.warns(UndefinedMetricWarning, match="its variance is 0, as where all scores are equal"):
        found = auroc_interval(labels, [0.1 + 0.2] * len(labels), of, logit=logit)
    assert (found.estimate, found.se) == (0.5, 0.0)
    assert np.isnan([found.low, found.high]).all()


def test_classes_that_do_not_overlap_give_no_interval() -> None:
    with pytest.warns(UndefinedMetricWarning, match="its variance is 0"):
        found = auroc_interval([1, 1, 0, 0], [0.9, 0.8, 0.1, 0.2], logit=False)
    assert found.estimate == 1.0 and np.isnan([found.low, found.high]).all()


def test_a_difference_that_is_the_same_at_every_figure() -> None:
    right, wrong = [0.9, 0.8, 0.7, 0.1, 0.2, 0.3], [0.1, 0.2, 0.3, 0.9, 0.8, 0.7]
    with pytest.warns(UndefinedMetricWarning, match="the difference is the same at every figure"):
        found = compare_aurocs([1, 1, 1, 0, 0, 0], right, wrong)
    assert (found.difference.estimate, found.difference.se) == (1.0, 0.0)
    assert np.isnan([found.z, found.p, found.difference.low]).all()


def test_one_pair_of_many_is_a_difference() -> None:
    """Its variance is 2e-16, far below the rounding of V₁₁ + V₂₂ − 2 V₁₂ at other scales, and no rounding itself."""
    n = 10_000
    labels, scores = np.repeat([1, 0], n), np.random.default_rng(0).normal(size=2 * n)
    other = scores.copy()
    order = np.argsort(scores)
    pair = next((a, b) for a, b in itertools.pairwise(order) if labels[a] == 0 and labels[b] == 1)
    other[list(pair)] = other[list(pair[::-1])]
    found = compare_aurocs(labels, scores, other)
    assert found.difference.estimate == pytest.approx(1 / n**2)
    assert found.difference.se == pytest.approx(np.sqrt(2 / n**4), rel=1e-3)
    assert found.p == pytest.approx(0.48, abs=0.01)


def test_wrong_input() -> None:
    with pytest.raises(InputError, match=r"`scores` must be one per figure \(2\), got shape \(3,\)"):
        auroc_interval([0, 1], [1, 2, 3])
    with pytest.raises(InputError, match="`scores` must be finite numbers"):
        auroc_interval([0, 1], [1, math.nan])
    with pytest.raises(InputError, match="`scores` must be of the same figures"):
        compare_aurocs([0, 1], [1, 2], [1, 2, 3])
    with pytest.raises(InputError, match="`level` must be between 0 and 1"):
        auroc_interval([0, 1], [1, 2], level=95)
    with pytest.raises(InputError, match="`level` must be between 0 and 1"):
        compare_aurocs([0, 1], [1, 2], [1, 2], level=0)
