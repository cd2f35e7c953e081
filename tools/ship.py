"""Makes a trained fold the model that ships: ``python tools/ship.py runs/final/all``; ``make model`` calls it.

Adapters are merged into the weights. A transformer's matrices are stored in 8-bit integers, once for both forms: the
exported network beside the bundle computes with them and reads them from the bundle's file. Other networks are stored
in half precision and exported in single. Both forms are compared with the trained network, and everything is written
into the package. The decision is the one that the training fitted.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from atypia import runs
from atypia.data.opening import open_data
from atypia.data.store import open_store
from atypia.inference.bundle import FULL, MODEL_FILE, Bundle, load_bundle
from atypia.inference.classifier import MODELS, SHIPPED
from atypia.inference.export.onnx import export_onnx
from atypia.inference.export.quantise import quantise_onnx
from atypia.inference.export.rows import share
from atypia.inference.networks import load_network
from atypia.inference.onnx_runtime import OnnxRuntime
from atypia.inference.packing import pack
from atypia.inference.runtimes import ONNX_FILE
from atypia.inference.torch_runtime import TorchRuntime
from atypia.methods.network import build_network
from atypia.splits.split import Split

LIMIT_MB = 25.0
COMPARED = 256
"""Training crops on which the rounded weights are compared with the trained ones."""


def whole(bundle: Bundle) -> Bundle:
    """The bundle with all weights of its network, adapters merged: it stands on no other file."""
    merged = load_network(bundle)
    spec = replace(merged.spec, adaptation=FULL, lora_rank=0)
    names = build_network(spec, pretrained=False).trained_names
    tensors = {name: value.numpy() for name, value in merged.state_dict().items() if name in names}
    return replace(bundle, adaptation=FULL, weights_sha256=None, network=spec.as_dict(), tensors=tensors)


def halved(tensors: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Tensors with those in single precision, but for scales of integers, in half."""
    half = {name: value.dtype == np.float32 and not name.endswith(".scale") for name, value in tensors.items()}
    return {name: value.astype(np.float16) if half[name] else value for name, value in tensors.items()}


def ship(trained: Bundle, folder: Path, name: str) -> Bundle:
    """Writes both forms of a classifier into a folder."""
    bundle = whole(trained)
    packed = pack(bundle.tensors)
    is_packed = len(packed) > len(bundle.tensors)
    bundle = replace(bundle, name=name, tensors=halved(packed))
    bundle.save(folder)
    with tempfile.TemporaryDirectory() as temporary:
        single = Path(temporary) / ONNX_FILE
        export_onnx(bundle, single)
        if is_packed:
            quantise_onnx(single, single)
        model = onnx.load(single)
        if is_packed:
            share(model, folder / MODEL_FILE)
        (folder / ONNX_FILE).write_bytes(model.SerializeToString())
    return bundle


def main() -> None:
    """Writes the model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", type=Path, help="a fold's run folder")
    parser.add_argument("--data", default="ami-br")
    parser.add_argument("--name", default=SHIPPED)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    trained = load_bundle(asked.run / runs.BUNDLE)
    if trained.decision.novelty is None:
        raise SystemExit(f"{asked.run} has no fitted decision; fix: train it by a recipe with a `decision` section")
    folder = asked.out or MODELS / asked.name
    bundle = ship(trained, folder, asked.name)

    manifest = open_data(asked.data)
    (fold,) = Split.load(asked.run / runs.SPLIT).folds
    rows = manifest.rows_of(fold.train)[:COMPARED]
    crops = np.ascontiguousarray(open_store(manifest, bundle.geometry).crops[rows])
    exact = TorchRuntime(trained).run(crops)[0]
    stored, exported = TorchRuntime(bundle).run(crops)[0], OnnxRuntime(folder / ONNX_FILE).run(crops)[0]
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    if size > LIMIT_MB:
        raise SystemExit(f"{folder} has {size:.1f} MB, more than {LIMIT_MB:g}")
    sys.stdout.write(
        f"{folder}: {size:.1f} MB, threshold {bundle.threshold:.4f}\nroot mean square difference from the trained "
        f"weights' logits, of standard deviation {exact.std():.2f}: stored {_rms(stored - exact):.1e}, "
        f"exported {_rms(exported - exact):.1e}\n"
    )


def _rms(values: npt.NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(values.astype(np.float64) ** 2)))


if __name__ == "__main__":
    main()
