"""OpenVINO: a folder with a network and its weights."""

from __future__ import annotations

from pathlib import Path

from atypia.base.artifacts import atomic_folder
from atypia.inference.bundles.bundle import Bundle
from atypia.inference.bundles.integrity import BIN_FILE
from atypia.inference.export.forms import FORMS, Form, Options
from atypia.inference.export.onnx import Exported, require_export
from atypia.inference.export.openvino import check_replaceable, export_openvino, save_ir
from atypia.inference.runtimes.catalogue import IR_FILE


def check(out: Path) -> None:
    """Refuses a folder that holds something else."""
    check_replaceable(out, (IR_FILE, BIN_FILE))


def direct(bundle: Bundle, out: Path, options: Options) -> Exported:
    """Exports a bundle."""
    return export_openvino(bundle, out, options.half, options.weights_file)


def from_onnx(network: bytes, bundle: Bundle, out: Path) -> None:
    """Converts an ONNX network."""
    require_export("openvino")
    with atomic_folder(out) as part:
        save_ir(network, part)


FORMS.add("openvino", Form("openvino", "a folder for OpenVINO", check, direct, from_onnx))
