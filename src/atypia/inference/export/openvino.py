"""Export to OpenVINO's own form (IR): ``model.xml`` and ``model.bin`` in a folder."""

from __future__ import annotations

import tempfile
from pathlib import Path

from atypia.base.artifacts import atomic_folder
from atypia.base.errors import InputError, first_of, must
from atypia.inference.bundles.bundle import Bundle
from atypia.inference.bundles.integrity import BIN_FILE, sealed_xml
from atypia.inference.export.onnx import Exported, check_differences, halve_weights, require_export, serialised, trace
from atypia.inference.runtimes.catalogue import IR_FILE


def export_openvino(bundle: Bundle, folder: Path, half: bool = False, weights_file: Path | None = None) -> Exported:
    """Writes a bundle's network as an OpenVINO model, after it has agreed with torch.

    Args:
        bundle: Of any adaptation; adapters are merged.
        folder: Folder to write; an earlier export there is replaced.
        half: Store the weights in half precision; computed in single precision nevertheless.
        weights_file: A file of the user with the backbone's weights.

    Raises:
        InputError: The folder holds something else, or the network is too large for one ONNX file.
        AbsentError: The backbone's weights, or packages of the extra ``export``, are not on this machine.
        WorkError: The model gives other numbers than torch.
    """
    from atypia.inference.runtimes.openvino_runtime import OpenVinoRuntime

    require_export("openvino")
    check_replaceable(folder, (IR_FILE, BIN_FILE))
    traced = trace(bundle, weights_file, half)
    if half:
        halve_weights(traced.model)
    with atomic_folder(folder) as part:
        save_ir(serialised(traced.model), part)
        differences = check_differences(traced, OpenVinoRuntime(part / IR_FILE).run, half)
    return Exported(folder, folder_bytes(folder), *differences)


def save_ir(model: bytes, folder: Path) -> None:
    """Converts an ONNX network that carries its configuration, and writes it into an existing folder.

    Args:
        model: The ONNX file's bytes.
        folder: Where ``model.xml`` and ``model.bin`` go.
    """
    import openvino

    from atypia.inference.runtimes.openvino_runtime import metadata

    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary) / "model.onnx"
        source.write_bytes(model)
        read = openvino.Core().read_model(source)
        for key, value in metadata(read).items():
            read.set_rt_info(value, [key])
        # Its own compression to half precision would take the preprocessing too, and such a model does not open.
        openvino.save_model(read, folder / IR_FILE, compress_to_fp16=False)
    network = folder / IR_FILE
    network.write_bytes(sealed_xml(network.read_bytes(), (folder / BIN_FILE).read_bytes()))


def check_replaceable(folder: Path, names: tuple[str, ...]) -> None:
    """Refuses to replace a folder that holds anything but an earlier export.

    Args:
        folder: The folder that is to be written.
        names: What an export writes into it.

    Raises:
        InputError: It is a file, or holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(must("out", "a folder", f"the file {folder}", "choose another name"))
    others = sorted(path.name for path in folder.iterdir() if path.name not in names) if folder.is_dir() else []
    if others:
        got = f"{folder}, which holds {first_of(others)}"
        raise InputError(must("out", "a new or empty folder, or an earlier export's", got, "choose another folder"))


def folder_bytes(folder: Path) -> int:
    """Size of the files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
