"""The decision: verdicts, operating points, JSON form, what its import costs."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest

from atypia.base.errors import InputError
from atypia.inference.bundles.calibration import CALIBRATIONS, Platt, sigmoid
from atypia.inference.bundles.conformal import Conformal
from atypia.inference.bundles.decision import CALLS, Decision, fit_decision
from atypia.inference.bundles.novelty import Novelty
from atypia.statistics.metrics import sensitivity, specificity


def figures(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, logits of a network that saw balanced classes, and features that it drew them from."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.22).astype(int)
    features = rng.normal(size=(n, 12)) + np.r_[1.5, np.zeros(11)] * labels[:, None]
    return labels, 2.2 * features[:, 0] - 1.5 + rng.normal(0, 0.8, n), features


@pytest.fixture(scope="module")
def fitted() -> Decision:
    labels, _, features = figures(900, 0)
    val_labels, val_logits, val_features = figures(1200, 1)
    return fit_decision(val_logits, val_labels, features, labels, val_features, novelty_quantile=0.99)


def conformal(q_normal: float, q_atypical: float) -> Conformal:
    return Conformal((0.9,), (q_normal,), (q_atypical,), 9, 9)


def logit(p: list[float]) -> np.ndarray:
    return np.log(np.array(p) / (1 - np.array(p)))


def test_a_plain_threshold() -> None:
    decision = Decision(threshold=0.3)
    assert decision.as_dict() == {"threshold": 0.3} and decision.tensors() == {}
    verdicts = Decision.from_dict({"threshold": 0.3}).apply(logit([0.2, 0.31, 0.9]), np.zeros((3, 5)))
    np.testing.assert_allclose(verdicts.p, [0.2, 0.31, 0.9])
    assert verdicts.decision.tolist() == [0, 1, 1] and verdicts.decision.dtype == np.int8
    assert verdicts.call == ["normal", "atypical", "atypical"] and np.isnan(verdicts.novelty).all()
    assert CALLS == ("normal", "atypical", "uncertain", "refused")


def test_calls_follow_the_sets_and_never_contradict_the_decision() -> None:
    # normal is in the set up to p = 0.4, atypical from p = 0.25: between them both.
    p = [0.1, 0.3, 0.35, 0.6]
    both = Decision(threshold=0.33, conformal=conformal(0.4, 0.75))
    assert both.apply(logit(p)).call == ["normal", "uncertain", "uncertain", "atypical"]
    assert both.apply(logit(p)).decision.tolist() == [0, 0, 1, 1]
    # normal up to 0.2, atypical from 0.5: between them neither.
    neither = Decision(threshold=0.33, conformal=conformal(0.2, 0.5))
    assert neither.apply(logit(p)).call == ["normal", "uncertain", "uncertain", "atypical"]
    # A threshold below what is surely normal: 0.1 is decided atypical and may not be called normal.
    assert Decision(threshold=0.05, conformal=conformal(0.4, 0.75)).apply(logit(p)).call[0] == "uncertain"
    assert Decision(threshold=0.7, conformal=conformal(0.4, 0.75)).apply(logit(p)).call[3] == "uncertain"
    # Too few calibration figures of either class: everything is open.
    assert set(Decision(conformal=conformal(math.inf, math.inf)).apply(logit(p)).call) == {"uncertain"}


def test_refused_comes_first_and_keeps_probability_and_decision() -> None:
    novelty = Novelty(np.zeros(2), np.eye(2), np.zeros((2, 2)), np.ones(2), 1.0, 1.0, limit=3.0, quantile=0.99)
    decision = Decision(threshold=0.4, novelty=novelty, conformal=conformal(0.5, 0.75))
    features = np.array([[0.0, 1.0], [90.0, 0.0], [0.0, 90.0]])
    verdicts = decision.apply(logit([0.9, 0.9, 0.45]), features)
    assert verdicts.call == ["atypical", "refused", "refused"]
    assert verdicts.decision.tolist() == [1, 1, 1] and verdicts.p[1] == pytest.approx(0.9)
    np.testing.assert_allclose(verdicts.novelty, np.array([1, 90, 90]) / np.sqrt(2))
    assert decision.apply(logit([0.9])).call == ["atypical"]


def test_fitted_on_validation_figures(fitted: Decision) -> None:
    labels, logits, features = figures(1200, 1)
    verdicts = fitted.apply(logits, features)
    assert isinstance(fitted.calibration, Platt) and fitted.calibration.bias < -0.5
    assert verdicts.p.mean() == pytest.approx(labels.mean(), abs=0.002)
    assert list(fitted.points) == [
        "balanced", "sensitivity-0.90", "sensitivity-0.95", "specificity-0.90", "specificity-0.95"
    ]  # fmt: skip
    assert fitted.threshold == fitted.points["balanced"]
    for name, facts in fitted.fitted["points"].items():
        decided = fitted.at(name).apply(logits).decision
        assert sensitivity(labels, decided) == facts["sensitivity"]
        assert specificity(labels, decided) == facts["specificity"]
        assert facts["balanced_accuracy"] <= fitted.fitted["points"]["balanced"]["balanced_accuracy"]
    assert sensitivity(labels, fitted.at("sensitivity-0.95").apply(logits).decision) >= 0.95
    facts = fitted.fitted
    assert facts["figures"] == {"normal": int((labels == 0).sum()), "atypical": int(labels.sum())}
    assert facts["calibration"]["ece"]["after"] < 0.5 * facts["calibration"]["ece"]["before"]
    assert facts["calibration"]["brier"]["after"] < facts["calibration"]["brier"]["before"]
    without = fitted.apply(logits)
    assert facts["uncertain"] == pytest.approx(np.mean([call == "uncertain" for call in without.call]))
    assert facts["novelty"] == {"training": 900, "held_out": 1200}


def test_new_figures_get_what_was_promised(fitted: Decision) -> None:
    labels, logits, features = figures(6000, 2)
    verdicts = fitted.apply(logits, features)
    call = np.array(verdicts.call)
    assert set(call) == set(CALLS)
    # Of either class at most a tenth is called the other; the limits stand on about 264 and 936 figures.
    for label, wrong, n in ((1, "normal", 264), (0, "atypical", 936)):
        share = np.mean(call[labels == label] == wrong)
        assert share < 0.1 + 4 * np.sqrt(0.09 * (1 / n + 1 / (labels == label).sum()))
    assert (call == "refused").mean() < 0.03
    far = fitted.apply(logits[:50], 30 + features[:50])
    assert set(far.call) == {"refused"}
    np.testing.assert_array_equal(far.decision, verdicts.decision[:50])


def test_each_figure_is_judged_alone(fitted: Decision) -> None:
    _, logits, features = figures(64, 3)
    whole = fitted.apply(logits.astype(np.float32), features.astype(np.float32))
    parts = [
        fitted.apply(logits[i : i + 7].astype(np.float32), features[i : i + 7].astype(np.float32))
        for i in range(0, 64, 7)
    ]
    assert [call for part in parts for call in part.call] == whole.call
    np.testing.assert_array_equal(np.concatenate([part.p for part in parts]), whole.p)
    empty = fitted.apply(np.empty(0), np.empty((0, 12)))
    assert empty.call == [] and empty.p.shape == empty.novelty.shape == empty.decision.shape == (0,)


@pytest.mark.parametrize("calibration", list(CALIBRATIONS))
def test_json_form(calibration: str) -> None:
    labels, logits, features = figures(300, 4)
    fitted = fit_decision(logits, labels, features, labels, features, calibration=calibration, components=4)
    text = json.dumps(fitted.as_dict(), allow_nan=False)
    again = Decision.from_dict(json.loads(text), {**fitted.tensors(), "head.weight": np.zeros(3)})
    assert again.as_dict() == fitted.as_dict() and len(text) < 20_000
    new = figures(100, 5)
    one, other = fitted.apply(new[1], new[2]), again.apply(new[1], new[2])
    assert one.call == other.call
    for name in ("p", "decision", "novelty"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_other_points_and_coverages(fitted: Decision) -> None:
    logits = figures(800, 6)[1]
    assert fitted.at("sensitivity-0.90").points == fitted.points
    uncertain = [fitted.with_coverage(c).apply(logits).call.count("uncertain") for c in (0.85, 0.9, 0.95, 0.99)]
    assert uncertain == sorted(uncertain) and uncertain[0] < uncertain[-1]
    with pytest.raises(
        InputError, match=r"`operating point` must be one of the model's, got best; fix: choose from: bal"
    ):
        fitted.at("best")
    with pytest.raises(InputError, match="carries its threshold alone"):
        Decision().at("balanced")
    with pytest.raises(InputError, match="`coverage` must be left out"):
        Decision().with_coverage(0.9)
    with pytest.raises(InputError, match="`coverage` must be above 0 and at most"):
        fitted.with_coverage(0.999)


def test_without_features_nothing_is_refused() -> None:
    labels, logits, features = figures(200, 7)
    decision = fit_decision(logits, labels, sensitivities=(), specificities=(0.8,), coverage=0.8)
    assert decision.novelty is None and list(decision.points) == ["balanced", "specificity-0.80"]
    assert "refused" not in decision.apply(logits, features).call
    with pytest.raises(InputError, match="`novelty` must be fitted with all three of its arguments, got 2"):
        fit_decision(logits, labels, features, labels)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "`decision` must be of .*, got no threshold"),
        ({"threshold": 0.5, "treshold": 0.4}, "got unknown treshold"),
        ({"threshold": 0.0}, "`threshold` must be a number between 0 and 1"),
        ({"threshold": True}, "`threshold` must be a number between 0 and 1"),
        ({"threshold": "0.5"}, "`threshold` must be a number between 0 and 1"),
        ({"threshold": math.nan}, "`threshold` must be a number between 0 and 1"),
        ({"threshold": 0.5, "points": {"balanced": 1.2}}, "`balanced` must be a number between 0 and 1"),
        ({"threshold": 0.5, "points": [0.2]}, "`decision points` must be a mapping"),
        ({"threshold": 0.5, "calibration": "platt"}, "`decision calibration` must be a mapping"),
        ({"threshold": 0.5, "calibration": {"kind": "none"}}, "unknown calibration 'none'"),
        ({"threshold": 0.5, "conformal": {}}, "`conformal` must be a mapping as it was saved"),
        ({"threshold": 0.5, "novelty": {"limit": 1.0}}, "`novelty` must be values and tensors as saved"),
    ],
)
def test_refused_when_reading(values: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Decision.from_dict(values)


def test_refused_when_applying(fitted: Decision) -> None:
    with pytest.raises(InputError, match="`logits` must be finite"):
        fitted.apply([0.0, np.nan], np.zeros((2, 12)))
    with pytest.raises(InputError, match=r"`features` must be one row a logit \(2\), got 3"):
        fitted.apply([0.0, 1.0], np.zeros((3, 12)))
    with pytest.raises(InputError, match=r"`features` must be of shape \(n, 12\)"):
        fitted.apply([0.0, 1.0], np.zeros((2, 11)))


def test_predicting_loads_no_heavy_package() -> None:
    code = (
        "import sys, numpy as np\n"
        "from atypia.inference.bundles.decision import Decision\n"
        "values = {'threshold': 0.5, 'calibration': {'kind': 'platt', 'slope': 1.0, 'bias': 0.0}}\n"
        "Decision.from_dict(values).apply(np.zeros(3))\n"
        "heavy = 'torch sklearn scipy pandas matplotlib pyarrow pydantic yaml PIL timm'.split()\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_calibrated_probabilities_are_those_of_the_calibration(fitted: Decision) -> None:
    logits = figures(50, 8)[1]
    assert isinstance(fitted.calibration, Platt)
    expected = sigmoid(fitted.calibration.slope * logits + fitted.calibration.bias)
    np.testing.assert_allclose(fitted.apply(logits).p, expected)
