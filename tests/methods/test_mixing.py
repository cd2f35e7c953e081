"""Mixing: the Beta sampler, the algebra of MixUp, MixStyle's formula and effect."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

from atypia.base.errors import InputError
from atypia.methods.mixing import Mix, MixStyle, beta_sample, mix_style, mixup

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.4, 1.0, 2.0])
def test_beta_sampler_has_the_distribution(alpha: float) -> None:
    drawn = beta_sample(alpha, (4000,), torch.Generator().manual_seed(7)).double().numpy()
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    # The lower half, because near 1 single precision rounds; the distribution is symmetric.
    exact, lower = stats.beta(alpha, alpha), drawn[drawn <= 0.5]
    assert stats.binomtest(len(lower), len(drawn)).pvalue > 0.01
    assert stats.kstest(lower, lambda x: 2 * exact.cdf(x)).pvalue > 0.01
    assert drawn.var() == pytest.approx(stats.beta(alpha, alpha).var(), rel=0.06)


def test_beta_sampler_takes_a_generator_and_tiny_alpha() -> None:
    first = beta_sample(0.2, (3, 4), torch.Generator().manual_seed(0))
    assert torch.equal(first, beta_sample(0.2, (3, 4), torch.Generator().manual_seed(0)))
    assert not torch.equal(first, beta_sample(0.2, (3, 4), torch.Generator().manual_seed(1)))
    assert torch.isfinite(beta_sample(1e-3, (1000,), torch.Generator().manual_seed(0))).all()
    with pytest.raises(InputError, match=r"`alpha` must be positive, got 0; fix: "):
        beta_sample(0, (1,))


def test_mix_algebra() -> None:
    images = torch.tensor([1.0, 5.0])[:, None, None, None].expand(2, 3, 4, 4)
    mix = Mix(torch.tensor([1, 0]), torch.tensor([0.25, 1.0]))
    assert mix.images(images)[:, 0, 0, 0].tolist() == [0.25 * 1 + 0.75 * 5, 5.0]
    assert mix.targets(torch.tensor([0.0, 1.0])).tolist() == [0.75, 1.0]


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 12), st.integers(0, 1000))
def test_mixup_shares_one_lambda_and_keeps_the_range(count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    mix = mixup(count, 0.4, generator)
    assert len(set(mix.share.tolist())) == 1
    assert sorted(mix.partner.tolist()) == list(range(count))
    images, targets = torch.rand(count, 3, 2, 2), torch.rand(count)
    mixed = mix.images(images)
    assert mixed.min() >= images.min() - 1e-6
    assert mixed.max() <= images.max() + 1e-6
    # A permutation of partners leaves the mean where it was.
    assert torch.allclose(mixed.mean(0), images.mean(0), atol=1e-5)
    assert float(mix.targets(targets).mean()) == pytest.approx(float(targets.mean()), abs=1e-5)


def test_domain_aware_partners_come_from_other_known_domains() -> None:
    domains = torch.tensor([0, 0, 0, 1, 2, -1, -1, 0])
    for seed in range(40):
        partner = mixup(8, 0.2, torch.Generator().manual_seed(seed), domains).partner
        for i in range(8):
            if domains[i] >= 0:
                assert domains[partner[i]] >= 0
                assert domains[partner[i]] != domains[i]


def test_domain_aware_with_one_domain_is_plain() -> None:
    plain = mixup(6, 0.2, torch.Generator().manual_seed(3))
    same = mixup(6, 0.2, torch.Generator().manual_seed(3), torch.zeros(6, dtype=torch.int64))
    assert torch.equal(plain.partner, same.partner)


def _normalised(maps: Tensor) -> Tensor:
    mu, sigma = maps.mean((2, 3), keepdim=True), maps.std((2, 3), keepdim=True, correction=0)
    return (maps - mu) / sigma


def test_mixstyle_keeps_the_content_and_mixes_the_statistics() -> None:
    torch.manual_seed(0)
    maps = torch.randn(4, 5, 6, 6) * torch.tensor([1.0, 2.0, 3.0, 4.0])[:, None, None, None] + torch.randn(4, 5, 1, 1)
    partner, share = torch.tensor([1, 2, 3, 0]), torch.tensor([0.0, 0.3, 0.7, 1.0])[:, None, None, None]
    mixed = mix_style(maps, partner, share)
    assert torch.allclose(_normalised(mixed), _normalised(maps), atol=1e-4)
    mu, sigma = maps.mean((2, 3)), maps.std((2, 3), correction=0)
    lam = share[:, :, 0, 0]
    assert torch.allclose(mixed.mean((2, 3)), lam * mu + (1 - lam) * mu[partner], atol=1e-4)
    assert torch.allclose(mixed.std((2, 3), correction=0), lam * sigma + (1 - lam) * sigma[partner], atol=1e-4)
    assert torch.allclose(mixed[3], maps[3], atol=1e-5)


def test_mixstyle_gradient_is_the_scale_alone() -> None:
    torch.manual_seed(0)
    maps = torch.randn(2, 1, 3, 3, requires_grad=True)
    mix_style(maps, torch.tensor([1, 0]), torch.zeros(2, 1, 1, 1)).sum().backward()
    sigma = maps.detach().std((2, 3), correction=0)[:, 0]
    assert maps.grad is not None
    assert torch.allclose(maps.grad[0], torch.full((1, 3, 3), float(sigma[1] / sigma[0])), atol=1e-4)


def test_mixstyle_in_half_precision_takes_statistics_in_single() -> None:
    torch.manual_seed(0)
    maps = torch.randn(3, 4, 8, 8)
    partner, share = torch.tensor([2, 0, 1]), torch.full((3, 1, 1, 1), 0.5)
    half = mix_style(maps.bfloat16(), partner, share)
    assert half.dtype == torch.bfloat16
    assert torch.allclose(half.float(), mix_style(maps, partner, share), atol=0.05)
    assert torch.isfinite(mix_style(torch.zeros(2, 1, 4, 4), torch.tensor([1, 0]), torch.rand(2, 1, 1, 1))).all()


def test_mixstyle_is_inert_in_evaluation_and_acts_as_often_as_asked() -> None:
    maps = torch.randn(8, 3, 4, 4)
    assert MixStyle(p=1.0).eval()(maps) is maps
    assert MixStyle(p=0.0).train()(maps) is maps
    assert MixStyle(p=1.0).train()(maps[:1]).equal(maps[:1])
    torch.manual_seed(0)
    layer = MixStyle(p=0.5).train()
    acted = sum(layer(maps) is not maps for _ in range(300))
    assert 115 < acted < 185
    with pytest.raises(InputError, match=r"`p` must be between 0 and 1, got 2; fix: "):
        MixStyle(p=2)


def test_mixstyle_makes_the_domain_less_telling() -> None:
    """A network that could tell classes by a channel's brightness leans on the shape when styles are mixed."""
    torch.manual_seed(0)
    y = torch.arange(128) % 2
    shape = torch.zeros(128, 1, 8, 8)
    shape[y == 1, :, 3:5, :] = 1.0
    shape[y == 0, :, :, 3:5] = 1.0
    train = shape + 3.0 * y[:, None, None, None].float() + 0.3 * torch.randn(128, 1, 8, 8)
    test = shape + 3.0 * (1 - y)[:, None, None, None].float() + 0.3 * torch.randn(128, 1, 8, 8)

    def accuracy(p: float) -> float:
        torch.manual_seed(1)
        mix = MixStyle(alpha=1.0, p=p)
        network = nn.Sequential(
            mix, nn.Conv2d(1, 8, 5), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 2)
        )
        optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
        for _ in range(80):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(train), y).backward()
            optimiser.step()
        network.eval()
        with torch.no_grad():
            return float((network(test).argmax(1) == y).float().mean())

    assert accuracy(1.0) > accuracy(0.0) + 0.2
