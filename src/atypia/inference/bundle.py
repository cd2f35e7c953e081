"""Bundles: a saved classifier in a folder, without pickle.

``model.safetensors`` holds the parameters, ``config.json`` everything that is needed to use
them, ``card.md`` what a person should know. A probe's bundle refers to its backbone by name and
by the checksum of the weights; it refuses to predict through other weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from atypia.artifacts import atomic_folder, canonical_json, fingerprint
from atypia.data.geometry import CropGeometry
from atypia.errors import DataError, InputError, must
from atypia.records import CLASS_NAMES

FORMAT = 1
WEIGHT, BIAS = "head.weight", "head.bias"


@dataclass(frozen=True, eq=False)
class Bundle:
    """A linear head on a frozen backbone, with everything that is needed to use it.

    Attributes:
        name: What tables call it.
        task: Key of :data:`atypia.records.CLASS_NAMES`; class 1 is the positive class.
        backbone: Entry of the backbone catalogue.
        weights_sha256: Checksum of the backbone's weights; None for a backbone without.
        input_px: Side at which crops enter the backbone.
        geometry: How crops are cut.
        weight: Weights on raw features, shape (feature_dim,), float64.
        bias: Bias of the logit.
        threshold: Decision threshold on the probability of the positive class.
        training: Facts about the training: recipe, data, split, fold, chosen options.
    """

    name: str
    task: str
    backbone: str
    weights_sha256: str | None
    input_px: int
    geometry: CropGeometry
    weight: npt.NDArray[np.float64]
    bias: float
    threshold: float
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> dict[str, Any]:
        """What ``config.json`` holds."""
        return {
            "format": FORMAT,
            "name": self.name,
            "task": self.task,
            "classes": list(CLASS_NAMES[self.task]),
            "adaptation": "probe",
            "backbone": {"name": self.backbone, "weights_sha256": self.weights_sha256, "input_px": self.input_px},
            "geometry": asdict(self.geometry),
            "decision": {"threshold": self.threshold},
            "training": dict(self.training),
        }

    @property
    def fingerprint(self) -> str:
        """Content hash of the configuration and the parameters."""
        return fingerprint(self.config, self.weight.tobytes(), float(self.bias))

    def probabilities(self, features: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        """Probability of the positive class.

        Args:
            features: Raw features of the backbone, shape (n, feature_dim).

        Returns:
            Shape (n,), in [0, 1]: sigmoid(features · weight + bias); NaN where features are NaN.

        Raises:
            InputError: The features have another dimension than the head.
        """
        if features.ndim != 2 or features.shape[1] != len(self.weight):
            raise InputError(must("features", f"of shape (n, {len(self.weight)})", features.shape, "use its backbone"))
        logits = np.empty(len(features))
        for start in range(0, len(features), 4096):  # bounds the float64 copy of half-precision features
            part = features[start : start + 4096].astype(np.float64)
            logits[start : start + 4096] = part @ self.weight + self.bias
        small = np.exp(-np.abs(logits))  # the two-sided form neither overflows nor cancels
        return np.where(logits >= 0, 1 / (1 + small), small / (1 + small))

    def save(self, folder: Path) -> Path:
        """Writes the bundle; the folder gets its name only when it is complete."""
        tensors = {WEIGHT: self.weight.astype(np.float64), BIAS: np.array([self.bias], dtype=np.float64)}
        with atomic_folder(folder) as part:
            (part / "model.safetensors").write_bytes(save(tensors))
            (part / "config.json").write_text(json.dumps(self.config, indent=2, sort_keys=True) + "\n", "utf-8")
            (part / "card.md").write_text(card(self), "utf-8")
        return folder


def load_bundle(folder: Path) -> Bundle:
    """Reads a bundle.

    Raises:
        DataError: The folder is no bundle, is damaged, or was written by a later version.
    """
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        tensors = load_file(folder / "model.safetensors")
    except FileNotFoundError as error:
        raise DataError(f"{folder} is no bundle: {Path(error.filename).name} is missing; fix: train it") from None
    except (json.JSONDecodeError, UnicodeDecodeError, SafetensorError) as error:
        raise DataError(f"{folder} is a damaged bundle ({error}); fix: train it again") from error
    if config.get("format") != FORMAT:
        raise DataError(must(f"{folder} format", str(FORMAT), config.get("format"), "update Atypia"))
    try:
        return Bundle(
            name=config["name"],
            task=config["task"],
            backbone=config["backbone"]["name"],
            weights_sha256=config["backbone"]["weights_sha256"],
            input_px=config["backbone"]["input_px"],
            geometry=CropGeometry(**config["geometry"]),
            weight=tensors[WEIGHT].astype(np.float64),
            bias=float(tensors[BIAS][0]),
            threshold=config["decision"]["threshold"],
            training=config["training"],
        )
    except (KeyError, TypeError) as error:
        raise DataError(f"{folder} is a damaged bundle: {error} is missing or wrong; fix: train it again") from error


def card(bundle: Bundle) -> str:
    """The bundle's card: what it is, what it was trained on, what it must not be used for."""
    zero, one = CLASS_NAMES[bundle.task]
    lines = [
        f"# {bundle.name}",
        "",
        f"Tells *{one}* (1) from *{zero}* (0) figures in H&E crops: a linear probe on the frozen backbone",
        f"`{bundle.backbone}` at {bundle.input_px} px. A figure is called {one} where its probability reaches",
        f"{bundle.threshold:g}.",
        "",
        "Research use only; not a medical device. Frozen features do not solve this task: expect a balanced",
        "accuracy well below that of an adapted backbone.",
        "",
        "## Training",
        "",
    ]
    lines += [f"- {key}: `{canonical_json(value)}`" for key, value in sorted(bundle.training.items())]
    return "\n".join(lines) + "\n"
