"""Every figure once per epoch."""

from __future__ import annotations

from atypia.methods.catalogue import SAMPLERS
from atypia.methods.options import SamplerOptions
from atypia.methods.sampler import Floats, Sampler


@SAMPLERS.register("uniform")
class Uniform(Sampler[SamplerOptions]):
    """Every figure once, shuffled; with replacement if hard-example mining is on."""

    summary = "every figure once, shuffled"
    both_classes = False

    def weights(self) -> Floats | None:
        return None
