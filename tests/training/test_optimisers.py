"""Optimisers and schedules against torch's own."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from atypia.training.epochs.optimisers import Schedule, clip, make_optimiser
from atypia.training.schema import NetworkRecipe
from atypia.training.sections import OptimiserConfig, ScheduleConfig

LR = 0.01


def _sgd(lr: float = LR, factors: tuple[float, ...] = (1.0,)) -> torch.optim.Optimizer:
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr, "lr_factor": factor} for factor in factors]
    return torch.optim.SGD(groups, lr=lr)


def _rates(epochs: int, steps: int, **config: Any) -> list[float]:
    """The rate that every step uses."""
    optimiser = _sgd()
    schedule = Schedule(ScheduleConfig(**config), optimiser, LR, epochs, steps)
    rates = []
    for _ in range(epochs * steps):
        rates.append(optimiser.param_groups[0]["lr"])
        schedule.step()
    return rates


@pytest.mark.parametrize(("epochs", "steps", "peak_at"), [(10, 7, 0.3), (1, 10, 0.5), (100, 3, 0.1), (4, 5, 0.9)])
def test_one_cycle_is_torchs(epochs: int, steps: int, peak_at: float) -> None:
    optimiser = _sgd()
    reference = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=LR, total_steps=epochs * steps, pct_start=peak_at, cycle_momentum=False
    )
    expected = []
    for _ in range(epochs * steps):
        expected.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        if len(expected) < epochs * steps:
            reference.step()
    assert _rates(epochs, steps, name="one-cycle", peak_at=peak_at) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("total", [1, 2, 3])
def test_one_cycle_of_a_few_steps_stays_in_range(total: int) -> None:
    assert all(0 < rate <= LR for rate in _rates(1, total, name="one-cycle"))


def test_restarts_are_torchs_at_every_epoch() -> None:
    optimiser = _sgd()
    reference = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimiser, T_0=5, eta_min=1e-4)
    own = _rates(12, 4, name="cosine-restarts", restart_epochs=5, min_lr=1e-4)
    for epoch in range(12):
        assert own[4 * epoch] == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-9)
        optimiser.step()
        reference.step()
    assert own[20] == pytest.approx(LR)
    assert own[19] < 1.2e-3


def test_cosine_is_torchs_after_a_linear_warmup() -> None:
    own = _rates(10, 4, name="cosine", warmup_epochs=2.0, min_lr=1e-3)
    assert own[:8] == pytest.approx([LR * (i + 1) / 8 for i in range(8)])
    optimiser = _sgd()
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=32, eta_min=1e-3)
    for rate in own[8:]:
        assert rate == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-9)
        optimiser.step()
        reference.step()


def test_constant_stays() -> None:
    assert _rates(3, 2, name="constant") == [LR] * 6
    assert _rates(2, 2, name="constant", warmup_epochs=1.0) == [LR / 2, LR, LR, LR]


SCORES = [0.5, 0.6, 0.6, 0.59, 0.58, 0.6, 0.57, 0.61, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.5, 0.5, 0.5, 0.5, 0.5]


@pytest.mark.parametrize("patience", [0, 1, 3])
def test_plateau_is_torchs(patience: int) -> None:
    optimiser, twin = _sgd(), _sgd()
    config = ScheduleConfig(name="plateau", factor=0.5, patience=patience, min_lr=1e-4)
    schedule = Schedule(config, optimiser, LR, len(SCORES), 2)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(
        twin, mode="max", factor=0.5, patience=patience, threshold=0.0, min_lr=1e-4
    )
    for score in SCORES:
        schedule.step()
        schedule.end_epoch(score)
        reference.step(score)
        assert optimiser.param_groups[0]["lr"] == pytest.approx(twin.param_groups[0]["lr"], rel=1e-9)
    assert optimiser.param_groups[0]["lr"] < LR


def test_only_the_plateau_looks_at_the_score() -> None:
    optimiser = _sgd()
    schedule = Schedule(ScheduleConfig(name="constant"), optimiser, LR, 10, 1)
    for _ in range(10):
        schedule.end_epoch(0.0)
    assert optimiser.param_groups[0]["lr"] == LR


@pytest.mark.parametrize("name", ["one-cycle", "cosine", "cosine-restarts", "plateau", "constant"])
def test_state_goes_round(name: str) -> None:
    def walk(schedule: Schedule, epochs: range) -> list[float]:
        rates = []
        for epoch in epochs:
            for _ in range(3):
                rates.append(schedule.optimiser.param_groups[0]["lr"])
                schedule.step()
            schedule.end_epoch([0.5, 0.4, 0.3, 0.2, 0.1, 0.0][epoch])
        return rates

    config = ScheduleConfig(name=name, patience=0)  # pyright: ignore[reportArgumentType]
    whole = walk(Schedule(config, _sgd(), LR, 6, 3), range(6))
    first = Schedule(config, _sgd(), LR, 6, 3)
    before = walk(first, range(2))
    second = Schedule(config, _sgd(), LR, 6, 3)
    second.load_state_dict(first.state_dict())
    assert before + walk(second, range(2, 6)) == whole


def test_groups_keep_their_ratio() -> None:
    optimiser = _sgd(factors=(1.0, 10.0))
    schedule = Schedule(ScheduleConfig(name="cosine"), optimiser, LR, 2, 4)
    for _ in range(5):
        schedule.step()
    low, high = (group["lr"] for group in optimiser.param_groups)
    assert high == pytest.approx(10 * low)


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
        self.frozen = nn.Linear(3, 3).requires_grad_(False)
        self.head = nn.Linear(3, 1)


@pytest.mark.parametrize("name", ["adam", "adamw", "nadam", "sgd"])
def test_groups_of_the_optimiser(name: str) -> None:
    net = _Net()
    config = OptimiserConfig(name=name, lr=0.1, weight_decay=0.5, head_lr_factor=10, decay_norms=False)  # pyright: ignore[reportArgumentType]
    optimiser = make_optimiser(config, net, ["head"])
    of = {id(p): group for group in optimiser.param_groups for p in group["params"]}
    assert id(net.frozen.weight) not in of
    assert len(of) == 6
    assert of[id(net.trunk[0].weight)]["weight_decay"] == 0.5
    assert of[id(net.trunk[0].bias)]["weight_decay"] == 0
    assert of[id(net.trunk[1].weight)]["weight_decay"] == 0
    assert of[id(net.head.weight)]["weight_decay"] == 0.5
    assert of[id(net.head.weight)]["lr"] == pytest.approx(1.0)
    assert of[id(net.trunk[0].weight)]["lr"] == pytest.approx(0.1)


REFERENCES = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.3),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.3),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.1, weight_decay=0.3),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.3, momentum=0.9, nesterov=True),
}


@pytest.mark.parametrize("name", list(REFERENCES))
def test_steps_are_torchs(name: str) -> None:
    def walk(make: Any) -> torch.Tensor:
        torch.manual_seed(0)
        net = nn.Linear(4, 1)
        optimiser = make(net)
        for i in range(5):
            optimiser.zero_grad()
            net(torch.full((2, 4), float(i))).square().sum().backward()
            optimiser.step()
        return net.weight.detach()

    config = OptimiserConfig(name=name, lr=0.1, weight_decay=0.3)  # pyright: ignore[reportArgumentType]
    own = walk(lambda net: make_optimiser(config, net, ()))
    assert torch.allclose(own, walk(lambda net: REFERENCES[name](net.parameters())), atol=1e-6)


def test_clipping_bounds_the_norm_of_all_together() -> None:
    a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    a.grad, b.grad = torch.tensor([3.0]), torch.tensor([4.0])
    clip([a, b], None)
    assert float(a.grad) == 3.0
    clip([a, b], 1.0)
    assert math.hypot(float(a.grad), float(b.grad)) == pytest.approx(1.0, rel=1e-4)
    assert float(a.grad / b.grad) == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"schedule": {"name": "one-cycle", "warmup_epochs": 1}}, "one-cycle has its own warm-up"),
        ({"schedule": {"min_lr": 1.0}}, "schedule.min_lr must be below optimiser.lr"),
        ({"optimiser": {"betas": [0.9, 1.0]}}, "less than 1"),
        ({"loss": {"positive_weight": 0}}, "greater than 0"),
        ({"mixstyle": {"stages": []}}, "at least 1 item"),
        ({"head": {"hidden": [0]}}, "greater than or equal to 1"),
        ({"select": {"of": "ema"}}, "there is no `ema` section"),
        ({"terms": [{"name": "distillation"}]}, "there is no `ema` section"),
        ({"lora": {}}, "does not go with adaptation full"),
        ({"optimizer": {}}, "Extra inputs"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        NetworkRecipe.model_validate({"summary": "s", "backbone": "tiny-cnn", "adaptation": "full", **values})
