"""The whole recipe of Atey et al., every part on at once, on a tiny network: each part acts beside the others."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from atypia.backbones.catalogue import BACKBONES
from atypia.base.process.progress import silent
from atypia.data.augment.pipeline import augmentation
from atypia.inference.crops import Frame
from atypia.methods import mixing
from atypia.methods.network import build_network
from atypia.methods.sampler import Population
from atypia.methods.term import Batch
from atypia.training.epochs import loop as loops
from atypia.training.epochs.feed import Feed
from atypia.training.epochs.loop import FoldPlan, Loop
from atypia.training.epochs.objective import Objective
from atypia.training.networks import network_spec
from atypia.training.recipe import load_recipe
from atypia.training.schema import NetworkRecipe

SIDE, TRAIN, VAL, DOMAINS = 32, 192, 96, 3
WARMUP, CLIP = 2, 0.1
CHANGES = (
    "backbone=tiny-cnn", f"input_px={SIDE}", "epochs=8", "batch_size=24", "optimiser.lr=3e-3",
    f"terms.distillation.warmup_epochs={WARMUP}", "select.patience=null", f"clip_norm={CLIP}",
)  # fmt: skip


def crops() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int8], npt.NDArray[np.int64]]:
    """One dark band is normal, two are atypical; each domain has a tint of its own."""
    rng = np.random.default_rng(3)
    count = TRAIN + VAL
    labels, domains = (np.arange(count) % 2).astype(np.int8), (np.arange(count) // 2 % DOMAINS).astype(np.int64)
    tints = np.array([[0, 0, 0], [25, -15, 0], [-20, 0, 25]])
    images = 190 + rng.normal(0, 28, (count, SIDE, SIDE, 3)) + tints[domains][:, None, None, :]
    for i in range(count):
        middle = 16 + int(rng.integers(-2, 3))
        for row in (middle - 6, middle + 6) if labels[i] else (middle,):
            images[i, row - 2 : row + 2, 8:24] -= 27
    return np.clip(images, 0, 255).astype(np.uint8), labels, domains


@dataclass
class Seen:
    """Shapes and shares of what MixStyle mixed, and norms of the gradients before and after clipping."""

    shapes: set[tuple[int, ...]] = field(default_factory=set)
    shares: list[Tensor] = field(default_factory=list)
    norms: list[tuple[float, float]] = field(default_factory=list)


class Watched(Loop):
    """Notes after each step and epoch what each part did, each by a formula of its own."""

    def __init__(self, plan: FoldPlan, mixed: list[bool]) -> None:
        recipe = plan.recipe
        network = build_network(network_spec(recipe), pretrained=recipe.pretrained, seed=0)
        super().__init__(plan, network, Objective(recipe, network.encoder.feature_dim, DOMAINS))
        assert network.neck is not None
        self.neck_start = [value.detach().clone() for value in network.neck.parameters()]
        self.mixed, self.mixed_in_training, self.distances = mixed, list[int](), list[float]()
        self.averages: list[list[Tensor]] = []
        self.average_by_hand = network.head.weight.detach().clone()
        self.losses, self.picked = list[tuple[float, dict[str, float]]](), np.zeros(0, np.int64)
        self.aligned, self.distilled, self.changed = (
            list[tuple[float, float]](),
            list[tuple[float, float]](),
            list[float](),
        )
        alignment, distillation = self.objective.terms["alignment"], self.objective.terms["distillation"]
        align, distil = alignment.forward, distillation.forward

        def aligning(batch: Batch) -> Tensor:
            value, domains = align(batch), self.plan.train.domains[self.picked]
            maps = batch.out.aligned.detach().numpy().mean((2, 3))
            means = np.stack([maps[domains == code].mean(0) for code in np.unique(domains)])
            self.aligned.append((float(value.detach()), float(np.log1p(means.var(0)).mean())))
            plain = self.plan.feed.plain_batch(self.plan.train.rows[self.picked])
            self.changed.append(float((batch.images - plain).abs().mean()))
            return value

        def distilling(batch: Batch) -> Tensor:
            value = distil(batch)
            assert batch.average is not None
            with torch.no_grad():
                teacher, student = batch.average(batch.images).logits / 2, batch.out.logits.detach() / 2
            theirs, own = (torch.stack([F.logsigmoid(-z), F.logsigmoid(z)], 1) for z in (teacher, student))
            divergence = F.kl_div(own, theirs, log_target=True, reduction="batchmean")
            self.distilled.append((float(value.detach()), 4 * float(divergence)))
            return value

        alignment.forward, distillation.forward = aligning, distilling

    def step(self, picked: npt.NDArray[np.int64], step: int) -> dict[str, Tensor]:
        assert self.ema is not None
        self.picked = picked
        found = super().step(picked, step)
        self.losses.append((self.epoch + step / self.steps_per_epoch, {key: float(v) for key, v in found.items()}))
        k = self.epoch * self.steps_per_epoch + step + 1
        momentum = min(0.999, (1 + k) / (10 + k))
        self.average_by_hand = momentum * self.average_by_hand + (1 - momentum) * self.network.head.weight.detach()
        return found

    def validate(self) -> dict[str, float]:
        """As always, but the last epoch scores worst, so that another one is to be kept."""
        assert self.ema is not None
        pairs = zip(self.network.parameters(), self.ema.network.parameters(), strict=True)
        self.distances.append(max(float((a.detach() - b).abs().max()) for a, b in pairs))
        self.averages.append([value.detach().clone() for value in self.ema.network.parameters()])
        self.mixed_in_training.append(len(self.mixed))
        found = super().validate()
        assert len(self.mixed) == self.mixed_in_training[-1], "MixStyle acted on validation figures"
        return found if self.epoch < self.recipe.epochs - 1 else found | {"val_ema_auroc": found["val_ema_auroc"] - 1}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Watched, list[dict[str, Any]], int, list[bool], Seen]:
    _, recipe = load_recipe("atey", CHANGES)
    assert isinstance(recipe, NetworkRecipe)
    images, labels, domains = crops()
    rows = np.arange(TRAIN)
    population = Population(rows, labels[:TRAIN], labels[:TRAIN].astype(np.float64), domains[:TRAIN], rows % 12)
    feed = Feed(images, BACKBONES["tiny-cnn"], Frame(SIDE), augmentation(recipe.augment), "cpu", recipe.channels_last)
    val, names = np.arange(TRAIN, TRAIN + VAL), [f"figure-{i}" for i in range(TRAIN + VAL)]
    folder: Path = tmp_path_factory.mktemp("atey")
    plan = FoldPlan("fold-1", recipe, feed, population, val, labels[TRAIN:], names, 0, folder, "run")
    mixed: list[bool] = []
    seen = Seen()
    real, clip = mixing.mix_style, loops.clip

    def spied(maps: Tensor, partner: Tensor, share: Tensor, *rest: Any) -> Tensor:
        found = real(maps, partner, share, *rest)
        mixed.append(torch.is_grad_enabled() and not torch.equal(found, maps))
        seen.shapes.add(tuple(maps.shape[1:]))
        seen.shares.append(share.flatten())
        return found

    def clipping(parameters: Any, limit: float | None) -> None:
        given = [p for p in parameters if p.grad is not None]
        before = norm(given)
        clip(given, limit)
        seen.norms.append((before, norm(given)))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(mixing, "mix_style", spied)
        patched.setattr(loops, "clip", clipping)
        loop = Watched(plan, mixed)
        result = loop.run(silent)
    return loop, result.history, result.best_epoch, mixed, seen


def norm(parameters: list[torch.nn.Parameter]) -> float:
    return math.sqrt(sum(float(p.grad.double().square().sum()) for p in parameters if p.grad is not None))


def test_the_loss_falls_and_the_kept_network_beats_its_first_epoch(trained: Any) -> None:
    loop, history, kept, _, _ = trained
    assert history[-1]["loss_main"] < 0.8 * history[0]["loss_main"]
    assert loop.recipe.select.of == "ema" and loop.recipe.select.metric == "auroc"
    first, best = history[0]["val_ema_auroc"], history[kept]["val_ema_auroc"]
    assert 0 < kept < loop.recipe.epochs - 1 and best == loop.best_score and best > max(first, 0.8)
    assert loop._score(loop.network)["auroc"] == pytest.approx(best)
    # What is kept is that epoch's average, which is not the student (see the distances below).
    assert all(torch.equal(a, b) for a, b in zip(loop.network.parameters(), loop.averages[kept], strict=True))


def test_the_teacher_is_an_average_that_teaches(trained: Any) -> None:
    loop, history, _, _, _ = trained
    assert min(loop.distances) > 1e-4  # it is not the student
    assert torch.allclose(loop.ema.network.head.weight, loop.average_by_hand, atol=1e-6)  # debiased
    assert loop.ema.steps == len(history) * loop.steps_per_epoch
    for found, by_hand in loop.distilled:
        assert found == pytest.approx(by_hand, rel=1e-3, abs=1e-7)  # at temperature 2
    assert max(found for found, _ in loop.distilled) > 1e-3


def test_the_terms_are_weighed_by_warm_up_and_ramp(trained: Any) -> None:
    loop, _, _, _, _ = trained
    assert len(loop.losses) == loop.recipe.epochs * loop.steps_per_epoch
    for epoch, parts in loop.losses:
        warm, ramp = min(1, epoch / WARMUP), 2 / (1 + math.exp(-10 * epoch / loop.recipe.epochs)) - 1
        expected = parts["loss_main"] + 0.5 * warm * parts["loss_distillation"] + ramp * parts["loss_alignment"]
        assert parts["loss"] == pytest.approx(expected, rel=1e-4), epoch


def test_mixstyle_acts_on_the_student_in_training_alone(trained: Any) -> None:
    loop, history, _, mixed, seen = trained
    per_epoch = np.diff([0, *loop.mixed_in_training])
    stages, steps = len(loop.recipe.mixstyle.stages), loop.steps_per_epoch
    assert (per_epoch > 0).all() and (per_epoch < stages * steps).all()  # with probability 0.5
    assert all(mixed)  # the teacher scores without gradient, and without MixStyle; the maps of the student change
    assert len(history) == len(per_epoch)
    assert len(seen.shapes) == 2  # after an early and after a middle stage
    shares = torch.cat(seen.shares)
    between = ((shares > 0.05) & (shares < 0.95)).float().mean()
    assert len(shares.unique()) > 0.5 * len(shares) and 0.1 < float(between) < 0.4  # one of Beta(0.1, 0.1) a figure


def test_gradients_are_clipped_and_the_optimiser_is_the_paper_s(trained: Any) -> None:
    loop, _, _, _, seen = trained
    assert max(after for _, after in seen.norms) < 1.001 * CLIP < max(before for before, _ in seen.norms)
    assert type(loop.optimiser) is torch.optim.AdamW
    assert {group["weight_decay"] for group in loop.optimiser.param_groups} == {0.01}
    assert loop.schedule.config.name == "plateau" and loop.schedule.best == loop.best_score  # told of each epoch
    recipe = load_recipe("atey")[1]
    assert (recipe.optimiser.lr, recipe.batch_size, recipe.mixstyle.alpha, recipe.ema.momentum) == (
        1e-3,
        512,
        0.1,
        0.999,
    )


def test_training_figures_are_augmented(trained: Any) -> None:
    loop, _, _, _, _ = trained
    assert loop.plan.feed.augment == augmentation("atey") and min(loop.changed) > 0.05


def test_alignment_acts_on_maps_that_cbam_refines(trained: Any) -> None:
    loop, history, _, _, _ = trained
    assert all(line["idle_alignment"] == 0 and line["loss_alignment"] > 0 for line in history)
    network = loop.network.eval()
    images = loop.plan.feed.training_batch(np.arange(6), 0)
    with torch.no_grad():
        out, maps = network(images), network.encoder.net.forward_features(images)
    assert out.aligned.shape == maps.shape and maps.ndim == 4
    assert torch.allclose(out.aligned, network.neck(maps)) and not torch.allclose(out.aligned, maps, atol=1e-3)
    moved = [
        float((a.detach() - b).abs().max()) for a, b in zip(network.neck.parameters(), loop.neck_start, strict=True)
    ]
    assert min(moved) > 1e-4  # channel and spatial attention are trained
    for found, by_hand in loop.aligned:  # the variance of the figures' own domains
        assert found == pytest.approx(by_hand, rel=1e-3, abs=1e-7)
