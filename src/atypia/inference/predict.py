"""Prediction: a bundle's probabilities for the figures of a manifest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atypia.backbones.features import open_features
from atypia.backbones.weights import require
from atypia.base import extras
from atypia.base.errors import InputError
from atypia.base.process.progress import Progress, silent
from atypia.data.crops.store import CropStore, open_store
from atypia.data.manifest import Manifest
from atypia.inference.bundles.bundle import PROBE, Bundle, check_weights

CHUNK = 1024
"""Figures between two reports of progress."""


@dataclass(frozen=True, eq=False)
class Scored:
    """Figures whose crops could be read, and their probabilities.

    Attributes:
        manifest: The usable figures.
        probabilities: Calibrated probability of the positive class, shape (n,), in [0, 1].
        quarantined: Figure id to reason, for those that could not be read.
    """

    manifest: Manifest
    probabilities: npt.NDArray[np.float64]
    quarantined: dict[str, str]


def score(
    bundle: Bundle,
    manifest: Manifest,
    store: CropStore | None = None,
    weights_file: Path | None = None,
    progress: Progress = silent,
    device: str = "auto",
) -> Scored:
    """Scores every figure whose crop can be read.

    Args:
        bundle: The classifier.
        manifest: The figures; its task must be the bundle's.
        store: Their crops, where they are open already; must have the bundle's geometry.
        weights_file: A file of the user with the backbone's weights.
        progress: Told about crops decoded and features computed.
        device: Where networks run: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        AbsentError: The backbone's weights are not on this machine, or are others than the bundle was made with.
        InputError: The manifest is of another task.
    """
    extras.require(f"scoring by {bundle.name} through its own network", *extras.NETWORKS)
    check_task(bundle, manifest)
    if bundle.weights_sha256 is not None:
        require(bundle.backbone, weights_file)
    if store is None:
        store = open_store(manifest, bundle.geometry, progress=progress)
    rows = np.flatnonzero(store.usable)
    if bundle.adaptation == PROBE:
        features = open_features(
            store,
            bundle.backbone,
            bundle.input_px,
            weights_file=weights_file,
            progress=progress,
            device=device,
            preparation=bundle.preparation,
        )
        check_weights(bundle, features.weights_sha256)
        values: npt.NDArray[Any] = features.values
        probabilities = bundle.probabilities(values if len(rows) == len(manifest) else values[rows])
    else:
        probabilities = _through_network(bundle, store, rows, weights_file, progress, device)
    usable = manifest if len(rows) == len(manifest) else manifest.take(rows)
    return Scored(usable, probabilities, dict(store.quarantined))


def _through_network(
    bundle: Bundle,
    store: CropStore,
    rows: npt.NDArray[np.int64],
    weights_file: Path | None,
    progress: Progress,
    device: str,
) -> npt.NDArray[np.float64]:
    from atypia.inference.crops import DeviceCrops, Frame
    from atypia.inference.networks import device_of, load_network

    where = device_of(device)
    network = load_network(bundle, weights_file).to(where)
    crops = DeviceCrops(store.crops, network.spec.entry, Frame(bundle.input_px, network.spec.view), where)
    found = []
    for start in range(0, len(rows), CHUNK):
        found.append(crops.logits(network, rows[start : start + CHUNK]))
        progress(min(start + CHUNK, len(rows)), len(rows), f"figures scored by {bundle.name}")
    return bundle.decision.calibration.apply(np.concatenate(found) if found else np.empty(0))


def check_task(bundle: Bundle, manifest: Manifest) -> None:
    """Refuses figures of another task than the bundle's.

    Raises:
        InputError: The tasks differ.
    """
    if manifest.task != bundle.task:
        raise InputError(
            f"{bundle.name} was trained for the task {bundle.task!r}, {manifest.name} is of {manifest.task!r}; "
            "fix: choose a data set of the same task"
        )
