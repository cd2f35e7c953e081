"""The solver against scikit-learn, and on data that is hard for it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from atypia.base.errors import InputError, WorkError
from atypia.methods.head import balanced_weights
from atypia.methods.logistic import Preconditioner, Solution, solve


@pytest.fixture(autouse=True)
def one_blas_thread():
    """Matrices are so small here that a second thread only waits for the first."""
    with threadpool_limits(1, user_api="blas"):
        yield


def sample(n: int = 300, d: int = 20, seed: int = 0, share: float = 0.25):
    """Features of different scales and means, and labels that depend on some of them."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) * rng.uniform(0.1, 10, d) + rng.normal(0, 5, d)
    z = (x - x.mean(0)) / x.std(0)
    score = z[:, : min(d, 5)].sum(1) + 2 * rng.standard_normal(n)
    return x, (score > np.quantile(score, 1 - share)).astype(np.int8)


def objective(x, y, w, strength, weight, bias, sigma):
    """f_k in plain NumPy, from parameters on raw features."""
    t = x @ weight + bias
    losses = np.logaddexp(0, t) - y * t
    return (w * losses).sum() / w.sum() + strength / 2 * ((weight * sigma) ** 2).sum()


def by_sklearn(x, y, w, strength, standardise=True):
    """Weight and bias on raw features of one problem, and the deviations that it was standardised by."""
    inside = w > 0
    mean = x[inside].mean(0) if standardise else np.zeros(x.shape[1])
    sigma = x[inside].std(0) if standardise else np.ones(x.shape[1])
    sigma = np.where(sigma > 1e-9, sigma, 1)
    model = LogisticRegression(C=1 / (strength * w.sum()), solver="newton-cholesky", tol=1e-12, max_iter=1000)
    model.fit(((x - mean) / sigma)[inside], y[inside], sample_weight=w[inside])
    weight = model.coef_[0] / sigma
    return weight, float(model.intercept_[0] - weight @ mean), sigma


def assert_solved(x, y, weights, strengths, got: Solution, standardise=True, rtol=1e-4):
    for k, (w, strength) in enumerate(zip(weights, strengths, strict=True)):
        weight, bias, sigma = by_sklearn(x, y, w, strength, standardise)
        scale = np.linalg.norm(weight * sigma)
        assert np.linalg.norm((got.weight[k] - weight) * sigma) <= rtol * scale
        mean = np.average(x, axis=0, weights=w)
        assert abs(got.bias[k] + mean @ got.weight[k] - bias - mean @ weight) <= rtol * max(1, scale)
        best = objective(x, y, w, strength, weight, bias, sigma)
        assert objective(x, y, w, strength, got.weight[k], got.bias[k], sigma) == pytest.approx(best, abs=1e-5)
        assert got.objective[k] == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("share", [0.5, 0.08])
def test_equals_sklearn_for_folds_and_strengths_solved_together(seed, share):
    x, y = sample(seed=seed, share=share)
    part = np.random.default_rng(seed).integers(0, 3, len(y))
    weights = np.zeros((9, len(y)))
    for k in range(9):
        rows = part != k % 3
        weights[k, rows] = balanced_weights(y[rows])
    strengths = np.repeat([0.003, 0.3, 30.0], 3)
    got = solve(x, y, weights, strengths, tolerance=1e-8)
    assert_solved(x, y, weights, strengths, got)
    assert got.gradient.max() <= 1e-8
    assert got.iterations.min() >= 1


def test_rows_of_weight_zero_change_nothing():
    x, y = sample()
    weights = np.ones((1, len(y)))
    weights[0, 200:] = 0
    alone = solve(x[:200], y[:200], np.ones((1, 200)), np.array([0.1]), tolerance=1e-9)
    other = x.copy()
    other[200:] = 1e3
    for whole in (x, other):
        got = solve(whole, y, weights, np.array([0.1]), tolerance=1e-9)
        assert_allclose(got.weight, alone.weight, rtol=1e-6)
        assert_allclose(got.bias, alone.bias, rtol=1e-6)


def test_a_problem_is_solved_alike_alone_and_among_others():
    x, y = sample(n=120, d=10)
    weights = np.random.default_rng(0).uniform(0.1, 2, (6, len(y)))
    strengths = np.geomspace(0.01, 10, 6)
    together = solve(x, y, weights, strengths, tolerance=1e-9)
    for k in range(6):
        alone = solve(x, y, weights[[k]], strengths[[k]], tolerance=1e-9)
        assert_allclose(together.weight[k], alone.weight[0], rtol=1e-6, atol=1e-9)


