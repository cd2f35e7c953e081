"""The whole recipe of Giedziun et al., every part on at once: each does its work beside the others."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from atypia.backbones.catalogue import BACKBONES
from atypia.data.augment.pipeline import augmentation
from atypia.inference.crops import Frame
from atypia.methods.mixing import Mix
from atypia.methods.network import build_network
from atypia.methods.ramps import dann_ramp
from atypia.methods.sampler import Population, hard_mask
from atypia.methods.term import Batch
from atypia.methods.terms.adversarial import Adversarial, domain_cross_entropy
from atypia.training.epochs.feed import Feed
from atypia.training.epochs.loop import FoldPlan, Loop, LoopResult
from atypia.training.epochs.objective import Objective
from atypia.training.networks import network_spec
from atypia.training.recipe import load_recipe
from atypia.training.schema import NetworkRecipe

SIDE, COUNT, DOMAINS, BATCH = 32, 96, 3, 16


@dataclass
class Seen:
    """What each step was given, and what the domain head and the loss made of it."""

    mixes: list[Mix] = field(default_factory=list)
    unmixed: list[Tensor] = field(default_factory=list)
    images: list[Tensor] = field(default_factory=list)
    domains: list[Tensor] = field(default_factory=list)
    logits: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    targets: list[Tensor] = field(default_factory=list)
    classes: list[Tensor] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)


@dataclass
class Together:
    outcome: LoopResult
    loop: Loop
    seen: Seen
    drawn: list[np.ndarray]
    head_before: Tensor


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Together:
    """Crops whose contrast tells the class and whose tint tells the domain, trained on for ten epochs."""
    changes = ["backbone=tiny-vit", f"input_px={SIDE}", "epochs=10", f"batch_size={BATCH}", "optimiser.lr=0.01",
               "sampler.draws=96", "select.patience=null"]  # fmt: skip
    recipe = load_recipe("giedziun", changes)[1]
    assert isinstance(recipe, NetworkRecipe)
    assert {term.name for term in recipe.terms} == {"adversarial", "contrastive"}
    assert recipe.mixup is not None and recipe.sampler.hard_share == 0.3 and recipe.loss.name == "focal"
    rng = np.random.default_rng(5)
    labels, domains = (np.arange(COUNT) % 4 == 0).astype(np.int8), np.arange(COUNT) // 4 % DOMAINS
    stripes = np.where(np.arange(SIDE) // 4 % 2, 1.0, -1.0)[None, :, None, None]
    crops = 120 + rng.normal(0, 8, (COUNT, SIDE, SIDE, 3)) + 60 * labels[:, None, None, None] * stripes
    crops += 40 * np.eye(3)[domains][:, None, None, :]
    train, val = np.arange(64), np.arange(64, COUNT)
    votes = labels[train] * rng.choice([1.0, 2 / 3], len(train))
    population = Population(train, labels[train], votes, domains[train], train % 8)
    feed = Feed(
        np.clip(crops, 0, 255).astype(np.uint8), BACKBONES["tiny-vit"], Frame(SIDE), augmentation(recipe.augment)
    )
    plan = FoldPlan("fold-1", recipe, feed, population, val, labels[val], [f"f{i}" for i in range(COUNT)], 0,
                    tmp_path_factory.mktemp("giedziun"), "run")  # fmt: skip
    network = build_network(network_spec(recipe), seed=0)
    objective = Objective(recipe, network.encoder.feature_dim, DOMAINS)
    loop, seen, drawn = Loop(plan, network, objective), Seen(), list[np.ndarray]()
    plan.folder.mkdir(exist_ok=True)
    draw, mixed, adversary = loop.sampler.draw, objective._mixed, objective.terms["adversarial"]
    assert isinstance(adversary, Adversarial)
    forward, head = adversary.forward, adversary.head

    def keeping_draws(epoch: int) -> np.ndarray:
        drawn.append(draw(epoch))
        return drawn[-1]

    def keeping_images(given):  # type: ignore[no-untyped-def]
        seen.unmixed.append(given.images)
        seen.targets.append(given.targets)
        return mixed(given)

    def keeping(batch: Batch) -> Tensor:
        value = forward(batch)
        assert batch.mix is not None
        seen.mixes.append(batch.mix)
        seen.images.append(batch.images)
        seen.domains.append(batch.domains)
        seen.logits.append(head.linear(batch.out.pooled.float()).detach())
        seen.values.append(value.detach())
        seen.classes.append(batch.out.logits.detach())
        seen.losses.append(batch.losses.detach())
        seen.batches[:] = [batch]
        return value

    loop.sampler.draw, objective._mixed, adversary.forward = keeping_draws, keeping_images, keeping
    before = head.linear.weight.detach().clone()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        outcome = loop.run(lambda done, total, what: None)
    finally:
        torch.set_num_threads(threads)
    return Together(outcome, loop, seen, drawn, before)


def test_the_loss_falls_and_the_classes_are_told_apart(together: Together) -> None:
    first, last = together.outcome.history[0], together.outcome.history[-1]
    assert last["loss_main"] < 0.7 * first["loss_main"]
    assert max(line["val_auroc"] for line in together.outcome.history) > 0.9


def test_mixup_acts_on_every_batch(together: Together) -> None:
    seen = together.seen
    assert len(seen.mixes) == 10 * 6
    for mix, plain, image in zip(seen.mixes, seen.unmixed, seen.images, strict=True):
        share = mix.share[:, None, None, None]
        assert torch.allclose(image, share * plain + (1 - share) * plain[mix.partner], atol=1e-5)
    shares = torch.stack([mix.share[0] for mix in seen.mixes])
    assert float(((shares > 0.05) & (shares < 0.95)).float().mean()) > 0.2


def test_the_loss_is_focal_of_mixed_soft_labels_and_weighs_positives_by_what_was_drawn(together: Together) -> None:
    seen, train = together.seen, together.loop.plan.train
    assert sorted({round(float(target), 3) for target in torch.cat(seen.targets)}) == [0, 0.667, 1]
    weights = []
    for step, (mix, target, z, losses) in enumerate(
        zip(seen.mixes, seen.targets, seen.classes, seen.losses, strict=True)
    ):
        drawn = train.targets[together.drawn[step // 6]]
        weights.append(float((len(drawn) - drawn.sum()) / drawn.sum()))
        y = (mix.share * target + (1 - mix.share) * target[mix.partner]).double()
        p = torch.sigmoid(z.double())
        crossed = -(weights[-1] * y * p.log() + (1 - y) * (1 - p).log())
        missed = 1 - (y * p + (1 - y) * (1 - p))
        assert torch.allclose(losses.double(), missed**2 * crossed, rtol=1e-3, atol=1e-6)
    assert len(set(weights)) > 5 and abs(weights[0] - 1) > 0.05  # renewed by epoch


def test_rarer_classes_and_rarer_domains_are_drawn_more_often(together: Together) -> None:
    train, weights = together.loop.plan.train, together.loop.sampler.weights()
    assert weights is not None
    of_class, of_domain = np.bincount(train.labels)[train.labels], np.bincount(train.domains)[train.domains]
    assert len(set(of_class)) == 2 and len(set(of_domain)) > 1
    expected = 1 / (of_class * of_domain)
    np.testing.assert_allclose(weights / weights.sum(), expected / expected.sum())
    drawn = np.concatenate(together.drawn)
    assert train.labels.mean() == 0.25 and 0.4 < train.labels[drawn].mean() < 0.75


def test_the_features_are_turned_against_the_domain_head(together: Together) -> None:
    adversary, (batch,) = together.loop.objective.terms["adversarial"], together.seen.batches
    assert isinstance(adversary, Adversarial) and batch.mix is not None
    pooled = batch.out.pooled.detach().clone().requires_grad_()
    value = Adversarial.forward(adversary, replace(batch, out=batch.out._replace(pooled=pooled)))
    (turned,) = torch.autograd.grad(value, pooled)
    plain = domain_cross_entropy(adversary.head.linear(pooled), batch.domains, batch.mix)
    (straight,) = torch.autograd.grad(plain, pooled)
    assert float(F.cosine_similarity(turned.flatten(), straight.flatten(), dim=0)) < -0.999
    assert float(turned.norm() / straight.norm()) == pytest.approx(dann_ramp(batch.done), rel=1e-3)


def test_the_domain_head_learns_both_domains_of_mixed_figures(together: Together) -> None:
    seen, wrong = together.seen, []
    for mix, domains, logits, value in zip(seen.mixes, seen.domains, seen.logits, seen.values, strict=True):
        hot = F.one_hot(domains, DOMAINS).float()
        both = mix.share[:, None] * hot + (1 - mix.share[:, None]) * hot[mix.partner]
        assert float(value) == pytest.approx(float(F.cross_entropy(logits, both)), rel=1e-4)
        wrong.append(abs(float(F.cross_entropy(logits, domains)) - float(value)))
    assert max(wrong) > 0.05  # without the partners' domains it would have been another loss
    adversary = together.loop.objective.terms["adversarial"]
    assert isinstance(adversary, Adversarial)
    assert not torch.allclose(adversary.head.linear.weight, together.head_before, atol=1e-3)


def test_mining_changes_what_is_drawn(together: Together) -> None:
    sampler = together.loop.sampler
    assert sampler.difficulty is not None
    factors = sampler.hardness()
    assert factors is not None and sorted(set(factors.tolist())) == [1.0, 2.0]
    assert int((factors == 2).sum()) == round(0.3 * 64)
    assert bool((factors[hard_mask(sampler.difficulty, 0.3)] == 2).all())
    plain = sampler.weights()
    assert plain is not None
    rng = [np.random.default_rng(3) for _ in range(2)]
    mined, unmined = sampler.drawn(rng[0]), rng[1].choice(64, 96, p=plain / plain.sum())
    assert (mined != unmined).any()
    assert len(together.drawn) == 10 and all(len(draw) == 96 for draw in together.drawn)


def test_the_contrastive_loss_falls_below_that_of_equal_similarities(together: Together) -> None:
    history = [line["loss_contrastive"] for line in together.outcome.history]
    # log(b − 1) is the loss of a hidden layer that tells nothing apart; see docs/results/giedziun.md.
    assert history[-1] < math.log(BATCH - 1) - 0.5
    assert history[-1] < history[0] - 1
