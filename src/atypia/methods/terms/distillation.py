"""Distillation: an exponential moving average of the student as teacher, and frozen teachers."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atypia.base.errors import InputError, must


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
    """The logit of the mean probability of several teachers, shape (b,); one teacher's logits as they are.

    ``ln Σ σ(z_k) − ln Σ σ(−z_k)``, which stays exact where a probability is 0 or 1 to rounding.
    """
    if not logits:
        raise InputError(must("teachers", "at least one", 0, "name one with distillation.teachers"))
    if len(logits) == 1:
        return logits[0]
    z = torch.stack(list(logits))
    return torch.logsumexp(F.logsigmoid(z), 0) - torch.logsumexp(F.logsigmoid(-z), 0)


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

    Parameters that the student does not train are shared with it, not copied: beside a large
    frozen backbone the average costs no memory, and no time. Whoever changes them in place
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
