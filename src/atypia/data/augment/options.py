"""Options of augmentation steps that a recipe names one by one; no network library is imported."""

from __future__ import annotations

from atypia.base.config import StrictModel


class StepOptions(StrictModel):
    """Options of one step; each step has a schema of its own, made from its fields.

    Attributes:
        name: Entry of :data:`atypia.data.augment.steps.STEPS`.
    """

    name: str
