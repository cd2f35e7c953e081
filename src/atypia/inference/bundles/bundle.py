"""Bundles: a saved classifier in a folder, without pickle.

``model.safetensors`` contains the trained parameters, ``config.json`` everything that is needed to use them,
``card.md`` a description for people. The bundle of a probe or an adapter refers to its backbone by
name and by the checksum of the weights, and refuses to predict with other weights; the bundle of a fully
fine-tuned network contains all its weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from atypia.backbones.preparation import AS_CATALOGUED, Preparation
from atypia.base.artifacts import atomic_folder, canonical_json, file_sha256, fingerprint
from atypia.base.errors import AbsentError, DataError, InputError, must
from atypia.base.records import CLASS_NAMES
from atypia.data.images.geometry import CropGeometry
from atypia.inference.bundles.decision import Decision
from atypia.inference.bundles.integrity import CARD_FILE, CONFIG_FILE, FORMAT, MODEL_FILE, hashed_config, read_bundle
from atypia.inference.bundles.novelty import PREFIX as NOVELTY_PREFIX

WEIGHT, BIAS = "head.weight", "head.bias"
"""Names of a probe's tensors."""
PROBE: Final = "probe"
FULL: Final = "full"
FINGERPRINT: Final = "fingerprint"
"""Key of the content hash in ``config.json``: it identifies a classifier, whatever file it is stored in."""


@dataclass(frozen=True, eq=False)
class Bundle:
    """A classifier, with everything that is needed to use it.

    Attributes:
        name: Its name in tables.
        task: Key of :data:`atypia.base.records.CLASS_NAMES`; class 1 is the positive class.
        adaptation: How the backbone was adapted: ``probe``, ``lora``, ``partial`` or ``full``.
        backbone: Entry of the backbone catalogue.
        weights_sha256: Checksum of the backbone's weights that it needs; None if it
            needs none (a full network, a backbone without weights).
        input_px: Side at which crops enter the backbone.
        geometry: How crops are cut.
        tensors: Trained parameters, by name; large matrices may be packed (:mod:`atypia.inference.bundles.packing`).
            A probe has :data:`WEIGHT`, shape (feature_dim,), on raw features, and :data:`BIAS`, shape (1,), both float64.
        decision: From logits (and features) to calibrated probabilities, decisions and calls.
        network: The architecture (:class:`atypia.methods.network.NetworkSpec`); None for a probe.
        training: Facts about the training: recipe, data, split, fold, chosen options.
        field_um: Side of the field on the tissue that the training crops showed, in µm; None where
            it is not known. Crops of slides are cut at this size.
        prepared: Normalisation, pooling and view of a probe's features, where they are not the catalogue's; a network's
            are in ``network``.
    """

    name: str
    task: str
    adaptation: str
    backbone: str
    weights_sha256: str | None
    input_px: int
    geometry: CropGeometry
    tensors: Mapping[str, npt.NDArray[Any]]
    decision: Decision
    network: Mapping[str, Any] | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    field_um: float | None = None
    prepared: Preparation = AS_CATALOGUED

    @property
    def preparation(self) -> Preparation:
        """How crops enter the backbone, and which of its outputs is used."""
        return self.prepared if self.network is None else Preparation.from_dict(self.network)

    @property
    def threshold(self) -> float:
        """Decision threshold on the calibrated probability of the positive class."""
        return self.decision.threshold

    @property
    def config(self) -> dict[str, Any]:
        """The content of ``config.json``."""
        size = {} if self.field_um is None else {"field_um": self.field_um}
        return {
            "format": FORMAT,
            "name": self.name,
            "task": self.task,
            "classes": list(CLASS_NAMES[self.task]),
            "adaptation": self.adaptation,
            "backbone": {
                "name": self.backbone,
                "weights_sha256": self.weights_sha256,
                "input_px": self.input_px,
                **self.prepared.as_dict(),
            },
            "geometry": self.geometry.as_dict(),
            "decision": self.decision.as_dict(),
            "network": None if self.network is None else dict(self.network),
            "training": dict(self.training),
            **size,
        }

    @property
    def stored(self) -> dict[str, npt.NDArray[Any]]:
        """The content of ``model.safetensors``: trained parameters, and tensors that the decision needs."""
        return {**self.tensors, **self.decision.tensors()}

    @property
    def fingerprint(self) -> str:
        """Content hash of the configuration and the parameters."""
        parts: list[Any] = []
        for name, tensor in sorted(self.stored.items()):
            parts += [name, str(tensor.dtype), list(tensor.shape), tensor.tobytes()]
        return fingerprint(self.config, *parts)

    def logits(self, features: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        """A probe's logits of the positive class.

        Args:
            features: Raw features of the backbone, shape (n, feature_dim).

        Returns:
            Shape (n,): features · weight + bias, in float64; the same bits for a figure in any batch.

        Raises:
            InputError: This is no probe, or the features have another dimension than its head.
        """
        if self.adaptation != PROBE:
            raise InputError(must("bundle", "a probe to score features", self.adaptation, "score crops instead"))
        weight, bias = self.tensors[WEIGHT], float(self.tensors[BIAS][0])
        if features.ndim != 2 or features.shape[1] != len(weight):
            raise InputError(must("features", f"of shape (n, {len(weight)})", features.shape, "use its backbone"))
        from atypia.methods.head import linear_logits  # networks do not need it and start faster without it

        return linear_logits(features, weight, bias)

    def probabilities(self, features: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        """A probe's calibrated probability of the positive class, shape (n,), in [0, 1]; see :meth:`logits`.

        Raises:
            InputError: As :meth:`logits`, or a feature is NaN or infinite.
        """
        return self.decision.calibration.apply(self.logits(features))

    def save(self, folder: Path) -> Path:
        """Writes the bundle; the folder gets its name only when it is complete."""
        with atomic_folder(folder) as part:
            # Unlike ascontiguousarray this keeps a scalar (the count of a batch norm) without axes.
            tensors = {name: np.asarray(tensor, order="C") for name, tensor in self.stored.items()}
            (part / MODEL_FILE).write_bytes(save(tensors))
            (part / CARD_FILE).write_text(card(self), "utf-8")
            # No prediction depends on the card, so its owner may edit it.
            config = {**self.config, FINGERPRINT: self.fingerprint}
            (part / CONFIG_FILE).write_bytes(hashed_config(config, {MODEL_FILE: file_sha256(part / MODEL_FILE)}))
        return folder


def load_bundle(folder: Path) -> Bundle:
    """Reads a bundle; every file that it names is compared with its hash (:mod:`atypia.inference.bundles.integrity`).

    A bundle that was written before hashes existed is compared with its fingerprint.

    Raises:
        DataError: The folder is not a bundle, is damaged or was changed, or is of another version.
    """
    try:
        read = read_bundle(folder, (MODEL_FILE,))
        config, tensors = read.config, load(read.contents.pop(MODEL_FILE))
    except FileNotFoundError as error:
        raise DataError(
            f"{folder} is no bundle: {Path(error.filename or MODEL_FILE).name} is missing; fix: train it"
        ) from None
    except SafetensorError as error:
        raise DataError(f"{folder} is a damaged bundle ({error}); fix: train it again") from error
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror}); fix: name a bundle that you may read") from error
    if config.get("format") != FORMAT:
        raise DataError(must(f"{folder} format", str(FORMAT), config.get("format"), "update Atypia"))
    try:
        bundle = Bundle(
            name=config["name"],
            task=config["task"],
            adaptation=config["adaptation"],
            backbone=config["backbone"]["name"],
            weights_sha256=config["backbone"]["weights_sha256"],
            input_px=config["backbone"]["input_px"],
            geometry=CropGeometry(**config["geometry"]),
            tensors={name: value for name, value in tensors.items() if not name.startswith(NOVELTY_PREFIX)},
            decision=Decision.from_dict(config["decision"], tensors),
            network=config["network"],
            training=config["training"],
            field_um=config.get("field_um"),
            prepared=Preparation.from_dict(config["backbone"]),
        )
        whole = bundle.config["classes"] == config["classes"]
        whole = whole and (bool(read.names) or bundle.fingerprint == config[FINGERPRINT])
    except (
        LookupError,
        TypeError,
        AttributeError,
        ValueError,
        ArithmeticError,
    ) as error:  # an InputError is a ValueError
        raise DataError(f"{folder} is a damaged bundle: {error} is missing or wrong; fix: train it again") from error
    if not whole:
        raise DataError(f"{folder} was changed after it was written, or is damaged; fix: train it again")
    return bundle


