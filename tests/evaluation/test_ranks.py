"""Rank tests: against SciPy without ties, against all arrangements with them, and Table 4 of a paper."""

from __future__ import annotations

import itertools
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from atypia.base.errors import InputError
from atypia.evaluation.published import published_folds
from atypia.statistics.differences.groups import NOT_INDEPENDENT, independent_groups, paired_groups
from atypia.statistics.differences.ranks import MOST_PAIRS, MOST_SIGNED, rank_sum, signed_rank
from atypia.statistics.metrics import UndefinedMetricWarning


@settings(deadline=None)
@given(st.integers(1, 25), st.integers(0, 10**6))
def test_signed_rank_counts_all_signs_without_ties(n: int, seed: int) -> None:
    a, b = np.random.default_rng(seed).normal(size=(2, n))
    ways = np.zeros(n * (n + 1) // 2 + 1)  # of each sum of ranks, one rank after the other
    ways[0] = 1
    for rank in range(1, n + 1):
        ways[rank:] += ways[:-rank].copy()
    ranks = stats.rankdata(np.abs(a - b))
    w = int(min(ranks[a > b].sum(), ranks[a < b].sum()))

    found = signed_rank(a, b)

    assert found.statistic == w
    assert found.p == pytest.approx(min(1.0, 2 * ways[: w + 1].sum() / 2**n))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9).filter(any))
def test_signed_rank_counts_all_signs_where_there_are_ties(gaps: list[int]) -> None:
    kept = np.array([gap for gap in gaps if gap])
    ranks = stats.rankdata(np.abs(kept))
    sums = [ranks[np.array(signs)].sum() for signs in itertools.product([False, True], repeat=len(kept))]
    w = min(ranks[kept > 0].sum(), ranks[kept < 0].sum())

    found = signed_rank(gaps, np.zeros(len(gaps)))

    assert found.p == pytest.approx(min(1.0, 2 * np.mean(np.array(sums) <= w)))
    assert (found.n_first, found.zeros) == (len(kept), len(gaps) - len(kept))


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 10**6))
def test_rank_sum_is_scipys_without_ties(m: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=m), rng.normal(size=n)
    for method in ("exact", "asymptotic"):
        expected = stats.mannwhitneyu(a, b, method=method)
        found = rank_sum(a, b, method)  # type: ignore[arg-type]
        assert (found.statistic, found.p) == pytest.approx((expected.statistic, expected.pvalue))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=4), st.lists(st.integers(0, 3), min_size=1, max_size=5))
def test_rank_sum_counts_all_groups_where_there_are_ties(a: list[int], b: list[int]) -> None:
    ranks = stats.rankdata([*a, *b])
    mean = len(a) * (len(ranks) + 1) / 2
    sums = [ranks[list(chosen)].sum() for chosen in itertools.combinations(range(len(ranks)), len(a))]

    found = rank_sum(a, b)

    far = np.abs(np.array(sums) - mean) >= abs(ranks[: len(a)].sum() - mean) - 1e-9
    assert found.p == pytest.approx(np.mean(far))
    assert found.statistic == sum((x > y) + (x == y) / 2 for x in a for y in b)


@pytest.mark.parametrize(("m", "n"), [(100, 100), (12, 833), (101, 100), (400, 400)])
@pytest.mark.parametrize("tied", [False, True])
def test_large_groups_are_scipys(m: int, n: int, tied: bool) -> None:
    rng = np.random.default_rng(m)
    a, b = rng.normal(0.25, 1, m), rng.normal(size=n)
    if tied:
        a, b = a.round(1), b.round(1)
    asymptotic = stats.mannwhitneyu(a, b, method="asymptotic")
    found = rank_sum(a, b)

    assert found.statistic == pytest.approx(asymptotic.statistic)
    if m * n > MOST_PAIRS:
        assert (found.p, found.method) == (pytest.approx(asymptotic.pvalue), "asymptotic")
        assert found.note.startswith(f"{m} and {n} values are too many to count")
        return
    assert (found.method, found.note) == ("exact", "")
    if not tied:
        assert found.p == pytest.approx(stats.mannwhitneyu(a, b, method="exact").pvalue)
    # What stands in for it beyond the limit is as good as is stated.
    assert found.p == pytest.approx(asymptotic.pvalue, abs=5e-3)


def test_a_poor_approximation_is_called_so() -> None:
    found = rank_sum([2.5], np.arange(10_001))
    assert found.method == "asymptotic" and found.note.endswith("poor for fewer than 12 values")


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("n", [499, 600])
def test_many_pairs_are_scipys(n: int, tied: bool) -> None:
    gaps = np.random.default_rng(n).normal(0.07, 1, n)
    gaps = gaps.round(1) if tied else gaps
    asymptotic = stats.wilcoxon(gaps, method="asymptotic", correction=True)
    found = signed_rank(gaps, np.zeros(n))

    assert found.statistic == pytest.approx(asymptotic.statistic)
    if found.n_first > MOST_SIGNED:
        assert (found.p, found.method) == (pytest.approx(asymptotic.pvalue), "asymptotic")
        assert found.note.startswith(f"{found.n_first} pairs are too many to count")
    else:
        assert (found.method, found.note) == ("exact", "")
        assert found.p == pytest.approx(asymptotic.pvalue, abs=1e-3)
        if not tied:
            assert found.p == pytest.approx(stats.wilcoxon(gaps, method="exact").pvalue)


