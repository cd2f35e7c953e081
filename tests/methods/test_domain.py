"""Domain generalisation: formulas by hand, and what each part does to features."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atypia.base.errors import InputError
from atypia.methods.attention import CBAM, ChannelAttention, SpatialAttention
from atypia.methods.mixing import Mix
from atypia.methods.ramps import dann_ramp
from atypia.methods.terms.adversarial import DomainHead, beats_chance, domain_cross_entropy, reverse_gradient
from atypia.methods.terms.alignment import alignment_loss, domain_means

pytestmark = pytest.mark.usefixtures("one_thread")


def test_ramp_numbers() -> None:
    assert dann_ramp(0.0) == 0.0
    assert dann_ramp(0.1) == pytest.approx(2 / (1 + math.exp(-1)) - 1)
    assert dann_ramp(0.5) == pytest.approx(0.98661, abs=1e-5)
    assert dann_ramp(1.0) == pytest.approx(math.tanh(5), abs=1e-12)
    assert all(dann_ramp(i / 50) < dann_ramp((i + 1) / 50) for i in range(50))
    with pytest.raises(InputError, match=r"`progress` must be between 0 and 1, got 1.5; fix: "):
        dann_ramp(1.5)


def test_domain_means_by_hand() -> None:
    features = torch.tensor([[1.0, 0.0], [3.0, 0.0], [5.0, 2.0], [99.0, 99.0]])
    means = domain_means(features, torch.tensor([4, 4, 2, -1]))
    assert means.tolist() == [[5.0, 2.0], [2.0, 0.0]]  # code 2 before code 4; unknown left out


def test_maps_are_pooled_first() -> None:
    maps = torch.randn(6, 3, 4, 5)
    domains = torch.tensor([0, 1, 0, 1, 2, 2])
    assert torch.allclose(domain_means(maps, domains), domain_means(maps.mean((2, 3)), domains), atol=1e-6)


def test_alignment_by_hand() -> None:
    # Domain means 0 and 2 in channel 0 (variance 1), equal in channel 1: (ln 2 + 0) / 2.
    features = torch.tensor([[-1.0, 5.0], [1.0, 5.0], [2.0, 5.0]])
    loss = alignment_loss(features, torch.tensor([0, 0, 1]))
    assert float(loss) == pytest.approx(math.log(2) / 2, rel=1e-6)


def test_alignment_against_numpy() -> None:
    rng = np.random.default_rng(0)
    maps, domains = rng.normal(size=(20, 7, 3, 3)), rng.integers(0, 4, 20)
    pooled = maps.mean((2, 3))
    means = np.stack([pooled[domains == d].mean(0) for d in np.unique(domains)])
    expected = np.log1p(means.var(axis=0)).mean()
    assert float(alignment_loss(torch.from_numpy(maps), torch.from_numpy(domains))) == pytest.approx(expected)


@pytest.mark.parametrize("domains", [[0, 0, 0], [-1, -1, -1], [-1, 3, 3]])
def test_nothing_to_align_is_zero_with_a_gradient(domains: list[int]) -> None:
    features = torch.randn(3, 4, requires_grad=True)
    loss = alignment_loss(features, torch.tensor(domains))
    loss.backward()
    assert float(loss.detach()) == 0
    assert features.grad is not None
    assert float(features.grad.abs().sum()) == 0


def test_optimising_alignment_lowers_the_variance_between_domains() -> None:
    torch.manual_seed(0)
    domains = torch.arange(60) % 3
    x = torch.randn(60, 8) + F.one_hot(domains, 8).float() * 4
    encoder = nn.Linear(8, 8)
    optimiser = torch.optim.Adam(encoder.parameters(), lr=0.02)
    losses, between = [], []
    for _ in range(150):
        features = encoder(x)
        between.append(float(domain_means(features, domains).var(0, correction=0).mean().detach()))
        # The features must keep their spread, or shrinking them would do.
        spread = ((features.std(0) - 1) ** 2).mean()
        loss = alignment_loss(features, domains)
        losses.append(float(loss.detach()))
        optimiser.zero_grad()
        (loss + spread).backward()
        optimiser.step()
    assert losses[-1] < 0.1 * losses[0]
    assert between[-1] < 0.1 * between[0]


def test_channel_attention_by_hand() -> None:
    module = ChannelAttention(2, reduction=2)
    with torch.no_grad():
        module.mlp[0].weight.copy_(torch.tensor([[1.0, -1.0]]))  # pyright: ignore[reportCallIssue, reportArgumentType]
        module.mlp[2].weight.copy_(torch.tensor([[1.0], [-2.0]]))  # pyright: ignore[reportCallIssue, reportArgumentType]
    maps = torch.tensor([[[[1.0, 3.0]], [[0.0, 1.0]]]])  # (1, 2, 1, 2)
    # Averages (2, 0.5) give a hidden unit 1.5, maxima (3, 1) give 2: together 3.5, gates σ(3.5), σ(−7).
    gates = [1 / (1 + math.exp(-3.5)), 1 / (1 + math.exp(7))]
    expected = [[gates[0], 3 * gates[0]], [0.0, gates[1]]]
    assert torch.allclose(module(maps)[0, :, 0], torch.tensor(expected), atol=1e-6)


def test_spatial_attention_by_hand() -> None:
    module = SpatialAttention(3)
    with torch.no_grad():
        module.conv.weight.zero_()
        module.conv.weight[0, 0, 1, 1] = 1.0  # the mean at the place
        module.conv.weight[0, 1, 1, 2] = 1.0  # the maximum one to the right
    maps = torch.tensor([[[[1.0, 2.0]], [[3.0, 6.0]]]])
    # Means 2, 4; maxima 3, 6: gates σ(2 + 6), σ(4 + 0 beyond the border).
    gates = [1 / (1 + math.exp(-8)), 1 / (1 + math.exp(-4))]
    expected = torch.tensor([[[[1 * gates[0], 2 * gates[1]]], [[3 * gates[0], 6 * gates[1]]]]])
    assert torch.allclose(module(maps), expected, atol=1e-6)


def test_cbam_keeps_shape_sign_and_shrinks() -> None:
    torch.manual_seed(0)
    maps = torch.randn(3, 32, 5, 6)
    out = CBAM(32)(maps)
    assert out.shape == maps.shape
    assert bool((out.sign() == maps.sign()).all())
    assert bool((out.abs() < maps.abs()).all())
    with torch.no_grad():
        assert CBAM(8)(torch.zeros(1, 8, 1, 1)).abs().sum() == 0  # fewer channels than the reduction work too


def test_reversal_is_the_identity_forwards_and_negative_backwards() -> None:
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    out = reverse_gradient(x, 0.3)
    assert out.tolist() == [1.0, -2.0]
    (out * torch.tensor([5.0, 7.0])).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == pytest.approx([-1.5, -2.1])


def test_domain_head_learns_while_the_features_unlearn() -> None:
    torch.manual_seed(0)
    head = DomainHead(4, 3)
    features, domains = torch.randn(6, 4, requires_grad=True), torch.tensor([0, 1, 2, 0, 1, 2])
    plain = torch.autograd.grad(F.cross_entropy(head.linear(features), domains), [features, head.linear.weight])
    loss = domain_cross_entropy(head(features, 0.5), domains)
    reversed_ = torch.autograd.grad(loss, [features, head.linear.weight])
    assert torch.allclose(reversed_[0], -0.5 * plain[0], atol=1e-7)
    assert torch.allclose(reversed_[1], plain[1], atol=1e-7)


def test_unknown_domains_are_left_out() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 3.0]])
    expected = F.cross_entropy(logits[:2], torch.tensor([0, 1]))
    assert float(domain_cross_entropy(logits, torch.tensor([0, 1, -1]))) == pytest.approx(float(expected))
    assert float(domain_cross_entropy(logits, torch.full((3,), -1))) == 0


def test_one_domain_is_refused() -> None:
    with pytest.raises(InputError, match=r"`domains` must be at least 2, got 1; fix: drop the adversarial term"):
        DomainHead(4, 1)


def _trained_encoder(x: Tensor, y: Tensor, domains: Tensor, weight: float) -> nn.Module:
    torch.manual_seed(0)
    encoder, task, head = nn.Linear(8, 4), nn.Linear(4, 1), DomainHead(4, 2)
    # Decay damps the game between features and head, which else goes round in circles.
    damped = {"params": head.parameters(), "weight_decay": 0.05}
    optimiser = torch.optim.SGD([{"params": [*encoder.parameters(), *task.parameters()]}, damped], lr=0.05)
    steps = 600
    for step in range(steps):
        features = encoder(x)
        loss = F.binary_cross_entropy_with_logits(task(features)[:, 0], y)
        if weight:
            loss = loss + weight * domain_cross_entropy(head(features, dann_ramp(step / steps)), domains)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return encoder


def _probe_accuracy(features: Tensor, classes: Tensor) -> float:
    """Accuracy on the second half of a fresh linear probe, fitted by least squares on the first."""
    x = torch.cat([features, torch.ones(len(features), 1)], dim=1).double()
    half = len(x) // 2
    weights = torch.linalg.pinv(x[:half]) @ F.one_hot(classes[:half].long()).double()
    return float(((x[half:] @ weights).argmax(1) == classes[half:]).double().mean())


def test_reversal_makes_the_domain_harder_to_read_off() -> None:
    torch.manual_seed(1)
    domains, y = torch.arange(480) % 2, (torch.arange(480) // 2 % 2).float()
    x = torch.randn(480, 8)
    x[:, 0] += 4 * y  # what the task needs
    x[:, 1:3] += 3 * F.one_hot(domains)  # what the domain adds
    plain = _trained_encoder(x, y, domains, 0.0)(x).detach()
    adversarial = _trained_encoder(x, y, domains, 0.3)(x).detach()
    assert _probe_accuracy(plain, domains) > 0.9
    assert _probe_accuracy(adversarial, domains) < 0.65  # chance is one half
    assert _probe_accuracy(adversarial, y) > 0.9  # the task survives


def test_a_head_beats_chance_below_ln_d() -> None:
    head = DomainHead(2, 2)
    features, domains = torch.tensor([[3.0, 0.0], [0.0, 3.0]]), torch.tensor([0, 1])
    with torch.no_grad():
        head.linear.bias.zero_()
        head.linear.weight.copy_(torch.eye(2))
        assert beats_chance(head, features, domains)
        assert not beats_chance(head, features, domains.flip(0))  # wrong and sure: worse than guessing
        head.linear.weight.zero_()
        assert not beats_chance(head, features, domains)  # guessing


def test_a_mixed_figure_has_both_domains_by_their_share() -> None:
    # Figure 0 is 3/4 of itself and 1/4 of figure 1, and the other way round; softmax of ln 3 and ln 1 is 3/4 and 1/4.
    logits = torch.tensor([[math.log(3), 0.0], [math.log(3), 0.0]])
    mix = Mix(torch.tensor([1, 0]), torch.full((2,), 0.75))
    of_first = 0.75 * -math.log(0.75) + 0.25 * -math.log(0.25)
    of_second = 0.75 * -math.log(0.25) + 0.25 * -math.log(0.75)
    mixed = domain_cross_entropy(logits, torch.tensor([0, 1]), mix)
    assert float(mixed) == pytest.approx((of_first + of_second) / 2)
    # Of figure 1 the domain is not known: 3/4 of figure 0's own and 1/4 of figure 1's partner are left.
    partly = domain_cross_entropy(logits, torch.tensor([0, -1]), mix)
    assert float(partly) == pytest.approx((0.75 * -math.log(0.75) + 0.25 * -math.log(0.75)) / 1.0)
    assert float(domain_cross_entropy(logits, torch.tensor([-1, -1]), mix)) == 0


def test_mixing_with_oneself_changes_nothing() -> None:
    logits, domains = torch.randn(6, 3), torch.tensor([0, 1, 2, -1, 1, 0])
    plain = float(domain_cross_entropy(logits, domains))
    for mix in (Mix(torch.arange(6), torch.full((6,), 0.3)), Mix(torch.randperm(6), torch.ones(6))):
        assert float(domain_cross_entropy(logits, domains, mix)) == pytest.approx(plain, rel=1e-6)


def test_a_head_that_sees_mixed_domains_right_beats_chance_only_by_these() -> None:
    head = DomainHead(2, 2)
    features, domains = torch.tensor([[0.0, 3.0], [3.0, 0.0]]), torch.tensor([0, 1])
    with torch.no_grad():
        head.linear.bias.zero_()
        head.linear.weight.copy_(torch.eye(2))
    # A share of 0.1 of itself: each figure shows its partner, which the head names rightly.
    mix = Mix(torch.tensor([1, 0]), torch.full((2,), 0.1))
    assert not beats_chance(head, features, domains)
    assert beats_chance(head, features, domains, mix)
