"""What a recipe cannot do with a data set or a division, found before any work: a study's plan and a training ask the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atypia.base import records as r
from atypia.base.errors import InputError, must
from atypia.data.images.geometry import MAX_REFLECTION
from atypia.data.manifest import Manifest
from atypia.methods.catalogue import PROBES
from atypia.training.schema import NetworkRecipe, ProbeRecipe, Recipe

ON_CROPS = "set geometry.side_px=null and geometry.out_px to the crops' own side"
"""How a recipe for slides is used on crops."""


def check_options(recipe: Recipe) -> None:
    """Refuses a recipe whose parts do not go together, whatever its data.

    Raises:
        InputError: An option is not valid, or a combination cannot work.
    """
    if isinstance(recipe, ProbeRecipe):
        PROBES[recipe.probe].parse_options(recipe.options)
        return
    from atypia.data.augment.pipeline import augmentation
    from atypia.training.networks import network_spec

    network_spec(recipe)
    _ = augmentation(recipe.augment)


def check_field(recipe: Recipe, manifest: Manifest, what: str = "geometry") -> list[str]:
    """Refuses a field that figures cannot give.

    Args:
        recipe: The recipe.
        manifest: The figures.
        what: The subject of the message.

    Returns:
        A warning where the field is larger than crops are, so that what it shows beyond them is reflected.

    Raises:
        InputError: Figures are positions on slides and the field is a whole crop; patches are asked of crops; the field is
            in µm and no crop's µm/px is known; or it is more than twice as large as every crop.
    """
    geometry = recipe.geometry.build()
    table = manifest.table
    on_slide = table[r.X_PX].is_valid().to_numpy()
    count = int(on_slide.sum())
    if count and geometry.is_whole:
        raise InputError(
            must(what, f"a field of given side, as {count:,} figures of {manifest.name} are positions on slides",
                 "the whole image", "set geometry.side_px (or geometry.side_um) and geometry.out_px")
        )  # fmt: skip
    if isinstance(recipe, NetworkRecipe) and recipe.patches is not None and count < len(manifest):
        raise InputError(
            must(what, "without `patches`, which need positions on slides",
                 f"{len(manifest) - count:,} crops in {manifest.name}",
                 f"set patches=null, sampler.random_share=0 and view=1.0, and {ON_CROPS}")
        )  # fmt: skip
    crops = np.flatnonzero(~on_slide)
    if geometry.is_whole or not len(crops):
        return []
    mpp = table[r.MPP].to_numpy()[crops].astype(np.float64)
    if geometry.side_um is not None and np.isnan(mpp).all():
        raise InputError(
            must(what, f"in pixels, as no µm/px of {manifest.name} is known", f"{geometry.side_um:g} µm",
                 "set geometry.side_px, or fill the column `mpp`")
        )  # fmt: skip
    side = np.full(len(crops), float(geometry.side_px or 0)) if geometry.side_um is None else geometry.side_um / mpp
    sizes = np.stack([table[name].to_numpy()[crops].astype(np.float64) for name in (r.WIDTH_PX, r.HEIGHT_PX)]).min(
        axis=0
    )
    known = ~np.isnan(sizes) & ~np.isnan(side)
    if not known.any():
        return []
    too_large = known & (side > MAX_REFLECTION * sizes)
    own = f"crops of {np.nanmedian(sizes):g} px"
    if bool(too_large[known].all()):
        got = f"{side[known].min():g} px and {own} in {manifest.name}"
        raise InputError(must(what, "a field of at most twice the crops' side", got, ON_CROPS))
    larger = int((known & (side > sizes + 0.5)).sum())
    if not larger:
        return []
    return [
        f"{larger:,} figures of {manifest.name}: the field of {np.nanmedian(side[known]):g} px is larger than their {own}, "
        f"beyond which these are reflected; if that is not meant: {ON_CROPS}"
    ]


def check_folds(recipe: Recipe, validation: Sequence[tuple[str, int, int]]) -> None:
    """Refuses folds on whose validation part a recipe cannot select its epoch.

    Args:
        recipe: The recipe.
        validation: Of each fold its name, and the figures and the classes of its validation part.

    Raises:
        InputError: A part lacks a class, or has no figure.
    """
    if isinstance(recipe, NetworkRecipe) and recipe.select.over == "figures":
        from atypia.training.networks import check_validation

        for fold, figures, classes in validation:
            check_validation(recipe, fold, figures, classes)
