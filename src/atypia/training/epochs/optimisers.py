"""Optimisers and learning-rate schedules, by the names that recipes use."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from atypia.training.sections import OptimiserConfig, ScheduleConfig


def make_optimiser(config: OptimiserConfig, network: nn.Module, head_prefixes: Sequence[str]) -> torch.optim.Optimizer:
    """Builds the optimiser over the trainable parameters.

    Biases and normalisation parameters (one-dimensional) get no weight decay if
    ``decay_norms`` is false; parameters whose name starts with one of ``head_prefixes`` get
    ``lr · head_lr_factor``.

    Args:
        config: The recipe's part.
        network: The network; parameters that need no gradient are left out.
        head_prefixes: Prefixes of the parameters that start from scratch.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        is_head = name.startswith(tuple(head_prefixes)) if head_prefixes else False
        decay = config.weight_decay if config.decay_norms or parameter.ndim > 1 else 0.0
        groups.setdefault((config.head_lr_factor if is_head else 1.0, decay), []).append(parameter)
    parameters: list[dict[str, Any]] = [
        {"params": members, "lr": config.lr * factor, "weight_decay": decay, "lr_factor": factor}
        for (factor, decay), members in groups.items()
    ]
    if config.name == "sgd":
        nesterov = config.momentum > 0
        return torch.optim.SGD(parameters, lr=config.lr, momentum=config.momentum, nesterov=nesterov, foreach=True)
    kinds: dict[str, Any] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "nadam": torch.optim.NAdam}
    # One fused or multi-tensor kernel for all parameters: a third of the step's time on small networks.
    extra = {"fused": True} if config.name in {"adam", "adamw"} else {"foreach": True}
    return kinds[config.name](parameters, lr=config.lr, betas=config.betas, eps=config.eps, **extra)


class Schedule:
    """A learning-rate schedule, stepped after every optimiser step and every epoch.

    The rate of each group is ``config.lr · lr_factor · factor``. Shapes, with t the share of the
    training that is done:

    - ``constant``: 1 (after the warm-up).
    - ``one-cycle``: cosine from 1/25 up to 1 over the first ``peak_at`` of the training, cosine
      down to 1/250,000 (Smith and Topin 2017; the rate of ``torch.optim.lr_scheduler.OneCycleLR``,
      whose second cycle, of the momentum, is left out).
    - ``cosine``: linear warm-up over ``warmup_epochs``, then ``min + (1 − min)(1 + cos πt)/2``.
    - ``cosine-restarts``: cosine over ``restart_epochs``, again and again (Loshchilov and Hutter 2017).
    - ``plateau``: multiplied by ``factor`` when the selection score has not risen for more than
      ``patience`` epochs, not below ``min_lr``.

    Args:
        config: The recipe's part.
        optimiser: Its groups' ``lr`` are set.
        base_lr: Peak rate of the recipe.
        epochs: Epochs of the whole training.
        steps_per_epoch: Optimiser steps in an epoch.
    """

    def __init__(
        self,
        config: ScheduleConfig,
        optimiser: torch.optim.Optimizer,
        base_lr: float,
        epochs: int,
        steps_per_epoch: int,
    ) -> None:
        self.config, self.optimiser = config, optimiser
        self.base_lr, self.epochs, self.steps_per_epoch = base_lr, epochs, max(1, steps_per_epoch)
        self.step_count = 0
        self.plateau_factor, self.best, self.bad_epochs = 1.0, -math.inf, 0
        self._apply()

    def step(self) -> None:
        """After an optimiser step."""
        self.step_count += 1
        self._apply()

    def end_epoch(self, score: float) -> None:
        """After an epoch, with the selection score (greater is better)."""
        if self.config.name != "plateau":
            return
        if score > self.best:
            self.best, self.bad_epochs = score, 0
        else:
            self.bad_epochs += 1
        if self.bad_epochs > self.config.patience:
            lowest = self.config.min_lr / self.base_lr
            self.plateau_factor = max(self.plateau_factor * self.config.factor, lowest)
            self.bad_epochs = 0
        self._apply()

    @property
    def factor(self) -> float:
        """The current factor of the base rate."""
        return schedule_factor(self.config, self.step_count, self.steps_per_epoch, self.epochs, self.base_lr) * (
            self.plateau_factor if self.config.name == "plateau" else 1.0
        )

    def _apply(self) -> None:
        factor = self.factor
        for group in self.optimiser.param_groups:
            group["lr"] = self.base_lr * group["lr_factor"] * factor

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "step_count": self.step_count,
            "plateau_factor": self.plateau_factor,
            "best": self.best,
            "bad_epochs": self.bad_epochs,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what :meth:`state_dict` gave."""
        self.step_count = state["step_count"]
        self.plateau_factor, self.best, self.bad_epochs = state["plateau_factor"], state["best"], state["bad_epochs"]
        self._apply()


def schedule_factor(config: ScheduleConfig, step: int, steps_per_epoch: int, epochs: int, base_lr: float) -> float:
    """Factor of the base rate at an optimiser step; see :class:`Schedule`."""
    total = max(1, epochs * steps_per_epoch)
    warmup = config.warmup_epochs * steps_per_epoch
    lowest = config.min_lr / base_lr
    if config.name == "one-cycle":
        peak = config.peak_at * total - 1
        start, end = 1 / 25, 1 / 25e4
        if step <= peak and peak > 0:
            return _cosine(start, 1.0, step / peak)
        return _cosine(1.0, end, min(1.0, (step - peak) / (total - 1 - peak)))
    if step < warmup:
        return (step + 1) / warmup
    if config.name == "cosine":
        return _cosine(1.0, lowest, min(1.0, (step - warmup) / max(1, total - warmup)))
    if config.name == "cosine-restarts":
        period = config.restart_epochs * steps_per_epoch
        return _cosine(1.0, lowest, ((step - warmup) % period) / period)
    return 1.0


def _cosine(start: float, end: float, t: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * t)) / 2


def clip(parameters: Iterable[nn.Parameter], limit: float | None) -> None:
    """Clips the common norm of all gradients, if a limit is given."""
    if limit is not None:
        nn.utils.clip_grad_norm_(parameters, limit, foreach=True)
