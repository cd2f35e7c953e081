"""The objective of a recipe: the main loss and every term that the recipe adds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from atypia.base.errors import InputError, must
from atypia.base.seeds import derive_seed
from atypia.methods.mixing import mixup
from atypia.methods.terms.contrastive import mined_contrastive
from atypia.methods.terms.distillation import EMA, distillation_loss, linear_warmup, teacher_logits
from atypia.methods.terms.domain import DomainHead, alignment_loss, beats_chance, dann_ramp, domain_cross_entropy
from atypia.methods.terms.losses import LOSSES, mean, smoothed
from atypia.training.schema import NetworkRecipe

IDLE: Final = "idle_"
"""Before the name of a term: the share of batches in which it was 0 because the batch had too few domains."""


@dataclass(frozen=True)
class StepInput:
    """One batch on the device.

    Attributes:
        images: Normalised crops, shape (b, 3, h, w).
        targets: Labels, or soft labels where the recipe takes them, shape (b,), in [0, 1].
        domains: Domain codes, shape (b,), −1 where unknown.
        done: Share of the training that is done, in [0, 1].
        seed: Decides the mixing.
    """

    images: Tensor
    targets: Tensor
    domains: Tensor
    done: float
    seed: int


class Objective:
    """Computes the loss of a batch and its parts.

    Args:
        recipe: The recipe.
        features: Dimension of the pooled features.
        domains: Number of domains in the training part.
        teachers: Frozen networks to distil from, on the device.
        seed: Decides what is drawn at the start.

    Raises:
        InputError: A domain method with fewer than two domains, or an unknown loss.
    """

    def __init__(
        self, recipe: NetworkRecipe, features: int, domains: int, teachers: Sequence[nn.Module] = (), seed: int = 0
    ) -> None:
        self.recipe, self.teachers = recipe, list(teachers)
        self.loss = LOSSES[recipe.loss.name]
        self.positive_weight, self.epoch = 1.0, 0
        wanting = [name for name in ("alignment", "adversarial") if getattr(recipe, name) is not None]
        if recipe.mixup is not None and recipe.mixup.across_domains:
            wanting.append("mixup.across_domains")
        if wanting and domains < 2:
            raise InputError(
                must(
                    "data",
                    f"of at least two domains for {', '.join(wanting)}",
                    f"{domains}",
                    "drop it, or add a domain",
                )
            )
        self.modules_trained = nn.ModuleDict()
        if recipe.adversarial is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.modules_trained["domain_head"] = DomainHead(features, domains)

    def to(self, device: torch.device) -> None:
        """Moves what is trained, and the teachers, to the device."""
        self.modules_trained.to(device)
        self.teachers = [teacher.to(device).eval().requires_grad_(False) for teacher in self.teachers]

    def start_epoch(self, epoch: int, positive_weight: float) -> None:
        """Sets what changes from epoch to epoch."""
        self.epoch, self.positive_weight = epoch, positive_weight

    def __call__(self, network: Callable[[Tensor], Any], ema: EMA | None, given: StepInput) -> dict[str, Tensor]:
        """Loss (``loss``, with gradient) and its parts by name, each a scalar.

        For each term that needs domains also 1 where the batch gave it nothing to work on, else 0, named with
        :data:`IDLE`: an alignment without two known domains, an adversary without one.
        """
        recipe = self.recipe
        images, targets = given.images, given.targets
        if recipe.mixup is not None:
            images, targets = self._mixed(images, targets, given)
        out = network(images)
        logits = out.logits.float()
        gamma = {"gamma": recipe.loss.gamma} if recipe.loss.name == "focal" else {}
        smooth = smoothed(targets, recipe.loss.label_smoothing)
        parts = {"main": mean(self.loss(logits, smooth, self.positive_weight, **gamma))}
        total, idle = parts["main"], dict[str, bool]()
        if recipe.alignment is not None:
            parts["alignment"] = alignment_loss(out.aligned.float(), given.domains)
            idle["alignment"] = len(given.domains[given.domains >= 0].unique()) < 2
            total = total + recipe.alignment.weight * _ramp(recipe.alignment.ramp, given.done) * parts["alignment"]
        if recipe.adversarial is not None:
            strength = _ramp(recipe.adversarial.ramp, given.done)
            head, pooled = self.modules_trained["domain_head"], out.pooled.float()
            if recipe.adversarial.bounded and not beats_chance(head, pooled, given.domains):
                strength = 0.0
            logits_d = head(pooled, strength)
            parts["adversarial"] = domain_cross_entropy(logits_d, given.domains)
            idle["adversarial"] = not bool((given.domains >= 0).any())
            total = total + recipe.adversarial.weight * parts["adversarial"]
        if recipe.contrastive is not None:
            c = recipe.contrastive
            classes = (targets >= 0.5).long()  # of a mixed figure: the class that has the larger share
            parts["contrastive"] = mined_contrastive(out.hidden.float(), classes, c.epsilon, c.temperature)
            total = total + c.weight * parts["contrastive"]
        if recipe.distillation is not None:
            d = recipe.distillation
            teacher = self._teacher(images, ema, given.seed)
            parts["distillation"] = mean(distillation_loss(logits, teacher, d.temperature))
            epoch = given.done * recipe.epochs
            total = total + d.weight * linear_warmup(epoch, d.warmup_epochs) * parts["distillation"]
        found = {"loss": total, **{f"loss_{name}": value for name, value in parts.items()}}
        return found | {IDLE + name: logits.new_tensor(float(nothing)) for name, nothing in idle.items()}

    def _mixed(self, images: Tensor, targets: Tensor, given: StepInput) -> tuple[Tensor, Tensor]:
        config = self.recipe.mixup
        generator = torch.Generator().manual_seed(given.seed)
        if config is None or float(torch.rand((), generator=generator)) >= config.probability:
            return images, targets
        mix = mixup(len(images), config.alpha, generator, given.domains if config.across_domains else None)
        return mix.images(images), mix.targets(targets)

    @torch.no_grad()
    def _teacher(self, images: Tensor, ema: EMA | None, seed: int) -> Tensor:
        if self.teachers:
            chosen = self._drawn(seed)
            return teacher_logits([teacher(images).logits.float() for teacher in chosen])
        if ema is None:
            raise InputError("`distillation` has neither teachers nor an EMA; fix: add an `ema` section")
        return ema.network(images).logits.float()

    def _drawn(self, seed: int) -> list[nn.Module]:
        draw = self.recipe.distillation.draw if self.recipe.distillation else None
        if draw is None or draw >= len(self.teachers):
            return self.teachers
        order = torch.randperm(len(self.teachers), generator=torch.Generator().manual_seed(derive_seed(seed, "teach")))
        return [self.teachers[number] for number in order[:draw].tolist()]


def _ramp(asked: bool, done: float) -> float:
    return dann_ramp(done) if asked else 1.0
