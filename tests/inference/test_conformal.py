"""Conformal sets: coverage by simulation, MAPIE, hand-computed limits."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atypia.base.errors import InputError
from atypia.inference.bundles.calibration import fit_platt, sigmoid
from atypia.inference.bundles.conformal import COVERAGES, Conformal, fit_conformal, quantile


def figures(rng: np.random.Generator, normal: int, atypical: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities of two overlapping classes."""
    labels = np.r_[np.zeros(normal, int), np.ones(atypical, int)]
    return labels, sigmoid(rng.normal(2.0 * labels - 1.0, 1.2))


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_either_class_is_covered_as_often_as_promised(coverage: float) -> None:
    rng = np.random.default_rng(1)
    n_normal, n_atypical, tests, rounds = 199, 59, 100, 300
    covered = np.zeros((rounds, 2))
    for row in covered:
        fitted = fit_conformal(*figures(rng, n_normal, n_atypical))
        sets = fitted.sets(figures(rng, tests, tests)[1], coverage)
        row[:] = sets.normal[:tests].mean(), sets.atypical[tests:].mean()
    for share, n in zip(covered.mean(axis=0), (n_normal, n_atypical), strict=True):
        # A round's coverage is Beta(r, n + 1 − r), r the rank of the limit, seen through `tests` figures.
        r = math.ceil((n + 1) * coverage - 1e-9)
        expected = r / (n + 1)
        deviation = math.sqrt(expected * (1 - expected) * (1 / (n + 2) + 1 / tests) / rounds)
        assert coverage <= expected + 1e-12 and abs(share - expected) < 4 * deviation


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 40), st.integers(0, 40), st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99]))
def test_a_class_is_left_out_where_enough_figures_conform_better(
    seed: int, normal: int, atypical: int, coverage: float
) -> None:
    rng = np.random.default_rng(seed)
    labels, p = figures(rng, normal, atypical)
    new = rng.random(20)
    sets = fit_conformal(labels, p).sets(new, coverage)
    # Another form of the same rule: counted p-values, written out figure by figure.
    for held, calibration, mine in ((sets.normal, p[labels == 0], new), (sets.atypical, 1 - p[labels == 1], 1 - new)):
        for inside, score in zip(held, mine, strict=True):
            at_least = 1 + sum(other >= score for other in calibration)
            assert inside == (at_least / (len(calibration) + 1) > 1 - coverage + 1e-9)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:WARNING. your conformalization dataset")
def test_mapie_gives_the_same_sets() -> None:
    from mapie.classification import SplitConformalClassifier
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Known(ClassifierMixin, BaseEstimator):
        """A classifier whose only feature is the probability of class 1."""

        def fit(self, x: np.ndarray, y: np.ndarray) -> Known:
            self.classes_ = np.array([0, 1])
            self.is_fitted_ = True
            return self

        def predict_proba(self, x: np.ndarray) -> np.ndarray:
            return np.c_[1 - x[:, 0], x[:, 0]]

        def predict(self, x: np.ndarray) -> np.ndarray:
            return (x[:, 0] >= 0.5).astype(int)

    rng = np.random.default_rng(2)
    labels, p = figures(rng, 143, 77)
    new = rng.random(400)
    for coverage in (0.8, 0.9, 0.95):
        ours = fit_conformal(labels, p).sets(new, coverage)
        for label, held in enumerate(ours):
            # Fitted on one class alone, MAPIE's set tells that class's membership.
            theirs = SplitConformalClassifier(
                Known().fit(p[:, None], labels), confidence_level=coverage, conformity_score="lac", prefit=True
            )
            theirs.conformalize(p[labels == label, None], labels[labels == label])
            np.testing.assert_array_equal(held, theirs.predict_set(new[:, None])[1][:, label, 0])


