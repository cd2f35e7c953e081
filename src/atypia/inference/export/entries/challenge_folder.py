"""The container of MIDOG 2025, track 2: a folder that Docker builds."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from atypia.inference.bundles.bundle import Bundle
from atypia.inference.bundles.integrity import CONFIG_FILE, hashed_names
from atypia.inference.classifier import Classifier
from atypia.inference.export.challenge import replaceable, write_challenge
from atypia.inference.export.forms import FORMS, Form, Options
from atypia.inference.export.onnx import Exported, differences_from_torch, export_onnx
from atypia.inference.export.openvino import check_replaceable, folder_bytes
from atypia.inference.runtimes.catalogue import ONNX_FILE, open_runtime


def check(out: Path) -> None:
    """Refuses a folder that holds something else."""
    check_replaceable(out, replaceable(out))


def direct(bundle: Bundle, out: Path, options: Options) -> Exported:
    """Exports a bundle."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        exported = export_onnx(bundle, folder / ONNX_FILE, options.half, options.weights_file)
        write_challenge(folder, bundle.name, bundle.threshold, out)
    return Exported(out, folder_bytes(out), exported.logit_difference, exported.feature_difference)


def stored(source: Path, bundle: Bundle, out: Path) -> Exported:
    """Puts a bundle into a container as it is, with its network in 8-bit integers: the answers of `atypia predict`."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        folder.mkdir()
        for name in (CONFIG_FILE, *sorted(hashed_names(source))):
            shutil.copyfile(source / name, folder / name)
        differences = differences_from_torch(bundle, open_runtime(folder, "onnx").run)
        write_challenge(folder, bundle.name, bundle.threshold, out)
    return Exported(out, folder_bytes(out), *differences)


def several(bundles: Mapping[str, Bundle], name: str, out: Path, options: Options) -> Exported:
    """Exports the folds of a training, whose probabilities and thresholds the container averages."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        done = [
            export_onnx(bundle, folder / fold / ONNX_FILE, options.half, options.weights_file)
            for fold, bundle in bundles.items()
        ]
        classifier = Classifier.load([folder / fold for fold in bundles])  # refuses folds that see other fields
        write_challenge(folder, name, classifier.threshold, out, list(bundles))
    differences = [[one.logit_difference for one in done], [one.feature_difference for one in done]]
    return Exported(out, folder_bytes(out), *map(max, differences))


def from_onnx(network: bytes, bundle: Bundle, out: Path) -> None:
    """Puts an ONNX network into a container."""
    write_challenge(network, bundle.name, bundle.threshold, out)


FORMS.add(
    "challenge", Form("challenge", "a container for MIDOG 2025, track 2", check, direct, from_onnx, several, stored)
)
