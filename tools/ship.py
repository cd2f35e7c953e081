"""Makes a trained fold the model that ships: ``python tools/ship.py RUN/fold-1 --name atypia``.

The weights are rounded to half precision, the decision is fitted anew on the fold's validation figures with
these very weights, the network is exported beside them, and everything is written into the package.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from atypia import runs
from atypia.data.manifest import Manifest
from atypia.data.opening import open_data
from atypia.data.store import CropStore, open_store
from atypia.inference.bundle import Bundle, load_bundle
from atypia.inference.classifier import MODELS, SHIPPED
from atypia.inference.decision import Decision, fit_decision
from atypia.inference.export.onnx import export_onnx
from atypia.inference.runtimes import ONNX_FILE
from atypia.inference.torch_runtime import TorchRuntime
from atypia.splits.split import Fold, Split
from atypia.training.fit import field_um

LIMIT_MB = 25.0


def halved(bundle: Bundle) -> Bundle:
    """The bundle with its floating-point tensors in half precision."""
    tensors = {
        name: value.astype(np.float16) if value.dtype == np.float32 else value for name, value in bundle.tensors.items()
    }
    return replace(bundle, tensors=tensors)


def decided(bundle: Bundle, manifest: Manifest, store: CropStore, fold: Fold) -> Decision:
    """The decision on the fold's validation figures, which the network was not trained on."""
    rows = {name: manifest.rows_of(figures) for name, figures in (("train", fold.train), ("val", fold.val))}
    runtime = TorchRuntime(bundle)
    found = {name: runtime.run(np.ascontiguousarray(store.crops[part])) for name, part in rows.items()}
    labels = {name: manifest.take(part).labels for name, part in rows.items()}
    return fit_decision(
        found["val"][0], labels["val"], features_train=found["train"][1], labels_train=labels["train"],
        features_val=found["val"][1],
    )  # fmt: skip


def main() -> None:
    """Writes the model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", type=Path, help="a fold's run folder")
    parser.add_argument("--data", default="ami-br")
    parser.add_argument("--name", default=SHIPPED)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    manifest = open_data(asked.data)
    (fold,) = Split.load(asked.run / runs.SPLIT).folds
    bundle = replace(halved(load_bundle(asked.run / runs.BUNDLE)), name=asked.name, decision=Decision())
    bundle = replace(bundle, field_um=field_um(manifest.take(manifest.rows_of(fold.train)), bundle.geometry))
    store = open_store(manifest, bundle.geometry)
    bundle = replace(bundle, decision=decided(bundle, manifest, store, fold))
    folder = bundle.save(asked.out or MODELS / asked.name)
    exported = export_onnx(bundle, folder / ONNX_FILE)
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    if size > LIMIT_MB:
        raise SystemExit(f"{folder} has {size:.1f} MB, more than {LIMIT_MB:g}")
    sys.stdout.write(
        f"{folder}: {size:.1f} MB, threshold {bundle.threshold:.4f}; the exported network differs by "
        f"{exported.logit_difference:.1e}\n"
    )


if __name__ == "__main__":
    main()
