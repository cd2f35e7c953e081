"""Makes a bundle one of the models that ship: ``python tools/ship.py runs/averaged``; ``make model`` calls it.

Writes it into the package by :func:`atypia.inference.export.compact.save_compact` and compares both its forms with the
trained network. The decision is the one that the training fitted.

``python tools/ship.py --hashes`` writes nothing but the hashes of the model's files, into its ``config.json``: after its
card was written, or for a model of the form before hashes. What can be checked of it is checked first.

``python tools/ship.py --graph`` writes the model's exported network anew from its own weights, and the hashes: after the
export has become faster. It says by how much answers differ from those of the network that was there.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atypia.base import runs
from atypia.base.errors import AtypiaError
from atypia.data.crops.store import open_store
from atypia.data.sources.opening import open_data
from atypia.inference.bundles.bundle import load_bundle
from atypia.inference.bundles.integrity import CONFIG_FILE, CONFIG_SHA256, FILES, write_hashes
from atypia.inference.classifier import MODELS, SHIPPED
from atypia.inference.export.compact import export_beside, save_compact
from atypia.inference.runtimes.catalogue import ONNX_FILE
from atypia.inference.runtimes.onnx_runtime import OnnxRuntime
from atypia.inference.runtimes.torch_runtime import TorchRuntime

LIMIT_MB = 25.0
COMPARED = 256
"""Crops on which the rounded weights are compared with the trained ones."""


def main() -> None:
    """Writes the model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", type=Path, nargs="?", help="a bundle's folder, or a fold's run folder")
    parser.add_argument("--hashes", action="store_true", help="only write the hashes of the model that is there")
    parser.add_argument("--graph", action="store_true", help="only export the model that is there again")
    parser.add_argument("--data", default="ami-br")
    parser.add_argument("--name", default=SHIPPED)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    if sum((asked.hashes, asked.graph, asked.run is not None)) != 1:
        raise SystemExit("give a run folder, or --hashes or --graph alone")
    if asked.hashes:
        hash_again(asked.out or MODELS / asked.name)
        return
    if asked.graph:
        export_again(asked.out or MODELS / asked.name, asked.data)
        return
    inside = asked.run / runs.BUNDLE
    trained = load_bundle(inside if inside.is_dir() else asked.run)
    if trained.decision.novelty is None:
        raise SystemExit(f"{asked.run} has no fitted decision; fix: train it by a recipe with a `decision` section")
    folder = asked.out or MODELS / asked.name
    bundle = save_compact(trained, folder, asked.name)

    manifest = open_data(asked.data)
    store = open_store(manifest, bundle.geometry)
    crops = np.ascontiguousarray(store.crops[np.flatnonzero(store.usable)[:COMPARED]])
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


def hash_again(folder: Path) -> None:
    """Writes a model's hashes again, where its fingerprint is right and its exported form is of the same bundle."""
    path = folder / CONFIG_FILE
    before = path.read_bytes()
    kept = {key: value for key, value in json.loads(before).items() if key not in (FILES, CONFIG_SHA256)}
    try:
        # Without hashes the fingerprint of the configuration and the weights is what is compared.
        path.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n", "utf-8")
        load_bundle(folder)
        OnnxRuntime(folder / ONNX_FILE)
    except AtypiaError:
        path.write_bytes(before)
        raise
    write_hashes(folder)
    load_bundle(folder)
    sys.stdout.write(path.read_text("utf-8"))


def export_again(folder: Path, data: str) -> None:
    """Writes a model's exported network again from its weights."""
    bundle = load_bundle(folder)
    manifest = open_data(data)
    store = open_store(manifest, bundle.geometry)
    crops = np.ascontiguousarray(store.crops[np.flatnonzero(store.usable)[:COMPARED]])
    before = OnnxRuntime(folder / ONNX_FILE)
    export_beside(bundle, folder)
    after = OnnxRuntime(folder / ONNX_FILE)
    (old, _), (new, _) = before.run(crops), after.run(crops)
    p, q = (bundle.decision.apply(logits).p for logits in (old, new))
    moved = np.abs(p - q)
    sys.stdout.write(
        f"{folder}: on {len(crops)} crops of {data} probabilities differ by {np.median(moved):.1e} at the median and "
        f"{moved.max():.1e} at most, logits by {_rms(new - old):.1e} (root mean square); "
        f"{int(np.sum((p >= bundle.threshold) != (q >= bundle.threshold)))} decisions differ\n"
    )


def _rms(values: npt.NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(values.astype(np.float64) ** 2)))


if __name__ == "__main__":
    main()