def test_in_single_precision_companions_move_a_probability_by_less_than_is_stated():
    """What :func:`solve` says of other companions, threads and processors, at the probe's own tolerance."""
    x, y = sample(n=300, d=40)
    x = x.astype(np.float32)
    weights = np.random.default_rng(0).uniform(0.1, 2, (7, len(y)))
    strengths = np.geomspace(0.01, 10, 7).astype(np.float32)
    together = solve(x, y, weights, strengths, tolerance=1e-5)
    for k in range(7):
        alone = solve(x, y, weights[[k]], strengths[[k]], tolerance=1e-5)
        one, other = (expit(x @ got.weight[i] + got.bias[i]) for got, i in ((together, k), (alone, 0)))
        assert_allclose(one, other, atol=1e-5, rtol=0)


def test_collinear_columns_share_their_weight():
    x, y = sample(d=8)
    x = np.hstack([x, x[:, :3], -2 * x[:, [0]]])
    weights, strengths = np.ones((1, len(y))), np.array([0.01])
    got = solve(x, y, weights, strengths, tolerance=1e-9)
    assert_solved(x, y, weights, strengths, got)
    assert_allclose(got.weight[0, 8:11], got.weight[0, :3], rtol=1e-5, atol=1e-8)
    assert got.weight[0, 11] == pytest.approx(-got.weight[0, 0] / 2, rel=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, 1000.1])
def test_constant_columns_weigh_nothing(dtype, value):
    x, y = sample(d=8)
    weights, strengths = np.ones((1, len(y))), np.array([0.1])
    without = solve(x.astype(dtype), y, weights, strengths)
    got = solve(np.insert(x, 3, value, axis=1).astype(dtype), y, weights, strengths)
    assert got.weight[0, 3] == pytest.approx(0, abs=1e-6)
    assert_allclose(np.delete(got.weight[0], 3), without.weight[0], rtol=2e-3, atol=1e-4)


def test_a_column_that_is_constant_in_one_fold_only():
    x, y = sample(n=200, d=6)
    x[:100, 2] = 4.0
    weights = np.stack([np.repeat([1.0, 0.0], 100), np.ones(200)])
    strengths = np.array([0.1, 0.1])
    got = solve(x, y, weights, strengths, tolerance=1e-9)
    assert got.weight[0, 2] == pytest.approx(0, abs=1e-8)
    assert_solved(x, y, weights, strengths, got)


def test_separable_data_has_a_finite_solution():
    x, y = sample(n=100, d=5)
    x[:, 0] = np.where(y == 1, 1.0, -1.0) + np.random.default_rng(0).uniform(-0.2, 0.2, 100)
    weights, strengths = np.ones((2, 100)), np.array([1e-4, 1e-3])
    got = solve(x, y, weights, strengths, tolerance=1e-9)
    assert_solved(x, y, weights, strengths, got)
    assert (((x @ got.weight.T + got.bias) > 0) == (y[:, None] == 1)).all()


@pytest.mark.parametrize("strength", [0.01, 1.0])
def test_more_features_than_rows(strength):
    x, y = sample(n=50, d=150)
    weights, strengths = balanced_weights(y)[None], np.array([strength])
    got = solve(x, y, weights, strengths, tolerance=1e-9)
    assert_solved(x, y, weights, strengths, got)


def test_single_precision_agrees_with_double():
    x, y = sample(n=400, d=50, seed=3)
    x[:, 0] += 1000  # a mean that single precision must not trip over
    weights, strengths = np.ones((3, len(y))), np.array([0.01, 0.1, 1.0])
    double = solve(x, y, weights, strengths, tolerance=1e-9)
    single = solve(x.astype(np.float32), y, weights, strengths, tolerance=1e-5)
    sigma = x.std(0)
    error = np.linalg.norm((single.weight - double.weight) * sigma, axis=1)
    assert (error <= 2e-3 * np.linalg.norm(double.weight * sigma, axis=1)).all()
    assert_allclose(single.objective, double.objective, atol=1e-5)


