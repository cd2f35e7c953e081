"""The interface of trainers (of probes and of networks), their input and their result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from atypia.backbones.preparation import AS_CATALOGUED, Preparation
from atypia.base import records as r
from atypia.base.process.progress import Progress
from atypia.data.images.geometry import CropGeometry
from atypia.data.manifest import Manifest
from atypia.splits.split import Fold, Split
from atypia.training.schema import Recipe


@dataclass(frozen=True)
class TrainingRequest:
    """The request for a training.

    Attributes:
        name: The recipe's name.
        recipe: The recipe.
        manifest: The figures.
        split: The folds, or a function that makes them from the usable figures, once those are known.
        out: Output folder.
        seed: Master seed of the methods.
        allow: Leakage findings that the user has named as exceptions.
        weights_file: A file of the user with the backbone's weights.
        folds: Names of the folds to train; empty: all.
        device: Where networks are trained: ``auto``, ``cpu`` or ``cuda``.
    """

    name: str
    recipe: Recipe
    manifest: Manifest
    split: Split | Callable[[Manifest], Split]
    out: Path
    seed: int = 0
    allow: tuple[str, ...] = ()
    weights_file: Path | None = None
    folds: tuple[str, ...] = ()
    device: str = "auto"


@dataclass(frozen=True, eq=False)
class TrainedFold:
    """One trained fold.

    Attributes:
        fold: The fold.
        tensors: What was learned, for the bundle.
        network: The architecture, for the bundle; None for a probe.
        weights_sha256: Checksum of the backbone's weights that the tensors belong to.
        input_px: Side at which crops enter the backbone.
        logits: Logits of the positive class of these rows of the store.
        info: Facts for the bundle's card.
        history: One line per epoch, or one line.
        seconds: Wall time of the fit.
        warnings: Sentences that must be printed under its tables.
        parameters: Number of parameters that were trained; None if it was not counted.
        prepared: A probe's normalisation, pooling and view, for the bundle; a network's are in its architecture.
    """

    fold: Fold
    tensors: Mapping[str, npt.NDArray[Any]]
    network: Mapping[str, Any] | None
    weights_sha256: str | None
    input_px: int
    logits: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float64]]
    info: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    seconds: float = 0.0
    warnings: Sequence[str] = ()
    parameters: int | None = None
    prepared: Preparation = AS_CATALOGUED


class Trainer(Protocol):
    """A way of training: a probe on features, or a network."""

    def inputs(self, fold: Fold) -> str:
        """Fingerprint of everything that a fold's result depends on, apart from recipe, seed and figures."""
        ...

    def check(self, folds: Sequence[Fold]) -> list[str]:
        """Warnings for every table, before any work starts.

        Raises:
            LeakageError: A network that is used was trained on validation or test figures of a fold.
        """
        ...

    def fit(self, folds: Sequence[Fold], run_ids: Mapping[str, str], progress: Progress) -> Iterator[TrainedFold]:
        """Trains folds and yields each as soon as it is done."""
        ...


def stored_labels(manifest: Manifest) -> npt.NDArray[np.int8]:
    """Labels of all rows of a store; a row without one is 0 and in no fold, so never read."""
    return np.array([label or 0 for label in manifest.table[r.LABEL].to_pylist()], dtype=np.int8)


def field_um(manifest: Manifest, geometry: CropGeometry) -> float | None:
    """Side of the field that crops of these figures show, in µm: the median; None if no µm/px is known."""
    if geometry.side_um is not None:
        return geometry.side_um
    sides = []
    for figure in manifest.table.select([r.MPP, r.WIDTH_PX, r.HEIGHT_PX]).to_pylist():
        known = [figure[r.WIDTH_PX], figure[r.HEIGHT_PX]]
        side = geometry.side_px or (min(known) if None not in known else None)
        if figure[r.MPP] is not None and side is not None:
            sides.append(figure[r.MPP] * side)
    return round(float(np.median(sides)), 4) if sides else None
