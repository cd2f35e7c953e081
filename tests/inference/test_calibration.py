"""Calibration against scikit-learn, SciPy's optimisers and hand-computed values."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression, minimize_scalar

from atypia.base.errors import InputError
from atypia.inference.bundles.calibration import (
    CALIBRATIONS,
    UNCALIBRATED,
    Isotonic,
    Platt,
    Temperature,
    calibration_from_dict,
    fit_isotonic,
    fit_platt,
    fit_temperature,
    sigmoid,
)
from atypia.statistics.metrics import auroc

KINDS = list(CALIBRATIONS)


def sample(n: int = 600, slope: float = 0.7, bias: float = -1.2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels that are atypical with probability sigmoid(slope · z + bias)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0.3, 2.5, n)
    return logits, (rng.random(n) < 1 / (1 + np.exp(-slope * logits - bias))).astype(np.int8)


def targets(labels: np.ndarray) -> np.ndarray:
    """Platt's targets, written out again."""
    ones, zeros = labels.sum(), (1 - labels).sum()
    return np.where(labels == 1, (ones + 1) / (ones + 2), 1 / (zeros + 2))


def test_sigmoid_neither_overflows_nor_cancels() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        p = sigmoid(np.array([-800.0, -40.0, 0.0, np.log(3.0), 800.0]))
    assert p[0] == 0 and p[1] == pytest.approx(np.exp(-40.0), rel=1e-12)
    assert p[2:].tolist() == pytest.approx([0.5, 0.75, 1.0])


def test_platt_is_scikit_learns_sigmoid_calibration() -> None:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator

    class Scored(ClassifierMixin, BaseEstimator):
        """A classifier whose only feature is its logit."""

        def fit(self, x: np.ndarray, y: np.ndarray) -> Scored:
            self.classes_ = np.unique(y)
            return self

        def decision_function(self, x: np.ndarray) -> np.ndarray:
            return x[:, 0]

        def predict(self, x: np.ndarray) -> np.ndarray:
            return (x[:, 0] > 0).astype(int)

    logits, labels = sample()
    x = logits[:, None]
    other = CalibratedClassifierCV(FrozenEstimator(Scored().fit(x, labels)), method="sigmoid")
    other.fit(x, labels)
    np.testing.assert_allclose(fit_platt(logits, labels).apply(logits), other.predict_proba(x)[:, 1], atol=2e-4)


def test_platt_finds_what_the_labels_were_drawn_with() -> None:
    logits, labels = sample(60_000)
    found = fit_platt(logits, labels)
    assert (found.slope, found.bias) == pytest.approx((0.7, -1.2), abs=0.05)


def test_platt_gives_the_observed_share_of_atypical_figures() -> None:
    logits, labels = sample()
    # At the optimum the derivative by the bias is zero: mean probability = mean target.
    assert fit_platt(logits, labels).apply(logits).mean() == pytest.approx(targets(labels).mean(), abs=1e-7)
    assert abs(UNCALIBRATED.apply(logits).mean() - labels.mean()) > 0.1


def test_temperature_is_the_minimum_of_the_log_loss() -> None:
    logits, labels = sample(bias=0.0)

    def loss(log_t: float) -> float:
        t = logits / np.exp(log_t)
        return float(np.mean(np.logaddexp(0, t) - targets(labels) * t))

    best = minimize_scalar(loss, bounds=(-4, 4), method="bounded", options={"xatol": 1e-10})
    assert fit_temperature(logits, labels).temperature == pytest.approx(np.exp(best.x), rel=1e-5)


def test_isotonic_by_hand_and_by_scipy() -> None:
    # Two of each class: targets 1/4 and 3/4. The inverted pair in the middle is pooled to 1/2.
    small = fit_isotonic([0.0, 1.0, 2.0, 3.0], [0, 1, 0, 1])
    np.testing.assert_allclose(
        small.apply([-9.0, 0.0, 1.0, 1.5, 2.0, 2.5, 3.0, 9.0]), [1 / 4, 1 / 4] + 3 * [1 / 2] + [5 / 8] + 2 * [3 / 4]
    )
    logits, labels = sample()
    order = np.argsort(logits)
    expected = isotonic_regression(targets(labels)[order]).x
    np.testing.assert_allclose(fit_isotonic(logits, labels).apply(logits[order]), expected, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(12, 60), st.integers(1, 8))
def test_isotonic_never_falls_and_stays_off_the_ends(seed: int, n: int, values: int) -> None:
    rng = np.random.default_rng(seed)
    logits, labels = rng.integers(-values, values + 1, n).astype(float), np.arange(n) % 2
    logits[0] = values + 1.0
    p = fit_isotonic(logits, labels).apply(np.linspace(-values - 2, values + 2, 50))
    assert (np.diff(p) >= 0).all() and p[0] > 0 and p[-1] < 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_counts_as_so_many_figures(kind: str) -> None:
    logits, labels = sample(120)
    weights = np.arange(120) % 4
    fit = CALIBRATIONS[kind].fit
    weighted = fit(logits, labels, weights)
    repeated = fit(np.repeat(logits, weights), np.repeat(labels, weights), None)
    np.testing.assert_allclose(weighted.apply(logits), repeated.apply(logits), atol=1e-6)
    assert np.abs(weighted.apply(logits) - fit(logits, labels, None).apply(logits)).max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_separable_figures_give_bounded_probabilities(kind: str) -> None:
    fitted = CALIBRATIONS[kind].fit(np.r_[-3.0, -2.0, -1.0, 1.0, 2.0, 3.0], [0, 0, 0, 1, 1, 1], None)
    p = fitted.apply([-3.0, 0.0, 3.0])
    assert 0 < p[0] < 0.3 and p[1] == pytest.approx(0.5, abs=1e-6) and 0.7 < p[2] < 1
    json.dumps(fitted.as_dict(), allow_nan=False)


