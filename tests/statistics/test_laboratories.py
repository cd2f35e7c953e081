"""Shifts of a laboratory's scores: formulas by hand, and what must hold for any figures."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atypia.base.errors import InputError
from atypia.statistics.laboratories import (
    NO_SHIFT,
    AffineMap,
    ClassScores,
    Laboratory,
    LaboratoryPrior,
    Shift,
    affine,
    between_cases,
    class_scores,
    fit_prior,
    posterior,
)

REFERENCE = (ClassScores(-2.0, 2.0, 400, 400.0), ClassScores(1.0, 1.0, 100, 100.0))
PRIOR = LaboratoryPrior(0.5, 0.0, 0.1, 0.0)
EVEN = (ClassScores(-1.0, 1.0, 100, 100.0), ClassScores(1.0, 1.0, 100, 100.0))
priors = st.builds(LaboratoryPrior, st.floats(0.01, 2), st.floats(0, 0.95), st.floats(0, 1), st.floats(0, 1))
rows = st.tuples(st.booleans(), st.floats(-20, 20), st.sampled_from("abcd"))


def own(zero: tuple[float, float, int], one: tuple[float, float, int]) -> tuple[ClassScores, ClassScores]:
    return ClassScores(*zero, float(zero[2])), ClassScores(*one, float(one[2]))


def test_posterior_by_hand():
    # δ̂ = (−3 + 2) / 2 = −0.5 and (0.5 − 1) / 1 = −0.5; r̂ = 1: weights 4 and 12 against 1 / 0.25 = 4.
    found = posterior(REFERENCE, own((-3.0, 2.0, 4), (0.5, 1.0, 12)), PRIOR)
    assert found.shifts == pytest.approx((-0.5 * 4 / 8, -0.5 * 12 / 16))
    assert found.errors == pytest.approx((8**-0.5, 16**-0.5))
    assert found.ratios == pytest.approx((1.0, 1.0))


def test_scale_by_hand():
    # log r̂ = log 2 with 10 degrees of freedom: υ² / (υ² + 1 / 20) = 0.01 / 0.06.
    found = posterior(REFERENCE, own((-2.0, 4.0, 11), (1.0, 1.0, 11)), PRIOR)
    assert found.ratios == pytest.approx((2 ** (1 / 6), 1.0))


def test_what_one_class_tells_of_the_other():
    together = replace(PRIOR, together=0.9)
    found = posterior(REFERENCE, own((-4.0, 2.0, 50), (0.0, math.nan, 0)), together)
    alone = posterior(REFERENCE, own((-4.0, 2.0, 50), (0.0, math.nan, 0)), PRIOR)
    assert found.shifts[1] == pytest.approx(0.9 * found.shifts[0])
    assert alone.shifts[1] == 0


def test_map_of_equal_spread():
    found = affine(EVEN, Shift((0.5, 0.3), (1.0, 1.0), (0.1, 0.1)))
    assert found is not None
    # Means −0.5 and 1.3: the middle 0.4 goes to 0; the slope of the log ratio is 1.8 against 2.
    assert found == pytest.approx(AffineMap(0.9, -0.36))


def test_map_leads_crossing_to_crossing():
    found = affine(REFERENCE, Shift((0.2, -0.3), (1.2, 0.9), (0.1, 0.1)))
    assert found is not None

    def crossing(means: tuple[float, float], sds: tuple[float, float]) -> float:
        x = np.linspace(*means, 300_001)
        logs = [-((x - m) ** 2) / (2 * s * s) - math.log(s) for m, s in zip(means, sds, strict=True)]
        return float(x[np.argmin(np.abs(logs[1] - logs[0]))])

    new, old = crossing((-1.6, 0.7), (2.4, 0.9)), crossing((-2.0, 1.0), (2.0, 1.0))
    assert found.factor * new + found.offset == pytest.approx(old, abs=1e-4)


def test_classes_that_change_places_have_no_map():
    assert affine(EVEN, Shift((3.0, -3.0), (1.0, 1.0), (0.1, 0.1))) is None


@settings(deadline=None)
@given(priors)
def test_without_figures_nothing_is_shifted(prior: LaboratoryPrior):
    empty = class_scores([], [], None, prior.case_share)
    assert affine(REFERENCE, posterior(REFERENCE, empty, prior)) == NO_SHIFT


@settings(deadline=None)
@given(priors, st.floats(-3, 3), st.floats(-3, 3), st.integers(2, 60))
def test_more_figures_lead_to_the_laboratorys_own_means(prior: LaboratoryPrior, zero: float, one: float, n: int):
    def distance(times: int) -> float:
        mine = own((-2.0 + 2 * zero, 2.0, n * times), (1.0 + one, 1.0, n * times))
        found = posterior(REFERENCE, mine, prior)
        # In the metric of the prior, in which shrinkage is monotone whatever the correlation.
        gap = np.array(found.shifts) - (zero, one)
        return float(gap @ np.linalg.inv(np.array([[1, prior.together], [prior.together, 1]])) @ gap)

    near = [distance(times) for times in (1, 3, 9, 10**9)]
    assert all(after <= before + 1e-9 for before, after in pairwise(near))
    assert near[-1] == pytest.approx(0, abs=1e-5)


@settings(deadline=None)
@given(st.lists(rows, min_size=1, max_size=30), st.randoms())
def test_the_order_of_figures_does_not_matter(given_rows, random):
    mixed = given_rows[:]
    random.shuffle(mixed)
    one, other = (class_scores(*(list(c) for c in zip(*r, strict=True)), 0.3) for r in (given_rows, mixed))
    assert repr(one) == repr(other)  # NaN of a missing spread included


@settings(deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.floats(0, 1))
def test_what_figures_of_cases_are_worth(sizes: list[int], share: float):
    cases = [str(i) for i, size in enumerate(sizes) for _ in range(size)]
    worth = class_scores(np.ones(len(cases), int), np.arange(len(cases)), cases, share)[1].worth
    assert 0 < worth <= len(cases) * (1 + 1e-12)
    if len(set(sizes)) == 1:
        alike = class_scores(np.ones(len(cases), int), np.zeros(len(cases)), cases, 1.0)[1]
        assert alike.worth == pytest.approx(len(sizes))


def test_prior_is_found_again():
    rng = np.random.default_rng(1)
    labs = []
    for i in range(300):
        common = rng.normal(size=2) @ np.linalg.cholesky(0.16 * np.array([[1, 0.5], [0.5, 1]])).T
        scores = [rng.normal(m + s * d, s, 60) for m, s, d in zip((-2, 1), (2, 1), common, strict=True)]
        labels = np.repeat([0, 1], 60)
        labs.append(Laboratory(str(i), REFERENCE, class_scores(labels, np.concatenate(scores), None, 0.0)))
    prior = fit_prior(labs, 0.0)
    assert prior.location == pytest.approx(0.4, rel=0.15)
    assert prior.together == 0.5
    assert prior.scale < 0.05
    assert fit_prior(labs, 0.0, 4.0).location == pytest.approx(prior.location / 2)


def test_share_between_cases_is_found_again():
    rng = np.random.default_rng(2)
    cases = np.repeat(np.arange(300), 4)
    z = rng.normal(size=300)[cases] * 0.6 + rng.normal(size=1200) * 0.8
    assert between_cases([(z, cases)]) == pytest.approx(0.36, abs=0.06)
    assert between_cases([(z, np.arange(1200))]) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LaboratoryPrior(-1.0, 0.0, 0.1, 0.0), "`prior location` must be from 0"),
        (lambda: LaboratoryPrior(1.0, 1.0, 0.1, 0.0), "`prior together` must be"),
        (lambda: class_scores([0, 1], [0.0, math.nan], None, 0.0), "`scores` must be finite"),
        (lambda: posterior((REFERENCE[1], REFERENCE[0]), EVEN, PRIOR), "atypical above normal"),
        (lambda: fit_prior([], 0.0), "two laboratories or more"),
    ],
)
def test_what_is_refused(call, message: str):
    with pytest.raises(InputError, match=message):
        call()
