"""Runtimes: what runs a classifier's network, from uint8 crops to logits and features.

``onnx`` (onnxruntime) and ``openvino`` read what ``atypia export`` wrote and load neither torch nor timm; ``torch``
reads any bundle. What is exported carries the bundle's configuration, so that one file is enough to predict.

A network in single precision gives the same numbers in all three, up to rounding. One in 8-bit integers, as the model
that ships, does not: torch computes with its rounded weights alone, onnxruntime and OpenVINO round what passes between
the layers too, each by its own kernels (``docs/export.md`` has the differences). Results that are compared should come
from one runtime.

Every file that an answer depends on is compared with its hash first (:mod:`atypia.inference.bundles.integrity`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from atypia.base.errors import AbsentError, DataError, InputError, must
from atypia.base.extras import install, installed
from atypia.base.registry import Registry
from atypia.inference.bundles.bundle import MODEL_FILE, load_bundle
from atypia.inference.bundles.decision import Decision
from atypia.inference.runtimes.chosen import kept_choice, runtime_version
from atypia.inference.runtimes.exported import Floats
from atypia.inference.runtimes.providers import AUTO, CPU

ONNX_FILE: Final = "model.onnx"
"""Name of an exported network inside a bundle's folder."""
IR_FILE: Final = "model.xml"
"""Name of an OpenVINO network inside its folder; its weights lie beside it as ``model.bin``."""


class Runtime(Protocol):
    """A network that is ready to run.

    Attributes:
        name: Key in :data:`RUNTIMES`.
        side_px: Side of the crops that it takes.
        config: What ``config.json`` of its bundle holds, without the hashes.
        decision: From its logits and features to verdicts.
    """

    name: str
    side_px: int
    config: dict[str, Any]
    decision: Decision

    def run(self, crops: npt.NDArray[np.uint8]) -> tuple[Floats, Floats]:
        """Scores crops.

        Args:
            crops: RGB, shape (b, side_px, side_px, 3), uint8; b may be any number, 0 included.

        Returns:
            Logits of the positive class, shape (b,), and pooled features, shape (b, d), both float32.

        Raises:
            InputError: The crops have another shape or type.
        """
        ...


@dataclass(frozen=True)
class RuntimeKind:
    """A runtime that may be installed.

    Attributes:
        name: Key in :data:`RUNTIMES`.
        package: What must be importable.
        install: What installs it.
        files: What it reads in a folder, in order of preference.
        open: Opens one of these files; the second argument is a file of the backbone's weights.
        open_on: The same on a device (:data:`atypia.inference.runtimes.providers.PREDICT_DEVICES`), the third argument;
            None for a runtime that computes on the processor only.
    """

    name: str
    package: str
    install: str
    files: tuple[str, ...]
    open: Callable[[Path, Path | None], Runtime]
    open_on: Callable[[Path, Path | None, str], Runtime] | None = None

    def opened(self, file: Path, weights_file: Path | None, device: str) -> Runtime:
        """Opens a file on a device.

        Raises:
            InputError: This runtime does not compute there.
        """
        if self.open_on is not None:
            return self.open_on(file, weights_file, device)
        if device not in (AUTO, CPU):
            raise InputError(must("device", f"cpu for the runtime {self.name}", device, "leave it out"))
        return self.open(file, weights_file)

    @property
    def installed(self) -> bool:
        """Whether its package is there; nothing is imported."""
        return installed(self.package)

    def finds(self, path: Path) -> Path | None:
        """The file that it would read: ``path`` itself, or one inside it; None if there is none."""
        if path.is_file():
            return path if path.suffix in {Path(name).suffix for name in self.files} else None
        return next((path / name for name in self.files if (path / name).is_file()), None)


def _openvino(file: Path, weights_file: Path | None) -> Runtime:
    from atypia.inference.runtimes.openvino_runtime import OpenVinoRuntime

    return OpenVinoRuntime(file)


def _onnx(file: Path, weights_file: Path | None, device: str = AUTO) -> Runtime:
    from atypia.inference.runtimes.onnx_runtime import OnnxRuntime

    return OnnxRuntime(file, device=device)