def probe_tensors(weight: npt.NDArray[np.float64], bias: float) -> dict[str, npt.NDArray[np.float64]]:
    """The tensors of a probe's bundle."""
    return {WEIGHT: weight.astype(np.float64), BIAS: np.array([bias], dtype=np.float64)}


HOW = {
    PROBE: "a linear probe on the frozen backbone",
    "lora": "low-rank adapters in the backbone",
    "partial": "the last blocks of the backbone, tuned",
    FULL: "the whole backbone, tuned",
}


def card(bundle: Bundle) -> str:
    """The bundle's card: what it is, what it was trained on, what it must not be used for."""
    zero, one = CLASS_NAMES[bundle.task]
    lines = [
        f"# {bundle.name}",
        "",
        f"Tells *{one}* (1) from *{zero}* (0) figures in H&E crops: {HOW[bundle.adaptation]}",
        f"`{bundle.backbone}` at {bundle.input_px} px. A figure is called {one} where its probability reaches",
        f"{bundle.threshold:g}.",
        "",
        "Research use only; not a medical device.",
        "",
        "## Training",
        "",
    ]
    lines += [f"- {key}: `{canonical_json(value)}`" for key, value in sorted(bundle.training.items())]
    return "\n".join(lines) + "\n"


def check_weights(bundle: Bundle, weights_sha256: str | None) -> None:
    """Refuses other backbone weights than the bundle was made with.

    Raises:
        AbsentError: The checksums differ.
    """
    if bundle.weights_sha256 != weights_sha256:
        raise AbsentError(
            f"the weights of {bundle.backbone} here are not those that {bundle.name} was made with; "
            "fix: give the original file (--weights), or train it again"
        )
