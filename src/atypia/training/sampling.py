"""Samplers: which figures an epoch draws, in which order.

Every draw depends on the seed, the epoch and the state that a checkpoint keeps, never on a
generator that lives from epoch to epoch, so a resumed run draws what an uninterrupted one does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must
from atypia.base.seeds import generator
from atypia.methods.head import inverse_class_weights
from atypia.training.schema import SamplerConfig

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Population:
    """The training figures that a sampler draws from, all of shape (n,).

    Attributes:
        rows: Their rows in the crop store.
        labels: Class, 1 = positive.
        targets: Label or soft label, in [0, 1].
        domains: Domain codes, −1 where unknown.
        slides: Slide codes.
    """

    rows: Ints
    labels: npt.NDArray[np.int8]
    targets: Floats
    domains: Ints
    slides: Ints


def domain_aware_weights(labels: npt.NDArray[np.int8], domains: Ints) -> Floats:
    """``w_i = 1 / (N_class(i) · N_domain(i))``, scaled to mean 1 (Giedziun et al., «Sampling»).

    The paper says that weights rise for rarer classes and for rarer domains and gives no formula;
    the product of the inverse frequencies is the plainest that does. Figures of unknown domain
    count as one domain.
    """
    _, codes = np.unique(domains, return_inverse=True)
    counts = np.bincount(codes).astype(np.float64)
    weights = inverse_class_weights(labels) / counts[codes]
    return weights / weights.mean()


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


class Sampler:
    """Draws the figures of an epoch.

    Args:
        config: The recipe's part.
        population: The training figures.
        seed: Seed of the run.
    """

    def __init__(self, config: SamplerConfig, population: Population, seed: int) -> None:
        self.config, self.population, self.seed = config, population, seed
        self.difficulty: Floats | None = None
        """``|p − y|`` of each figure after the last epoch; None before the first refresh."""
        counts = np.bincount(population.labels, minlength=2)
        if counts.sum() == 0:
            raise InputError(must("training part", "of at least one figure", "none", "use another split"))
        if config.name != "uniform" and counts.min() == 0:
            missing = "positive" if counts[1] == 0 else "negative"
            raise InputError(
                must(
                    "training part",
                    f"of both classes for sampler {config.name}",
                    f"no {missing} figure",
                    "use another split",
                )
            )
        domains = len(np.unique(population.domains[population.domains >= 0]))
        if config.name == "domain-aware" and domains < 2:
            expected = "of at least two known domains for sampler domain-aware"
            raise InputError(must("data", expected, f"{domains}", "use inverse-class"))

    @property
    def draws(self) -> int:
        """Figures an epoch."""
        return self.config.draws or len(self.population.rows)

    def draw(self, epoch: int) -> Ints:
        """Positions into the population for one epoch, shape (draws,)."""
        rng = generator(self.seed, "sampler", epoch)
        n = len(self.population.rows)
        if self.config.name == "pseudo-epoch":
            return self._pseudo_epoch(rng)
        weights = self._weights()
        if weights is None:
            order = [rng.permutation(n) for _ in range(-(-self.draws // n))]
            return np.concatenate(order)[: self.draws]
        return rng.choice(n, size=self.draws, replace=True, p=weights / weights.sum())

    def _weights(self) -> Floats | None:
        """Weight of each figure; None where every figure is drawn once."""
        labels = self.population.labels
        if self.config.name == "inverse-class":
            weights = inverse_class_weights(labels)
        elif self.config.name == "domain-aware":
            weights = domain_aware_weights(labels, self.population.domains)
        else:
            weights = None
        hardness = self._hardness()
        if hardness is None:
            return weights
        return hardness if weights is None else hardness * weights

    def _hardness(self) -> Floats | None:
        """The factor of each figure from hard-example mining; None before the first refresh, or without mining."""
        if self.config.hard_share == 0 or self.difficulty is None:
            return None
        return np.where(hard_mask(self.difficulty, self.config.hard_share), self.config.hard_factor, 1.0)

    def _pseudo_epoch(self, rng: np.random.Generator) -> Ints:
        """A slide uniformly, then a positive with probability ``positive_share``, else a negative (Ammeling et al.).

        Where the slide has no figure of the drawn class, one of its other class is taken. Within
        slide and class figures are drawn uniformly, or by their weight where hard ones are mined.
        The paper's third kind, a random patch of the slide, needs whole regions; on crops that
        share falls to the look-alikes.
        """
        labels = self.population.labels
        slides, codes = np.unique(self.population.slides, return_inverse=True)
        group = 2 * codes + labels
        order = np.argsort(group, kind="stable")
        starts = np.searchsorted(group[order], np.arange(2 * len(slides) + 1))
        sizes = np.diff(starts)
        wanted = 2 * rng.integers(len(slides), size=self.draws) + (rng.random(self.draws) < self.config.positive_share)
        wanted = np.where(sizes[wanted] > 0, wanted, wanted ^ 1)
        weights = self._hardness()
        edges = np.concatenate([[0.0], np.cumsum(np.ones(len(labels)) if weights is None else weights[order])])
        low, high = edges[starts[wanted]], edges[starts[wanted + 1]]
        places = np.searchsorted(edges, low + rng.random(self.draws) * (high - low), side="right") - 1
        # Rounding at the upper end must not leave the group.
        return order[np.clip(places, starts[wanted], starts[wanted + 1] - 1)]
