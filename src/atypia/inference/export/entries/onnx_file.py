"""ONNX: one file for onnxruntime and most other runtimes."""

from __future__ import annotations

from pathlib import Path

from atypia.base.artifacts import atomic_file
from atypia.base.errors import InputError, must
from atypia.inference.bundles.bundle import Bundle
from atypia.inference.export.forms import FORMS, Form, Options
from atypia.inference.export.onnx import Exported, export_onnx


def check(out: Path) -> None:
    """Refuses a file that does not end in .onnx."""
    if out.suffix != ".onnx":
        raise InputError(must("out", "a file ending in .onnx", str(out), "for instance --out model.onnx"))


def direct(bundle: Bundle, out: Path, options: Options) -> Exported:
    """Exports a bundle."""
    return export_onnx(bundle, out, options.half, options.weights_file)


def from_onnx(network: bytes, bundle: Bundle, out: Path) -> None:
    """Writes the network as it is."""
    with atomic_file(out) as file:
        file.write(network)


FORMS.add("onnx", Form("onnx", "one file for onnxruntime", check, direct, from_onnx))