def test_limits_by_hand() -> None:
    fitted = fit_conformal([0] * 9 + [1] * 4, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.5, 0.6, 0.7, 0.8])
    # Nine normal figures: rank ⌈10 · 0.9⌉ = 9. Four atypical: rank ⌈5 · 0.8⌉ = 4, but 5 of 4 at 0.9.
    assert fitted.limits(0.9) == (0.9, math.inf)
    assert fitted.limits(0.8) == (pytest.approx(0.8), pytest.approx(0.5))
    assert fitted.limits(0.91) == (math.inf, math.inf)
    sets = fitted.sets([0.05, 0.5, 0.85, 0.95], 0.8)
    assert sets.normal.tolist() == [True, True, False, False]
    assert sets.atypical.tolist() == [False, True, True, True]


def test_a_class_without_figures_is_in_every_set() -> None:
    sets = fit_conformal([0] * 99, np.linspace(0.01, 0.99, 99)).sets([0.001, 0.999], 0.5)
    assert sets.atypical.all() and sets.normal.tolist() == [True, False]
    assert fit_conformal([], []).limits(0.5) == (math.inf, math.inf)


def test_rounding_does_not_move_a_rank() -> None:
    for n in range(1, 400):
        for percent in range(50, 100):
            rank = -(-(n + 1) * percent // 100)
            expected = float(rank) if rank <= n else math.inf
            assert quantile(np.arange(1.0, n + 1), percent / 100) == expected


def test_a_monotone_calibration_on_the_same_figures_changes_no_set() -> None:
    rng = np.random.default_rng(3)
    labels = np.arange(300) % 3 == 0
    logits, new = rng.normal(labels * 1.5, 1.0), rng.normal(0, 2.0, 500)
    platt = fit_platt(logits, labels)
    before = fit_conformal(labels, sigmoid(logits)).sets(sigmoid(new), 0.9)
    after = fit_conformal(labels, platt.apply(logits)).sets(platt.apply(new), 0.9)
    np.testing.assert_array_equal(before, after)


def test_a_coverage_between_stored_ones_takes_the_next_higher() -> None:
    fitted = fit_conformal(*figures(np.random.default_rng(4), 500, 300))
    assert fitted.limits(0.901) == fitted.limits(0.91) != fitted.limits(0.9)
    assert fitted.limits(1 - 0.1) == fitted.limits(0.9) == fitted.limits(0.3 * 3)
    assert fitted.limits(0.2) == fitted.limits(COVERAGES[0])
    for coverage in (0.0, 0.995, 1.0, -0.5, math.nan):
        with pytest.raises(InputError, match=r"`coverage` must be above 0 and at most 0\.99"):
            fitted.limits(coverage)


def test_json_form() -> None:
    fitted = fit_conformal(*figures(np.random.default_rng(5), 40, 12))
    text = json.dumps(fitted.as_dict(), allow_nan=False)
    assert Conformal.from_dict(json.loads(text)) == fitted
    assert fitted.atypical[-1] == math.inf and json.loads(text)["atypical"][-1] is None
    assert json.loads(text)["figures"] == {"normal": 40, "atypical": 12}


def test_refused() -> None:
    good = fit_conformal(*figures(np.random.default_rng(6), 40, 40), coverages=(0.8, 0.9)).as_dict()
    for change, message in (
        ({"normal": None}, "`conformal` must be a mapping as it was saved"),
        ({"normal": [0.1]}, "`limits of normal` must be one a coverage"),
        ({"atypical": [0.9, 0.1]}, "`limits of atypical` must be one a coverage, never decreasing"),
        ({"atypical": [0.9, math.nan]}, "`limits of atypical` must be"),
        ({"coverages": [0.9, 0.8]}, "`coverages` must be increasing"),
        ({"coverages": []}, "`coverages` must be increasing"),
        ({"figures": {}}, "`conformal` must be a mapping as it was saved"),
    ):
        with pytest.raises(InputError, match=message):
            Conformal.from_dict({**good, **change})
    with pytest.raises(InputError, match="`probabilities` must be between 0 and 1"):
        fit_conformal([0, 1], [0.1, 1.1])
    with pytest.raises(InputError, match="`probabilities` must be as long as `labels`"):
        fit_conformal([0, 1], [0.1])
    with pytest.raises(InputError, match="`probabilities` must be finite"):
        Conformal.from_dict(good).sets([np.nan], 0.8)
