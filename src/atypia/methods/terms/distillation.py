"""Distillation from the moving average of the student's weights, or from saved classifiers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from atypia.base.errors import InputError, must
from atypia.base.seeds import derive_seed
from atypia.methods.catalogue import TERMS
from atypia.methods.mixing import Mix
from atypia.methods.options import TermOptions, Variants
from atypia.methods.ramps import linear_warmup
from atypia.methods.term import TEACHER, Batch, Setting, Term


class DistillationOptions(TermOptions):
    """Distillation from the moving average (``teachers`` empty) or from saved classifiers.

    ``teachers``: bundle folders; ``{fold}`` in a path stands for the fold's name, so that each fold learns
    from teachers that never saw its validation figures. ``draw``: number of randomly drawn teachers that score
    each batch; None: all, by their mean probability. The expectation does not depend on this number.
    ``views``: 1 or 8: the teachers score each training figure once, unchanged or in its eight flips and
    quarter turns, and the scores are kept in the cache; they are the target for every augmentation of the figure,
    and the epochs need no teacher. None: the teachers score each batch as the student sees it.
    ``stains``: with ``views``: number of altered stains in which each view is scored as well. Logits of one teacher are
    averaged over views and stains, as ``predict --tta`` does; teachers by their mean probability, as without ``views``.
    ``warmup_epochs``: the weight grows linearly from 0 over these epochs.
    """

    weight: float = Field(default=0.5, gt=0)
    temperature: float = Field(default=2.0, gt=0)
    warmup_epochs: float = Field(default=10.0, ge=0)
    teachers: tuple[str, ...] = ()
    draw: int | None = Field(default=None, ge=1)
    views: Literal[1, 8] | None = None
    stains: int = Field(default=0, ge=0, le=64)

    @property
    def classifiers(self) -> tuple[str, ...]:
        return self.teachers

    @property
    def variants(self) -> Variants | None:
        return None if self.views is None else Variants(self.views, self.stains)

    def fault(self, averages: bool) -> str:
        if self.views is not None and not self.teachers:
            return "distillation.views asks saved classifiers, and there are none; fix: name teachers, or drop views"
        if self.views is not None and self.draw is not None:
            return "distillation.draw draws teachers for each batch, but views asks all once; fix: drop one of them"
        if self.stains and self.views is None:
            return "distillation.stains needs views; fix: views: 8"
        if self.teachers or averages:
            return ""
        return "distillation has no teachers and there is no `ema` section; fix: add one of them"


@TERMS.register("distillation")
class Distillation(Term[DistillationOptions]):
    """Divergence from a teacher's softened probabilities; see :func:`distillation_loss`."""

    Options = DistillationOptions
    summary = "learns the output of a moving average of its weights (`ema`), or of saved classifiers (`teachers`)"
    formula = "T² KL(σ(z_teacher/T) ‖ σ(z_student/T))"
    source = "Hinton et al. 2015; Atey et al."
    needs = frozenset({TEACHER})

    def __init__(self, options: DistillationOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.teachers = list(setting.teachers)  # a plain list, so that they are no part of the term's state
        self.answers: dict[str, Tensor] = {} if setting.answers is None else {"logits": setting.answers}

    def move(self, device: torch.device) -> None:
        super().move(device)
        self.teachers = [teacher.to(device).eval().requires_grad_(False) for teacher in self.teachers]
        self.answers = {name: value.to(device) for name, value in self.answers.items()}

    def weight(self, batch: Batch) -> float:
        return self.options.weight * linear_warmup(batch.epoch, self.options.warmup_epochs)

    def forward(self, batch: Batch) -> Tensor:
        return distillation_loss(batch.out.logits.float(), self._teacher(batch), self.options.temperature).mean()

    @torch.no_grad()
    def _teacher(self, batch: Batch) -> Tensor:
        if self.answers:
            if batch.rows is None:
                raise InputError(
                    must("batch", "one whose rows are known", None, "give StepInput the rows, or drop views")
                )
            known = self.answers["logits"][batch.rows]
            return known if batch.mix is None else mixed_logits(known, batch.mix)
        if self.teachers:
            return teacher_logits([teacher(batch.images).logits.float() for teacher in self._drawn(batch.seed)])
        if batch.average is None:
            raise InputError("`distillation` has neither teachers nor an EMA; fix: add an `ema` section")
        return batch.average(batch.images).logits.float()

    def _drawn(self, seed: int) -> list[nn.Module]:
        draw = self.options.draw
        if draw is None or draw >= len(self.teachers):
            return self.teachers
        order = torch.randperm(len(self.teachers), generator=torch.Generator().manual_seed(derive_seed(seed, "teach")))
        return [self.teachers[number] for number in order[:draw].tolist()]


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

    ``ln Σ σ(z_k) − ln Σ σ(−z_k)``, which stays exact if a probability rounds to 0 or 1.
    """
    if not logits:
        raise InputError(must("teachers", "at least one", 0, "name one with terms.distillation.teachers"))
    if len(logits) == 1:
        return logits[0]
    z = torch.stack(list(logits))
    return torch.logsumexp(F.logsigmoid(z), 0) - torch.logsumexp(F.logsigmoid(-z), 0)


def mixed_logits(logits: Tensor, mix: Mix) -> Tensor:
    """Logits of mixed figures, shape (b,), from probabilities that are mixed like the labels."""
    z = logits.double()
    return (mix.targets(torch.sigmoid(z)).log() - mix.targets(torch.sigmoid(-z)).log()).to(logits.dtype)
