"""Averages of a network's weights over a training."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from atypia.base.errors import InputError, must


class EMA:
    """An exponential moving average of a network: ``θ_T ← m θ_T + (1 − m) θ_S`` after each step.

    Floating-point buffers (running statistics) are averaged like the parameters, integer ones are
    copied. With ``debias`` the momentum grows as ``min(m, (1 + k)/(10 + k))`` over the first steps
    k, so that after a short training the average is not mostly the initial weights; Atey et al. keep m fixed.

    Parameters that the student does not train are shared with it, not copied: beside a large
    frozen backbone the average costs no memory and no time. A change in place
    (merging adapters) changes both.

    Args:
        network: The student, on its device; what it trains is copied.
        momentum: m in [0, 1).
        debias: Whether the momentum grows at the start.
    """

    def __init__(self, network: nn.Module, momentum: float = 0.999, debias: bool = False) -> None:
        if not 0 <= momentum < 1:
            raise InputError(must("momentum", "in [0, 1)", momentum, "use 0.999 as Atey et al. do"))
        shared: dict[int, Any] = {id(p): p for p in network.parameters() if not p.requires_grad}
        self.network: Any = copy.deepcopy(network, shared).eval().requires_grad_(False)
        self.momentum = momentum
        self.debias = debias
        self.steps = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Moves the average towards the student."""
        self.steps += 1
        m = min(self.momentum, (1 + self.steps) / (10 + self.steps)) if self.debias else self.momentum
        pairs = [(a, b.detach()) for a, b in zip(_tensors(self.network), _tensors(network), strict=True) if a is not b]
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        if floats:
            torch._foreach_lerp_([a for a, _ in floats], [b for _, b in floats], 1 - m)  # pyright: ignore[reportPrivateImportUsage]
        for own, new in pairs:
            if not own.is_floating_point():
                own.copy_(new)

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors and the step counter, for a checkpoint."""
        return {**self.network.state_dict(), "__steps__": torch.tensor(self.steps)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restores what :meth:`state_dict` gave."""
        self.steps = int(state["__steps__"])
        self.network.load_state_dict({key: value for key, value in state.items() if key != "__steps__"})


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]


class RunningMean:
    """The mean of states that are added one after the other, each weighted by its number of steps."""

    def __init__(self) -> None:
        self.values: dict[str, Tensor] = {}
        self.count = 0

    @torch.no_grad()
    def add(self, state: Mapping[str, Tensor], count: int = 1) -> None:
        """Adds a state; floating-point tensors are averaged, others are those of the last one."""
        self.count += count
        for name, value in state.items():
            if name not in self.values or not value.is_floating_point():
                self.values[name] = value.detach().clone()
            else:
                self.values[name].lerp_(value.detach(), count / self.count)

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"values": self.values, "count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what :meth:`state_dict` gave."""
        self.values, self.count = dict(state["values"]), state["count"]


class Swa:
    """Stochastic weight averaging: the mean of the weights after each of the last epochs (Izmailov et al. 2018).

    Running statistics of normalisations are averaged like the parameters, where the paper computes them anew.

    Args:
        start: Share of the training after which epochs are averaged.
    """

    def __init__(self, start: float = 0.75) -> None:
        self.start, self.mean = start, RunningMean()

    def step(self, state: Mapping[str, Tensor]) -> None:
        """Nothing: whole epochs are averaged."""

    def end_epoch(self, state: Mapping[str, Tensor], loss: float, done: float) -> None:
        """Adds the weights after an epoch; ``done`` is the share of the training that is done, in (0, 1]."""
        if done > self.start:
            self.mean.add(state)

    def result(self) -> dict[str, Tensor] | None:
        """The mean; None if nothing was averaged."""
        return dict(self.mean.values) if self.mean.count else None

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"mean": self.mean.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what :meth:`state_dict` gave."""
        self.mean.load_state_dict(state["mean"])


class Swad:
    """Dense weight averaging from where validation loss stops falling to where it rises (Cha et al. 2021, section 3.2).

    The weights after every step are averaged, from epoch ``t_s`` to ``t_e``. With validation losses l after each epoch:
    ``t_s`` is the first i with ``l_i = min(l_i … l_{i+N_s−1})``; the limit is ``r`` times the mean of these; ``t_e`` is the
    last epoch before one i with ``min(l_i … l_{i+N_e−1})`` above the limit. Losses beyond the end of the training are not
    waited for. Running statistics are averaged like the parameters.

    Args:
        converge: N_s, 3 in the paper.
        tolerance: N_e, 6 in the paper.
        ratio: r, 1.3 in the paper.
    """

    def __init__(self, converge: int = 3, tolerance: int = 6, ratio: float = 1.3) -> None:
        self.converge, self.tolerance, self.ratio = converge, tolerance, ratio
        self.losses: list[float] = []
        self.start: int | None = None
        self.end: int | None = None
        self.mean, self.segment = RunningMean(), RunningMean()
        self.waiting: list[RunningMean] = []
        """Means over the steps of epochs that are neither averaged nor passed over yet; the last is the newest epoch."""

    @property
    def limit(self) -> float:
        """The limit of the losses: averaging ends where they stay above it."""
        start = self.start or 0
        return self.ratio * sum(self.losses[start : start + self.converge]) / self.converge

    def step(self, state: Mapping[str, Tensor]) -> None:
        """Adds the weights after a step."""
        if self.end is None:
            self.segment.add(state)

    def end_epoch(self, state: Mapping[str, Tensor], loss: float, done: float) -> None:
        """Takes the validation loss after an epoch."""
        if self.end is not None:
            return
        self.losses.append(loss)
        self.waiting.append(self.segment)
        self.segment = RunningMean()
        if self.start is None:
            first = len(self.losses) - self.converge
            if first >= 0 and self.losses[first] == min(self.losses[first:]):
                self.start = first
            self.waiting = (
                self.waiting[-self.converge :] if self.start is not None else self.waiting[1 - self.converge :]
            )
        if self.start is not None:
            self._settle(self.tolerance)

    def _settle(self, known: int) -> None:
        """Averages epochs while ``known`` losses from theirs on are there, and not all above the limit."""
        while self.end is None and len(self.waiting) >= known:
            ahead = self.losses[-len(self.waiting) :][: self.tolerance]
            if min(ahead) > self.limit:
                self.end, self.waiting = len(self.losses) - len(self.waiting), []
                return
            first = self.waiting.pop(0)
            self.mean.add(first.values, first.count)

    def result(self) -> dict[str, Tensor] | None:
        """The mean; None if the validation loss never stopped falling."""
        if self.start is None:
            return None
        self._settle(1)
        return dict(self.mean.values)

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        parts = {"losses": self.losses, "start": self.start, "end": self.end}
        return {**parts, "mean": self.mean.state_dict(), "segment": self.segment.state_dict(),
                "waiting": [one.state_dict() for one in self.waiting]}  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what :meth:`state_dict` gave."""
        self.losses, self.start, self.end = list(state["losses"]), state["start"], state["end"]
        self.mean.load_state_dict(state["mean"])
        self.segment.load_state_dict(state["segment"])
        self.waiting = [RunningMean() for _ in state["waiting"]]
        for one, kept in zip(self.waiting, state["waiting"], strict=True):
            one.load_state_dict(kept)
