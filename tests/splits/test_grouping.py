"""Case-grouped placement: its promises, checked against their definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atypia.base.errors import InputError
from atypia.splits.grouping import allocate, imbalance, ranking, stratum_counts

SHARES = [(0.5, 0.5), (0.2,) * 5, (0.95, 0.05), (0.64, 0.16, 0.2)]


@st.composite
def figures(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cases, labels and domains of up to 40 cases with 0 to 9 figures of each class."""
    pairs = draw(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=5, max_size=40))
    n_domains = draw(st.integers(1, 4))
    cases, labels, domains = [], [], []
    for case, (normal, atypical) in enumerate(pairs):
        # A case without figures is none; both classes occur in the first case.
        normal, atypical = max(normal, 1), max(atypical, 1 if case == 0 else 0)
        cases += [case] * (normal + atypical)
        labels += [0] * normal + [1] * atypical
        domains += [case % n_domains] * (normal + atypical)
    return np.array(cases), np.array(labels), np.array(domains)


def parts_of_cases(cases: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """The part of each case, once it is certain that it has only one."""
    for case in np.unique(cases):
        assert len(set(parts[cases == case])) == 1, f"case {case} was divided"
    return np.array([parts[cases == case][0] for case in np.unique(cases)])


@settings(max_examples=150, deadline=None)
@given(figures(), st.sampled_from(SHARES), st.integers(0, 5), st.booleans())
def test_no_case_is_divided_no_part_is_empty_and_the_tolerance_holds(data, shares, seed, balanced):
    cases, labels, domains = data
    parts = allocate(cases, labels, shares, np.random.default_rng(seed), domains if balanced else None)
    assert parts.shape == cases.shape
    assert set(parts) == set(range(len(shares)))
    of_case = parts_of_cases(cases, parts)
    counts, weights = stratum_counts(cases, labels, domains if balanced else None)
    full = [part for part in range(len(shares)) if (of_case == part).sum() > 1]
    for a in full:
        for b in full:
            if a < b:
                apart, bound = imbalance(counts, weights, of_case, shares, a, b)
                assert apart <= bound + 1e-6


@settings(max_examples=50, deadline=None)
@given(figures(), st.integers(0, 5), st.randoms(use_true_random=False))
def test_the_order_of_rows_has_no_influence(data, seed, random):
    cases, labels, domains = data
    order = np.array(random.sample(range(len(cases)), len(cases)))
    straight = allocate(cases, labels, (0.2,) * 5, np.random.default_rng(seed), domains)
    shuffled = allocate(cases[order], labels[order], (0.2,) * 5, np.random.default_rng(seed), domains[order])
    assert (straight[order] == shuffled).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(10, 300), st.integers(2, 8), st.floats(0.05, 0.95), st.integers(0, 3))
def test_figures_of_a_case_each_are_spread_to_within_one(n, folds, prevalence, seed):
    labels = (np.arange(n) < max(1, round(n * prevalence))).astype(int)
    labels[-1] = 0
    parts = allocate(np.arange(n), labels, (1 / folds,) * folds, np.random.default_rng(seed))
    for label in (0, 1):
        counts = np.bincount(parts[labels == label], minlength=folds)
        assert counts.max() - counts.min() <= 1


