"""A fold's training and validation part as arrays, with random places and moved centres where the recipe has patches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from atypia.base import records as r
from atypia.base.process.progress import Progress, silent
from atypia.base.seeds import derive_seed
from atypia.data.crops.places import JoinedCrops, random_places
from atypia.data.crops.store import CropStore, open_store
from atypia.data.images.geometry import start_px
from atypia.data.manifest import Manifest
from atypia.inference.crops import Frame
from atypia.methods.catalogue import SAMPLERS
from atypia.methods.sampler import Population
from atypia.splits.split import Fold
from atypia.training.epochs.patches import PatchCentres, Patches
from atypia.training.schema import NetworkRecipe
from atypia.training.trainer import stored_labels

Rows = npt.NDArray[np.int64]


class FoldParts:
    """The figures of a manifest, and random places on their slides, as the parts of folds.

    Args:
        manifest: The figures.
        store: Their crops.
        recipe: The recipe; with ``patches`` random places are drawn, and their crops are cut or found.
        progress: Told about crops.

    Raises:
        InputError: The recipe has patches, and the figures are crops.
    """

    def __init__(
        self, manifest: Manifest, store: CropStore, recipe: NetworkRecipe, progress: Progress = silent
    ) -> None:
        self.manifest, self.store, self.recipe = manifest, store, recipe
        self.ids = manifest.ids
        self.crops: Any = store.crops  # or a JoinedCrops, which is indexed as an array is
        self.places: tuple[Manifest, CropStore] | None = None
        if recipe.patches is not None:
            places = random_places(manifest, store.geometry, recipe.patches.places)
            self.places = (places, open_store(places, store.geometry, progress=progress))
            self.ids = [*manifest.ids, *places.ids]
            self.crops = JoinedCrops([store.crops, self.places[1].crops])

    @property
    def fingerprints(self) -> list[str]:
        """Content hashes of what trains beside the figures' crops: of the random places."""
        return [] if self.places is None else [self.places[1].fingerprint]

    def population(self, figures: Sequence[str]) -> tuple[Population, int]:
        """The figures of a part, with the random places of their slides, and the number of their domains.

        Rows count the figures' crops first, then those of the places.
        """
        manifest = self.manifest
        rows = manifest.rows_of(figures)
        labels = stored_labels(manifest)[rows]
        part = manifest.take(rows).table
        targets = labels.astype(np.float64)
        if self.recipe.loss.soft_labels:
            soft = part[r.SOFT_LABEL].to_pylist()
            targets = np.array([y if share is None else share for share, y in zip(soft, targets, strict=True)])
        domains: list[str | None] = part[r.DOMAIN].to_pylist()
        slides = [s or c for s, c in zip(part[r.SLIDE_ID].to_pylist(), manifest.cases[rows], strict=True)]
        random = None
        if self.places is not None:
            slides = part[r.IMAGE].to_pylist()
            places, store = self.places
            images = places.table[r.IMAGE].to_pylist()
            used = np.flatnonzero(store.usable & np.isin(images, slides))
            random = np.arange(len(rows) + len(used)) >= len(rows)
            rows = np.concatenate([rows, len(manifest) + used])
            labels = np.concatenate([labels, np.zeros(len(used), labels.dtype)])
            targets = np.concatenate([targets, np.zeros(len(used))])
            domains += places.take(used).table[r.DOMAIN].to_pylist()
            slides += [images[row] for row in used]
        codes = _codes(domains, unknown=-1)
        count = len(set(codes[codes >= 0].tolist()))
        judged = None
        if r.JUDGED_P in part.column_names and part[r.JUDGED_P].null_count < len(part):
            judged = np.full(len(rows), np.nan)
            judged[: len(part)] = part[r.JUDGED_P].to_numpy(zero_copy_only=False)
        return Population(rows, labels, targets, codes, _codes(slides), random, judged), count

    def patches(self, population: Population) -> Patches | None:
        """Moves and labels of the patches of a part; None where the recipe has none.

        Raises:
            DataError: The field is in µm, and the µm/px of a figure is not known.
        """
        if self.recipe.patches is None or self.places is None:
            return None
        geometry = self.store.geometry
        found = []
        for manifest in (self.manifest, self.places[0]):
            for x, y, mpp in zip(*(manifest.table[name].to_pylist() for name in (r.X_PX, r.Y_PX, r.MPP)), strict=True):
                side = geometry.source_side_px(mpp) or geometry.out_px
                found.append((start_px(x, side) + side / 2, start_px(y, side) + side / 2, side / geometry.out_px))
        of = np.array(found)[population.rows]
        centres = PatchCentres(of[:, :2], population.slides, of[:, 2], population.targets)
        seen = Frame(geometry.out_px, self.recipe.view).seen_px(geometry.out_px)
        return Patches(centres, seen, self.recipe.patches.jitter)

    def validation(self, fold: Fold, seed: int) -> tuple[Rows, npt.NDArray[np.int8], Rows | None]:
        """What epochs are validated on: rows, labels, and moves of the centres where there are patches.

        The part's figures as they are; or, with ``select.over: pseudo-epoch``, one draw of the recipe's sampler from them.

        Args:
            fold: The fold.
            seed: The fold's.
        """
        rows = self.manifest.rows_of(fold.val)
        if self.recipe.select.over == "figures" or not len(rows):
            return rows, stored_labels(self.manifest)[rows], None
        population, _ = self.population(fold.val)
        options = self.recipe.sampler.model_copy(update={"curriculum": None})  # generated figures are trained on alone
        own = derive_seed(seed, "validation")
        drawn = SAMPLERS[options.name](options, population, own, self.recipe.batch_size, both_classes=False).draw(0)
        patches = self.patches(population)
        if patches is None:
            return population.rows[drawn], population.labels[drawn], None
        moves, targets = patches.draw(drawn, derive_seed(own, "patches"))
        return population.rows[drawn], (targets >= 0.5).astype(np.int8), moves


def _codes(values: Sequence[str | None], unknown: int = -1) -> Rows:
    """Integer codes of names in alphabetical order; ``unknown`` where the name is None."""
    names = {name: code for code, name in enumerate(sorted({v for v in values if v is not None}))}
    return np.array([unknown if v is None else names[v] for v in values], dtype=np.int64)
