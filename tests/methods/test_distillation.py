"""Distillation: the loss against a softmax KL, teachers, and the moving average."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from atypia.base.errors import InputError
from atypia.methods.averaging import EMA
from atypia.methods.ramps import linear_warmup
from atypia.methods.terms.distillation import distillation_loss, teacher_logits

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 5.0])
def test_loss_is_the_softmax_kl_of_two_classes(temperature: float) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(50) * 4, torch.randn(50) * 4

    def two(z: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.zeros_like(z), z], dim=1) / temperature

    expected = F.kl_div(two(student).log_softmax(1), two(teacher).softmax(1), reduction="none").sum(1) * temperature**2
    assert torch.allclose(distillation_loss(student, teacher, temperature), expected, atol=1e-5)


def test_loss_is_zero_only_where_they_agree_and_finite_where_they_are_sure() -> None:
    z = torch.tensor([-3.0, 0.0, 200.0])
    assert distillation_loss(z, z).abs().max() < 1e-6
    far = distillation_loss(torch.tensor([300.0, -300.0]), torch.tensor([-300.0, 300.0]))
    # T² · |z|/T = 600: the student gives the teacher's sure class e^−150.
    assert far.tolist() == pytest.approx([600.0, 600.0])
    with pytest.raises(InputError, match=r"`temperature` must be positive, got 0; fix: use 2.0"):
        distillation_loss(z, z, 0)


def test_gradient_flows_to_the_student_only_and_towards_the_teacher() -> None:
    student = torch.zeros(2, requires_grad=True)
    teacher = torch.tensor([2.0, -2.0], requires_grad=True)
    distillation_loss(student, teacher).sum().backward()
    assert teacher.grad is None
    assert student.grad is not None
    # dL/dz = T (σ(z_s/T) − σ(z_t/T))
    expected = 2 * (torch.sigmoid(torch.zeros(2)) - torch.sigmoid(torch.tensor([1.0, -1.0])))
    assert torch.allclose(student.grad, expected, atol=1e-6)


def test_student_learns_the_teacher() -> None:
    torch.manual_seed(0)
    x = torch.randn(100, 5)
    teacher = (x @ torch.tensor([1.0, -2.0, 0.0, 0.5, 3.0])).detach()
    student = nn.Linear(5, 1)
    optimiser = torch.optim.Adam(student.parameters(), lr=0.05)
    losses = []
    for _ in range(200):
        loss = distillation_loss(student(x)[:, 0], teacher).mean()
        losses.append(float(loss.detach()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < 0.01 * losses[0]


def test_several_teachers_are_averaged_in_probability() -> None:
    z = [torch.tensor([0.0, 3.0, 40.0]), torch.tensor([2.0, -1.0, 40.0])]
    mean_p = torch.stack([torch.sigmoid(t) for t in z]).mean(0)
    together = teacher_logits(z)
    assert torch.allclose(together[:2], torch.logit(mean_p)[:2], atol=1e-5)
    assert float(together[2]) == pytest.approx(40.0, abs=1e-3)  # p = 1 to rounding: the logit is still known
    assert teacher_logits(z[:1]) is z[0]
    with pytest.raises(InputError, match=r"`teachers` must be at least one, got 0; fix: "):
        teacher_logits([])


def test_warmup() -> None:
    assert [linear_warmup(e, 10) for e in (0, 2.5, 10, 30)] == [0.0, 0.25, 1.0, 1.0]
    assert linear_warmup(0, 0) == 1.0


def _set(network: nn.Module, value: float) -> None:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(value)


def test_average_follows_the_formula() -> None:
    student = nn.Linear(2, 2)
    _set(student, 1.0)
    ema = EMA(student, 0.9)
    _set(student, 2.0)
    ema.update(student)
    assert float(ema.network.weight[0, 0]) == pytest.approx(0.9 * 1 + 0.1 * 2)
    ema.update(student)
    assert float(ema.network.bias[0]) == pytest.approx(0.9 * 1.1 + 0.1 * 2)
    assert float(student.weight.detach()[0, 0]) == 2.0
    assert not ema.network.training
    assert not any(p.requires_grad for p in ema.network.parameters())


def test_momentum_zero_copies() -> None:
    torch.manual_seed(0)
    student = nn.Linear(7, 3)
    ema = EMA(student, 0.0)
    with torch.no_grad():
        student.weight.normal_()
    ema.update(student)
    assert torch.equal(ema.network.weight, student.weight)


def test_buffers_are_averaged_or_copied() -> None:
    student = nn.BatchNorm1d(3)
    ema = EMA(student, 0.5)
    student.train()(torch.full((4, 3), 10.0))  # running mean 0 → 1
    ema.update(student)
    assert ema.network.running_mean.tolist() == pytest.approx([0.5] * 3)
    assert int(ema.network.num_batches_tracked) == 1


def test_debiased_momentum_grows() -> None:
    student = nn.Linear(1, 1, bias=False)
    _set(student, 0.0)
    ema = EMA(student, 0.999, debias=True)
    _set(student, 1.0)
    ema.update(student)  # m = 2/11
    assert float(ema.network.weight) == pytest.approx(9 / 11)
    ema.update(student)  # m = 3/12
    assert float(ema.network.weight) == pytest.approx(0.25 * 9 / 11 + 0.75)


def test_state_round_trip() -> None:
    student = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    ema = EMA(student, 0.9)
    student(torch.randn(5, 3))
    ema.update(student)
    other = EMA(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)), 0.9)
    other.load_state_dict(ema.state_dict())
    assert other.steps == 1
    for key, value in ema.network.state_dict().items():
        assert torch.equal(other.network.state_dict()[key], value)


def test_what_is_frozen_is_shared_and_what_is_trained_is_not() -> None:
    frozen, trained = nn.Linear(3, 3).requires_grad_(False), nn.Linear(3, 1)
    student = nn.Sequential(frozen, trained)
    ema = EMA(student, 0.5)
    assert ema.network[0].weight is frozen.weight
    assert ema.network[1].weight is not trained.weight
    assert trained.weight.requires_grad
    before = frozen.weight.clone()
    _set(trained, 3.0)
    ema.update(student)
    assert torch.equal(frozen.weight, before)
    assert not torch.equal(ema.network[1].weight, trained.weight)


def test_average_is_steadier_than_the_student() -> None:
    torch.manual_seed(0)
    student = nn.Linear(1, 1, bias=False)
    ema, seen, averaged = EMA(student, 0.95), [], []
    for _ in range(300):
        with torch.no_grad():
            student.weight.fill_(float(torch.randn(())))
        ema.update(student)
        seen.append(float(student.weight.detach()))
        averaged.append(float(ema.network.weight))
    assert torch.tensor(averaged[100:]).std() < 0.3 * torch.tensor(seen[100:]).std()


@pytest.mark.parametrize("momentum", [-0.1, 1.0])
def test_bad_momentum_is_refused(momentum: float) -> None:
    with pytest.raises(InputError, match=r"`momentum` must be in \[0, 1\)"):
        EMA(nn.Linear(1, 1), momentum)
