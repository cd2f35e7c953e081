"""Rendered figures for terms that learn from them: crops as the recipe cuts those of the data, and what is known of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from atypia.base import records as r
from atypia.base.errors import InputError, must
from atypia.base.process.progress import Progress, silent
from atypia.base.seeds import derive_seed
from atypia.data.audit.findings import AuditFinding
from atypia.data.audit.pairs import pair_findings
from atypia.data.crops.store import CropStore, open_store
from atypia.data.images.geometry import MAX_REFLECTION, CropGeometry
from atypia.data.manifest import Manifest
from atypia.data.phantom.chromatin import MORPHOLOGIES
from atypia.data.phantom.dataset import cached_phantom, phantom_kinds
from atypia.data.phantom.fields import CROP_MPP, SIDE_PX
from atypia.methods.options import RenderedSet
from atypia.methods.term import Rendered
from atypia.splits.split import Fold
from atypia.training.epochs.feed import Feed
from atypia.training.schema import NetworkRecipe
from atypia.training.trainer import field_um

FIELD_UM: Final = float(CROP_MPP * SIDE_PX)
"""Side of the field that a phantom crop holds."""


@dataclass(frozen=True, eq=False)
class RenderedCrops:
    """The rendered figures of one term.

    Attributes:
        manifest: The figures.
        store: Their crops.
        categories: What a figure can be, by code.
        codes: What each is, shape (n,), int64.
        warnings: What differs from the crops of the data.
    """

    manifest: Manifest
    store: CropStore
    categories: tuple[str, ...]
    codes: npt.NDArray[np.int64]
    warnings: tuple[str, ...]

    def fed(self, feed: Feed) -> Rendered:
        """What the term draws from.

        Args:
            feed: Of :attr:`store`'s crops, with augmentation, view and normalisation of the training figures.
        """
        usable = np.flatnonzero(self.store.usable)
        pools = [usable[self.codes[usable] == code] for code in np.unique(self.codes[usable])]

        def draw(seed: int, count: int) -> tuple[Tensor, Tensor]:
            rng = np.random.default_rng(derive_seed(seed, "figures"))
            turns = [rng.permutation(len(pools)) for _ in range(-(-count // len(pools)))]
            rows = np.array([rng.choice(pools[turn]) for turn in np.concatenate(turns)[:count]], dtype=np.int64)
            with torch.autocast(feed.device.type, enabled=False):  # in full precision, as the crops of the data
                images = feed.training_batch(rows, derive_seed(seed, "augment"))
            return images, torch.from_numpy(self.codes[rows]).to(feed.device)

        return Rendered(self.categories, draw)


def rendered_crops(
    asked: RenderedSet, recipe: NetworkRecipe, manifest: Manifest, progress: Progress = silent
) -> RenderedCrops:
    """Renders a phantom set, or finds it in the cache, and cuts its crops.

    Args:
        asked: The set.
        recipe: Its geometry is used.
        manifest: The figures of the training, whose µm/px give the field in µm.
        progress: Receives progress: figures that are rendered, crops that are cut.

    Raises:
        InputError: Rendered figures have no such field, or so few figures are of one category alone.
    """
    geometry, warnings = rendered_geometry(recipe, manifest)
    rendered = cached_phantom(asked.figures, asked.seed, progress=progress)
    kinds = phantom_kinds(asked.figures, asked.seed)
    shown = [kinds[figure] for figure in rendered.ids]
    if asked.task == "classes":
        categories = tuple(r.CLASS_NAMES[r.ATYPICAL_TASK])
        codes = np.array([r.ATYPICAL if MORPHOLOGIES[kind].atypical else r.NORMAL for kind in shown], dtype=np.int64)
    else:
        categories = tuple(MORPHOLOGIES)
        codes = np.array([categories.index(kind) for kind in shown], dtype=np.int64)
    if len(np.unique(codes)) < 2:
        got = f"{len(shown)} of one alone"
        raise InputError(must("terms.phantom.figures", f"enough for two {asked.task}", got, "take more, such as 2048"))
    return RenderedCrops(rendered, open_store(rendered, geometry, progress=progress), categories, codes, warnings)


def rendered_geometry(recipe: NetworkRecipe, manifest: Manifest) -> tuple[CropGeometry, tuple[str, ...]]:
    """How rendered figures are cut so that they show the field, in µm, of the training's crops; and what differs.

    Args:
        recipe: The recipe.
        manifest: The figures of the training.

    Raises:
        InputError: The field is more than twice as large as a rendered crop.
    """
    own = recipe.geometry.build()
    side = field_um(manifest, own)
    if side is None:
        said = "whole" if own.is_whole else f"in {own.side_px} px of {CROP_MPP:g} µm"
        return own, (f"no µm/px of {manifest.name} is known: rendered figures ({FIELD_UM:g} µm) are shown {said}",)
    if side > MAX_REFLECTION * FIELD_UM:
        raise InputError(
            must("geometry with the term phantom", f"a field of at most {MAX_REFLECTION * FIELD_UM:g} µm", f"{side:g} µm",
                 "drop the term (terms.phantom=null), or set a smaller field")
        )  # fmt: skip
    warnings = ()
    if recipe.view * side > FIELD_UM + CROP_MPP:
        warnings = (
            f"the network sees {recipe.view * side:g} µm, rendered figures have {FIELD_UM:g} µm: these are reflected beyond",
        )
    return replace(own, side_um=side, side_px=None), warnings


def leakage_of_rendered(rendered: Manifest, fold: Fold, manifest: Manifest) -> list[AuditFinding]:
    """Whether rendered figures are among those that a fold is validated or tested on: a phantom set of the same seed."""
    measured = [*fold.val, *fold.test]
    if not measured:
        return []
    part = replace(manifest.take(manifest.rows_of(measured)), name=f"the validation and test part of {fold.name}")
    return pair_findings(rendered, part)
