"""Distillation: an exponential moving average of the student as teacher, and frozen teachers."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atypia.errors import InputError, must


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float = 2.0) -> Tensor:
    """``T² KL(p_teacher ‖ p_student)`` of temperature-softened distributions (Hinton et al. 2015; Atey et al.).

    With one logit z the two classes are ``(0, z)``, so the softened probability is σ(z/T).

    Args:
        student: Logits of the positive class, shape (b,); receives the gradient.
        teacher: Logits of the positive class, shape (b,); detached here.
        temperature: T > 0.

    Returns:
        Shape (b,), ≥ 0.
    """
    if temperature <= 0:
        raise InputError(must("temperature", "positive", temperature, "use 2.0 as Atey et al. do"))
    s, t = student / temperature, teacher.detach() / temperature
    p = torch.sigmoid(t)
    # KL = Σ p (log p − log q) over both classes; logsigmoid keeps it finite for large logits.
    positive = p * (F.logsigmoid(t) - F.logsigmoid(s))
    negative = (1 - p) * (F.logsigmoid(-t) - F.logsigmoid(-s))
    return temperature**2 * (positive + negative)


def teacher_logits(logits: Sequence[Tensor]) -> Tensor:
    """The logit of the mean probability of several teachers, shape (b,)."""
    if not logits:
        raise InputError(must("teachers", "at least one", 0, "name one with distillation.teachers"))
    p = torch.stack([torch.sigmoid(z) for z in logits]).mean(0)
    return torch.logit(p.clamp(1e-6, 1 - 1e-6))


def linear_warmup(epoch: float, epochs: float) -> float:
    """Share in [0, 1] that grows linearly over the first ``epochs``; 1 where there is no warm-up.

    >>> linear_warmup(5, 10)
    0.5
    """
    return 1.0 if epochs <= 0 else min(1.0, max(0.0, epoch / epochs))


class EMA:
    """An exponential moving average of a network: ``θ_T ← m θ_T + (1 − m) θ_S`` after each step.

    Floating-point buffers (running statistics) are averaged like the parameters, integer ones are
    copied. ``debias`` lets the momentum grow as ``min(m, (1 + k)/(10 + k))`` over the first steps
    k, so that a short training is not left with its start; Atey et al. keep m fixed.

    Args:
        network: The student; copied.
        momentum: m in [0, 1).
        debias: Whether the momentum grows at the start.
    """

    def __init__(self, network: nn.Module, momentum: float = 0.999, debias: bool = False) -> None:
        if not 0 <= momentum < 1:
            raise InputError(must("momentum", "in [0, 1)", momentum, "use 0.999 as Atey et al. do"))
        self.network: Any = copy.deepcopy(network).eval().requires_grad_(False)
        self.momentum = momentum
        self.debias = debias
        self.steps = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Moves the average towards the student."""
        self.steps += 1
        m = min(self.momentum, (1 + self.steps) / (10 + self.steps)) if self.debias else self.momentum
        own, new = list(_tensors(self.network)), list(_tensors(network))
        floats = [i for i, tensor in enumerate(own) if tensor.is_floating_point()]
        torch._foreach_lerp_([own[i] for i in floats], [new[i].detach() for i in floats], 1 - m)  # pyright: ignore[reportPrivateImportUsage]
        for i, tensor in enumerate(own):
            if not tensor.is_floating_point():
                tensor.copy_(new[i])

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors and the step counter, for a checkpoint."""
        return {**self.network.state_dict(), "__steps__": torch.tensor(self.steps)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restores what :meth:`state_dict` gave."""
        self.steps = int(state["__steps__"])
        self.network.load_state_dict({key: value for key, value in state.items() if key != "__steps__"})


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]
