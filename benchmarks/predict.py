"""Prediction speed and memory: `atypia predict` from PNG files, against a plain loop with the same weights.

Two classifiers: the one that ships (a ViT-S/14 at 98 px in 8-bit integers), and an EfficientNet-Lite0 at 128 px
with random weights, which take as long as trained ones. Measured alternately in one run:

- *predict*: what the command does from PNG files to a CSV;
- *network*: the exported network alone on ready crops: what is left is the share outside it;
- *plain*: the usual script: Pillow, torchvision transforms, torch eager, batches of 32.

Then the time from the start of the command to the first answer of the one that ships, and the peak memory for one
crop and for many by a tiny network.

Predicted before the first run: predict/plain 3 to 4 (half from the fused graph without batch norms, the
rest from decoding in threads), 10 % outside the network, first answer 1.5 s, memory within 30 MiB; for the model that
ships 2.7 (integers give 2.5 of it) and 8 % outside. Predicted before its graph was made leaner: 1.14 times as fast in the network's
operators, 1.06 by the class token's last block, so 2.9 to 3.0 times the plain loop; found 1.15 in all (``docs/results/speed.md``).
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from atypia.backbones.catalogue import BACKBONES
from atypia.data.images.geometry import CropGeometry
from atypia.data.manifest import Manifest
from atypia.inference.bundles.bundle import FULL, Bundle
from atypia.inference.bundles.decision import Decision
from atypia.inference.classifier import SHIPPED, find_model
from atypia.methods.network import Network, NetworkSpec, build_network
from benchmarks.measuring import turns
from benchmarks.training import data

BACKBONE, SIDE, VIEW = "efficientnet-lite0", 128, 0.6
CROPS, ROUNDS = 512, 5
MANY, MANY_FILES = 100_000, 500
PEAK = """
import sys
from atypia.cli.main import main
from benchmarks.measuring.memory import status_kib
sys.argv = ["atypia", *sys.argv[1:]]
try:
    main()
except SystemExit:
    pass
sys.stderr.write(f"peak_kib {status_kib('VmHWM')}")
"""


def made_bundle(folder: Path, backbone: str = BACKBONE) -> Path:
    """A bundle with random weights, and its exported network beside it."""
    from atypia.inference.export.onnx import export_onnx
    from atypia.inference.runtimes.catalogue import ONNX_FILE

    spec = NetworkSpec(backbone, SIDE, FULL, view=VIEW)
    torch.manual_seed(0)
    network = build_network(spec, pretrained=False)
    tensors = {name: value.numpy() for name, value in network.trained_state().items()}
    made = Bundle("benchmark", "atypical", FULL, backbone, None, SIDE, CropGeometry(), tensors, Decision(),
                  network=spec.as_dict(), field_um=32.0)  # fmt: skip
    made.save(folder)
    export_onnx(made, folder / ONNX_FILE)
    return folder


def predict_files(model: Path, files: list[Path], out: Path) -> Callable[[], None]:
    """What the command does, in this process."""
    from atypia.inference.classifier import Classifier
    from atypia.inference.requests import Request
    from atypia.workflows.predict import predict_request

    classifier = Classifier.load(model)
    request = Request(tuple(str(file) for file in files))
    return lambda: (predict_request(request, classifier, results=(out,)), None)[1]


def network_alone(model: Path) -> Callable[[], None]:
    """The exported network on ready crops."""
    from atypia.inference.runtimes.catalogue import open_runtime

    runtime = open_runtime(model)
    crops = np.random.default_rng(0).integers(0, 256, (CROPS, SIDE, SIDE, 3), dtype=np.uint8)

    def run() -> None:
        for start in range(0, CROPS, 64):
            runtime.run(crops[start : start + 64])

    return run


def plain_loop(model: Path, files: list[Path]) -> Callable[[], None]:
    """The usual script with the same weights."""
    from PIL import Image
    from torchvision import transforms as tv

    from atypia.inference.bundles.bundle import load_bundle
    from atypia.inference.networks import load_network

    bundle = load_bundle(model)
    network: Network = load_network(bundle)
    entry, side = BACKBONES[bundle.backbone], bundle.input_px
    seen = round(bundle.geometry.out_px * network.spec.view / 2) * 2
    steps: Any = tv.Compose(
        [tv.CenterCrop(seen), tv.Resize((side, side)), tv.ToTensor(), tv.Normalize(entry.mean, entry.std)]
    )

    def run() -> None:
        with torch.no_grad():
            for start in range(0, len(files), 32):
                batch = torch.stack([steps(Image.open(file).convert("RGB")) for file in files[start : start + 32]])
                torch.sigmoid(network(batch).logits).tolist()

    return run


def command(*arguments: str) -> tuple[float, float]:
    """Seconds and peak MiB of the command in a process of its own."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", PEAK, *arguments], capture_output=True, text=True, check=True)
    return time.perf_counter() - started, int(done.stderr.rsplit("peak_kib ", 1)[1]) / 1024


def png_files(manifest: Manifest, count: int) -> list[Path]:
    """The first crops of a set."""
    assert manifest.root is not None
    return [manifest.root / image for image in manifest.table["image"].to_pylist()[:count]]


def compared(model: Path, files: list[Path], folder: Path) -> dict[str, Any]:
    """Crops per second, and the ratios, of one classifier."""
    tasks = {
        "predict": predict_files(model, files, folder / "out.csv"),
        "network": network_alone(model),
        "plain": plain_loop(model, files),
    }
    times = turns.in_turns(tasks, ROUNDS)
    s = turns.medians(times)
    return {
        "crops_per_s": round(len(files) / s["predict"]),
        "plain_to_predict": round(s["plain"] / s["predict"], 2),
        "outside_network": round(1 - s["network"] / s["predict"], 3),
        "pairs": {
            "a plain loop": turns.pairs(times["plain"], times["predict"]),
            "its network alone": turns.pairs(times["network"], times["predict"]),
        },
    }


def measure() -> dict[str, Any]:
    """Crops per second, ratios, seconds to the first answer, peak memory."""
    files = png_files(data(), CROPS)
    shipped = find_model(SHIPPED)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        models = {"shipped": shipped, BACKBONE: made_bundle(folder / "model")}
        found: dict[str, Any] = {name: compared(model, files, folder) for name, model in models.items()}
        kept = {
            f"predict: {name}, against {other}": values
            for name, one in found.items()
            for other, values in one.pop("pairs").items()
        }
        first = [command("predict", str(files[0]), "--out", f"{folder}/1.csv")[0] for _ in range(5)]
        small = made_bundle(folder / "small", "tiny-cnn")
        many = folder / "many"
        many.mkdir()
        for i in range(MANY):
            os.link(_copied(files[i % MANY_FILES], folder), many / f"{i:06}.png")
        _, one_mib = command("predict", str(files[0]), "--model", str(small), "--out", f"{folder}/1.csv")
        seconds, many_mib = command("predict", str(many), "--model", str(small), "--out", f"{folder}/many.csv")
    return {
        **found,
        "pairs": kept,
        "first_answer_s": round(statistics.median(first), 2),
        "peak_mib_1_crop": round(one_mib),
        f"peak_mib_{MANY}_crops": round(many_mib),
        f"seconds_{MANY}_crops_tiny_network": round(seconds),
    }


def _copied(file: Path, folder: Path) -> Path:
    """A copy beside the links: a link cannot cross file systems."""
    copy = folder / f"source-{file.name}"
    if not copy.exists():
        copy.write_bytes(file.read_bytes())
    return copy
