"""Losses: hand-computed numbers, torch and the identities between them."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from atypia.base.errors import InputError
from atypia.methods.catalogue import LOSSES
from atypia.methods.loss import mean, observed_positive_weight, smoothed
from atypia.methods.losses.bce import binary_cross_entropy
from atypia.methods.losses.ce import cross_entropy
from atypia.methods.losses.focal import focal

pytestmark = pytest.mark.usefixtures("one_thread")

LOGITS = torch.tensor([-2.0, -0.5, 0.0, 1.0, 3.0])
HARD = torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0])
SOFT = torch.tensor([0.0, 1 / 3, 0.5, 2 / 3, 1.0])


def test_registry_holds_the_named_losses() -> None:
    assert set(LOSSES) == {"bce", "ce", "focal"}
    values = {name: LOSSES[name](LOSSES[name].Options(name=name))(LOGITS, HARD, 2.0) for name in LOSSES}
    expected = {"bce": binary_cross_entropy, "ce": cross_entropy, "focal": focal}
    assert all(torch.equal(values[name], function(LOGITS, HARD, 2.0)) for name, function in expected.items())
    soft = LOSSES["focal"](LOSSES["focal"].Options(name="focal", gamma=1.0))(LOGITS, HARD)  # pyright: ignore[reportCallIssue]
    assert torch.equal(soft, focal(LOGITS, HARD, gamma=1.0))


def test_bce_by_hand() -> None:
    # z = ln 3 is p = 3/4: a positive costs ln 4/3, a negative ln 4, a soft 1/2 their mean.
    z = torch.full((3,), math.log(3.0))
    values = binary_cross_entropy(z, torch.tensor([1.0, 0.0, 0.5]))
    expected = [math.log(4 / 3), math.log(4), (math.log(4 / 3) + math.log(4)) / 2]
    assert values.tolist() == pytest.approx(expected, rel=1e-6)


def test_positive_weight_multiplies_positives_only() -> None:
    plain, weighted = binary_cross_entropy(LOGITS, HARD), binary_cross_entropy(LOGITS, HARD, 3.0)
    ratio = weighted / plain
    assert ratio.tolist() == pytest.approx([1, 3, 3, 1, 3], rel=1e-6)


def test_ce_is_torch_cross_entropy_over_two_logits() -> None:
    two = torch.stack([torch.zeros_like(LOGITS), LOGITS], dim=1)
    expected = F.cross_entropy(two, HARD.long(), weight=torch.tensor([1.0, 4.0]))
    assert float(mean(cross_entropy(LOGITS, HARD, 4.0))) == pytest.approx(float(expected), rel=1e-6)
    unweighted = F.cross_entropy(two, torch.stack([1 - SOFT, SOFT], dim=1))
    assert float(mean(cross_entropy(LOGITS, SOFT))) == pytest.approx(float(unweighted), rel=1e-6)


def test_focal_by_hand() -> None:
    # p = 3/4, gamma 2: the positive is missed by 1/4, the negative by 3/4.
    z = torch.full((2,), math.log(3.0))
    values = focal(z, torch.tensor([1.0, 0.0]), positive_weight=5.0, gamma=2.0)
    assert values.tolist() == pytest.approx([5 / 16 * math.log(4 / 3), 9 / 16 * math.log(4)], rel=1e-5)


def test_focal_of_a_soft_label_is_the_formula() -> None:
    p, y = torch.sigmoid(LOGITS), SOFT
    p_t = y * p + (1 - y) * (1 - p)
    assert torch.allclose(
        focal(LOGITS, y, 2.5, 1.7), (1 - p_t) ** 1.7 * binary_cross_entropy(LOGITS, y, 2.5), rtol=1e-5
    )


@settings(max_examples=50, deadline=None)
@given(st.floats(-30, 30), st.floats(0, 1), st.floats(0.1, 20))
def test_focal_at_gamma_zero_is_bce(z: float, y: float, weight: float) -> None:
    logits, target = torch.tensor([z]), torch.tensor([y])
    assert float(focal(logits, target, weight, 0.0)) == pytest.approx(
        float(binary_cross_entropy(logits, target, weight)), rel=1e-5, abs=1e-12
    )


@settings(max_examples=50, deadline=None)
@given(st.floats(-20, 20), st.sampled_from([0.0, 1.0]), st.floats(0, 4), st.floats(0.01, 2))
def test_focal_never_grows_with_gamma(z: float, y: float, gamma: float, more: float) -> None:
    logits, target = torch.tensor([z]), torch.tensor([y])
    assert float(focal(logits, target, 1.0, gamma + more)) <= float(focal(logits, target, 1.0, gamma)) * (1 + 1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_gradient_is_finite_for_sure_answers(gamma: float) -> None:
    z = torch.tensor([60.0, -60.0, 60.0, -60.0], requires_grad=True)
    focal(z, torch.tensor([1.0, 0.0, 0.0, 1.0]), 1.0, gamma).sum().backward()
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()
    # What is surely wrong is pushed back at full strength, in the right direction.
    assert z.grad[2:].tolist() == pytest.approx([1.0, -1.0], abs=1e-4)


def test_focal_down_weights_what_is_easy() -> None:
    easy, hard = torch.tensor([4.0]), torch.tensor([-1.0])
    one = torch.ones(1)
    assert float(focal(easy, one) / focal(hard, one)) < 0.01 * float(
        binary_cross_entropy(easy, one) / binary_cross_entropy(hard, one)
    )


def test_smoothing_moves_towards_one_half() -> None:
    assert smoothed(torch.tensor([0.0, 1.0, 0.5]), 0.2).tolist() == pytest.approx([0.1, 0.9, 0.5])
    assert smoothed(HARD, 0.0) is HARD


def test_observed_weight_is_the_class_ratio() -> None:
    assert observed_positive_weight(torch.tensor([1.0, 0.0, 0.0, 0.0])) == 3.0
    assert observed_positive_weight(torch.tensor([1.0, 0.5, 0.0])) == 1.0
    for targets in (torch.zeros(4), torch.ones(4)):
        with pytest.raises(InputError, match=r"`targets` must be of both classes, got .*; fix: "):
            observed_positive_weight(targets)


def test_observed_weight_balances_the_classes() -> None:
    y = torch.tensor([1.0] * 2 + [0.0] * 10)
    z = torch.zeros(12, requires_grad=True)
    binary_cross_entropy(z, y, observed_positive_weight(y)).sum().backward()
    assert z.grad is not None
    assert float(z.grad.sum()) == pytest.approx(0, abs=1e-6)


def test_weighted_mean() -> None:
    assert float(mean(torch.tensor([1.0, 4.0]), torch.tensor([3.0, 1.0]))) == 1.75
    assert float(mean(torch.tensor([1.0, 4.0]))) == 2.5


@pytest.mark.parametrize("name", ["bce", "ce", "focal"])
def test_bad_input_is_refused(name: str) -> None:
    loss = LOSSES[name](LOSSES[name].Options(name=name))
    with pytest.raises(InputError, match=r"`logits and targets` must be of one shape \(b,\), got .*; fix: squeeze"):
        loss(torch.zeros(4, 1), torch.zeros(4))
    for weight in (0.0, -1.0, math.nan):
        with pytest.raises(InputError, match=r"`positive_weight` must be positive"):
            loss(LOGITS, HARD, weight)
