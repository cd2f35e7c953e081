"""The objective of a recipe: the main loss and every term that the recipe names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from atypia.base.errors import InputError, must
from atypia.methods.averaging import EMA
from atypia.methods.catalogue import LOSSES, TERMS
from atypia.methods.loss import domain_weights, mean, smoothed
from atypia.methods.mixing import Mix, mixup
from atypia.methods.network import Output
from atypia.methods.term import DOMAINS, SECOND, Batch, NamedPhases, Rendered, Setting, Term
from atypia.training.schema import NetworkRecipe

IDLE: Final = "idle_"
"""Prefix of a term's name for the share of batches in which it had no effect because they had too few domains."""


@dataclass(frozen=True)
class StepInput:
    """One batch on the device.

    Attributes:
        images: Normalised crops, shape (b, 3, h, w).
        targets: Labels, or soft labels if the recipe uses them, shape (b,), in [0, 1].
        domains: Domain codes, shape (b,), −1 where unknown.
        done: Share of the training that is done, in [0, 1].
        seed: Of the mixing.
        second: Another augmentation of the same crops, if a term needs one.
        rows: Rows of the figures in the data, shape (b,), int64; None if nothing needs them.
    """

    images: Tensor
    targets: Tensor
    domains: Tensor
    done: float
    seed: int
    second: Tensor | None = None
    rows: Tensor | None = None


def check_domains(recipe: NetworkRecipe, domains: int, part: str) -> None:
    """Refuses data of too few domains for what the recipe has.

    Args:
        recipe: The recipe.
        domains: Number of domains of the part.
        part: What it is, for the message.

    Raises:
        InputError: There are fewer than two, and the recipe needs them.
    """
    wanting = [options.name for options in recipe.terms if DOMAINS in TERMS[options.name].needs]
    if recipe.mixup is not None and recipe.mixup.across_domains:
        wanting.append("mixup.across_domains")
    if recipe.loss.domain_weights:
        wanting.append("loss.domain_weights")
    if wanting and domains < 2:
        expected = f"of at least two domains for {', '.join(wanting)}"
        raise InputError(must(part, expected, domains, "drop it, or add a domain"))


class Objective:
    """Computes the loss of a batch and its parts.

    Args:
        recipe: The recipe.
        features: Dimension of the pooled features.
        domains: Number of domains in the training part.
        teachers: Frozen networks of the recipe's saved classifiers that score batches, in the order of the recipe.
        seed: Of the initial draws.
        answers: By the name of a term whose classifiers scored the figures beforehand: their logits for each row, as
            :attr:`atypia.methods.term.Setting.answers`.
        rendered: By the name of a term that learns from rendered figures: these.
        phases: Of the data's figures; None where no term learns from them.

    Raises:
        InputError: A term that needs domains with fewer than two.
    """

    def __init__(
        self,
        recipe: NetworkRecipe,
        features: int,
        domains: int,
        teachers: Sequence[nn.Module] = (),
        seed: int = 0,
        answers: Mapping[str, Tensor] | None = None,
        rendered: Mapping[str, Rendered] | None = None,
        phases: NamedPhases | None = None,
    ) -> None:
        self.recipe = recipe
        self.loss = LOSSES[recipe.loss.name](recipe.loss)
        self.positive_weight, self.epoch = 1.0, 0
        self.domain_weights: Tensor | None = None
        check_domains(recipe, domains, "data")
        self.terms: dict[str, Term[Any]] = {}
        left = list(teachers)
        for options in recipe.terms:
            count = len(options.classifiers) if options.variants is None else 0
            own, left = left[:count], left[count:]
            told = None if options.variants is None or answers is None else answers[options.name]
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                setting = Setting(features, domains, own, told, (rendered or {}).get(options.name), phases)
                self.terms[options.name] = TERMS[options.name](options, setting)
        self.modules_trained = nn.ModuleDict(self.terms)
        self.wants_second = any(SECOND in term.needs for term in self.terms.values())

    def to(self, device: torch.device) -> None:
        """Moves the terms, with their parameters and teachers, to the device."""
        for term in self.terms.values():
            term.move(device)

    def weigh(self, domains: npt.NDArray[np.int64]) -> None:
        """Sets the weights of the training part's domains, where the recipe has ``loss.domain_weights``.

        Args:
            domains: Domain code of each training figure, shape (n,), −1 where unknown.
        """
        if self.recipe.loss.domain_weights:
            self.domain_weights = domain_weights(torch.from_numpy(domains))

    def start_epoch(self, epoch: int, positive_weight: float) -> None:
        """Sets what changes from epoch to epoch."""
        self.epoch, self.positive_weight = epoch, positive_weight

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restores the terms' state from a checkpoint, also from one of version 0.1."""
        old = "domain_head."  # the one module that version 0.1 trained beside the network
        named = {f"adversarial.head.{k.removeprefix(old)}" if k.startswith(old) else k: v for k, v in state.items()}
        self.modules_trained.load_state_dict(named)

    def __call__(self, network: Callable[[Tensor], Any], ema: EMA | None, given: StepInput) -> dict[str, Tensor]:
        """Loss (``loss``, with gradient) and its parts by name, each a scalar.

        Also, for each term that needs domains, 1 if the batch had too few of them, else 0; the name begins with
        :data:`IDLE`.
        """
        images, targets, mix = self._mixed(given)
        out: Output = network(images)
        risk = self._risk(targets)
        batch = Batch(
            images=images,
            targets=targets,
            domains=given.domains,
            out=out,
            losses=risk(out.logits),
            risk=risk,
            done=given.done,
            epoch=given.done * self.recipe.epochs,
            seed=given.seed,
            mix=mix,
            average=None if ema is None else ema.network,
            second=None if given.second is None else network(given.second),
            rows=given.rows,
            network=network,
        )
        parts, idle = {"main": mean(batch.losses, self._weights(given.domains, mix))}, dict[str, Tensor]()
        total = parts["main"]
        for name, term in self.terms.items():
            parts[name] = term(batch)
            total = total + term.weight(batch) * parts[name]
            if DOMAINS in term.needs:
                idle[IDLE + name] = total.new_tensor(float(term.is_idle(batch)))
        return {"loss": total, **{f"loss_{name}": value for name, value in parts.items()}, **idle}

    def _weights(self, domains: Tensor, mix: Mix | None) -> Tensor | None:
        """Weight of each figure's loss by its domain, of a mixed one by share; None where all count alike."""
        if self.domain_weights is None:
            return None
        table = self.domain_weights.to(domains.device)
        each = torch.where(domains >= 0, table[domains.clamp(min=0)], 1.0)
        return each if mix is None else mix.targets(each)

    def _risk(self, targets: Tensor) -> Callable[[Tensor], Tensor]:
        smooth = smoothed(targets, self.recipe.loss.label_smoothing)
        return lambda logits: self.loss(logits.float(), smooth, self.positive_weight)

    def _mixed(self, given: StepInput) -> tuple[Tensor, Tensor, Mix | None]:
        config = self.recipe.mixup
        generator = torch.Generator().manual_seed(given.seed)
        if config is None or float(torch.rand((), generator=generator)) >= config.probability:
            return given.images, given.targets, None
        mix = mixup(len(given.images), config.alpha, generator, given.domains if config.across_domains else None)
        return mix.images(given.images), mix.targets(given.targets), mix
