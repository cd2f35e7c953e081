"""Plan of a phantom set: cases, morphologies, votes and labels, before rendering.

Cases are assigned to the domains in turn. A figure's case, morphology and votes depend only on the seed,
the domains and its index, so a larger set begins with the smaller one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import erf, sqrt
from typing import Final

import numpy as np

from atypia.base import records as r
from atypia.base.seeds import generator
from atypia.data.phantom.chromatin import MORPHOLOGIES
from atypia.data.phantom.domains import PhantomDomain

RENDERER_VERSION: Final = 1
"""Increased whenever the same seed would give other pixels or votes."""

CASE_FIGURES: Final = (10, 40)
"""Fewest and most figures of a case."""

NORMAL_MIX: Final[Mapping[str, float]] = {
    "prometaphase": 0.32,
    "metaphase": 0.38,
    "polar metaphase": 0.12,
    "anaphase": 0.11,
    "telophase": 0.07,
}
"""How often each normal morphology is drawn."""

ATYPICAL_MIX: Final[Mapping[str, float]] = {
    "tripolar": 0.10,
    "tetrapolar": 0.06,
    "lagging": 0.20,
    "bridging": 0.17,
    "asymmetric": 0.15,
    "ring": 0.15,
    "disorganised": 0.17,
}
"""How often each atypical one is drawn: mostly faults of segregation, few multipolar figures."""

AMBIGUOUS: Final = 0.32
"""Share of figures whose morphology lies between normal and atypical."""

RATERS: Final = (-0.05, 0.0, 0.05)
"""For each rater, what is added to the severity: the first is strict, the third calls atypia early."""

RATER_SD: Final = 0.15
"""Standard deviation of the perceived severity around the true one."""

TEST_EVERY: Final = 4
"""One of this many cases is in the ``test`` part."""

CASE_SPREAD: Final = 12.0
"""Concentration of the beta distribution of the cases' atypia rates about their domain's."""


@dataclass(frozen=True)
class PhantomFigure:
    """One figure of a phantom set.

    Attributes:
        index: Position in the set.
        case: Index of its case.
        domain: Its case's domain.
        part: ``train`` or ``test``.
        morphology: Name of the morphology.
        severity: How far it is developed, in [0, 1].
        votes: One label per rater, 1 = atypical.
    """

    index: int
    case: int
    domain: PhantomDomain
    part: str
    morphology: str
    severity: float
    votes: tuple[int, ...]

    @property
    def label(self) -> int:
        """The majority of the votes, 1 = atypical."""
        return r.ATYPICAL if 2 * sum(self.votes) > len(self.votes) else r.NORMAL

    @property
    def kind(self) -> str:
        """The morphology that the picture shows: its own, or its counterpart's where it is less than half developed.

        It is known from the rendering; the votes scatter around it.
        """
        shown = MORPHOLOGIES[self.morphology]
        return shown.name if (self.severity >= 0.5) == shown.atypical else shown.counterpart

    @cached_property
    def phases(self) -> tuple[str, ...]:
        """The phase named by each rater."""
        shown = MORPHOLOGIES[self.morphology]
        return tuple(shown.name if vote == int(shown.atypical) else shown.counterpart for vote in self.votes)


def case_part(case: int, n_domains: int) -> str:
    """Part of a case: in every four rounds each domain gives one case to the test part."""
    turn, domain = divmod(case, n_domains)
    return "test" if (turn + domain) % TEST_EVERY == TEST_EVERY - 1 else "train"


def vote_probability(severity: float, leaning: float = 0.0) -> float:
    """Probability that a rater calls a figure atypical.

    A rater perceives the severity plus normal noise of :data:`RATER_SD` and says atypical above
    one half.

    Args:
        severity: True severity in [0, 1].
        leaning: The rater's constant error.

    >>> vote_probability(0.5)
    0.5
    """
    return 0.5 * (1 + erf((severity + leaning - 0.5) / (RATER_SD * sqrt(2))))


def plan_figures(n: int, seed: int, domains: Sequence[PhantomDomain]) -> Iterator[PhantomFigure]:
    """Yields the first ``n`` figures of a set.

    Args:
        n: How many.
        seed: Seed of the set.
        domains: Dealt to the cases in turn.
    """
    index, case = 0, 0
    while index < n:
        domain = domains[case % len(domains)]
        rng = generator(seed, "phantom", "case", case)
        size = int(rng.integers(CASE_FIGURES[0], CASE_FIGURES[1] + 1))
        rate = float(rng.beta(CASE_SPREAD * domain.atypia_rate, CASE_SPREAD * (1 - domain.atypia_rate)))
        part = case_part(case, len(domains))
        for i in range(index, min(n, index + size)):
            morphology, severity, votes = drawn_figure(generator(seed, "phantom", "figure", i), rate)
            yield PhantomFigure(i, case, domain, part, morphology, severity, votes)
        index, case = index + size, case + 1


def drawn_figure(rng: np.random.Generator, rate: float) -> tuple[str, float, tuple[int, ...]]:
    """Morphology, severity and votes of a figure.

    Args:
        rng: Source of randomness.
        rate: Share of figures that are drawn from atypical morphologies.
    """
    atypical, ambiguous = rng.uniform() < rate, rng.uniform() < AMBIGUOUS
    if ambiguous:
        severity = rng.uniform(0.42, 0.78) if atypical else rng.uniform(0.22, 0.58)
    else:
        severity = rng.uniform(0.75, 1.0) if atypical else rng.uniform(0.0, 0.25)
    # A doubtful normal figure is a half-developed atypical one.
    mix = ATYPICAL_MIX if atypical or ambiguous else NORMAL_MIX
    morphology = list(mix)[int(rng.choice(len(mix), p=list(mix.values())))]
    perceived = severity + np.asarray(RATERS) + rng.normal(0, RATER_SD, len(RATERS))
    return morphology, float(severity), tuple(int(p > 0.5) for p in perceived)
