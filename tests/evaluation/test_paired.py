"""McNemar's test against published values and SciPy; swaps of cases against all swaps."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from atypia.base.errors import InputError
from atypia.statistics.differences.paired import McNemarMethod, mcnemar, mcnemar_counts, swap_test
from atypia.statistics.metrics import UndefinedMetricWarning, auroc, balanced_accuracy
from atypia.statistics.resampling import PredictedLabels


@pytest.mark.parametrize(
    ("method", "p"), [("exact", 0.0703), ("mid-p", 0.0391), ("asymptotic", 0.0339), ("corrected", 0.0771)]
)
def test_airway_reactivity_before_and_after_transplantation(method: McNemarMethod, p: float) -> None:
    """Discordant pairs 1 and 7: the example of Fagerland, Lydersen & Laake 2013."""
    assert round(mcnemar_counts(1, 7, method).p, 4) == p


def test_chi_square_by_hand() -> None:
    assert mcnemar_counts(59, 121, "corrected").statistic == pytest.approx(61**2 / 180)
    assert mcnemar_counts(59, 121, "asymptotic").statistic == pytest.approx(62**2 / 180)
    assert np.isnan(mcnemar_counts(59, 121).statistic)


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(0, 60))
def test_exact_is_the_binomial_test(b: int, c: int) -> None:
    expected = stats.binomtest(b, b + c).pvalue if b + c else 1.0
    assert mcnemar_counts(b, c).p == pytest.approx(expected)
    assert 0 < mcnemar_counts(b, c, "mid-p").p <= mcnemar_counts(b, c).p + 1e-12
    assert mcnemar_counts(b, c, "mid-p").p == pytest.approx(mcnemar_counts(c, b, "mid-p").p)


def test_what_is_counted() -> None:
    y = [1, 1, 1, 1, 0, 0, 0]
    first = [1, 1, 1, 0, 0, 1, 0]
    second = [1, 0, 0, 0, 0, 0, 1]

    found = mcnemar(y, first, second)

    assert (found.only_first, found.only_second) == (3, 1)  # figures 2, 3, 7 against figure 6
    assert found.p == pytest.approx(2 * 5 / 16)


@pytest.mark.parametrize("method", ["exact", "mid-p", "corrected", "asymptotic"])
def test_no_difference_is_no_evidence(method: McNemarMethod) -> None:
    assert mcnemar_counts(0, 0, method).p == 1.0
    if method == "mid-p":
        assert mcnemar_counts(3, 3, method).p == pytest.approx(1.0)


def test_wrong_input() -> None:
    with pytest.raises(InputError, match="`first` must be 0 or 1"):
        mcnemar([0, 1], [0.2, 0.8], [0, 1])
    with pytest.raises(InputError, match="`second` must be as long as `labels`"):
        mcnemar([0, 1], [0, 1], [0])
    with pytest.raises(InputError, match="`method` must be exact, mid-p, corrected or asymptotic, got chi2"):
        mcnemar([0, 1], [0, 1], [0, 1], "chi2")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="`counts` must be at least 0"):
        mcnemar_counts(-1, 2)


def classifiers(n_cases: int, seed: int, gain: float = 0.5) -> tuple[Any, Any, PredictedLabels, PredictedLabels]:
    rng = np.random.default_rng(seed)
    case = np.repeat(np.arange(n_cases), 6)
    y = np.tile([0, 0, 0, 0, 1, 1], n_cases)
    first, second = (np.clip(share * y + (1 - share) * rng.random(len(y)), 0, 1) for share in (gain, 0.2))
    return y, case, *(PredictedLabels(p, (p >= 0.5).astype(int)) for p in (first, second))


def test_swaps_come_near_the_test_of_all_swaps() -> None:
    y, case, first, second = classifiers(7, 8)
    p, q = np.asarray(first.probabilities), np.asarray(second.probabilities)
    gaps: dict[str, list[float]] = {"auroc": [], "balanced_accuracy": []}
    for swap in itertools.product([False, True], repeat=7):
        swapped = np.array(swap)[case]
        one, other = np.where(swapped, q, p), np.where(swapped, p, q)
        gaps["auroc"].append(auroc(y, one) - auroc(y, other))
        gaps["balanced_accuracy"].append(balanced_accuracy(y, one >= 0.5) - balanced_accuracy(y, other >= 0.5))

    found = swap_test(y, first, second, case, ["auroc", "balanced_accuracy"], draws=4000)

    for name, all_of_them in gaps.items():
        exact = np.mean(np.abs(all_of_them) >= abs(all_of_them[0]) - 1e-12)
        assert found[name].difference == pytest.approx(all_of_them[0])
        assert found[name].p == pytest.approx(exact, abs=0.025)


def test_p_values_are_uniform_under_the_hypothesis_and_small_under_another() -> None:
    p = []
    for seed in range(60):
        y, case, first, second = classifiers(20, seed, gain=0.2)
        p.append(swap_test(y, first, second, case, ["auroc"], draws=100)["auroc"].p)
    assert stats.kstest(p, "uniform").pvalue > 0.01
    y, case, first, second = classifiers(20, 0)
    assert swap_test(y, first, second, case, ["auroc"], draws=999)["auroc"].p == pytest.approx(0.001)


def test_models_are_swapped_in_pairs() -> None:
    y, case, first, second = classifiers(10, 1)
    twice = [PredictedLabels(np.stack([p.probabilities] * 2), np.stack([p.decisions] * 2)) for p in (first, second)]
    alone = swap_test(y, first, second, case, ["auroc"], draws=200)["auroc"]
    assert swap_test(y, *twice, case, ["auroc"], draws=200)["auroc"] == alone
    with pytest.raises(InputError, match="`models` must be as many of the first as of the second, got 2 and 1"):
        swap_test(y, twice[0], second, case, ["auroc"])


def test_no_test_where_there_is_no_metric() -> None:
    one = PredictedLabels([0.1, 0.2], [0, 0])
    with pytest.warns(UndefinedMetricWarning, match="test of auroc is undefined"):
        assert np.isnan(swap_test([0, 0], one, one, ["a", "b"], ["auroc"])["auroc"].p)
    with pytest.raises(InputError, match="`draws` must be at least 100"):
        swap_test([0, 1], one, one, ["a", "b"], ["auroc"], draws=5)


def test_equal_classifiers_have_p_one() -> None:
    y, case, first, _ = classifiers(5, 3)
    assert swap_test(y, first, first, case, ["brier"], draws=100)["brier"].p == 1.0


def test_models_in_another_order_of_pairs_do_not_differ_by_rounding() -> None:
    rng = np.random.default_rng(3)
    y, case = (rng.random(90) < 0.3).astype(int), np.arange(90) % 15
    p = rng.random((5, 90))
    first, second = (
        PredictedLabels(p[order], (p[order] >= 0.5).astype(int)) for order in ([0, 1, 2, 3, 4], [4, 2, 0, 3, 1])
    )
    for name, found in swap_test(y, first, second, case, draws=100).items():
        assert found.difference == 0.0 and found.p == 1.0, name


def test_no_figures_are_refused() -> None:
    empty = PredictedLabels([], [])
    with pytest.raises(InputError, match="`labels` must be of at least one figure"):
        swap_test([], empty, empty, [])
