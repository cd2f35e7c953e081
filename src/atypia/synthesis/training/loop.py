"""The training loop of one part in one stage; it can resume at any step with identical weights.

All randomness derives from the seed, the epoch and the step; the checkpoint stores the rest.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from atypia.base.errors import WorkError
from atypia.base.process.progress import Progress
from atypia.base.seeds import derive_seed, generator
from atypia.synthesis.schema import PartConfig
from atypia.synthesis.training.parts import Part
from atypia.training.epochs.checkpoints import load_own_checkpoint, save_checkpoint, stop_signal, write_history
from atypia.training.epochs.optimisers import Schedule
from atypia.training.sections import ScheduleConfig

CHECKPOINT_EVERY_S = 60.0
"""Seconds between checkpoints, written between two steps; one is also written at a stop."""

Draw = Callable[[Part, Path], None]
"""Writes a sheet of sample images to a file."""


@dataclass
class StagePlan:
    """One part in one stage.

    Attributes:
        name: Name in messages («fold-1, pretrain, denoiser»).
        config: Settings.
        rows: Positions of the training figures in the part's input, shape (n,).
        labels: Their classes, shape (n,), −1 if unknown; used for drawing if ``config.balanced``.
        seed: Seed of this part and stage.
        folder: Folder for checkpoints, ``metrics.jsonl`` and sheets.
        run_id: Identity; a checkpoint with another identity is refused.
        sheet: Draws a sheet; None for no sheets.
        sheet_every: Epochs between two sheets; 0: only after the last epoch.
    """

    name: str
    config: PartConfig
    rows: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int8]
    seed: int
    folder: Path
    run_id: str
    sheet: Draw | None = None
    sheet_every: int = 0


@dataclass
class _State:
    epoch: int = 0
    step: int = 0
    totals: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)


def train_part(plan: StagePlan, part: Part, progress: Progress) -> list[dict[str, Any]]:
    """Trains a part to the end of its stage, from its checkpoint if there is one.

    The final checkpoint is kept, so that a second call does nothing.

    Args:
        plan: Plan of the stage.
        part: On its device; holds the trained weights afterwards.
        progress: Receives the number of steps done.

    Returns:
        One line per epoch: means of the loss and its parts, learning rate, seconds, images per second.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM; the current step was finished and a checkpoint written.
        WorkError: The loss is not finite, or the disk is full; the last good checkpoint stays.
    """
    return _Loop(plan, part).run(progress)


class _Loop:
    def __init__(self, plan: StagePlan, part: Part) -> None:
        self.plan, self.part, self.state = plan, part, _State()
        config = plan.config
        self.batch = min(config.batch_size, len(plan.rows))
        self.steps = max(1, len(plan.rows) // self.batch)
        shape = ScheduleConfig(name=config.schedule, warmup_epochs=config.warmup_epochs)
        self.schedules = {
            name: Schedule(shape, optimiser, optimiser.param_groups[0]["lr"], max(1, config.epochs), self.steps)
            for name, optimiser in part.optimisers.items()
        }
        self.saved_at = time.monotonic()

    def run(self, progress: Progress) -> list[dict[str, Any]]:
        self.restore()
        state, config = self.state, self.plan.config
        if state.epoch >= config.epochs:
            return state.history
        with stop_signal() as stop:
            for module in self.part.modules.values():
                module.train()
            while state.epoch < config.epochs:
                self.epoch(stop, progress)
                if stop.is_set():
                    self.save()
                    raise KeyboardInterrupt
            self.save()
        for module in self.part.modules.values():
            module.eval()
        return state.history

    def epoch(self, stop: threading.Event, progress: Progress) -> None:
        """Runs the rest of an epoch."""
        state, plan = self.state, self.plan
        order, started, first = self.order(state.epoch), time.perf_counter(), state.step
        while state.step < self.steps:
            picked = order[state.step * self.batch : (state.step + 1) * self.batch]
            seed = derive_seed(plan.seed, "step", state.epoch, state.step)
            torch.manual_seed(seed)
            losses = self.part.step(plan.rows[picked], torch.Generator().manual_seed(seed), state.epoch)
            for schedule in self.schedules.values():
                schedule.step()
            values = {name: float(value) for name, value in losses.items()}
            if not np.isfinite(values["loss"]):
                self.stop_at_nan()
            for name, value in values.items():
                state.totals[name] = state.totals.get(name, 0.0) + value
            state.step += 1
            what = f"{plan.name}, epoch {state.epoch + 1} of {plan.config.epochs}"
            progress(state.step, self.steps, what)
            if state.step < self.steps:
                self.save_when_due(stop)
        seconds = max(time.perf_counter() - started, 1e-9)
        means = {name: total / self.steps for name, total in state.totals.items()}
        rate = next(iter(self.part.optimisers.values())).param_groups[0]["lr"]
        speed = round(self.batch * (self.steps - first) / seconds, 2)
        state.history.append({"epoch": state.epoch, **means, "lr": rate, "seconds": round(seconds, 3),
                              "images_per_s": speed})  # fmt: skip
        state.epoch, state.step, state.totals = state.epoch + 1, 0, {}
        self.write_metrics()
        self.draw_sheet()
        self.save_when_due(stop)

    def order(self, epoch: int) -> npt.NDArray[np.int64]:
        """Positions of an epoch's figures: each figure once, or the classes equally often."""
        rng = generator(self.plan.seed, "order", epoch)
        n, labels = len(self.plan.rows), self.plan.labels
        if not self.plan.config.balanced or len(np.unique(labels[labels >= 0])) < 2:
            return rng.permutation(n)
        counts = np.bincount(labels[labels >= 0], minlength=2)
        weights = np.where(labels >= 0, 1.0 / np.maximum(counts, 1)[np.maximum(labels, 0)], 0.0)
        return rng.choice(n, size=n, p=weights / weights.sum())

    def draw_sheet(self) -> None:
        plan, epoch = self.plan, self.state.epoch
        last = epoch == plan.config.epochs
        if plan.sheet is None or not (last or (plan.sheet_every and epoch % plan.sheet_every == 0)):
            return
        for module in self.part.modules.values():
            module.eval()
        plan.sheet(self.part, plan.folder / "sheets" / f"epoch-{epoch:05d}.png")
        for module in self.part.modules.values():
            module.train()

    def save_when_due(self, stop: threading.Event) -> None:
        if stop.is_set():
            self.save()
            raise KeyboardInterrupt
        if time.monotonic() - self.saved_at > CHECKPOINT_EVERY_S:
            self.save()

    def save(self) -> None:
        state, ema = self.state, self.part.ema
        save_checkpoint(
            self.plan.folder,
            {
                "run_id": self.plan.run_id,
                "epoch": state.epoch,
                "step": state.step,
                "totals": state.totals,
                "history": state.history,
                "modules": self.part.modules.state_dict(),
                "optimisers": {name: o.state_dict() for name, o in self.part.optimisers.items()},
                "schedules": {name: s.state_dict() for name, s in self.schedules.items()},
                "ema": None if ema is None else ema.state_dict(),
            },
        )
        self.saved_at = time.monotonic()

    def restore(self) -> None:
        found = load_own_checkpoint(self.plan.folder, self.plan.run_id)
        if found is None:
            return
        self.part.modules.load_state_dict(found["modules"])
        for name, optimiser in self.part.optimisers.items():
            optimiser.load_state_dict(found["optimisers"][name])
        for name, schedule in self.schedules.items():
            schedule.load_state_dict(found["schedules"][name])
        if self.part.ema is not None:
            self.part.ema.load_state_dict(found["ema"])
        self.state = _State(found["epoch"], found["step"], found["totals"], found["history"])
        for module in self.part.modules.values():
            module.eval()

    def write_metrics(self) -> None:
        write_history(self.plan.folder, self.state.history)

    def stop_at_nan(self) -> None:
        raise WorkError(
            f"{self.plan.name}: the loss is not finite in epoch {self.state.epoch + 1}, step {self.state.step + 1}; "
            "the last good checkpoint was kept; fix: lower `lr`, set `clip_norm`, or use precision fp32"
        )
