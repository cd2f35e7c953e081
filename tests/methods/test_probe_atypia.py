"""Atypia's probe: its inner folds, its criterion and its choice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from threadpoolctl import threadpool_limits

from atypia.base.errors import InputError
from atypia.base.process.progress import silent
from atypia.methods.catalogue import PROBES
from atypia.methods.head import FeatureRows
from atypia.methods.probes.atypia import AtypiaOptions, AtypiaProbe, fit_fold, inner_folds

PROBE = PROBES["atypia"]


@pytest.fixture(autouse=True)
def one_blas_thread():
    """Matrices are so small here that a second thread only waits for the first."""
    with threadpool_limits(1, user_api="blas"):
        yield


def figures(n=240, d=12, n_cases=24, seed=0, share=0.3, noise=3.0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)) * np.linspace(0.1, 5, d) + np.linspace(-3, 3, d)
    score = x[:, -1] - x[:, -2] + noise * rng.standard_normal(n)
    y = (score > np.quantile(score, 1 - share)).astype(np.int8)
    cases = np.array([f"case {i}" for i in rng.integers(0, n_cases, n)])
    return x, y, cases


def by_case(cases, k=3):
    codes = np.unique(cases, return_inverse=True)[1] % k
    return [FeatureRows(np.flatnonzero(codes != i), np.flatnonzero(codes == i)) for i in range(k)]


@st.composite
def labelled_cases(draw):
    """Labels and cases where each class is in two cases or more."""
    sizes = draw(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=15))
    a, b = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    sizes = [*sizes, (a, b), (b, a)]
    labels = np.concatenate([np.repeat([1, 0], size) for size in sizes]).astype(np.int8)
    cases = np.concatenate([np.repeat(f"c{i}", sum(size)) for i, size in enumerate(sizes)])
    order = np.random.default_rng(draw(st.integers(0, 99))).permutation(len(labels))
    return labels[order], cases[order]


@settings(max_examples=200, deadline=None)
@given(labelled_cases(), st.integers(2, 8), st.integers(0, 5))
def test_inner_folds_never_divide_a_case_and_always_leave_both_classes(data, count, seed):
    labels, cases = data
    inner = inner_folds(labels, cases, count, seed, "fold")
    assert inner.shape == labels.shape
    for case in np.unique(cases):
        assert len(np.unique(inner[cases == case])) == 1
    parts = np.unique(inner)
    positive_cases = len(np.unique(cases[labels == 1]))
    assert parts.tolist() == list(range(min(count, positive_cases)))
    for part in parts:
        assert labels[inner == part].max() == 1
        assert set(labels[inner != part]) == {0, 1}
    assert (inner_folds(labels, cases, count, seed, "fold") == inner).all()


def test_inner_folds_spread_both_classes():
    rng = np.random.default_rng(0)
    # Most cases have no positive figure: they must not gather in one fold.
    cases = np.repeat([f"c{i}" for i in range(200)], 10)
    labels = ((rng.random(2000) < 0.5) & (np.repeat(np.arange(200), 10) < 60)).astype(np.int8)
    inner = inner_folds(labels, cases, 5, 0, "fold")
    for label in (0, 1):
        held = np.bincount(inner[labels == label])
        assert held.max() - held.min() <= 0.1 * held.mean()


def test_inner_folds_stand_on_seed_and_key():
    _, labels, cases = figures()
    start = inner_folds(labels, cases, 5, 0, "a")
    assert (start != inner_folds(labels, cases, 5, 1, "a")).any()
    assert (start != inner_folds(labels, cases, 5, 0, "b")).any()


def test_all_negatives_in_one_inner_fold_are_parted():
    # The greedy order puts both negative-bearing cases where the fewest positives are.
    labels = np.concatenate([np.repeat([1, 0], s) for s in [(9, 0), (1, 9), (1, 1)]]).astype(np.int8)
    cases = np.repeat(["a", "b", "c"], [9, 10, 2])
    inner = inner_folds(labels, cases, 2, 0, "x")
    for part in (0, 1):
        assert set(labels[inner != part]) == {0, 1}
        assert labels[inner == part].any()


@pytest.mark.parametrize(("label", "name"), [(1, "positive"), (0, "negative")])
def test_a_class_in_one_case_only_is_refused_with_the_remedy(label, name):
    x, y, cases = figures()
    cases[y == label] = "the one"
    with pytest.raises(InputError, match=rf"with {name} figures of two cases.*got 1 such case; fix: set one strength"):
        PROBE.fit_folds(
            x, y, cases, [FeatureRows(np.arange(len(y)), np.array([], np.int64))], 0, PROBE.parse_options({})
        )
    one = PROBE.parse_options({"strengths": [1.0]})
    head = PROBE.fit_folds(x, y, cases, [FeatureRows(np.arange(len(y)), np.array([], np.int64))], 0, one)[0]
    assert "inner_log_loss" not in head.info
    assert head.info["strength"] == 1.0


def sklearn_fit(x, y, strength, balanced=True, standardise=True):
    mean = x.mean(0) if standardise else np.zeros(x.shape[1])
    sigma = x.std(0) if standardise else np.ones(x.shape[1])
    w = len(y) / (2 * np.bincount(y)[y]) if balanced else np.ones(len(y))
    model = LogisticRegression(C=1 / (strength * w.sum()), solver="newton-cholesky", tol=1e-12, max_iter=1000)
    model.fit((x - mean) / sigma, y, sample_weight=w)
    weight = model.coef_[0] / sigma
    return weight, float(model.intercept_[0] - weight @ mean)


def test_criterion_choice_and_head_are_those_of_a_plain_loop():
    x, y, cases = figures()
    folds = by_case(cases)
    options = PROBE.parse_options({"strengths": [0.01, 0.1, 1.0, 10.0], "inner_folds": 4})
    heads = PROBE.fit_folds(x, y, cases, folds, 7, options)
    for fold, head in zip(folds, heads, strict=True):
        xs, ys = x[fold.train], y[fold.train]
        inner = inner_folds(ys, cases[fold.train], 4, 7, fold.key)
        losses = []
        for strength in options.strengths:
            p = np.zeros(len(ys))
            for part in np.unique(inner):
                weight, bias = sklearn_fit(xs[inner != part], ys[inner != part], strength)
                p[inner == part] = 1 / (1 + np.exp(-(xs[inner == part] @ weight + bias)))
            losses.append(log_loss(ys, p, sample_weight=len(ys) / (2 * np.bincount(ys)[ys])))
        assert_allclose(list(head.info["inner_log_loss"].values()), losses, rtol=2e-3)
        assert head.info["strength"] == options.strengths[int(np.argmin(losses))]
        weight, bias = sklearn_fit(xs, ys, head.info["strength"])
        assert np.linalg.norm((head.weight - weight) * xs.std(0)) <= 1e-3 * np.linalg.norm(weight * xs.std(0))
        assert_allclose(head.logits(xs), xs @ weight + bias, atol=2e-3)


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("standardise", [True, False])
def test_options_of_the_fit(balanced, standardise):
    x, y, cases = figures(share=0.1)
    options = PROBE.parse_options({"strengths": [0.3], "balanced": balanced, "standardise": standardise})
    fold = by_case(cases)[0]
    head = PROBE.fit_folds(x, y, cases, [fold], 0, options)[0]
    weight, bias = sklearn_fit(x[fold.train], y[fold.train], 0.3, balanced, standardise)
    assert_allclose(head.weight, weight, rtol=1e-2, atol=1e-3)
    assert head.bias == pytest.approx(bias, abs=5e-3)


def test_a_fold_does_not_depend_on_the_others_nor_on_rows_outside_it():
    x, y, cases = figures()
    folds, options = by_case(cases), PROBE.parse_options({})
    together = PROBE.fit_folds(x, y, cases, folds, 3, options)
    outside = np.setdiff1d(np.arange(len(y)), np.concatenate([folds[1].train, folds[1].val]))
    x[folds[1].val] *= 100
    x[outside] = np.nan
    alone = PROBE.fit_folds(x, y, cases, [folds[1]], 3, options)[0]
    assert (alone.weight == together[1].weight).all()
    assert alone.bias == together[1].bias
    assert alone.info == together[1].info


def test_noise_asks_for_a_greater_strength_than_signal():
    x, y, cases = figures(noise=0.3)
    rng = np.random.default_rng(0)
    fold, options = [FeatureRows(np.arange(len(y)), np.array([], np.int64))], PROBE.parse_options({})
    clear = PROBE.fit_folds(x, y, cases, fold, 0, options)[0].info
    noise = PROBE.fit_folds(rng.standard_normal((240, 40)), y, cases, fold, 0, options)[0].info
    assert clear["strength"] < noise["strength"]
    assert clear["strength_at_edge"] == (clear["strength"] in (0.003, 30.0))


def test_half_precision_features_and_progress():
    x, y, cases = figures()
    told = []
    heads = PROBE.fit_folds(
        x.astype(np.float16), y, cases, by_case(cases), 0, PROBE.parse_options({}), lambda *at: told.append(at)
    )
    assert told == [(i, 3, "folds fitted") for i in (1, 2, 3)]
    assert all(head.weight.dtype == np.float64 and np.isfinite(head.weight).all() for head in heads)


def test_features_that_are_not_finite_are_refused():
    x, y, cases = figures()
    x[5] = np.nan
    with pytest.raises(InputError, match="NaN or infinity in 1 row; fix: drop those figures"):
        PROBE.fit_folds(x, y, cases, by_case(cases), 0, PROBE.parse_options({}))


@pytest.mark.parametrize(
    "options",
    [{"strengths": []}, {"strengths": [0.0]}, {"strengths": [1.0, 1.0]}, {"inner_folds": 1}, {"strength": 1.0}],
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(InputError, match=r"strength|inner_folds"):
        PROBE.parse_options(options)


def test_strengths_are_sorted():
    assert AtypiaOptions(strengths=(1.0, 0.1)).strengths == (0.1, 1.0)


class OfAPlugIn(AtypiaProbe):
    """Derived as it was before figures had domains in `fit_folds`."""

    name = "of-a-plug-in"

    def fit_folds(self, features, labels, cases, folds, seed, options, progress=silent):
        return super().fit_folds(features, labels, cases, folds, seed, options, progress)


def test_a_derived_probe_that_is_given_no_domains_cannot_weigh_them():
    assert OfAPlugIn().parse_options({}).groups == "none"
    for groups in ("balanced", "dro"):
        assert PROBE.parse_options({"groups": groups}).groups == groups
        expected = rf"`options.groups` must be none for probe of-a-plug-in.*got {groups}; fix: give its `fit_folds` a parameter"
        with pytest.raises(InputError, match=expected):
            OfAPlugIn().parse_options({"groups": groups})


@pytest.mark.parametrize(
    ("domains", "why"),
    [
        (None, "no figure's domain is known"),
        (np.array([""] * 40), "no figure's domain is known"),
        (np.array(["here"] * 40), "all training figures are of one domain \\(here\\)"),
    ],
    ids=["none given", "all unknown", "one alone"],
)
def test_fewer_than_two_domains_cannot_be_weighed(domains: np.ndarray | None, why: str) -> None:
    rng = np.random.default_rng(0)
    labels = np.tile(np.array([0, 1], np.int8), 20)
    cases = np.array([f"case {row // 4}" for row in range(40)])
    x = rng.normal(size=(40, 3)).astype(np.float32)
    for groups in ("balanced", "dro"):
        options = PROBE.parse_options({"groups": groups})
        with pytest.raises(InputError, match=f"none where {why}, got {groups}"):
            fit_fold(x, labels, cases, (0, "a"), options, domains)
    assert fit_fold(x, labels, cases, (0, "a"), PROBE.parse_options({}), domains).weight.shape == (3,)
