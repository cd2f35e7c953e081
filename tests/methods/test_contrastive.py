"""Metric learning against an independent implementation, and its effect."""

from __future__ import annotations

import math

import pytest
import torch
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.losses import SupConLoss
from pytorch_metric_learning.miners import MultiSimilarityMiner
from pytorch_metric_learning.reducers import DoNothingReducer
from torch import Tensor, nn

from atypia.base.errors import InputError
from atypia.methods.terms.contrastive import mine, mined_contrastive, supervised_contrastive

pytestmark = pytest.mark.usefixtures("one_thread")


def _batch(seed: int, count: int = 24, classes: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 6, generator=generator), torch.randint(0, classes, (count,), generator=generator)


def _pairs(mask: Tensor) -> set[tuple[int, int]]:
    return {(a, b) for a, b in torch.nonzero(mask).tolist()}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.5])
def test_miner_keeps_the_same_pairs(seed: int, epsilon: float) -> None:
    embeddings, labels = _batch(seed)
    positive, negative = mine(embeddings, labels, epsilon)
    a1, p, a2, n = MultiSimilarityMiner(epsilon, distance=CosineSimilarity())(embeddings, labels)
    assert _pairs(positive) == set(zip(a1.tolist(), p.tolist(), strict=True))
    assert _pairs(negative) == set(zip(a2.tolist(), n.tolist(), strict=True))


@pytest.mark.parametrize("seed", range(8))
def test_loss_has_the_same_value_for_every_anchor(seed: int) -> None:
    embeddings, labels = _batch(seed, classes=3)
    positive, negative = mine(embeddings, labels, 0.1)
    pairs = (*torch.nonzero(positive).unbind(1), *torch.nonzero(negative).unbind(1))
    each = SupConLoss(temperature=0.1, reducer=DoNothingReducer())(embeddings, labels, pairs)
    losses = each["loss"]["losses"]
    anchors = positive.any(1)
    own = supervised_contrastive(embeddings, positive, negative, 0.1)
    assert float(own) == pytest.approx(float(losses[anchors].mean()), rel=1e-5)


def test_miner_by_hand() -> None:
    # Unit vectors at 0°, 60° (class 0) and 90°, 180° (class 1).
    angles = torch.deg2rad(torch.tensor([0.0, 60.0, 90.0, 180.0]))
    z = torch.stack([angles.cos(), angles.sin()], dim=1)
    positive, negative = mine(z, torch.tensor([0, 0, 1, 1]), 0.1)
    # Anchor 0: positive cos 60° = .5, negatives 0 and −1: none is hard. Anchor 1: positive .5, negatives .866, −.5.
    assert not positive[0].any()
    assert not negative[0].any()
    assert _pairs(positive[1:2]) == {(0, 0)}
    assert _pairs(negative[1:2]) == {(0, 2)}
    # Anchor 2: positive 0, negatives 0 and .866. Anchor 3: positive 0, negatives −1 and −.5.
    assert _pairs(negative[2:3]) == {(0, 0), (0, 1)}
    assert not positive[3].any()


def test_loss_by_hand() -> None:
    z = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    positive = torch.tensor([[False, True, False]] + [[False] * 3] * 2)
    negative = torch.tensor([[False, False, True]] + [[False] * 3] * 2)
    # −ln( e^{1/τ} / (e^{1/τ} + e^0) ) with τ = 1/2
    assert float(supervised_contrastive(z, positive, negative, 0.5)) == pytest.approx(math.log(1 + math.exp(-2)))


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3]])
def test_nothing_to_compare_is_zero_with_a_finite_gradient(labels: list[int]) -> None:
    z = torch.randn(4, 3, requires_grad=True)
    loss = mined_contrastive(z, torch.tensor(labels))
    loss.backward()
    assert float(loss.detach()) == 0
    assert z.grad is not None
    assert float(z.grad.abs().sum()) == 0


def test_gradient_is_finite_where_some_anchors_have_no_pair() -> None:
    z, labels = _batch(3)
    z.requires_grad_()
    mined_contrastive(z, labels).backward()
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()
    assert float(z.grad.abs().sum()) > 0


def test_half_precision_is_left_for_the_similarities() -> None:
    z, labels = _batch(5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = mined_contrastive(z, labels)
    assert float(under) == pytest.approx(float(mined_contrastive(z, labels)), rel=1e-6)


def test_training_pulls_classes_apart() -> None:
    torch.manual_seed(0)
    labels = torch.arange(40) % 2
    x = torch.randn(40, 10)
    x[:, 0] += 3 * labels
    encoder = nn.Linear(10, 4)
    optimiser = torch.optim.Adam(encoder.parameters(), lr=0.03)

    def margin() -> float:
        with torch.no_grad():
            z = nn.functional.normalize(encoder(x), dim=1)
        s, same = z @ z.T, labels[:, None] == labels[None]
        return float(s[same].mean() - s[~same].mean())

    before = margin()
    for _ in range(100):
        optimiser.zero_grad()
        mined_contrastive(encoder(x), labels).backward()
        optimiser.step()
    assert margin() > before + 0.3


def test_bad_temperature_is_refused() -> None:
    z, labels = _batch(0)
    with pytest.raises(InputError, match=r"`temperature` must be positive, got 0; fix: "):
        mined_contrastive(z, labels, temperature=0)
