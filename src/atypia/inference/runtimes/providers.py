"""Where onnxruntime computes a network: the processor, or a GPU through one of its execution providers; and why there."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from atypia.base.errors import InputError, must
from atypia.base.process.cores import DEVICES

AUTO: Final = "auto"
CPU: Final = "cpu"
PROCESSOR: Final = "CPUExecutionProvider"
PROVIDERS: Final = {
    "cuda": "CUDAExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
}
"""Devices and what onnxruntime calls them. Apple's and Microsoft's are used where they are asked for, never by ``auto``."""
PREDICT_DEVICES: Final = tuple(dict.fromkeys((*DEVICES, *PROVIDERS)))
"""Values of ``--device`` for predictions."""
_INSTALL: Final = {
    "cuda": "`pip uninstall onnxruntime`, then `pip install onnxruntime-gpu`",
    "coreml": "use onnxruntime for macOS, which has it",
    "directml": "`pip uninstall onnxruntime`, then `pip install onnxruntime-directml` (Windows)",
}
_INTEGERS: Final = (b"MatMulInteger", b"QuantizeLinear", b"QLinear")
"""Operators of a network in 8-bit integers, as they stand in its file."""
_FLOATS: Final = (
    "pass --runtime torch, or a network in single precision (`atypia export MODEL --to onnx --out FILE.onnx`)"
)


@dataclass(frozen=True)
class ComputePlace:
    """Where a network is computed.

    Attributes:
        device: ``cpu`` or a key of :data:`PROVIDERS`.
        providers: onnxruntime's providers, in the order in which it asks them.
        why: The reason, for people.
        remedy: What would use a GPU that is there and is not used; empty if there is nothing to say.
    """

    device: str
    providers: tuple[str, ...]
    why: str
    remedy: str = ""


def in_integers(data: bytes) -> bool:
    """Whether an exported network computes in 8-bit integers, told by the names of its operators."""
    return any(operator in data for operator in _INTEGERS)


def gpu_seen() -> bool:
    """Whether this machine seems to have a GPU of NVIDIA with its driver; nothing is loaded for it."""
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def place_of(device: str, available: Sequence[str], integers: bool, gpu: bool | None = None) -> ComputePlace:
    """Where to compute.

    Args:
        device: One of :data:`PREDICT_DEVICES`; ``auto``: a GPU of NVIDIA if the installed onnxruntime can use it and the
            network is in floating point, else the processor.
        available: The providers of the installed onnxruntime.
        integers: Whether the network is in 8-bit integers. Of their products onnxruntime has kernels for processors
            only: on a GPU every layer would be copied forth and back.
        gpu: Whether there is a GPU; None: looked up.

    Raises:
        InputError: The device is unknown, not in the installed onnxruntime, or of no use for this network.

    >>> place_of("auto", ["CUDAExecutionProvider", "CPUExecutionProvider"], integers=False).device
    'cuda'
    """
    if device not in PREDICT_DEVICES:
        fix = "leave it out for the best there is"
        raise InputError(must("device", f"one of {', '.join(PREDICT_DEVICES)}", device, fix))
    if device == CPU:
        return ComputePlace(CPU, (PROCESSOR,), "asked for")
    if device in PROVIDERS:
        if PROVIDERS[device] not in available:
            known = ", ".join([CPU, *(name for name, provider in PROVIDERS.items() if provider in available)])
            raise InputError(
                must("device", f"one that the installed onnxruntime has ({known})", device, _INSTALL[device])
            )
        if integers:
            expected = "cpu for a network in 8-bit integers, whose products onnxruntime computes on processors only"
            raise InputError(must("device", expected, device, _FLOATS))
        return ComputePlace(device, (PROVIDERS[device], PROCESSOR), "asked for")
    cuda = PROVIDERS["cuda"] in available
    there = (gpu_seen() if gpu is None else gpu) or cuda
    if integers:
        why = "8-bit integers, whose products onnxruntime computes on processors only"
        return ComputePlace(CPU, (PROCESSOR,), why, f"for the GPU: {_FLOATS}" if there else "")
    if cuda:
        return ComputePlace("cuda", (PROVIDERS["cuda"], PROCESSOR), "the installed onnxruntime can use a GPU")
    if there:
        why = "there is a GPU, but the installed onnxruntime is for processors only"
        return ComputePlace(CPU, (PROCESSOR,), why, f"for the GPU: {_INSTALL['cuda']}")
    return ComputePlace(CPU, (PROCESSOR,), "no GPU was found")
