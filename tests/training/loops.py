"""A tiny training for the tests of the loop: crops whose brightness tells the class."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from atypia.backbones.catalogue import BACKBONES
from atypia.base.process.progress import Progress, silent
from atypia.data.augment.pipeline import augmentation
from atypia.inference.crops import Frame
from atypia.methods.network import build_network
from atypia.methods.sampler import Population
from atypia.training.epochs.feed import Feed
from atypia.training.epochs.loop import FoldPlan, LoopResult, run_fold
from atypia.training.epochs.objective import Objective
from atypia.training.networks import network_spec
from atypia.training.recipe import parse_recipe
from atypia.training.schema import NetworkRecipe

SIDE, COUNT = 32, 48

# Every part of the loop that has a state: moving average, mining, plateau, adversarial head, dropout.
VALUES = {
    "summary": "test",
    "adaptation": "full",
    "backbone": "tiny-cnn",
    "input_px": SIDE,
    "epochs": 3,
    "batch_size": 8,
    "augment": "flip-rotate",
    "head": {"hidden": [8], "dropout": 0.2},
    "optimiser": {"name": "adamw", "lr": 3e-3},
    "schedule": {"name": "plateau", "patience": 0},
    "loss": {"name": "focal", "positive_weight": "observed"},
    "sampler": {"name": "domain-aware", "hard_share": 0.3},
    "ema": {"momentum": 0.9},
    "terms": [{"name": "adversarial", "weight": 0.1}, {"name": "distillation", "weight": 0.5, "warmup_epochs": 1}],
    "select": {"metric": "auroc", "of": "ema"},
}


def recipe(**changes: object) -> NetworkRecipe:
    """The recipe above with changed sections; None drops one."""
    values = {key: value for key, value in {**VALUES, **changes}.items() if value is not None}
    made = parse_recipe(values, "test")
    assert isinstance(made, NetworkRecipe)
    return made


def plan(folder: Path, made: NetworkRecipe, seed: int = 0, domains: int = 2) -> FoldPlan:
    """A fold of that recipe: two thirds for training, the rest for validation."""
    rng = np.random.default_rng(7)
    labels = (np.arange(COUNT) % 3 == 0).astype(np.int8)
    base = rng.integers(60, 120, (COUNT, SIDE, SIDE, 3))
    crops = np.clip(base + 70 * labels[:, None, None, None], 0, 255).astype(np.uint8)
    train = np.arange(32)
    population = Population(
        rows=train,
        labels=labels[train],
        targets=labels[train].astype(np.float64),
        domains=train % domains,
        slides=train % 4,
    )
    entry = BACKBONES[made.backbone]
    feed = Feed(crops, entry, Frame(SIDE), augmentation(made.augment), "cpu", made.channels_last)
    val = np.arange(32, COUNT)
    ids = [f"figure-{i}" for i in range(COUNT)]
    return FoldPlan("fold-1", made, feed, population, val, labels[val], ids, seed, folder, "run")


def train(folder: Path, made: NetworkRecipe, progress: Progress = silent, seed: int = 0) -> LoopResult:
    """Trains the fold from where it is."""
    made_plan = plan(folder, made, seed)
    network = build_network(network_spec(made), pretrained=made.pretrained, seed=seed)
    objective = Objective(made, network.encoder.feature_dim, 2)
    return run_fold(made_plan, network, objective, progress)


def die_at(step: int, folder: Path) -> None:
    """Trains with a checkpoint after every step, and kills this process at the given one."""
    import os
    import signal

    import torch

    from atypia.training.epochs import loop

    torch.set_num_threads(1)
    loop.CHECKPOINT_EVERY_S = -1.0
    seen = 0

    def progress(done: int, total: int, what: str) -> None:
        nonlocal seen
        seen += 1
        if seen == step:
            os.kill(os.getpid(), signal.SIGKILL)

    train(folder, recipe(), progress)


if __name__ == "__main__":
    die_at(int(sys.argv[1]), Path(sys.argv[2]))
