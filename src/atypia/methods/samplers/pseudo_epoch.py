"""A slide, then a class (Ammeling et al.)."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from atypia.methods.catalogue import SAMPLERS
from atypia.methods.options import SamplerOptions
from atypia.methods.sampler import Floats, GroupedDraws, Ints, Sampler

NEGATIVE, POSITIVE, RANDOM = 0, 1, 2
"""Kinds of draws; the first two are the labels."""


class PseudoEpochOptions(SamplerOptions):
    """``random_share``: share of random places of the slide among the draws, taken from that of negatives; needs
    ``patches`` in the recipe. Ammeling et al.: 0.25 in the text, 0 in the code."""

    random_share: float = Field(default=0.0, ge=0, lt=1)


@SAMPLERS.register("pseudo-epoch")
class PseudoEpoch(Sampler[PseudoEpochOptions]):
    """A slide uniformly, then a positive with probability ``positive_share``, else a negative (Ammeling et al.).

    With probability ``random_share`` the draw is a random place of the slide, with the remaining probability a negative. If
    the slide has no figure of the drawn class, one of the other class is taken; for a negative, as in the published code,
    first a random place, if there are any. Within slide and class, figures are drawn uniformly, or by weight with
    hard-example mining.
    """

    Options = PseudoEpochOptions
    summary = "a random slide, then a positive with probability `positive_share`, a random place with `random_share`, else a negative"
    takes_random = True

    def weights(self) -> Floats | None:
        return None

    def drawn(self, rng: np.random.Generator) -> Ints:
        population, options = self.population, self.options
        slides, codes = np.unique(population.slides, return_inverse=True)
        kinds, count = population.labels.astype(np.int64), 2
        if population.random is not None:
            kinds, count = np.where(population.random, RANDOM, kinds), 3
        places = GroupedDraws(count * codes + kinds, count * len(slides), self.hardness())
        on = count * rng.integers(len(slides), size=self.draws)
        share = rng.random(self.draws)
        kind = (share < options.positive_share).astype(np.int64)
        if count == 3:
            kind = np.where((kind == NEGATIVE) & (share >= 1 - options.random_share), RANDOM, kind)
            # Slide by slide, which kind stands for each that the slide lacks; a slide has at least one of the three.
            there = places.sizes.reshape(-1, 3) > 0
            instead = np.tile(np.arange(3), (len(slides), 1))
            for lacking, others in (
                (POSITIVE, (NEGATIVE, RANDOM)),
                (NEGATIVE, (RANDOM, POSITIVE)),
                (RANDOM, (NEGATIVE, POSITIVE)),
            ):
                first = np.where(there[:, others[0]], others[0], others[1])
                instead[:, lacking] = np.where(there[:, lacking], lacking, first)
            return places.draw(on + instead[on // 3, kind], rng)
        wanted = on + kind
        return places.draw(np.where(places.sizes[wanted] > 0, wanted, wanted ^ 1), rng)
