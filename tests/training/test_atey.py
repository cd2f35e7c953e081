"""The whole recipe of Atey et al., every part on at once, on a tiny network: each part acts beside the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from atypia.backbones.catalogue import BACKBONES
from atypia.base.process.progress import silent
from atypia.data.augment.pipeline import augmentation
from atypia.inference.crops import Frame
from atypia.methods import mixing
from atypia.methods.network import build_network
from atypia.methods.sampler import Population
from atypia.training.epochs.feed import Feed
from atypia.training.epochs.loop import FoldPlan, Loop
from atypia.training.epochs.objective import Objective
from atypia.training.networks import network_spec
from atypia.training.recipe import load_recipe
from atypia.training.schema import NetworkRecipe

SIDE, TRAIN, VAL, DOMAINS = 32, 192, 96, 3
WARMUP = 2
CHANGES = (
    "backbone=tiny-cnn", f"input_px={SIDE}", "epochs=8", "batch_size=24", "optimiser.lr=3e-3",
    f"terms.distillation.warmup_epochs={WARMUP}", "select.patience=null",
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


class Watched(Loop):
    """Notes after each epoch how far the teacher is from the student, and what MixStyle did meanwhile."""

    def __init__(self, plan: FoldPlan, mixed: list[bool]) -> None:
        recipe = plan.recipe
        network = build_network(network_spec(recipe), pretrained=recipe.pretrained, seed=0)
        super().__init__(plan, network, Objective(recipe, network.encoder.feature_dim, DOMAINS))
        assert network.neck is not None
        self.neck_start = [value.detach().clone() for value in network.neck.parameters()]
        self.mixed, self.mixed_in_training, self.distances = mixed, list[int](), list[float]()
        self.averages: list[list[Tensor]] = []

    def validate(self) -> dict[str, float]:
        assert self.ema is not None
        pairs = zip(self.network.parameters(), self.ema.network.parameters(), strict=True)
        self.distances.append(max(float((a.detach() - b).abs().max()) for a, b in pairs))
        self.averages.append([value.detach().clone() for value in self.ema.network.parameters()])
        self.mixed_in_training.append(len(self.mixed))
        found = super().validate()
        assert len(self.mixed) == self.mixed_in_training[-1], "MixStyle acted on validation figures"
        return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Watched, list[dict[str, Any]], int, list[bool]]:
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
    real = mixing.mix_style

    def spied(maps: Tensor, *rest: Any) -> Tensor:
        found = real(maps, *rest)
        mixed.append(torch.is_grad_enabled() and not torch.equal(found, maps))
        return found

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(mixing, "mix_style", spied)
        loop = Watched(plan, mixed)
        result = loop.run(silent)
    return loop, result.history, result.best_epoch, mixed


def test_the_loss_falls_and_the_kept_network_beats_its_first_epoch(trained: Any) -> None:
    loop, history, kept, _ = trained
    assert history[-1]["loss_main"] < 0.8 * history[0]["loss_main"]
    assert loop.recipe.select.of == "ema" and loop.recipe.select.metric == "auroc"
    first, best = history[0]["val_ema_auroc"], history[kept]["val_ema_auroc"]
    assert kept > 0 and best == loop.best_score and best > max(first, 0.8)
    assert loop._score(loop.network)["auroc"] == pytest.approx(best)
    # What is kept is that epoch's average, which is not the student (see the distances below).
    assert all(torch.equal(a, b) for a, b in zip(loop.network.parameters(), loop.averages[kept], strict=True))


def test_the_teacher_is_an_average_that_teaches(trained: Any) -> None:
    loop, history, _, _ = trained
    assert min(loop.distances) > 1e-4  # it is not the student
    assert all(line["loss_distillation"] > 0 for line in history)
    for line in history:
        parts = line["loss_main"] + line["loss_distillation"] * 0.5 + line["loss_alignment"]
        if line["epoch"] >= WARMUP:  # the weight of alignment still grows towards 1
            assert line["loss_main"] + 0.5 * line["loss_distillation"] < line["loss"] <= parts + 1e-6
    assert loop.ema.steps == len(history) * loop.steps_per_epoch


def test_mixstyle_acts_on_the_student_in_training_alone(trained: Any) -> None:
    loop, history, _, mixed = trained
    per_epoch = np.diff([0, *loop.mixed_in_training])
    stages, steps = len(loop.recipe.mixstyle.stages), loop.steps_per_epoch
    assert (per_epoch > 0).all() and (per_epoch < stages * steps).all()  # with probability 0.5
    assert all(mixed)  # the teacher scores without gradient, and without MixStyle; the maps of the student change
    assert len(history) == len(per_epoch)


def test_alignment_acts_on_maps_that_cbam_refines(trained: Any) -> None:
    loop, history, _, _ = trained
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
