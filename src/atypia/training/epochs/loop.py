"""The one training loop: one fold of one recipe, from crops to the best weights.

Everything random depends on the seed, the epoch and the step (:mod:`atypia.base.seeds`), and the
checkpoint contains everything else, so a run that was killed at any moment and resumed ends with the
weights of an uninterrupted one.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from atypia.base.errors import InputError, WorkError, must
from atypia.base.process.progress import Progress, silent
from atypia.base.seeds import derive_seed
from atypia.methods.averaging import EMA, Swa, Swad
from atypia.methods.catalogue import SAMPLERS
from atypia.methods.loss import observed_positive_weight
from atypia.methods.network import Network
from atypia.methods.sampler import Population
from atypia.statistics import metrics
from atypia.training.epochs.checkpoints import load_own_checkpoint, save_checkpoint, stop_signal, write_history
from atypia.training.epochs.feed import Feed
from atypia.training.epochs.objective import IDLE, Objective, StepInput
from atypia.training.epochs.optimisers import Schedule, clip, make_optimiser
from atypia.training.epochs.patches import Patches
from atypia.training.epochs.precision import autocast_dtype
from atypia.training.epochs.selection import SELECTIONS
from atypia.training.schema import NetworkRecipe

MOSTLY_IDLE = 0.5
"""If a term had no effect in a larger share of an epoch's batches, there is a warning."""
CHECKPOINT_EVERY_S = 60.0
"""A checkpoint is written between two steps if the last one is older than this, and at a stop."""


@dataclass
class FoldPlan:
    """One fold, as arrays: training figures, and validation figures for selection.

    Attributes:
        name: Name of the fold, for messages.
        recipe: The recipe.
        feed: Crops, and how they become batches.
        train: The training figures.
        val: Rows of the validation figures.
        val_labels: Their labels, shape (m,).
        ids: Figure id of every row, for messages.
        seed: Seed of the run.
        folder: The run folder: checkpoints and ``metrics.jsonl`` go there.
        run_id: Identity of the run; a checkpoint of another is refused.
        patches: Moves and labels of training patches; None: crops are taken as they are.
        val_moves: Moves of the validation crops, shape (m, 2); None: they are taken as they are.
    """

    name: str
    recipe: NetworkRecipe
    feed: Feed
    train: Population
    val: npt.NDArray[np.int64]
    val_labels: npt.NDArray[np.int8]
    ids: list[str]
    seed: int
    folder: Path
    run_id: str
    patches: Patches | None = None
    val_moves: npt.NDArray[np.int64] | None = None


@dataclass
class LoopResult:
    """Result of a training: the network with the selected weights, their epoch, and one line per epoch."""

    network: Network
    best_epoch: int
    best_score: float
    history: list[dict[str, Any]] = field(default_factory=list)