def test_either_group_may_be_named_first() -> None:
    a, b = [1, 2, 2, 3, 5, 5, 8], [2, 2, 3]
    assert rank_sum(a, b).p == pytest.approx(rank_sum(b, a).p)


def test_values_that_print_alike_tie() -> None:
    # 0.3 − 0.2 and 0.8 − 0.7 differ in the last bit.
    assert signed_rank([0.3, 0.8, 0.1], [0.2, 0.7, 0.4]).p == signed_rank([1, 1, -3], [0, 0, 0]).p


def test_undefined_and_wrong_input() -> None:
    with pytest.warns(UndefinedMetricWarning, match="signed-rank test is undefined: no pair differs"):
        found = signed_rank([1, 2], [1, 2])
    assert np.isnan(found.p)
    assert found.zeros == 2
    with pytest.warns(UndefinedMetricWarning, match="U test is undefined: a group is empty"):
        assert np.isnan(rank_sum([], [1]).p)
    with pytest.raises(InputError, match=r"`second` must be as long as `first` \(2\), got 1"):
        signed_rank([1, 2], [1])
    with pytest.raises(InputError, match="`first` must be finite values"):
        signed_rank([np.nan, 2], [1, 1])
    with pytest.raises(InputError, match="`method` must be exact or asymptotic, got auto"):
        rank_sum([1], [2], "auto")  # type: ignore[arg-type]


# Banerjee et al., Table 4 ---------------------------------------------------------------------

Test = Literal["probe vs LoRA", "baseline vs probe", "baseline vs LoRA"]
TABLE_4: dict[tuple[str, Test], str] = {
    ("ami-br", "probe vs LoRA"): "5.82e-11",
    ("ami-br", "baseline vs probe"): "2.910e-08",
    ("ami-br", "baseline vs LoRA"): "0.7348",
    ("atnorm-br", "probe vs LoRA"): "1.16e-10",
    ("atnorm-br", "baseline vs probe"): "2.913e-08",
    ("atnorm-br", "baseline vs LoRA"): "0.0610",
    ("atnorm-md", "probe vs LoRA"): "5.82e-11",
    ("atnorm-md", "baseline vs probe"): "2.913e-08",
    ("atnorm-md", "baseline vs LoRA"): "0.0903",
}


@pytest.mark.parametrize(("dataset", "test"), list(TABLE_4))
def test_table_4_to_the_printed_digits(dataset: str, test: Test) -> None:
    probe, lora, baseline = (
        published_folds("banerjee", dataset, "balanced_accuracy", name) for name in ("probe", "lora", "full")
    )
    by_fold, by_model = {
        "probe vs LoRA": lambda: paired_groups(probe, lora),
        "baseline vs probe": lambda: independent_groups(baseline, probe),
        "baseline vs LoRA": lambda: independent_groups(baseline, lora),
    }[test]()

    printed = TABLE_4[dataset, test]
    digits = len(printed.partition("e")[0].partition(".")[2])
    form = f".{digits}e" if "e" in printed else f".{digits}f"
    assert format(by_fold.outcome.p, form) == printed
    assert (by_fold.unit, by_model.unit) == ("fold", "model")
    if test == "probe vs LoRA":
        assert by_fold.outcome.n_first == 35
        # All seven models gain: the smallest p-value that seven pairs can give.
        assert by_model.outcome.p == pytest.approx(2 / 2**7)
    else:
        assert (by_fold.outcome.n_first, by_fold.outcome.n_second) == (15, 35)
        assert (by_model.outcome.n_first, by_model.outcome.n_second) == (3, 7)
        # 120 groups of three among ten means; every baseline is above every probe.
        assert by_model.outcome.p * 120 == pytest.approx(round(by_model.outcome.p * 120))
        if test == "baseline vs probe":
            assert by_model.outcome.p == pytest.approx(2 / 120)


def test_groups_must_be_paired() -> None:
    assert "not independent" in NOT_INDEPENDENT
    with pytest.raises(InputError, match="`models` must be the same in both groups, got b in one only"):
        paired_groups({"a": [1.0]}, {"a": [1.0], "b": [2.0]})
    with pytest.raises(InputError, match="`folds of a` must be as many in both groups, got 1 and 2"):
        paired_groups({"a": [1.0]}, {"a": [1.0, 2.0]})
    with pytest.raises(InputError, match="`folds` must be at least one per model, got none of a"):
        independent_groups({"a": []}, {"b": [1.0]})