@pytest.mark.parametrize("kind", ["platt", "temperature"])
def test_the_order_is_kept_even_where_the_logits_are_wrong_way_round(kind: str) -> None:
    logits, labels = sample()
    for z in (logits, -logits):
        p = CALIBRATIONS[kind].fit(z, labels, None).apply(z)
        assert auroc(labels, p) == auroc(labels, z)


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_the_scale_of_the_logits_does_not_matter(kind: str) -> None:
    logits, labels = sample()
    fit = CALIBRATIONS[kind].fit
    moved = 1e4 * logits + 7e5
    np.testing.assert_allclose(
        fit(logits, labels, None).apply(logits), fit(moved, labels, None).apply(moved), atol=1e-6
    )


@pytest.mark.parametrize("kind", KINDS)
def test_json_form(kind: str) -> None:
    logits, labels = sample(80)
    fitted = CALIBRATIONS[kind].fit(logits, labels, None)
    again = calibration_from_dict(json.loads(json.dumps(fitted.as_dict())))
    assert again == fitted and again.kind == kind
    assert again.apply(logits.astype(np.float32)).dtype == np.float64


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("logits", "labels", "weights", "message"),
    [
        ([1.0, 2.0, 3.0], [1, 1, 1], None, "`labels` must be of both classes, got weight 3 of atypical and 0"),
        ([1.0, 2.0, 3.0], [0, 1, 1], [0, 1, 1], "`labels` must be of both classes"),
        ([1.0, np.nan, np.inf], [0, 1, 1], None, "`logits` must be finite, got NaN or infinity in 2 of 3"),
        ([2.0, 2.0, 2.0], [0, 1, 1], None, "`logits` must be of at least two values, got 2 everywhere"),
        ([2.0, 2.0000002, 1.9999998], [0, 1, 1], None, "`logits` must be of at least two values, got 2 everywhere"),
        ([1.0, 2.0], [0, 1, 1], None, "`logits` must be as long as `labels`"),
        ([1.0, 2.0, 3.0], [0, 1, 1], [1, 1], "`weights` must be as long as `labels`"),
        ([1.0, 2.0, 3.0], [0, 1, 1], [1, 1, -1], "`weights` must be ≥ 0, got -1"),
        ([1.0, 2.0, 3.0], [0, 1, 0.5], None, "`labels` must be 0 or 1, got 0.5"),
        ([[1.0, 2.0]], [0, 1], None, r"`logits` must be of shape \(n,\)"),
        (["a", "b"], [0, 1], None, "`logits` must be numbers"),
    ],
)
def test_refused_when_fitting(kind: str, logits: list, labels: list, weights: list | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        CALIBRATIONS[kind].fit(logits, labels, weights)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "plat", "slope": 1.0, "bias": 0.0}, "unknown calibration 'plat'; did you mean 'platt'"),
        ({}, "unknown calibration"),
        ({"kind": "platt", "slope": 1.0}, "`calibration` must be a mapping as it was saved"),
        ({"kind": "platt", "slope": 1.0, "bias": 0.0, "more": 1}, "`calibration` must be a mapping as it was saved"),
        ({"kind": "platt", "slope": -1.0, "bias": 0.0}, "`slope` must be a finite number above 0"),
        ({"kind": "platt", "slope": 1.0, "bias": "0"}, "`bias` must be a finite number"),
        ({"kind": "temperature", "temperature": 0}, "`temperature` must be a finite number above 0"),
        ({"kind": "temperature", "temperature": True}, "`temperature` must be a finite number above 0"),
        ({"kind": "isotonic", "logits": [0, 1], "probabilities": [0.5]}, "one for each of the 2 knots"),
        ({"kind": "isotonic", "logits": [], "probabilities": []}, "one for each of the 0 knots"),
        ({"kind": "isotonic", "logits": [1, 0], "probabilities": [0.1, 0.5]}, "`knots` must be increasing"),
        ({"kind": "isotonic", "logits": [0, 1], "probabilities": [0.5, 0.1]}, "`knots` must be increasing"),
        ({"kind": "isotonic", "logits": [0, 1], "probabilities": [0.5, 1.1]}, "`knots` must be increasing"),
        ({"kind": "isotonic", "logits": 3, "probabilities": [0.5]}, "`calibration` must be a mapping"),
    ],
)
def test_refused_when_reading(values: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        calibration_from_dict(values)


def test_applying_by_hand() -> None:
    assert Temperature(2.0).apply([2 * np.log(3.0)])[0] == pytest.approx(0.75)
    assert Platt(2.0, -np.log(3.0)).apply([0.0, np.log(3.0)]).tolist() == pytest.approx([0.25, 0.75])
    assert Isotonic((0.0, 2.0), (0.2, 0.6)).apply([-1.0, 1.0, 3.0]).tolist() == pytest.approx([0.2, 0.4, 0.6])
    assert UNCALIBRATED.apply(np.empty(0)).shape == (0,)
    with pytest.raises(InputError, match="`logits` must be finite"):
        Platt(1.0, 0.0).apply([np.nan])