class Loop:
    """Trains one fold. Use :func:`run_fold`.

    Args:
        plan: The fold.
        network: On the CPU; moved to the feed's device.
        objective: The losses of the recipe.
    """

    def __init__(self, plan: FoldPlan, network: Network, objective: Objective) -> None:
        recipe = plan.recipe
        self.plan, self.recipe, self.objective = plan, recipe, objective
        self.device = plan.feed.device
        self.network = network.to(self.device)
        if recipe.channels_last:
            self.network = self.network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        objective.weigh(plan.train.domains)
        objective.to(self.device)
        self.sampler = SAMPLERS[recipe.sampler.name](recipe.sampler, plan.train, plan.seed, recipe.batch_size)
        self.steps_per_epoch = max(1, self.sampler.draws // (recipe.batch_size * recipe.accumulate))
        self.trained = torch.nn.ModuleDict({"network": self.network, "objective": objective.modules_trained})
        self.optimiser = make_optimiser(
            recipe.optimiser, self.trained, ["network.head", "network.hidden", "network.neck", "objective"]
        )
        self.schedule = Schedule(
            recipe.schedule, self.optimiser, recipe.optimiser.lr, recipe.epochs, self.steps_per_epoch
        )
        self.ema = EMA(self.network, recipe.ema.momentum, recipe.ema.debias) if recipe.ema else None
        self.average = Swa(recipe.swa.start) if recipe.swa else None
        if recipe.swad:
            self.average = Swad(recipe.swad.converge, recipe.swad.tolerance, recipe.swad.ratio)
        self.rule = SELECTIONS[recipe.select.metric]
        self.amp = autocast_dtype(recipe.precision, self.device)
        self.step_network = torch.compile(self.network) if recipe.compile else self.network
        self.epoch, self.best_score, self.best_epoch, self.stale = 0, -np.inf, -1, 0
        self.best: dict[str, Tensor] = {}
        self.history: list[dict[str, Any]] = []
        self.step_index, self.totals = 0, dict[str, Tensor]()
        self.said_idle: set[str] = set()
        self.checkpoint_every_s, self.saved_at = CHECKPOINT_EVERY_S, time.monotonic()

    def run(self, progress: Progress) -> LoopResult:
        """Trains from the checkpoint to the end."""
        self.restore()
        with stop_signal() as stop:
            while self.epoch < self.recipe.epochs and not self.is_stale:
                started = time.perf_counter()
                means = self.train_epoch(stop, progress)
                line = {"epoch": self.epoch, "lr": self.optimiser.param_groups[0]["lr"], **means, **self.validate()}
                if self.average is not None:
                    done = (self.epoch + 1) / self.recipe.epochs
                    self.average.end_epoch(self.network.trained_state(), line.get("val_loss", 0.0), done)
                self.select(line)
                self.mine()
                line["seconds"] = round(time.perf_counter() - started, 3)
                self.history.append(line)
                self.epoch, self.step_index, self.totals = self.epoch + 1, 0, {}
                self.write_metrics()
                self.save_when_due(stop)
        if self.average is not None:
            self.keep_average()
        if self.best:
            self.network.load_trained(self.best)
        return LoopResult(self.network, self.best_epoch, float(self.best_score), self.history)

    @property
    def is_stale(self) -> bool:
        """Whether early stopping ends the training here."""
        patience = self.recipe.select.patience
        return patience is not None and self.stale >= patience

    def train_epoch(self, stop: threading.Event, progress: Progress) -> dict[str, float]:
        """The steps of one epoch, or its rest; returns the means of the loss and its parts, and images per second."""
        recipe = self.recipe
        order = self.sampler.draw(self.epoch)
        self.objective.start_epoch(self.epoch, self._positive_weight(self.plan.train.targets[order]))
        self.network.train()
        size = recipe.batch_size * recipe.accumulate
        started, first = time.perf_counter(), self.step_index
        while self.step_index < self.steps_per_epoch:
            step = self.step_index
            torch.manual_seed(derive_seed(self.plan.seed, "step", self.epoch, step))
            for name, value in self.step(order[step * size : (step + 1) * size], step).items():
                self.totals[name] = self.totals.get(name, torch.zeros((), device=value.device)) + value
            self.step_index += 1
            best = f", best {self.best_score:.3f}" if np.isfinite(self.best_score) else ""
            what = f"{self.plan.name}, epoch {self.epoch + 1} of {recipe.epochs}{best}"
            progress(self.step_index, self.steps_per_epoch, what)
            if self.step_index < self.steps_per_epoch:
                self.save_when_due(stop)
        seconds = max(time.perf_counter() - started, 1e-9)
        means = {name: float(total) / self.steps_per_epoch for name, total in self.totals.items()}
        self._warn_of_idle(means)
        return {**means, "images_per_s": round(size * (self.steps_per_epoch - first) / seconds, 2)}

    def step(self, picked: npt.NDArray[np.int64], step: int) -> dict[str, Tensor]:
        """One optimiser step over ``accumulate`` batches of these positions in the population."""
        population, recipe = self.plan.train, self.recipe
        done = (self.epoch + step / self.steps_per_epoch) / recipe.epochs
        sums: dict[str, Tensor] = {}
        for part, positions in enumerate(np.array_split(picked, recipe.accumulate)):
            draw = derive_seed(self.plan.seed, "augment", self.epoch, step, part)
            rows, targets, moves = population.rows[positions], population.targets[positions], None
            if self.plan.patches is not None:
                moves, targets = self.plan.patches.draw(positions, derive_seed(draw, "patches"))
            images = self.plan.feed.training_batch(rows, draw, moves)
            given = StepInput(
                images,
                self._tensor(targets, torch.float32),
                self._tensor(population.domains[positions], torch.int64),
                done,
                derive_seed(self.plan.seed, "mix", self.epoch, step, part),
                self._second(rows, step, part, moves) if self.objective.wants_second else None,
                self._tensor(rows, torch.int64),
            )
            with torch.autocast(self.device.type, dtype=self.amp, enabled=self.amp is not None):
                losses = self.objective(self.step_network, self.ema, given)
            total = losses["loss"]
            if not bool(torch.isfinite(total)):
                self._stop_at_nan(rows, step)
            (total / recipe.accumulate).backward()
            for name, value in losses.items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value.detach() / recipe.accumulate
        clip(self.trained.parameters(), recipe.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.schedule.step()
        if self.ema is not None:
            self.ema.update(self.network)
        if self.average is not None:
            self.average.step(self.network.trained_state())
        return sums

    def _second(self, rows: npt.NDArray[np.int64], step: int, part: int, moves: npt.NDArray[np.int64] | None) -> Tensor:
        """Another augmentation of a batch's crops."""
        return self.plan.feed.training_batch(rows, derive_seed(self.plan.seed, "second", self.epoch, step, part), moves)

    def validate(self) -> dict[str, float]:
        """Metrics on the validation part, of the student and, if there is one, of the EMA; empty without that part."""
        if not len(self.plan.val):
            return {}
        found = {f"val_{k}": v for k, v in self._score(self.network).items()}
        if self.ema is not None:
            found |= {f"val_ema_{k}": v for k, v in self._score(self.ema.network).items()}
        return found

    def select(self, line: Mapping[str, float]) -> None:
        """Keeps the weights if the selection rule's score is strictly greater than ever before."""
        chosen = self.recipe.select
        if not len(self.plan.val):
            self.keep()
            return
        prefix = "val_ema_" if chosen.of == "ema" else "val_"
        score = self.rule({key.removeprefix(prefix): v for key, v in line.items() if key.startswith(prefix)})
        if np.isnan(score):
            raise InputError(
                must(f"validation part of {self.plan.name}", f"enough for {chosen.metric}", "not a number",
                     "use a split whose validation parts hold both classes")
            )  # fmt: skip
        self.schedule.end_epoch(score)
        better = score > self.best_score
        if better:
            self.best_score, self.stale = score, 0
        else:
            self.stale += 1
        if better or not chosen.best:
            self.keep()

    def keep(self) -> None:
        """Keeps this epoch's weights, of the student or of the EMA, according to the recipe."""
        source = self.ema.network if self.recipe.select.of == "ema" and self.ema is not None else self.network
        self.best_epoch, self.best = self.epoch, source.trained_state()

    def keep_average(self) -> None:
        """Keeps the average of the weights; if there is none, those of the last epoch, with a warning."""
        found = None if self.average is None else self.average.result()
        if found is not None:
            self.best, self.best_epoch = found, self.epoch - 1
            return
        self.best, self.best_epoch = self.network.trained_state(), self.epoch - 1
        said = "nothing was averaged: the loss on validation figures never stopped falling; the last epoch is kept"
        warnings.warn(f"{self.plan.name}: {said}; fix: more epochs", RuntimeWarning, stacklevel=2)

    def mine(self) -> None:
        """Updates the difficulty ``|p − y|`` of every training figure, if the sampler needs it."""
        if self.recipe.sampler.hard_share > 0:
            p = self.plan.feed.probabilities(self.network, self.plan.train.rows, self.amp)
            self.sampler.difficulty = np.abs(p - self.plan.train.targets)

    def save_when_due(self, stop: threading.Event) -> None:
        """Writes a checkpoint if the last one is old, or if the user asked to stop."""
        if stop.is_set():
            self.save()
            raise KeyboardInterrupt
        if time.monotonic() - self.saved_at > self.checkpoint_every_s:
            self.save()

    def save(self) -> None:
        """Writes a checkpoint of the state between two steps."""
        state = {
            "run_id": self.plan.run_id,
            "epoch": self.epoch,
            "step_index": self.step_index,
            "totals": self.totals,
            "network": self.network.trained_state(),
            "objective": self.objective.modules_trained.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "ema": {"state": self.ema.network.trained_state(), "steps": self.ema.steps} if self.ema else None,
            "average": None if self.average is None else self.average.state_dict(),
            "best": self.best,
            "best_score": float(self.best_score),
            "best_epoch": self.best_epoch,
            "stale": self.stale,
            "difficulty": None if self.sampler.difficulty is None else torch.from_numpy(self.sampler.difficulty),
            "history": self.history,
        }
        save_checkpoint(self.plan.folder, state)
        self.saved_at = time.monotonic()

    def restore(self) -> None:
        """Continues from the last intact checkpoint, if this run has one."""
        state = load_own_checkpoint(self.plan.folder, self.plan.run_id)
        if state is None:
            return
        self.network.load_trained(state["network"])
        self.objective.load_state_dict(state["objective"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        if self.ema is not None:
            self.ema.network.load_trained(state["ema"]["state"])
            self.ema.steps = state["ema"]["steps"]
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.step_index = state["step_index"]
        self.totals = {name: value.to(self.device) for name, value in state["totals"].items()}
        self.epoch, self.best, self.best_score = state["epoch"], state["best"], state["best_score"]
        self.best_epoch, self.stale, self.history = state["best_epoch"], state["stale"], state["history"]
        self.sampler.difficulty = None if state["difficulty"] is None else state["difficulty"].numpy()

    def write_metrics(self) -> None:
        """Writes ``metrics.jsonl`` anew: one line an epoch, none twice after a resume."""
        write_history(self.plan.folder, self.history)

    def _score(self, network: Network) -> dict[str, float]:
        p = self.plan.feed.probabilities(network, self.plan.val, self.amp, moves=self.plan.val_moves)
        y = self.plan.val_labels
        decided = (p >= self.recipe.threshold).astype(np.int8)
        q = np.clip(p, 1e-7, 1 - 1e-7)
        return {
            "balanced_accuracy": metrics.balanced_accuracy(y, decided),
            "auroc": metrics.auroc(y, p),
            "sensitivity": metrics.sensitivity(y, decided),
            "specificity": metrics.specificity(y, decided),
            "loss": float(-np.mean(y * np.log(q) + (1 - y) * np.log(1 - q))),
        }

    def _positive_weight(self, targets: npt.NDArray[np.float64]) -> float:
        weight = self.recipe.loss.positive_weight
        return observed_positive_weight(torch.from_numpy(targets)) if weight == "observed" else float(weight)

    def _tensor(self, values: npt.NDArray[Any], dtype: torch.dtype) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device, dtype)

    def _warn_of_idle(self, means: Mapping[str, float]) -> None:
        """Warns after the first epoch in which a term had no effect in most batches."""
        for name in [key for key, share in means.items() if key.startswith(IDLE) and share > MOSTLY_IDLE]:
            if name not in self.said_idle:
                self.said_idle.add(name)
                said = (
                    f"{self.plan.name}, epoch {self.epoch + 1}: {name.removeprefix(IDLE)} had no effect in {means[name]:.0%} of "
                    "the batches, which held figures of too few known domains; fix: sampler: {name: domain-batches}"
                )
                warnings.warn(said, RuntimeWarning, stacklevel=2)

    def _stop_at_nan(self, rows: npt.NDArray[np.int64], step: int) -> None:
        figures = [self.plan.ids[row] for row in rows]
        raise WorkError(
            f"{self.plan.name}: the loss is not finite in epoch {self.epoch}, step {step}; the last good checkpoint was "
            f"kept; fix: lower optimiser.lr or set clip_norm, and look at these figures: {', '.join(figures)}"
        )


def run_fold(plan: FoldPlan, network: Network, objective: Objective, progress: Progress = silent) -> LoopResult:
    """Trains one fold to its end, from its checkpoint if there is one.

    Ctrl-C (SIGINT) and SIGTERM finish the current step, write a checkpoint and raise KeyboardInterrupt.

    Raises:
        InputError: The fold cannot be trained or selected on: a class is missing.
        WorkError: The loss is not finite, or the disk is full; the last intact checkpoint stays.
    """
    plan.folder.mkdir(parents=True, exist_ok=True)
    if plan.recipe.deterministic:
        torch.use_deterministic_algorithms(True, warn_only=True)
    return Loop(plan, network, objective).run(progress)
