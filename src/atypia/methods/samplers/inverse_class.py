"""Both classes equally often."""

from __future__ import annotations

from atypia.methods.catalogue import SAMPLERS
from atypia.methods.head import inverse_class_weights
from atypia.methods.options import SamplerOptions
from atypia.methods.sampler import Floats, Sampler


@SAMPLERS.register("inverse-class")
class InverseClass(Sampler[SamplerOptions]):
    """With replacement, with weight 1 / size of the class."""

    summary = "with replacement, both classes equally often"

    def weights(self) -> Floats | None:
        return inverse_class_weights(self.population.labels)
