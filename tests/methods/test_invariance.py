"""IRM, CORAL and group DRO: by hand, against independent computations, and what they do to a spurious feature."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from atypia.methods.catalogue import TERMS
from atypia.methods.losses.bce import binary_cross_entropy
from atypia.methods.losses.focal import focal
from atypia.methods.network import Output
from atypia.methods.term import Batch, Setting, Term
from atypia.methods.terms.coral import coral_loss
from atypia.methods.terms.group_dro import group_means, raised
from atypia.methods.terms.irm import irm_penalty

pytestmark = pytest.mark.usefixtures("one_thread")


def term(name: str, domains: int = 2, **options: Any) -> Term[Any]:
    return TERMS[name](TERMS[name].Options(name=name, **options), Setting(2, domains))


def batch(logits: Tensor, targets: Tensor, domains: Tensor, pooled: Tensor | None = None, epoch: float = 5.0) -> Batch:
    def risk(z: Tensor) -> Tensor:
        return binary_cross_entropy(z, targets)

    out = Output(logits, logits[:, None], logits[:, None] if pooled is None else pooled, logits[:, None])
    return Batch(torch.zeros(len(logits), 3, 1, 1), targets, domains, out, risk(logits), risk, 0.5, epoch, 0)


# IRM ------------------------------------------------------------------------------------------


def test_irm_by_hand() -> None:
    # Logistic risk: d/dw at w = 1 is (σ(z) − y) z. With z = ln 3, σ = 3/4: a positive −(ln 3)/4, a negative 3 (ln 3)/4.
    z = torch.full((4,), math.log(3.0), requires_grad=True)
    targets, domains = torch.tensor([1.0, 1.0, 1.0, 0.0]), torch.tensor([0, 0, 1, 1])
    a = math.log(3) / 4
    expected = ((-a) ** 2 + ((-a + 3 * a) / 2) ** 2) / 2
    found = irm_penalty(z, domains, lambda logits: binary_cross_entropy(logits, targets)).detach()
    assert float(found) == pytest.approx(expected)


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_irm_and_its_gradient_against_the_definition(gamma: float) -> None:
    """The definition: one scale w for each domain, its risk as a mean, and autograd's derivative by w."""
    draw = torch.Generator().manual_seed(0)
    x, direction = (
        torch.randn(30, 4, generator=draw, dtype=torch.float64),
        torch.randn(4, generator=draw, dtype=torch.float64),
    )
    targets = (torch.rand(30, generator=draw) < 0.4).double()
    domains = torch.randint(-1, 3, (30,), generator=draw)
    weight = direction.clone().requires_grad_(True)
    own = irm_penalty(x @ weight, domains, lambda logits: focal(logits, targets, 2.0, gamma))
    (own_gradient,) = torch.autograd.grad(own, weight)

    other = direction.clone().requires_grad_(True)
    parts = []
    for code in (0, 1, 2):
        there = domains == code
        w = torch.ones((), dtype=torch.float64, requires_grad=True)
        risk = focal(w * (x[there] @ other), targets[there], 2.0, gamma).mean()
        (slope,) = torch.autograd.grad(risk, w, create_graph=True)
        parts.append(slope**2)
    expected = torch.stack(parts).mean()
    (gradient,) = torch.autograd.grad(expected, other)
    assert float(own.detach()) == pytest.approx(float(expected), rel=1e-9)
    assert torch.allclose(own_gradient, gradient, rtol=1e-8)


def test_irm_leaves_unknown_domains_out_and_warms_up() -> None:
    z, y = torch.tensor([1.0, -2.0], requires_grad=True), torch.tensor([1.0, 0.0])
    unknown = batch(z, y, torch.tensor([-1, -1]))
    made = term("irm", weight=50.0, warmup_epochs=2.0)
    assert float(made(unknown)) == 0 and made.is_idle(unknown)
    assert [made.weight(batch(z, y, torch.tensor([0, 1]), epoch=e)) for e in (0.0, 1.9, 2.0)] == [1.0, 1.0, 50.0]


# CORAL ----------------------------------------------------------------------------------------


def test_coral_against_numpy() -> None:
    rng = np.random.default_rng(0)
    x, domains = rng.normal(size=(40, 5)) * [1, 2, 3, 1, 1], rng.integers(-1, 3, 40)
    x[domains == 1] *= 2
    covariances = [np.cov(x[domains == code], rowvar=False) for code in (0, 1, 2)]
    centres = [x[domains == code].mean(0) for code in (0, 1, 2)]
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = np.mean([((covariances[a] - covariances[b]) ** 2).sum() / (4 * 25) for a, b in pairs])
    more = np.mean([((centres[a] - centres[b]) ** 2).mean() for a, b in pairs])
    given = torch.from_numpy(x), torch.from_numpy(domains)
    assert float(coral_loss(*given)) == pytest.approx(expected, rel=1e-9)
    assert float(coral_loss(*given, means=True)) == pytest.approx(expected + more, rel=1e-9)


@pytest.mark.parametrize("domains", [[0, 0, 0, 0], [0, 0, 0, 1], [-1, -1, 0, 0], [0, 1, 2, 3]])
def test_coral_without_two_covariances_is_idle(domains: list[int]) -> None:
    z = torch.randn(4, requires_grad=True)
    given = batch(z, torch.zeros(4), torch.tensor(domains), torch.stack([z, 2 * z], 1))
    made = term("coral", 4)
    assert made.is_idle(given) and float(made(given)) == 0
    made(given).backward()  # no gradient of nothing
    assert z.grad is not None and not z.grad.any()


# Group DRO ------------------------------------------------------------------------------------


