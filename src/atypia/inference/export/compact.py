"""A classifier in its smallest form: adapters merged, weights rounded, bundle and exported network in one folder.

A transformer's matrices are stored in 8-bit integers, once: the exported network computes with them and reads them from
the bundle's file. Other networks are stored in half precision and exported in single.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atypia.base.artifacts import atomic_file
from atypia.inference.bundles.bundle import FULL, MODEL_FILE, Bundle
from atypia.inference.bundles.integrity import write_hashes
from atypia.inference.bundles.packing import INTEGERS, SCALE, pack
from atypia.inference.export.onnx import export_onnx, serialised
from atypia.inference.export.quantise import quantise_onnx
from atypia.inference.export.rows import share
from atypia.inference.networks import load_network
from atypia.inference.runtimes.catalogue import ONNX_FILE
from atypia.methods.network import build_network


def whole(bundle: Bundle) -> Bundle:
    """A network's bundle with all weights of its network, adapters merged: it needs no other file."""
    merged = load_network(bundle)
    spec = replace(merged.spec, adaptation=FULL, lora_rank=0)
    names = build_network(spec, pretrained=False).trained_names
    tensors = {name: value.numpy() for name, value in merged.state_dict().items() if name in names}
    return replace(bundle, adaptation=FULL, weights_sha256=None, network=spec.as_dict(), tensors=tensors)


def _halved(tensors: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Tensors with those in single precision, but for scales of integers, in half."""
    half = {name: value.dtype == np.float32 and not name.endswith(SCALE) for name, value in tensors.items()}
    return {name: value.astype(np.float16) if half[name] else value for name, value in tensors.items()}


def save_compact(trained: Bundle, folder: Path, name: str) -> Bundle:
    """Writes a network's bundle and its exported form into a folder, as small as possible.

    Args:
        trained: Not a probe; its backbone's weights must be on this machine if it needs them.
        folder: Gets the bundle and ``model.onnx``.
        name: The new bundle's.

    Returns:
        The bundle as it is stored: it needs no other file, and its weights are rounded.

    Raises:
        InputError: The bundle is a probe.
        AbsentError: The backbone's weights, or packages of the extra ``export``, are not on this machine.
        WorkError: The exported graph gives other numbers than torch before its products are rounded.
    """
    bundle = whole(trained)
    bundle = replace(bundle, name=name, tensors=_halved(pack(bundle.tensors)))
    bundle.save(folder)
    export_beside(bundle, folder)
    return bundle


def export_beside(bundle: Bundle, folder: Path) -> None:
    """Writes the exported form of a compact bundle into its folder, and the hashes of all files.

    Args:
        bundle: As :func:`save_compact` stored it.
        folder: Where it is.

    Raises:
        AbsentError: Packages of the extra ``export`` are not on this machine.
        WorkError: As :func:`save_compact`.
    """
    import onnx

    is_packed = any(name.endswith(INTEGERS) for name in bundle.tensors)
    with tempfile.TemporaryDirectory() as temporary:
        single = Path(temporary) / ONNX_FILE
        export_onnx(bundle, single)
        if is_packed:
            quantise_onnx(single, single)
        model = onnx.load(single)
        if is_packed:
            share(model, folder / MODEL_FILE)
        with atomic_file(folder / ONNX_FILE) as file:
            file.write(serialised(model))
    write_hashes(folder)
