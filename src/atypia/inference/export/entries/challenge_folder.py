"""The container of MIDOG 2025, track 2: a folder that Docker builds."""

from __future__ import annotations

import tempfile
from pathlib import Path

from atypia.inference.bundles.bundle import Bundle
from atypia.inference.export.challenge import replaceable, write_challenge
from atypia.inference.export.forms import FORMS, Form, Options
from atypia.inference.export.onnx import Exported, export_onnx
from atypia.inference.export.openvino import check_replaceable, folder_bytes


def check(out: Path) -> None:
    """Refuses a folder that holds something else."""
    check_replaceable(out, replaceable(out))


def direct(bundle: Bundle, out: Path, options: Options) -> Exported:
    """Exports a bundle."""
    with tempfile.TemporaryDirectory() as temporary:
        network = Path(temporary) / "model.onnx"
        exported = export_onnx(bundle, network, options.half, options.weights_file)
        from_onnx(network.read_bytes(), bundle, out)
    return Exported(out, folder_bytes(out), exported.logit_difference, exported.feature_difference)


def from_onnx(network: bytes, bundle: Bundle, out: Path) -> None:
    """Puts an ONNX network into a container."""
    write_challenge(network, bundle.name, bundle.threshold, out)


FORMS.add("challenge", Form("challenge", "a container for MIDOG 2025, track 2", check, direct, from_onnx))
