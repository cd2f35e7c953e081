"""The precision that a network is trained in: bf16 where the hardware multiplies in it, else fp32."""

from __future__ import annotations

from typing import Literal

import torch

from atypia.training.sections import Precision


def precision_on(precision: Precision, device: torch.device) -> Literal["fp32", "bf16"]:
    """The precision itself; for ``auto`` bf16 if the device multiplies in it, else fp32.

    A CPU does with AMX, and AMD's do with AVX-512 (a LoRA step in fp32 takes 1.3 times as long there). On an Intel Xeon that has
    AVX-512's instructions for bf16 but not AMX, the step takes 1.7 times as long in bf16 as in fp32 (docs/results/speed.md).

    Examples:
        >>> precision_on("bf16", torch.device("cpu"))
        'bf16'
    """
    if precision == "auto":
        return "bf16" if _multiplies_bf16(device) else "fp32"
    return precision


def autocast_dtype(precision: Precision, device: torch.device) -> torch.dtype | None:
    """What :func:`torch.autocast` is given; None, and no autocast, for fp32."""
    return torch.bfloat16 if precision_on(precision, device) == "bf16" else None


def _multiplies_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        # Before compute capability 8 (V100, T4) bf16 is emulated, which `is_bf16_supported` counts as support; AMD's have it.
        return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)
    # Only newer versions of torch tell; where none does, fp32 is taken, which no hardware is bad at.
    told = getattr(torch.cpu, "get_capabilities", dict)()
    by_vector = told.get("avx512_bf16") and "amd" in str(told.get("cpu_name", "")).lower()
    return device.type == "cpu" and bool(told.get("amx_bf16") or by_vector)
