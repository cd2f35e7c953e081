"""The forms that a bundle can be exported to, found by name."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from atypia.base.errors import InputError, must
from atypia.base.registry import Registry
from atypia.inference.bundles.bundle import Bundle, load_bundle
from atypia.inference.bundles.integrity import hashed_names
from atypia.inference.classifier import MODELS
from atypia.inference.export.onnx import Exported, export_onnx
from atypia.inference.export.openvino import folder_bytes
from atypia.inference.export.quantise import Method, QuantisationLoss, calibrate_and_quantise


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
    loss: QuantisationLoss | None = None

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
        summary: What it is, in a few words.
        check: Refuses an output that cannot be written, before any work.
        direct: Writes it from a bundle.
        from_onnx: Writes it from the bytes of an ONNX network that carries its configuration.
    """

    name: str
    summary: str
    check: Callable[[Path], None]
    direct: Callable[[Bundle, Path, Options], Exported]
    from_onnx: Callable[[bytes, Bundle, Path], None]


FORMS: Registry[Form] = Registry("form of export", "atypia.inference.export.entries", "exports")
"""Every form, by name; adding one means adding a module to ``entries/``."""


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
