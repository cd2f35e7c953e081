"""The whole recipe of Giedziun et al., every part on at once: each does its work beside the others."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.threads import one_thread
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
    """What each step was given, and what the terms and the loss made of it."""

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
    contrasts: list[tuple[Batch, float]] = field(default_factory=list)
    parts: list[dict[str, float]] = field(default_factory=list)


@dataclass
class Together:
    outcome: LoopResult
    loop: Loop
    seen: Seen
    drawn: list[np.ndarray]
    head_before: Tensor
    start: dict[str, Tensor]
    epochs: list[dict[str, Tensor]]
    difficulties: list[tuple[np.ndarray, np.ndarray]]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Together:
    """Crops whose contrast tells the class and whose tint tells the domain, trained on for ten epochs; the last scores worst."""
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
    train, val, first = np.arange(64), np.arange(64, COUNT), COUNT - 64
    votes = labels[train] * rng.choice([1.0, 2 / 3], len(train))
    crops = np.roll(crops, first, axis=0)  # so that a position among the training figures is not their row
    population = Population(train + first, labels[train], votes, domains[train], train % 8)
    feed = Feed(
        np.clip(crops, 0, 255).astype(np.uint8), BACKBONES["tiny-vit"], Frame(SIDE), augmentation(recipe.augment)
    )
    plan = FoldPlan("fold-1", recipe, feed, population, val - len(train), labels[val], [f"f{i}" for i in range(COUNT)], 0,
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

    contrastive, step, validate, mine_them = objective.terms["contrastive"], loop.step, loop.validate, loop.mine
    contrast = contrastive.forward
    epochs, difficulties = list[dict[str, Tensor]](), list[tuple[np.ndarray, np.ndarray]]()

    def contrasting(batch: Batch) -> Tensor:
        value = contrast(batch)
        seen.contrasts.append((batch, float(value.detach())))
        return value

    def stepping(picked: np.ndarray, number: int) -> dict[str, Tensor]:
        found = step(picked, number)
        seen.parts.append({key: float(value) for key, value in found.items()})
        return found

    def ends_worst() -> dict[str, float]:
        epochs.append(loop.network.trained_state())
        found, last = validate(), loop.epoch == recipe.epochs - 1
        return found | {"val_balanced_accuracy": found["val_balanced_accuracy"] - last}

    def mining() -> None:
        mine_them()
        p = feed.probabilities(loop.network, population.rows, None)
        assert loop.sampler.difficulty is not None
        difficulties.append((loop.sampler.difficulty.copy(), np.abs(p - population.targets)))

    loop.sampler.draw, objective._mixed, adversary.forward = keeping_draws, keeping_images, keeping
    contrastive.forward, loop.step, loop.validate, loop.mine = contrasting, stepping, ends_worst, mining
    before = head.linear.weight.detach().clone()
    start = {key: value.detach().clone() for key, value in network.state_dict().items()}
    with one_thread():
        outcome = loop.run(lambda done, total, what: None)
    return Together(outcome, loop, seen, drawn, before, start, epochs, difficulties)


def test_the_loss_falls_and_the_classes_are_told_apart(together: Together) -> None:
    first, last = together.outcome.history[0], together.outcome.history[-1]
    assert last["loss_main"] < 0.7 * first["loss_main"]
    assert max(line["val_auroc"] for line in together.outcome.history) > 0.9
    for parts in together.seen.parts:
        expected = parts["loss_main"] + 0.1 * parts["loss_adversarial"] + 0.5 * parts["loss_contrastive"]
        assert parts["loss"] == pytest.approx(expected, rel=1e-4)


def test_adapters_and_the_new_layers_alone_are_trained_by_a_rate_that_rises_and_falls(together: Together) -> None:
    loop, network = together.loop, together.loop.network
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, together.start[name])}
    assert all(".lora_" in name or name.startswith(("head.", "hidden.")) for name in moved)
    assert {name.split(".lora_")[0].split(".", 4)[4] for name in moved if ".lora_" in name} == {
        "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"
    }  # fmt: skip
    assert {name for name in moved if ".lora_" not in name} == {f"{layer}.{kind}" for layer in ("head", "hidden.0.1") for kind in ("weight", "bias")}  # fmt: skip
    assert network.head.in_features == 256 and network.head_dropout.p == 0.2
    assert type(loop.optimiser) is torch.optim.AdamW
    assert {group["weight_decay"] for group in loop.optimiser.param_groups} == {0.01}
    rates = [line["lr"] for line in together.outcome.history]
    assert rates[0] == pytest.approx(0.01) and rates == sorted(rates, reverse=True) and rates[-1] < 1e-4


def test_the_best_epoch_by_balanced_accuracy_is_kept(together: Together) -> None:
    scores = [line["val_balanced_accuracy"] for line in together.outcome.history]
    kept = together.outcome.best_epoch
    assert kept == scores.index(max(scores)) < len(scores) - 1
    state = together.outcome.network.state_dict()
    assert all(torch.equal(state[name], value) for name, value in together.epochs[kept].items())


def test_each_step_is_given_the_soft_labels_and_domains_of_the_figures_that_were_drawn(together: Together) -> None:
    seen, train = together.seen, together.loop.plan.train
    for step, (targets, domains) in enumerate(zip(seen.targets, seen.domains, strict=True)):
        picked = together.drawn[step // 6][step % 6 * BATCH :][:BATCH]
        np.testing.assert_array_equal(domains.numpy(), train.domains[picked])
        np.testing.assert_allclose(targets.numpy(), train.targets[picked], rtol=1e-6)


def test_mixup_acts_on_every_batch(together: Together) -> None:
    seen = together.seen
    assert len(seen.mixes) == 10 * 6
    for mix, plain, image in zip(seen.mixes, seen.unmixed, seen.images, strict=True):
        share = mix.share[:, None, None, None]
        assert torch.allclose(image, share * plain + (1 - share) * plain[mix.partner], atol=1e-5)
    shares = torch.stack([mix.share[0] for mix in seen.mixes])
    assert 0.2 < float(((shares > 0.05) & (shares < 0.95)).float().mean()) < 0.65  # 0.42 of Beta(0.2, 0.2)
    plain = together.loop.plan.feed.plain_batch(together.loop.plan.train.rows[together.drawn[0][:BATCH]])
    assert float((seen.unmixed[0] - plain).abs().mean()) > 0.05  # and augmented before
    assert together.loop.plan.feed.augment == augmentation("medium")


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
    assert len(together.difficulties) == 10
    for found, by_hand in together.difficulties:  # after each epoch, by the network as it is then
        np.testing.assert_allclose(found, by_hand, atol=1e-6)


def test_the_contrastive_loss_is_of_mined_pairs_of_the_hidden_layer(together: Together) -> None:
    fewer = 0
    for batch, value in together.seen.contrasts[::6]:
        assert batch.mix is not None and batch.out.hidden.shape == (BATCH, 256)
        classes = (batch.targets >= 0.5).long()
        z = F.normalize(batch.out.hidden.detach().double(), dim=1)
        losses = []
        for a, of_anchor in enumerate((z @ z.T).tolist()):
            same = [j for j in range(BATCH) if j != a and classes[j] == classes[a]]
            others = [j for j in range(BATCH) if classes[j] != classes[a]]
            if not same or not others:
                continue
            near = [j for j in same if of_anchor[j] < max(of_anchor[k] for k in others) + 0.1]
            far = [j for j in others if of_anchor[j] > min(of_anchor[k] for k in same) - 0.1]
            fewer += len(near) + len(far) < BATCH - 1
            if near:
                total = math.log(sum(math.exp(of_anchor[j] / 0.1) for j in near + far))
                losses.append(sum(total - of_anchor[j] / 0.1 for j in near) / len(near))
        assert value == pytest.approx(np.mean(losses) if losses else 0, rel=1e-3, abs=1e-5)
    assert fewer > 0  # easy pairs are left out


def test_the_contrastive_loss_falls_below_that_of_equal_similarities(together: Together) -> None:
    history = [line["loss_contrastive"] for line in together.outcome.history]
    # log(b − 1) is the loss of a hidden layer that tells nothing apart; see docs/results/giedziun.md.
    assert history[-1] < math.log(BATCH - 1) - 0.5
    assert history[-1] < history[0] - 1
