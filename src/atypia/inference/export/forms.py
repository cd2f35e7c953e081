"""The forms that a bundle can be exported to, found by name."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from atypia.base.artifacts import atomic_file, atomic_folder
from atypia.base.errors import InputError, must
from atypia.base.registry import Registry
from atypia.inference.bundles.bundle import Bundle, load_bundle
from atypia.inference.bundles.integrity import BIN_FILE, hashed_names
from atypia.inference.classifier import MODELS
from atypia.inference.export.challenge import replaceable, write_challenge
from atypia.inference.export.onnx import Exported, export_onnx, require_export
from atypia.inference.export.openvino import check_replaceable, export_openvino, folder_bytes, save_ir
from atypia.inference.export.quantise import Loss, Method, calibrate_and_quantise
from atypia.inference.runtimes.catalogue import IR_FILE


@dataclass(frozen=True)
class Options:
    """How a bundle is exported.

    Attributes:
        half: Store the weights in half precision.
        int8: Quantise to 8-bit integers.
        calibrate: Labelled data for that, as :func:`atypia.data.sources.opening.open_data` takes them.
        weights_file: The backbone's weights, where they are in a file of the user's.
        root: Data root; None for the user's setting.
    """

    half: bool = False
    int8: bool = False
    calibrate: str | None = None
    weights_file: Path | None = None
    root: Path | None = None


@dataclass(frozen=True)
class Report:
    """What was exported.

    Attributes:
        form: Key in :data:`FORMS`.
        exported: Where it is, its size, and how far the network was from torch; for int8, before quantisation.
        method: How it was quantised; None where it was not.
        loss: What that costs; None where it was not.
    """

    form: str
    exported: Exported
    method: Method | None = None
    loss: Loss | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; NaN, where the data lack a class, becomes null."""
        loss = None
        if self.loss is not None:
            values = {**asdict(self.loss), "balanced_accuracy_lost": self.loss.lost}
            loss = {key: None if value != value else value for key, value in values.items()}
        return {
            "to": self.form,
            **asdict(self.exported),
            "path": str(self.exported.path),
            "quantised": self.method,
            "loss": loss,
        }


@dataclass(frozen=True)
class Form:
    """A form of a deployed classifier.

    Attributes:
        name: Key in :data:`FORMS`.
        check: Refuses an output that cannot be written, before any work.
        direct: Writes it from a bundle.
        from_onnx: Writes it from the bytes of an ONNX network that carries its configuration.
    """

    name: str
    check: Callable[[Path], None]
    direct: Callable[[Bundle, Path, Options], Exported]
    from_onnx: Callable[[bytes, Bundle, Path], None]


def _check_onnx(out: Path) -> None:
    if out.suffix != ".onnx":
        raise InputError(must("out", "a file ending in .onnx", str(out), "for instance --out model.onnx"))


def _write_onnx(network: bytes, bundle: Bundle, out: Path) -> None:
    with atomic_file(out) as file:
        file.write(network)


def _check_openvino(out: Path) -> None:
    check_replaceable(out, (IR_FILE, BIN_FILE))


def _write_openvino(network: bytes, bundle: Bundle, out: Path) -> None:
    require_export("openvino")
    with atomic_folder(out) as part:
        save_ir(network, part)


def _check_challenge(out: Path) -> None:
    check_replaceable(out, replaceable(out))


def _write_challenge(network: bytes, bundle: Bundle, out: Path) -> None:
    write_challenge(network, bundle.name, bundle.threshold, out)


def _export_challenge(bundle: Bundle, out: Path, options: Options) -> Exported:
    with tempfile.TemporaryDirectory() as temporary:
        network = Path(temporary) / "model.onnx"
        exported = export_onnx(bundle, network, options.half, options.weights_file)
        _write_challenge(network.read_bytes(), bundle, out)
    return Exported(out, folder_bytes(out), exported.logit_difference, exported.feature_difference)


FORMS = Registry[Form]("form of export", plugins="exports")
for _form in (
    Form("onnx", _check_onnx, lambda b, out, o: export_onnx(b, out, o.half, o.weights_file), _write_onnx),
    Form(
        "openvino", _check_openvino, lambda b, out, o: export_openvino(b, out, o.half, o.weights_file), _write_openvino
    ),
    Form("challenge", _check_challenge, _export_challenge, _write_challenge),
):
    FORMS.add(_form.name, _form)


def _check_apart(folder: Path, out: Path) -> None:
    """Refuses to write into a model that ships, or over a file that a bundle's hashes name."""
    inside = out.resolve().parent == folder.resolve() or out.resolve() == folder.resolve()
    if inside and (folder.resolve().parent == MODELS or out.name in hashed_names(folder)):
        raise InputError(must("out", "outside the model that is exported", str(out), "choose another place"))


def export(folder: Path, form: str, out: Path, options: Options = Options()) -> Report:
    """Exports a bundle.

    Args:
        folder: The bundle's folder.
        form: Key in :data:`FORMS`.
        out: File (``onnx``) or folder to write.
        options: How.

    Raises:
        InputError: No such form, options that exclude each other, an output that cannot be written, data of
            another task.
        DataError: The folder is no bundle.
        AbsentError: The backbone's weights, the data, or packages of the extra ``export`` are not here.
        WorkError: The exported network gives other numbers than torch.
    """
    chosen = FORMS[form]
    if options.int8 and options.half:
        raise InputError(must("--int8", "given without --half", "both", "choose one"))
    if options.int8 != (options.calibrate is not None):
        given = "--int8" if options.int8 else "--calibrate"
        raise InputError(must(given, "given with the other", "alone", "give --int8 --calibrate DATA, or neither"))
    chosen.check(out)
    _check_apart(folder, out)
    bundle = load_bundle(folder)
    if not options.int8:
        return Report(form, chosen.direct(bundle, out, options))
    assert options.calibrate is not None
    with tempfile.TemporaryDirectory() as temporary:
        single, quantised = Path(temporary) / "single.onnx", Path(temporary) / "quantised.onnx"
        exported = export_onnx(bundle, single, weights_file=options.weights_file)
        method, loss = calibrate_and_quantise(bundle, options.calibrate, single, quantised, options.root)
        chosen.from_onnx(quantised.read_bytes(), bundle, out)
    size = out.stat().st_size if out.is_file() else folder_bytes(out)
    return Report(form, Exported(out, size, exported.logit_difference, exported.feature_difference), method, loss)
