"""An augmentation: frozen steps; each draws from the generator that it is given, and from nothing else."""

from dataclasses import dataclass

import torch
from torch import Tensor

from atypia.data.augment.pipeline import AUGMENTATIONS, Pipeline
from atypia.data.augment.spatial import Flip
from atypia.data.augment.steps import registered_step


@registered_step("mylab-lamp", version=1)
@dataclass(frozen=True)
class Lamp:
    """Multiplies each crop by a factor of its own, in ``[1 − strength, 1 + strength]``."""

    strength: float = 0.2

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        factor = 1 + self.strength * (2 * torch.rand(len(images), 1, 1, 1, generator=generator) - 1)
        return (images * factor.to(images)).clamp(0, 1)


AUGMENTATIONS.add("mylab-lamp", Pipeline("the lamp of our microscope", (Flip(),), (Lamp(),)), version=1)
