"""The forms that a bundle can be exported to, found by name."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from atypia.base import runs
from atypia.base.errors import InputError, must
from atypia.base.registry import Registry
from atypia.inference.bundles.bundle import Bundle, load_bundle
from atypia.inference.bundles.integrity import MODEL_FILE, hashed_names
from atypia.inference.classifier import MODELS
from atypia.inference.export.onnx import Exported, export_onnx
from atypia.inference.export.openvino import folder_bytes
from atypia.inference.export.quantise import Method, QuantisationLoss, calibrate_and_quantise
from atypia.inference.runtimes.catalogue import ONNX_FILE
from atypia.inference.runtimes.providers import in_integers


@dataclass(frozen=True)
class Options:
    """How a bundle is exported.

    Attributes:
        half: Store the weights in half precision.
        int8: Quantise to 8-bit integers.
        calibrate: Labelled data for that, as :func:`atypia.data.sources.opening.open_data` takes them.
        weights_file: A file of the user with the backbone's weights.
        root: Data root; None for the user's setting.
    """

    half: bool = False
    int8: bool = False
    calibrate: str | None = None
    weights_file: Path | None = None
    root: Path | None = None

    @property
    def as_it_is(self) -> bool:
        """Whether nothing is asked for that a stored network may not have."""
        return not self.half and not self.int8 and self.weights_file is None


@dataclass(frozen=True)
class Report:
    """What was exported.

    Attributes:
        form: Key in :data:`FORMS`.
        exported: Where it is, its size, and how far the network was from torch; for int8, before quantisation.
        method: How it was quantised; None if it was not.
        loss: What that costs; None if it was not.
        members: Names of the folds that were exported together; none for one classifier.
        stain: Normalisation of colours that crops have before they enter the network; None for none.
        stored: Whether the network is the bundle's own in 8-bit integers, as it is stored: not made anew, not quantised.
    """

    form: str
    exported: Exported
    method: Method | None = None
    loss: QuantisationLoss | None = None
    members: tuple[str, ...] = ()
    stain: str | None = None
    stored: bool = False

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
            **({"members": list(self.members)} if self.members else {}),
            **({"stain": self.stain} if self.stain else {}),
            **({"stored": True} if self.stored else {}),
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
        several: Writes it from the folds of a training, by name, whose probabilities are averaged; takes the training's
            name second. None if the form holds one classifier.
        stored: Writes it from a bundle's folder whose own network is in 8-bit integers, with that network as it is. None
            if the form always holds a network made anew.
    """

    name: str
    summary: str
    check: Callable[[Path], None]
    direct: Callable[[Bundle, Path, Options], Exported]
    from_onnx: Callable[[bytes, Bundle, Path], None]
    several: Callable[[Mapping[str, Bundle], str, Path, Options], Exported] | None = None
    stored: Callable[[Path, Bundle, Path], Exported] | None = None


FORMS: Registry[Form] = Registry("form of export", "atypia.inference.export.entries", "exports")
"""Every form, by name; adding one means adding a module to ``entries/``."""


def stored_in_integers(folder: Path) -> bool:
    """Whether a bundle's own network, of which its configuration holds the hash, computes in 8-bit integers."""
    return ONNX_FILE in hashed_names(folder) and in_integers((folder / ONNX_FILE).read_bytes())


def _check_apart(folder: Path, out: Path) -> None:
    """Refuses to write into a model that ships, or over a file that a bundle's hashes name."""
    inside = out.resolve().parent == folder.resolve() or out.resolve() == folder.resolve()
    if inside and (folder.resolve().parent == MODELS or out.name in hashed_names(folder)):
        raise InputError(must("out", "outside the model that is exported", str(out), "choose another place"))


def export(folder: Path, form: str, out: Path, options: Options = Options()) -> Report:
    """Exports a bundle, or all folds of a training.

    Args:
        folder: The bundle's folder, or that of a run or of a training.
        form: Key in :data:`FORMS`.
        out: File (``onnx``) or folder to write.
        options: How.

    Raises:
        InputError: No such form, options that exclude each other, an output that cannot be written, data of
            another task; or several folds for a form that holds one classifier.
        DataError: The folder is not a bundle.
        AbsentError: The backbone's weights, the data, or packages of the extra ``export`` are not on this machine.
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
    folds = _folds(folder)
    if len(folds) > 1:
        return _several(folder, folds, chosen, out, options)
    source = next(iter(folds.values()), folder)
    bundle = load_bundle(source)
    if chosen.stored is not None and options.as_it_is and stored_in_integers(source):
        return Report(form, chosen.stored(source, bundle, out), stain=bundle.geometry.stain, stored=True)
    if not options.int8:
        return Report(form, chosen.direct(bundle, out, options), stain=bundle.geometry.stain)
    assert options.calibrate is not None
    with tempfile.TemporaryDirectory() as temporary:
        single, quantised = Path(temporary) / "single.onnx", Path(temporary) / "quantised.onnx"
        exported = export_onnx(bundle, single, weights_file=options.weights_file, one_file=True)
        method, loss = calibrate_and_quantise(bundle, options.calibrate, single, quantised, options.root)
        chosen.from_onnx(quantised.read_bytes(), bundle, out)
    size = out.stat().st_size if out.is_file() else folder_bytes(out)
    return Report(form, Exported(out, size, exported.logit_difference, exported.feature_difference), method, loss,
                  stain=bundle.geometry.stain)  # fmt: skip


def _folds(folder: Path) -> dict[str, Path]:
    """The bundles of a training's or a run's folder, by the names of its runs; empty if it is neither."""
    if (folder / MODEL_FILE).is_file():
        return {}
    return {run.name: run / runs.BUNDLE for run in runs.run_folders(folder)}


def _several(folder: Path, folds: Mapping[str, Path], form: Form, out: Path, options: Options) -> Report:
    """Exports all folds of a training as one classifier."""
    if form.several is None or options.int8:
        what = "--int8" if form.several is not None else f"--to {form.name}"
        taken = ", ".join(name for name, other in FORMS.items() if other.several is not None)
        got = f"{folder}, a training of {len(folds)} folds ({', '.join(folds)})"
        fix = f"name one, for instance {next(iter(folds.values()))}, or export all without --int8 --to {taken}"
        raise InputError(must("bundle", f"one classifier for {what}", got, fix))
    bundles = {name: load_bundle(path) for name, path in folds.items()}
    name = f"{folder.resolve().name}, {len(folds)} folds"
    stain = next(iter(bundles.values())).geometry.stain
    return Report(form.name, form.several(bundles, name, out, options), members=tuple(folds), stain=stain)
