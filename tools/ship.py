"""Makes a trained fold the model that ships: ``python tools/ship.py runs/final/all``; ``make model`` calls it.

The weights are rounded to half precision, the network is exported beside them, both are compared with the
trained ones, and everything is written into the package. The decision is the one that the training fitted.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from atypia import runs
from atypia.data.opening import open_data
from atypia.data.store import open_store
from atypia.inference.bundle import Bundle, load_bundle
from atypia.inference.classifier import MODELS, SHIPPED
from atypia.inference.export.onnx import export_onnx
from atypia.inference.onnx_runtime import OnnxRuntime
from atypia.inference.runtimes import ONNX_FILE
from atypia.inference.torch_runtime import TorchRuntime
from atypia.splits.split import Split

LIMIT_MB = 25.0
COMPARED = 256
"""Training crops on which the rounded weights are compared with the trained ones."""


def halved(bundle: Bundle) -> Bundle:
    """The bundle with its floating-point tensors in half precision."""
    tensors = {
        name: value.astype(np.float16) if value.dtype == np.float32 else value for name, value in bundle.tensors.items()
    }
    return replace(bundle, tensors=tensors)


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
    bundle = replace(halved(trained), name=asked.name)
    folder = bundle.save(asked.out or MODELS / asked.name)
    exported = export_onnx(bundle, folder / ONNX_FILE)

    manifest = open_data(asked.data)
    (fold,) = Split.load(asked.run / runs.SPLIT).folds
    rows = manifest.rows_of(fold.train)[:COMPARED]
    crops = np.ascontiguousarray(open_store(manifest, bundle.geometry).crops[rows])
    before, after = TorchRuntime(trained), OnnxRuntime(folder / ONNX_FILE)
    difference = float(np.abs(before.run(crops)[0] - after.run(crops)[0]).max())
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    if size > LIMIT_MB:
        raise SystemExit(f"{folder} has {size:.1f} MB, more than {LIMIT_MB:g}")
    sys.stdout.write(
        f"{folder}: {size:.1f} MB, threshold {bundle.threshold:.4f}; logits differ by {difference:.1e} from the trained "
        f"weights', of which {exported.logit_difference:.1e} is the export\n"
    )


if __name__ == "__main__":
    main()
