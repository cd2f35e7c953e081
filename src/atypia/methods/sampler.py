"""Samplers: which figures an epoch draws, in which order.

Every draw depends on the seed, the epoch and the state that a checkpoint keeps, never on a
generator that is kept from epoch to epoch, so a resumed run draws the same figures as an uninterrupted one.

A sampler is a class in ``atypia/methods/samplers/``, registered by the name that recipes use in ``sampler: {name: …}``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must
from atypia.base.seeds import generator
from atypia.methods.options import SamplerOptions

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
S = TypeVar("S", bound=SamplerOptions)


@dataclass(frozen=True)
class Population:
    """The training figures that a sampler draws from, all of shape (n,).

    Attributes:
        rows: Their rows in the crop store.
        labels: Class, 1 = positive.
        targets: Label or soft label, in [0, 1].
        domains: Domain codes, −1 where unknown.
        slides: Slide codes.
        random: Whether each is a random place of its slide instead of a figure, bool; None: all are figures.
        judged: Probability of the class that a figure was generated as, by a classifier that did not learn from it; NaN
            for all others. None: there are no such figures.
    """

    rows: Ints
    labels: npt.NDArray[np.int8]
    targets: Floats
    domains: Ints
    slides: Ints
    random: npt.NDArray[np.bool_] | None = None
    judged: Floats | None = None

    def take(self, places: Ints) -> Population:
        """The figures at these positions."""
        kept = {name: values[places] for name, values in vars(self).items() if values is not None}
        return replace(self, **kept)


def hard_mask(difficulty: Floats, share: float) -> npt.NDArray[np.bool_]:
    """The hardest ``share`` of the figures: difficulty ``|p − y|``, ties broken by position (Giedziun et al.).

    Args:
        difficulty: Shape (n,), in [0, 1].
        share: In [0, 1); ``round(share · n)`` figures are marked.
    """
    marked = np.zeros(len(difficulty), dtype=bool)
    count = round(share * len(difficulty))
    if count:
        marked[np.argsort(-difficulty, kind="stable")[:count]] = True
    return marked


class Sampler(ABC, Generic[S]):
    """Draws the figures of an epoch.

    Attributes:
        Options: Schema of its options.
        summary: One line for listings.
        both_classes: Whether the training part must have figures of both classes.
        least_domains: Known domains that the training part must have.
        takes_random: Whether it draws random places, where the population has some.

    Args:
        options: The recipe's part.
        population: The training figures.
        seed: Seed of the run.
        batch_size: Figures a batch; the draw of an epoch is cut into batches in its order.
        both_classes: Whether both classes must be there; None for what the sampler itself asks for.
    """

    Options: ClassVar[type[SamplerOptions]] = SamplerOptions
    summary: ClassVar[str]
    both_classes: ClassVar[bool] = True
    least_domains: ClassVar[int] = 0
    takes_random: ClassVar[bool] = False

    def __init__(
        self, options: S, population: Population, seed: int, batch_size: int = 1, both_classes: bool | None = None
    ) -> None:
        self.options, self.population, self.seed, self.batch_size = options, population, seed, batch_size
        self.difficulty: Floats | None = None
        """``|p − y|`` of each figure after the last epoch; None before the first refresh."""
        counts = np.bincount(population.labels, minlength=2)
        if counts.sum() == 0:
            raise InputError(must("training part", "of at least one figure", "none", "use another split"))
        if (self.both_classes if both_classes is None else both_classes) and counts.min() == 0:
            missing = "positive" if counts[1] == 0 else "negative"
            raise InputError(
                must(
                    "training part",
                    f"of both classes for sampler {options.name}",
                    f"no {missing} figure",
                    "use another split",
                )
            )
        if options.curriculum is not None and population.judged is None:
            expected = "with generated figures that a classifier has judged (column judged_p) for sampler.curriculum"
            fix = "add a set that `atypia synth score --keep --min-p` wrote, or set sampler.curriculum=null"
            raise InputError(must("training part", expected, "none", fix))
        domains = len(np.unique(population.domains[population.domains >= 0]))
        if population.random is not None and not self.takes_random:
            raise InputError(must("sampler", "pseudo-epoch where the recipe has `patches`", options.name, "set it"))
        if domains < self.least_domains:
            expected = f"of at least two known domains for sampler {options.name}"
            raise InputError(must("data", expected, f"{domains}", "use inverse-class"))

    @property
    def draws(self) -> int:
        """Figures an epoch."""
        return self.options.draws or len(self.population.rows)

    def draw(self, epoch: int) -> Ints:
        """Positions into the population for one epoch, shape (draws,)."""
        if self.options.curriculum is None:
            return self.drawn(generator(self.seed, "sampler", epoch))
        assert self.population.judged is not None
        least = self.options.curriculum.least_p(epoch)
        part = np.flatnonzero(np.isnan(self.population.judged) | (self.population.judged >= least))
        options = self.options.model_copy(update={"curriculum": None, "draws": self.draws})
        sampler = type(self)(options, self.population.take(part), self.seed, self.batch_size)
        sampler.difficulty = None if self.difficulty is None else self.difficulty[part]
        return part[sampler.draw(epoch)]

    def drawn(self, rng: np.random.Generator) -> Ints:
        """The draw of an epoch: with replacement by :meth:`weights`, or every figure once if there are no weights."""
        n = len(self.population.rows)
        weights, hardness = self.weights(), self.hardness()
        if hardness is not None:
            weights = hardness if weights is None else hardness * weights
        if weights is None:
            order = [rng.permutation(n) for _ in range(-(-self.draws // n))]
            return np.concatenate(order)[: self.draws]
        return rng.choice(n, size=self.draws, replace=True, p=weights / weights.sum())

    @abstractmethod
    def weights(self) -> Floats | None:
        """Weight of each figure, shape (n,); None if every figure is drawn once."""

    def hardness(self) -> Floats | None:
        """The factor of each figure from hard-example mining; None before the first refresh, or without mining."""
        if self.options.hard_share == 0 or self.difficulty is None:
            return None
        return np.where(hard_mask(self.difficulty, self.options.hard_share), self.options.hard_factor, 1.0)


class GroupedDraws:
    """Draws uniformly, or by weights, from within groups of figures.

    Args:
        groups: Group of each figure, shape (n,), in [0, count).
        count: Number of groups.
        weights: Weight of each figure; None for equal ones.
    """

    def __init__(self, groups: Ints, count: int, weights: Floats | None) -> None:
        self.order = np.argsort(groups, kind="stable")
        self.starts = np.searchsorted(groups[self.order], np.arange(count + 1))
        self.sizes = np.diff(self.starts)
        each = np.ones(len(groups)) if weights is None else weights[self.order]
        self.edges = np.concatenate([[0.0], np.cumsum(each)])

    def draw(self, wanted: Ints, rng: np.random.Generator) -> Ints:
        """A figure of each wanted group, none of which is empty; shape as ``wanted``."""
        low, high = self.edges[self.starts[wanted]], self.edges[self.starts[wanted + 1]]
        places = np.searchsorted(self.edges, low + rng.random(len(wanted)) * (high - low), side="right") - 1
        # Rounding at the upper end must not give a position outside the group.
        return self.order[np.clip(places, self.starts[wanted], self.starts[wanted + 1] - 1)]
