"""A slide, then a class (Ammeling et al.)."""

from __future__ import annotations

import numpy as np

from atypia.methods.catalogue import SAMPLERS
from atypia.methods.options import SamplerOptions
from atypia.methods.sampler import Floats, GroupedDraws, Ints, Sampler


@SAMPLERS.register("pseudo-epoch")
class PseudoEpoch(Sampler[SamplerOptions]):
    """A slide uniformly, then a positive with probability ``positive_share``, else a negative (Ammeling et al.).

    Where the slide has no figure of the drawn class, one of its other class is taken. Within
    slide and class figures are drawn uniformly, or by their weight where hard ones are mined.
    The paper's third kind, a random patch of the slide, needs whole regions; on crops that
    share falls to the look-alikes.
    """

    summary = "a slide, then a positive with probability `positive_share`"

    def weights(self) -> Floats | None:
        return None

    def drawn(self, rng: np.random.Generator) -> Ints:
        slides, codes = np.unique(self.population.slides, return_inverse=True)
        places = GroupedDraws(2 * codes + self.population.labels, 2 * len(slides), self.hardness())
        wanted = 2 * rng.integers(len(slides), size=self.draws) + (rng.random(self.draws) < self.options.positive_share)
        return places.draw(np.where(places.sizes[wanted] > 0, wanted, wanted ^ 1), rng)
