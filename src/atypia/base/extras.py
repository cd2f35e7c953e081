"""Optional packages: the extra of ``pip install 'atypia[EXTRA]'`` to which each belongs, and errors that name it.

The core (``pip install atypia``) predicts, calibrates, serves, reviews and reports without any of these. What needs one
calls :func:`require` before it starts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final

from atypia.base.errors import AbsentError


@dataclass(frozen=True)
class OptionalPackage:
    """An optional package.

    Attributes:
        title: What people call it.
        extra: The extra that installs it.
        what: What it is for.
    """

    title: str
    extra: str
    what: str


PARTS: Final[dict[str, OptionalPackage]] = {
    "torch": OptionalPackage("PyTorch", "train", "training, and models that were not exported"),
    "torchvision": OptionalPackage("torchvision", "train", "what timm needs"),
    "timm": OptionalPackage("timm", "train", "backbones"),
    "peft": OptionalPackage("peft", "train", "LoRA"),
    "sklearn": OptionalPackage("scikit-learn", "train", "fitting of decisions and novelty"),
    "tensorboard": OptionalPackage("TensorBoard", "train", "curves of a training"),
    "huggingface_hub": OptionalPackage("huggingface-hub", "hub", "backbones from the model hub"),
    "onnx": OptionalPackage("onnx", "export", "exports; the ViT-S/14 from a package"),
    "onnxscript": OptionalPackage("onnxscript", "export", "exports to ONNX"),
    "openvino": OptionalPackage("OpenVINO", "export", "OpenVINO, the faster runtime of some processors"),
    "h5py": OptionalPackage("h5py", "offline-weights", "the DenseNet-121 from a package"),
    "captum": OptionalPackage("captum", "explain", "saliency overlays"),
    "matplotlib": OptionalPackage("matplotlib", "figures", "plots as files"),
    "cleanlab": OptionalPackage("cleanlab", "review", "likely label errors in the review page"),
    "croma": OptionalPackage("croma", "robustness", "robustness of encoders"),
    "ray": OptionalPackage("Ray", "scale", "many slides and studies on a cluster"),
    "diffusers": OptionalPackage("diffusers", "synthesis", "generated figures"),
}
"""Every optional package by the name of its module: the one place that knows its extra."""
NETWORKS: Final = ("torch", "torchvision", "timm")
"""What networks need that are trained, or run without an exported form."""


def installed(module: str) -> bool:
    """Whether a package is there; nothing is imported."""
    return find_spec(module) is not None


def install(extra: str) -> str:
    """The command that installs an extra.

    >>> install("train")
    "pip install 'atypia[train]'"
    """
    return f"pip install 'atypia[{extra}]'"


def require(who: str, *modules: str) -> None:
    """Refuses work whose packages are not installed, before it starts.

    Args:
        who: What needs them, as the message begins: «`atypia train`».
        modules: Keys of :data:`PARTS`.

    Raises:
        AbsentError: At least one is not installed; names all of them and the command that installs them.

    >>> require("this example")
    """
    missing = [module for module in modules if not installed(module)]
    if missing:
        raise AbsentError(needs(who, missing))


def needs(who: str, modules: Iterable[str]) -> str:
    """The message for packages that are missing.

    >>> needs("`atypia train`", ["torch"])
    "`atypia train` needs PyTorch, which is not installed; fix: pip install 'atypia[train]'"
    >>> needs("This", ["torch", "timm", "ray"])
    "This needs PyTorch, timm and Ray, which are not installed; fix: pip install 'atypia[scale,train]'"
    """
    parts = [PARTS[module] for module in modules]
    *first, last = [part.title for part in parts]
    titles = f"{', '.join(first)} and {last}" if first else last
    verb = "are" if first else "is"
    extras = ",".join(sorted({part.extra for part in parts}))
    return f"{who} needs {titles}, which {verb} not installed; fix: {install(extras)}"


def absent(who: str, error: ModuleNotFoundError) -> AbsentError | None:
    """The error to raise for an import that failed; None where the module is no optional package.

    >>> absent("x", ModuleNotFoundError("No module named 'colours'", name="colours")) is None
    True
    """
    module = (error.name or "").partition(".")[0]
    # An installed package with a missing part of its own is damaged: installing the extra would not repair it.
    return AbsentError(needs(who, [module])) if module in PARTS and not installed(module) else None


def extras_installed() -> dict[str, bool]:
    """Every extra that brings packages, and whether all of them are there."""
    found: dict[str, bool] = {}
    for module, part in PARTS.items():
        found[part.extra] = found.get(part.extra, True) and installed(module)
    return found
