"""What every runtime does alike: an exported network's bytes, what it carries, and crops piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from atypia.base.errors import DataError, InputError, must
from atypia.base.files.structured import parse_json
from atypia.inference.bundles.bundle import FINGERPRINT, load_bundle
from atypia.inference.bundles.decision import Decision
from atypia.inference.bundles.integrity import ExportedNetwork, check_exported, read_network

Floats = npt.NDArray[np.float32]

CONFIG_KEY: Final = "atypia.config"
"""Key under which an exported network carries its bundle's configuration, as JSON text."""
TENSORS_KEY: Final = "atypia.tensors"
"""Key of the tensors that the decision needs: safetensors in base64; absent where there are none."""
BATCH: Final = 32
"""Crops that pass through a network at once."""


def opened_network(model: Path | bytes) -> ExportedNetwork:
    """An exported network's bytes, compared with its hashes; see :func:`atypia.inference.bundles.integrity.read_network`.

    Args:
        model: The file, or its bytes, which then refer to no other file.

    Raises:
        DataError: It is missing, damaged or was changed, or its bundle is.
    """
    if isinstance(model, bytes):
        where = Path("the model")
        return ExportedNetwork(where, model, {}, None, check_exported(model, where))
    network = read_network(model)
    if network.shares_weights and not network.hashed:
        load_bundle(model.parent)  # of the form before hashes: its fingerprint covers the weights
    return network


def settings(values: Mapping[str, str], network: ExportedNetwork) -> tuple[dict[str, Any], Decision]:
    """The configuration and the decision that a network carries, which must be those of the bundle beside it.

    Args:
        values: Its metadata.
        network: What :func:`opened_network` gave.

    Raises:
        DataError: It carries none, or damaged ones, or was exported from another state of the bundle.
    """
    config, decision = carried(values, network.path)
    beside = network.config
    if beside is not None and (beside.get(FINGERPRINT) != config.get(FINGERPRINT) or beside != config):
        fix = f"export the bundle again to {network.path}"
        raise DataError(f"{network.path} was exported from another state of the bundle beside it; fix: {fix}")
    return config, decision


def carried(values: Mapping[str, str], where: Path | str) -> tuple[dict[str, Any], Decision]:
    """Reads the configuration and the decision that an exported network carries.

    Args:
        values: Metadata of the file.
        where: The file, for messages.

    Raises:
        DataError: It carries none, or damaged ones.
    """
    from base64 import b64decode

    from safetensors import SafetensorError
    from safetensors.numpy import load

    if CONFIG_KEY not in values:
        raise DataError(f"{where} was not exported by Atypia: it carries no configuration; fix: `atypia export`")
    try:
        config = parse_json(values[CONFIG_KEY], CONFIG_KEY)
        tensors = load(b64decode(values[TENSORS_KEY], validate=True)) if TENSORS_KEY in values else {}
        return config, Decision.from_dict(config["decision"], tensors)
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        SafetensorError,
    ) as error:  # an InputError is a ValueError
        raise DataError(f"{where} is damaged ({error}); fix: export it again") from error


def in_batches(
    crops: npt.NDArray[np.uint8],
    side_px: int,
    feature_dim: int,
    score: Callable[[npt.NDArray[np.uint8]], tuple[npt.NDArray[Any], npt.NDArray[Any]]],
    batch: int = BATCH,
    workers: Executor | None = None,
) -> tuple[Floats, Floats]:
    """Checks crops and scores them piece by piece, so that memory does not grow with their number.

    Args:
        crops: As :meth:`atypia.inference.runtimes.catalogue.Runtime.run` takes them.
        side_px: Their side.
        feature_dim: Length of a feature vector.
        score: From a piece, contiguous, to its logits and features.
        batch: Crops in a piece.
        workers: What scores pieces at the same time; None: one after the other.

    Raises:
        InputError: The crops have another shape or type.
    """
    if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:] != (side_px, side_px, 3):
        expected = f"of shape (b, {side_px}, {side_px}, 3), uint8"
        raise InputError(must("crops", expected, f"{crops.shape} {crops.dtype}", "cut RGB crops of that side"))
    logits = np.empty(len(crops), np.float32)
    features = np.empty((len(crops), feature_dim), np.float32)

    def fill(start: int) -> None:
        piece = slice(start, start + batch)
        logits[piece], features[piece] = score(np.ascontiguousarray(crops[piece]))

    starts = range(0, len(crops), batch)
    for _ in map(fill, starts) if workers is None or len(starts) < 2 else workers.map(fill, starts):
        pass  # raises what a piece raised
    return logits, features
