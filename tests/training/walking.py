"""A training of a few epochs on made-up crops, watched: for tests that walk a paper's whole recipe."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tests.threads import one_thread
from torch import Tensor

from atypia.base.process.progress import silent
from atypia.data.augment.pipeline import augmentation
from atypia.inference.crops import Frame
from atypia.methods.network import Network, build_network
from atypia.methods.sampler import Population
from atypia.training.epochs.feed import Feed
from atypia.training.epochs.loop import FoldPlan, Loop, LoopResult
from atypia.training.epochs.objective import Objective, StepInput
from atypia.training.networks import network_spec
from atypia.training.recipe import load_recipe
from atypia.training.schema import NetworkRecipe

TRAIN, VAL = 96, 48


@dataclass
class Walk:
    """What a training did.

    Attributes:
        recipe: Its recipe.
        loop: Its loop, as it ended.
        result: Its history and what was kept.
        start: The network's tensors before the first step.
        drawn: Positions drawn in each epoch.
        inputs: What each step was given.
        crops: The crops, shape (n, s, s, 3).
        states: The trained tensors as each epoch was validated.
    """

    recipe: NetworkRecipe
    loop: Loop
    result: LoopResult
    start: dict[str, Tensor]
    drawn: list[npt.NDArray[np.int64]] = field(default_factory=list)
    inputs: list[StepInput] = field(default_factory=list)
    crops: npt.NDArray[np.uint8] = field(default_factory=lambda: np.empty((0, 1, 1, 3), np.uint8))
    states: list[dict[str, Tensor]] = field(default_factory=list)

    def keeps_its_best(self) -> bool:
        """Whether the network that is left has the weights of the best epoch, which is not the last one."""
        state, best = self.result.network.state_dict(), self.result.best_epoch
        kept = all(torch.equal(state[name], value) for name, value in self.states[best].items())
        return kept and best < self.recipe.epochs - 1


def crops_of(
    side: int, domains: npt.NDArray[np.int64], share: int = 4
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int8]]:
    """Crops whose contrast tells the class (one of ``share`` is positive) and whose tint tells the domain."""
    rng, count = np.random.default_rng(5), len(domains)
    labels = (np.arange(count) % share == 0).astype(np.int8)
    width = max(4, side // 8)
    stripes = np.where(np.arange(side) // width % 2, 1.0, -1.0)[None, :, None, None]
    crops = 120 + rng.normal(0, 8, (count, side, side, 3)) + 60 * labels[:, None, None, None] * stripes
    crops += 40 * np.eye(3)[domains][:, None, None, :]
    return np.clip(crops, 0, 255).astype(np.uint8), labels


def walk(name: str, changes: list[str], folder: Path, crop_px: int, domains: npt.NDArray[np.int64]) -> Walk:
    """Trains a shipped recipe with changes on crops of made-up figures; the last of several epochs scores worst.

    Args:
        name: Of the recipe.
        changes: As ``--set`` takes them; the backbone is the last that is named.
        folder: Where the run goes.
        crop_px: Side of the crops.
        domains: Domain of each figure, shape (TRAIN + VAL,).
    """
    recipe = load_recipe(name, changes)[1]
    assert isinstance(recipe, NetworkRecipe)
    crops, labels = crops_of(crop_px, domains)
    train, val = np.arange(TRAIN), np.arange(TRAIN, TRAIN + VAL)
    population = Population(train, labels[train], labels[train].astype(np.float64), domains[train], train % 8)
    spec = network_spec(recipe)
    feed = Feed(crops, spec.entry, Frame(spec.input_px, recipe.view), augmentation(recipe.augment, recipe.fill))
    plan = FoldPlan(
        "fold-1", recipe, feed, population, val, labels[val], [f"f{i}" for i in range(len(crops))], 0, folder, "run"
    )
    folder.mkdir(exist_ok=True)
    network: Network = build_network(spec, pretrained=recipe.pretrained, seed=0)
    objective = Objective(recipe, network.encoder.feature_dim, len(set(domains[train].tolist())))
    loop = Loop(plan, network, objective)
    start = {key: value.detach().clone() for key, value in loop.network.state_dict().items()}
    drawn: list[npt.NDArray[np.int64]] = []
    inputs: list[StepInput] = []
    states: list[dict[str, Tensor]] = []
    draw, mixed, validate = loop.sampler.draw, objective._mixed, loop.validate

    def keeping_draws(epoch: int) -> npt.NDArray[np.int64]:
        drawn.append(draw(epoch))
        return drawn[-1]

    def keeping_inputs(given: StepInput):  # type: ignore[no-untyped-def]
        inputs.append(given)
        return mixed(given)

    def ends_worst() -> dict[str, float]:
        states.append(loop.network.trained_state())
        found, last = validate(), 1 < recipe.epochs == loop.epoch + 1
        return found | {key: found[key] - last for key in ("val_auroc", "val_balanced_accuracy")}

    loop.sampler.draw, objective._mixed, loop.validate = keeping_draws, keeping_inputs, ends_worst
    with one_thread():
        result = loop.run(silent)
    return Walk(recipe, loop, result, start, drawn, inputs, crops, states)