def test_group_weights_by_hand() -> None:
    losses, there = group_means(torch.tensor([1.0, 3.0, 5.0, 9.0]), torch.tensor([0, 0, 2, -1]), 3)
    assert losses.tolist() == [2.0, 0.0, 5.0] and there.tolist() == [True, False, True]
    shares = raised(torch.full((3,), 1 / 3), losses, there, 0.1)
    raw = np.array([math.exp(0.2), 1.0, math.exp(0.5)])
    assert shares.tolist() == pytest.approx((raw / raw.sum()).tolist(), rel=1e-6)


def test_group_dro_added_to_the_mean_is_the_robust_loss() -> None:
    z, y, domains = torch.tensor([2.0, 1.0, -1.0, 0.5]), torch.tensor([1.0, 1.0, 1.0, 0.0]), torch.tensor([0, 0, 0, 1])
    given, made = batch(z, y, domains), term("group-dro", step=0.5)
    losses = binary_cross_entropy(z, y)
    means = [float(losses[:3].mean()), float(losses[3])]
    raw = np.exp(0.5 * np.array(means)) / 2
    shares = raw / raw.sum()
    assert float(losses.mean() + made(given)) == pytest.approx(float(shares @ means), rel=1e-6)
    assert made.state_dict()["shares"].tolist() == pytest.approx(shares.tolist(), rel=1e-6)  # what a checkpoint keeps
    by_class = term("group-dro", groups="domain-and-class")
    assert by_class.state_dict()["shares"].tolist() == [0.25] * 4
    one_domain = batch(z, y, torch.zeros(4, dtype=torch.int64))
    assert made.is_idle(one_domain) and float(made(one_domain)) == pytest.approx(0, abs=1e-6)
    assert by_class.is_idle(batch(z, torch.ones(4), torch.zeros(4, dtype=torch.int64)))
    assert not by_class.is_idle(one_domain)


# What they do ---------------------------------------------------------------------------------


def spurious(agree: tuple[float, ...], each: int = 400, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Two features of ±1: one that agrees with the class in 75 % everywhere, and one whose share is the domain's."""
    draw = np.random.default_rng(seed)
    parts = []
    for code, share in enumerate(agree):
        y = np.arange(each) % 2
        sign = 2 * y - 1
        core = np.where(draw.permutation(each) < 0.75 * each, sign, -sign)
        shortcut = np.where(draw.permutation(each) < share * each, sign, -sign)
        parts.append(np.column_stack([core, shortcut, y, np.full(each, code)]))
    values = torch.from_numpy(np.concatenate(parts)).float()
    return values[:, :2], values[:, 2], values[:, 3].long()


def fitted(name: str | None, x: Tensor, y: Tensor, domains: Tensor, steps: int = 600, **options: Any) -> Tensor:
    """Weights of a linear classifier of the two features, trained with a term."""
    weights = torch.full((2,), 0.1, requires_grad=True)
    scales = torch.ones(2, requires_grad=True)  # an encoder that may shrink a feature
    added = None if name is None else term(name, int(domains.max()) + 1, **options)
    optimiser = torch.optim.Adam([weights, scales], lr=0.02)
    for _ in range(steps):
        pooled = x * scales
        given = batch(pooled @ weights, y, domains, pooled)
        loss = given.losses.mean()
        if added is not None:
            loss = loss + added.weight(given) * added(given)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return (weights * scales).detach()


def test_irm_does_not_lean_on_what_changes_between_domains() -> None:
    """The colours of Arjovsky et al.: the shortcut is the better guide in both domains, and wrong in a third."""
    data = spurious((0.9, 0.8))
    plain, invariant = fitted(None, *data), fitted("irm", *data, weight=300.0, warmup_epochs=0.0)
    assert plain[1] > plain[0]  # the shortcut is leant on more
    assert invariant[1].abs() < 0.35 * invariant[0]
    x, y, _ = spurious((0.1,), seed=1)
    right = [float((((x @ w) > 0) == (y > 0.5)).float().mean()) for w in (plain, invariant)]
    assert right[0] < 0.2 and right[1] > 0.7


def test_coral_shrinks_a_feature_whose_spread_differs_between_domains() -> None:
    x, y, domains = spurious((0.8, 0.8))
    x = torch.where(domains[:, None] == 1, x * torch.tensor([1.0, 4.0]), x)
    scales = []
    for name in (None, "coral"):
        weights = torch.full((2,), 0.1, requires_grad=True)
        encoder = torch.ones(2, requires_grad=True)
        optimiser = torch.optim.Adam([weights, encoder], lr=0.02)
        for _ in range(300):
            given = batch((x * encoder) @ weights, y, domains, x * encoder)
            loss = given.losses.mean() + (10.0 * term(name)(given) if name else 0.0)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        scales.append(encoder.detach().abs())
    assert scales[1][1] < 0.3 * scales[0][1]
    assert scales[1][0] > 1.5 * scales[1][1]  # what all domains share is kept


def test_group_dro_helps_the_group_that_does_worst() -> None:
    """Nine tenths of the figures are of a domain where the shortcut is right; in the other it is wrong."""
    x, y, domains = spurious((0.95, 0.05))
    kept = torch.cat([torch.arange(400), 400 + torch.arange(44)])
    x, y, domains = x[kept], y[kept], domains[kept]
    worst = []
    for name in (None, "group-dro"):
        options: dict[str, Any] = {"step": 0.05} if name else {}
        w = fitted(name, x, y, domains, **options)
        losses = F.binary_cross_entropy_with_logits(x @ w, y, reduction="none")
        worst.append(max(float(losses[domains == code].mean()) for code in (0, 1)))
    assert worst[1] < 0.7 * worst[0]
    assert worst[1] < math.log(2) * 1.05
