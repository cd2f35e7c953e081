"""Registry of augmentation steps, so that a recipe can name them: ``augment: [{name: jitter, brightness: 0.3}]``.

A step is a frozen dataclass whose fields are its options, all with defaults. A photometric one is called with images
(b, 3, h, w) in [0, 1] and a CPU generator, and gives images of the same shape and range::

    @registered_step("darker")
    @dataclass(frozen=True)
    class Darker:
        share: float = 0.5

        def __call__(self, images, generator):
            return images * (1 - self.share)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated, Any, TypeVar, get_type_hints

from pydantic import Field, create_model

from atypia.base.registry import Registry
from atypia.data.augment.options import StepOptions

C = TypeVar("C", bound=type)

RANGES = {"probability": {"ge": 0, "le": 1}, "scale": {"gt": 0}, "aspect": {"gt": 0}, "bits": {"ge": 1, "le": 8},
          "cells": {"ge": 1}, "boxes": {"ge": 1}, "limit": {"gt": 0}}  # fmt: skip
"""Ranges of options by their name; others are not negative."""


@dataclass(frozen=True)
class Step:
    """A kind of step.

    Attributes:
        make: Makes it from its options.
        spatial: Whether it moves pixels: all of these are done together, with one resampling, before the others.
        Options: Schema of its options.
        summary: One line for listings.
    """

    make: Callable[..., Any]
    spatial: bool
    Options: type[StepOptions]
    summary: str

    def build(self, options: StepOptions) -> Any:
        """The step with these options."""
        return self.make(**options.model_dump(exclude={"name"}))


STEPS: Registry[Step] = Registry("augmentation step", "atypia.data.augment", "augmentation-steps")


def registered_step(name: str, spatial: bool = False, version: int | None = None) -> Callable[[C], C]:
    """Registers a dataclass as a step; its schema follows from its fields.

    Args:
        name: Name in recipes.
        spatial: Whether it is one of the spatial steps of :mod:`atypia.data.augment.spatial`.
        version: Of a step from outside of Atypia; see :meth:`atypia.base.registry.Registry.add`.
    """

    def decorate(made: C) -> C:
        step = Step(made, spatial, _schema(made), (made.__doc__ or name).splitlines()[0].rstrip("."))
        STEPS.add(name, step, version=version)
        return made

    return decorate


def _schema(made: type) -> type[StepOptions]:
    kinds = get_type_hints(made)
    options: dict[str, Any] = {}
    for field in fields(made):
        ranged = Field(**RANGES.get(field.name, {"ge": 0}))  # pyright: ignore[reportCallIssue, reportArgumentType]
        pair = kinds[field.name] == tuple[float, float]
        one = Annotated[float if pair else kinds[field.name], ranged]
        options[field.name] = (tuple[one, one] if pair else one, field.default)
    return create_model(f"{made.__name__}Options", __base__=StepOptions, **options)