def test_single_precision_ends_where_it_sees_no_progress():
    x, y = sample(n=400, d=50, seed=3)
    got = solve(x.astype(np.float32), y, np.ones((1, len(y))), np.array([0.01]), tolerance=1e-12)
    exact = solve(x, y, np.ones((1, len(y))), np.array([0.01]), tolerance=1e-10)
    assert 1e-12 < got.gradient[0] < 1e-3
    assert got.objective[0] == pytest.approx(exact.objective[0], abs=1e-5)


def test_features_as_they_are():
    x, y = sample(d=6)
    weights, strengths = np.ones((2, len(y))), np.array([0.1, 10.0])
    got = solve(x, y, weights, strengths, standardise=False, tolerance=1e-9)
    assert_solved(x, y, weights, strengths, got, standardise=False)


def test_standardised_features_make_scales_and_offsets_irrelevant():
    x, y = sample(n=150, d=6)
    scale, shift = np.geomspace(1e-3, 1e3, 6), np.linspace(-50, 50, 6)
    weights, strengths = np.ones((1, len(y))), np.array([0.1])
    got = solve(x, y, weights, strengths, tolerance=1e-10)
    moved = solve(x * scale + shift, y, weights, strengths, tolerance=1e-10)
    assert_allclose(moved.weight * scale, got.weight, rtol=1e-5, atol=1e-9)


def test_a_great_strength_leaves_the_prevalence():
    x, y = sample(share=0.25)
    got = solve(x, y, np.ones((1, len(y))), np.array([1e6]), tolerance=1e-10)
    assert np.abs(got.weight * x.std(0)).max() < 1e-5
    p = 1 / (1 + np.exp(-(x @ got.weight[0] + got.bias[0])))
    assert_allclose(p, y.mean(), atol=1e-4)


def test_the_preconditioner_is_the_inverse_where_all_eigenpairs_are_kept():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 7)) * np.arange(1, 8)
    z = (x - x.mean(0)) / x.std(0)
    strengths = np.array([0.1, 2.0])
    gradient = rng.standard_normal((2, 7))
    got = Preconditioner(x).apply(gradient, strengths)
    for k in range(2):
        hessian = 0.15 * z.T @ z / 50 + strengths[k] * np.eye(7)
        assert_allclose(hessian @ got[k], gradient[k], atol=1e-10)


@pytest.mark.parametrize("rank", [1, 5, 30])
def test_the_preconditioner_does_not_change_the_solution(rank):
    x, y = sample(n=300, d=70, seed=4)
    weights, strengths = np.ones((2, len(y))), np.array([0.01, 1.0])
    got = solve(x, y, weights, strengths, tolerance=1e-9, preconditioner=Preconditioner(x, rank=rank))
    assert_solved(x, y, weights, strengths, got)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y, w, s: (np.where(np.arange(len(y))[:, None] < 3, np.nan, x), y, w, s), r"infinity in 3 rows"),
        (lambda x, y, w, s: (x[:-1], y, w, s), r"of shapes \(n, d\), \(n,\), \(k, n\), got"),
        (lambda x, y, w, s: (x.astype(np.float16), y, w, s), r"`features` must be float32 or float64, got float16"),
        (lambda x, y, w, s: (x, np.zeros_like(y), w, s), r"no positive row in 2; fix: split otherwise"),
        (lambda x, y, w, s: (x, y, w * np.stack([y == 1, y < 2]), s), r"no negative row in 1"),
        (lambda x, y, w, s: (x, y + 1, w, s), r"`labels` must be 0 or 1, got \[1, 2\]"),
        (lambda x, y, w, s: (x, y, w, -s), r"`strengths` must be 2 positive numbers"),
        (lambda x, y, w, s: (x, y, w, s * np.nan), r"`strengths` must be 2 positive numbers"),
        (lambda x, y, w, s: (x, y, w, s[:1]), r"`strengths` must be 2 positive numbers"),
        (lambda x, y, w, s: (x, y, -w, s), r"`weights` must be finite and not negative"),
    ],
)
def test_what_cannot_be_solved_is_refused(change, message):
    x, y = sample(n=40, d=4)
    with pytest.raises(InputError, match=message):
        solve(*change(x, y, np.ones((2, 40)), np.array([0.1, 1.0])))


def test_too_few_steps_are_an_error():
    x, y = sample()
    with pytest.raises(WorkError, match=r"1 of 1 logistic regressions did not converge in 2 steps .*fix: larger"):
        solve(x, y, np.ones((1, len(y))), np.array([0.003]), max_iterations=2, tolerance=1e-9)
