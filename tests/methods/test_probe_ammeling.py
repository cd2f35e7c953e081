"""Ammeling's probe against scikit-learn and against the published form with two rows of weights."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import approx_fprime, check_grad, minimize
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from atypia.base.errors import InputError
from atypia.methods.catalogue import PROBES
from atypia.methods.head import FeatureRows
from atypia.methods.probes.ammeling import AmmelingProbeOptions, _penalty, fit

PROBE = PROBES["ammeling"]


@pytest.fixture(autouse=True)
def one_blas_thread():
    """Matrices are so small here that a second thread only waits for the first."""
    with threadpool_limits(1, user_api="blas"):
        yield


def sample(n=200, d=30, seed=0, share=0.2):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)) * rng.uniform(0.3, 2, d) + rng.normal(0, 1, d)
    score = x[:, 0] - x[:, 1] + rng.standard_normal(n)
    return x, (score > np.quantile(score, 1 - share)).astype(np.int8)


def two_rows(x, y):
    """Minimum of the published implementation's problem, softmax over two rows of weights, by SciPy."""
    n, d = x.shape
    strength = 1 / (d * 2 / 100)
    truth = np.eye(2)[y]

    def objective(flat):
        rows, bias = flat[: 2 * d].reshape(2, d), flat[2 * d :]
        logits = x @ rows.T + bias
        residual = (softmax(logits, axis=1) - truth) / n
        norm = np.sqrt((rows**2).sum() + 1e-18)
        value = -(truth * log_softmax(logits, axis=1)).sum() / n + strength * 0.5 * norm
        gradient = residual.T @ x + strength * 0.5 * rows / norm
        return value, np.concatenate([gradient.ravel(), residual.sum(0)])

    start = 1e-3 * np.random.default_rng(1).standard_normal(2 * d + 2)
    assert check_grad(lambda at: objective(at)[0], lambda at: objective(at)[1], start + 0.1) < 1e-4
    found = minimize(objective, start, jac=True, method="L-BFGS-B",
                     options={"maxiter": 5000, "maxfun": 20000, "ftol": 1e-14, "gtol": 1e-8})  # fmt: skip
    rows, bias = found.x[: 2 * d].reshape(2, d), found.x[2 * d :]
    return rows, bias, float(found.fun)


@pytest.mark.parametrize("d", [30, 300])
def test_one_logit_is_the_published_form_with_two_rows(d):
    x, y = sample(n=150, d=d)
    rows, bias, value = two_rows(x, y)
    head = fit(x, y, AmmelingProbeOptions(penalty="norm"))
    assert head.info["objective"] == pytest.approx(value, abs=1e-6)
    assert_allclose(rows[0], -rows[1], atol=1e-3 * np.abs(rows).max())  # the symmetry that is claimed
    logits = x @ (rows[1] - rows[0]) + bias[1] - bias[0]
    assert_allclose(head.logits(x), logits, atol=5e-3 * np.abs(logits).max())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_squared_penalty_equals_sklearn(seed):
    x, y = sample(seed=seed)
    strength = 100 / (30 * 2)
    model = LogisticRegression(C=1 / strength, solver="newton-cholesky", tol=1e-12).fit(x, y)
    head = fit(x, y, AmmelingProbeOptions())
    assert head.info["strength"] == strength
    assert np.linalg.norm(head.weight - model.coef_[0]) <= 1e-4 * np.linalg.norm(model.coef_)
    assert head.bias == pytest.approx(float(model.intercept_[0]), abs=1e-4)
    assert head.info["converged"] is True


@pytest.mark.parametrize("kind", ["squared", "norm"])
def test_the_slope_of_the_penalty_is_its_derivative(kind):
    w = np.array([0.3, -1.2, 2.0])
    value, slope = _penalty(w, kind, 5)
    assert_allclose(slope, approx_fprime(w, lambda at: _penalty(at, kind, 5)[0], 1e-7), atol=1e-5)
    norm = np.linalg.norm(np.stack([-w / 2, w / 2]))
    assert value == pytest.approx(0.5 * float(w @ w) / 5 if kind == "squared" else 0.5 * norm)


def test_the_norm_at_zero_has_no_slope_and_few_features_end_there():
    assert _penalty(np.zeros(3), "norm", 5)[1].tolist() == [0, 0, 0]
    x, y = sample(d=4)  # strength 12.5: no direction pays for its norm
    head = fit(x, y, AmmelingProbeOptions(penalty="norm"))
    assert np.abs(head.weight).max() < 1e-4
    assert 1 / (1 + np.exp(-head.bias)) == pytest.approx(y.mean(), abs=1e-3)


def test_folds_are_fitted_on_their_training_rows_alone():
    x, y = sample()
    folds = [FeatureRows(np.arange(0, 150), np.arange(150, 200)), FeatureRows(np.arange(50, 200), np.arange(50))]
    cases, told = np.repeat("c", 200), []
    heads = PROBE.fit_folds(x, y, cases, folds, 0, PROBE.parse_options({}), lambda *at: told.append(at))
    for fold, head in zip(folds, heads, strict=True):
        alone = fit(x[fold.train], y[fold.train], AmmelingProbeOptions())
        assert_allclose(head.weight, alone.weight, rtol=1e-6)
    again = PROBE.fit_folds(x, y, cases, folds, 99, PROBE.parse_options({}))
    assert (again[0].weight == heads[0].weight).all()
    assert told == [(1, 2, "folds fitted"), (2, 2, "folds fitted")]


def test_iterations_are_counted_and_bounded():
    x, y = sample()
    head = fit(x, y, AmmelingProbeOptions(max_iterations=2))
    assert head.info["iterations"] == 2
    assert head.info["converged"] is False


def test_bad_input_is_refused():
    x, y = sample()
    x[3, 1] = np.inf
    fold = [FeatureRows(np.arange(200), np.array([], np.int64))]
    with pytest.raises(InputError, match="NaN or infinity in 1 row"):
        PROBE.fit_folds(x, y, np.repeat("c", 200), fold, 0, PROBE.parse_options({}))
    with pytest.raises(InputError, match="no positive figure"):
        PROBE.fit_folds(x[:, 2:], np.zeros(200, np.int8), np.repeat("c", 200), fold, 0, PROBE.parse_options({}))
    for options in ({"penalty": "l1"}, {"max_iterations": 0}, {"c": 1}):
        with pytest.raises(InputError, match="options of probe ammeling"):
            PROBE.parse_options(options)