def test_seeds_give_different_parts_and_the_same_seed_the_same():
    rng = np.random.default_rng(0)
    cases = np.repeat(np.arange(50), rng.integers(1, 12, 50))
    labels = (rng.random(len(cases)) < 0.3).astype(int)
    drawn = [allocate(cases, labels, (0.2,) * 5, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert (drawn[0] == drawn[1]).all()
    assert (drawn[0] != drawn[2]).any()


def test_single_moves_cannot_better_the_result():
    """An independent look at the objective: no case can go elsewhere and lower it."""
    rng = np.random.default_rng(3)
    cases = np.repeat(np.arange(30), rng.integers(1, 15, 30))
    labels = (rng.random(len(cases)) < 0.2).astype(int)
    shares = np.array([0.5, 0.3, 0.2])
    parts = allocate(cases, labels, tuple(shares), np.random.default_rng(0))

    def distance(placed: np.ndarray) -> float:
        total = 0.0
        for label in (0, 1):
            target = shares * (labels == label).sum()
            total += (((np.bincount(placed[labels == label], minlength=3) - target) ** 2) / target).sum()
        return total

    best = distance(parts)
    for case in range(30):
        for part in range(3):
            assert distance(np.where(cases == case, part, parts)) >= best - 1e-6


def test_makeup_and_imbalance_by_hand():
    # Case 0: two normal, one atypical; case 1: one normal; case 2: one normal, one atypical.
    counts, weights = stratum_counts(np.array([0, 0, 0, 1, 2, 2]), np.array([0, 0, 1, 0, 0, 1]))
    assert counts.tolist() == [[2, 1], [1, 0], [1, 1]]
    assert weights.tolist() == [1, 1]
    # Halves {0} and {1, 2}: 2 of 4 normal each, 1 of 2 atypical each, so nothing is apart.
    apart, bound = imbalance(counts, weights, np.array([0, 1, 1]), (0.5, 0.5), 0, 1)
    assert apart == 0
    # Targets 2 and 1; squares (4, 1) + (1 + 1, 1), over 1/2: (12, 4); 1/2 (12 * 1 + 4 * 2) = 10.
    assert bound == pytest.approx(10)
    # Halves {0, 1} and {2}: 3 and 1 of 4 normal: 4 (1/2 + 1/2)^2 = 4; atypical 1 and 1.
    assert imbalance(counts, weights, np.array([0, 0, 1]), (0.5, 0.5), 0, 1)[0] == pytest.approx(4)


def test_makeup_with_domains_weighs_them_as_one_class():
    counts, weights = stratum_counts(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]))
    assert counts.tolist() == [[1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 1, 1]]
    assert weights.tolist() == [1, 1, 0.25, 0.25, 0.25, 0.25]


def test_domains_are_balanced_when_asked():
    rng = np.random.default_rng(1)
    cases = np.repeat(np.arange(200), 5)
    domains = cases % 4
    labels = (rng.random(1000) < 0.3).astype(int)
    parts = allocate(cases, labels, (0.2,) * 5, np.random.default_rng(0), domains)
    for domain in range(4):
        counts = np.bincount(parts[domains == domain], minlength=5)
        assert counts.max() - counts.min() <= 10  # two cases of 50


def test_as_many_cases_as_parts_is_enough():
    cases, labels = np.array([0] * 50 + [1, 1, 2, 2]), np.array([0, 1] * 27)
    parts = allocate(cases, labels, (0.95, 0.03, 0.02), np.random.default_rng(0))
    assert sorted(parts_of_cases(cases, parts)) == [0, 1, 2]


@pytest.mark.parametrize(
    ("cases", "labels", "shares", "message"),
    [
        ([0, 0, 1, 1], [0, 1, 0, 1], (0.2,) * 5, r"`cases` must be at least 5.*got 2 \(4 figures\); fix: use fewer"),
        ([0, 1, 2], [0, 0, 0], (0.5, 0.5), r"`label` must be of both classes, got 3 figures of one class; fix:"),
        ([0, 1], [0, 1], (0.5, 0.6), r"`shares` must be .*adding up to 1, got .*; fix:"),
        ([0, 1], [0, 1], (1.0, 0.0), r"`shares` must be between 0 and 1"),
    ],
)
def test_what_cannot_be_placed_is_refused(cases, labels, shares, message):
    with pytest.raises(InputError, match=message):
        allocate(np.array(cases), np.array(labels), shares, np.random.default_rng(0))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 1), min_size=1, max_size=200), st.integers(0, 3))
def test_every_beginning_of_a_ranking_has_the_classes_in_proportion(labels, seed):
    array = np.array(labels)
    order = ranking(array, np.random.default_rng(seed))
    assert sorted(order) == list(range(len(labels)))
    share = array.mean()
    for size, found in enumerate(np.cumsum(array[order]), start=1):
        assert abs(found - size * share) <= 1 + 1e-9
