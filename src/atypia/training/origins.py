"""Which entries of registries a training uses, and which installed packages they come from."""

from __future__ import annotations

from atypia.base.plugins import distributions
from atypia.training.schema import ProbeRecipe, Recipe
from atypia.training.trainer import TrainingRequest


def entries_of(recipe: Recipe) -> tuple[tuple[str, str], ...]:
    """Kind and name of every entry that a recipe names and that changes the result of a training."""
    if isinstance(recipe, ProbeRecipe):
        return (("backbones", recipe.backbone), ("probes", recipe.probe))
    if isinstance(recipe.augment, str):
        names = [("augmentations", name.strip()) for name in recipe.augment.split("+")]
    else:
        names = [("augmentation-steps", step.name) for step in recipe.augment]
    terms = [("terms", term.name) for term in recipe.terms]
    chosen = [("losses", recipe.loss.name), ("samplers", recipe.sampler.name)]
    return (("backbones", recipe.backbone), *chosen, *names, *terms)


def packages_of(job: TrainingRequest, protocol: str) -> tuple[str, ...]:
    """The packages of plug-ins that a training uses: for its recipe, its data source and its protocol.

    Args:
        job: The training.
        protocol: Name of the protocol that divided the figures.
    """
    return distributions([*entries_of(job.recipe), ("protocols", protocol), ("sources", job.manifest.name)])
