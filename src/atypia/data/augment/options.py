"""Options of augmentation steps that a recipe names one by one; no network library is imported."""

from __future__ import annotations

from typing import Literal

from atypia.base.config import StrictModel

Fill = Literal["reflect", "black"]
"""What spatial steps show beyond the border of the image: its reflection, or black, as torchvision's do by default."""


class StepOptions(StrictModel):
    """Options of one step; each step has a schema of its own, made from its fields.

    Attributes:
        name: Entry of :data:`atypia.data.augment.steps.STEPS`.
    """

    name: str
