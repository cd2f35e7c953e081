"""Images and generators for the tests of augmentations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from atypia.data.augment import spatial as s
from atypia.data.augment.options import Fill
from atypia.data.augment.pipeline import AUGMENTATIONS

NAMES = list(AUGMENTATIONS)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_images(count: int = 6, side: int = 32, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, side, side, generator=seeded(seed))


def smooth_image(side: int = 64) -> Tensor:
    """One image without high frequencies, so that interpolations agree."""
    coarse = torch.rand(1, 3, 6, 6, generator=seeded(3))
    return F.interpolate(coarse, (side, side), mode="bicubic", align_corners=False).clamp(0, 1)


def warped_by(images: Tensor, *matrices: Tensor, fill: Fill = "reflect") -> Tensor:
    """Resamples by given matrices, one per step, for all figures."""

    class Given(s.Flip):
        def __init__(self, matrix: Tensor) -> None:
            object.__setattr__(self, "matrix", matrix)

        def matrices(self, count: int, generator: torch.Generator) -> Tensor:
            return self.matrix.expand(count, 3, 3)  # pyright: ignore[reportAttributeAccessIssue]

    return s.resample(images, tuple(Given(m) for m in matrices), seeded(), fill=fill)