def _torch(file: Path, weights_file: Path | None, device: str = AUTO) -> Runtime:
    from atypia.inference.networks import device_of
    from atypia.inference.runtimes.torch_runtime import TorchRuntime

    return TorchRuntime(load_bundle(file.parent), weights_file, device_of(device))


RUNTIMES = Registry[RuntimeKind]("runtime", plugins="runtimes")
"""Every runtime, in the order in which :func:`open_runtime` takes them: the fastest first.

EfficientNet-Lite0 at 128 px took 3.5 ms of one core a crop through onnxruntime, 3.9 ms through OpenVINO, which
also took 0.35 s longer to start (AMD EPYC with AVX-512; ``docs/export.md``).
"""
for _kind in (
    RuntimeKind("onnx", "onnxruntime", "pip install onnxruntime", (ONNX_FILE,), _onnx, _onnx),
    RuntimeKind("openvino", "openvino", install("export"), (IR_FILE, ONNX_FILE), _openvino),
    RuntimeKind("torch", "torch", install("train"), (MODEL_FILE,), _torch, _torch),
):
    RUNTIMES.add(_kind.name, _kind)


def open_runtime(
    path: Path, prefer: str | None = None, weights_file: Path | None = None, device: str = AUTO
) -> Runtime:
    """Opens a classifier's network with the first runtime that is installed, has its file and computes on the device.

    Args:
        path: A bundle's folder, in which an exported ``model.onnx`` or ``model.xml`` may lie; or an exported
            file alone.
        prefer: Key in :data:`RUNTIMES`; None takes the one that ``atypia doctor --tune`` found to be the fastest here for
            this model, else them in order.
        weights_file: The backbone's weights in a file of the user's; for torch only.
        device: Where it is computed: ``auto``, ``cpu`` or ``cuda`` for torch and onnxruntime, which knows others too
            (:data:`atypia.inference.runtimes.providers.PREDICT_DEVICES`).

    Raises:
        InputError: No such runtime or device, or no runtime computes this network there.
        AbsentError: The preferred runtime is not installed or has no file here, or no runtime that could
            read what is here is installed.
        DataError: There is nothing that a runtime reads, or it is damaged, or was exported from another
            state of the bundle.
    """
    kinds = list(RUNTIMES.values()) if prefer is None else [RUNTIMES[prefer]]
    found = [(kind, file) for kind in kinds if (file := kind.finds(path)) is not None]
    if not found:
        if prefer is not None and any(kind.finds(path) for kind in RUNTIMES.values()):
            raise AbsentError(
                must(str(path), f"a classifier that {prefer} reads", "one without", _remedy(prefer, path))
            )
        raise DataError(must(str(path), "a bundle or an exported network", "neither", "name a trained bundle's folder"))
    if prefer is None and device in (AUTO, CPU):
        fastest = kept_choice(path, packages_here())
        found.sort(key=lambda one: one[0].name != fastest)  # stable: the others keep their order
    refused: InputError | None = None
    for kind, file in found:
        if not kind.installed:
            continue
        try:
            return kind.opened(file, weights_file, device)
        except InputError as error:  # not on this device; what is damaged or absent is another error
            if device in (AUTO, CPU):
                raise
            refused = refused or error
    if refused is not None:
        raise refused
    kind, _ = found[0]
    raise AbsentError(f"{kind.package} is not installed, and {path} needs it; fix: {kind.install}")


def packages_here() -> list[str]:
    """Import names of the runtimes that are installed."""
    return [kind.package for kind in RUNTIMES.values() if kind.installed]


def run_by(runtime: Runtime) -> str:
    """What computes a network, for people and for files of results.

    Returns:
        For instance ``onnx 1.31.1 on cpu``.
    """
    known = RUNTIMES.get(runtime.name)
    release = runtime_version(known.package) if known is not None else ""
    return f"{' '.join(filter(None, (runtime.name, release)))} on {getattr(runtime, 'device', CPU)}"


def _remedy(prefer: str, path: Path) -> str:
    if prefer == "torch":
        return "name a bundle's folder"
    return f"`atypia export {path} --to onnx --out {path}/{ONNX_FILE}`"
