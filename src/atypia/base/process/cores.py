"""What this process computes on: number of cores, the processor's name, names of devices for networks, memory used."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Final

DEVICES: Final = ("auto", "cpu", "cuda")
"""Values of ``--device``; ``auto`` uses a GPU if there is one."""


def core_count() -> int:
    """Number of cores that this process may run on; in a container or job fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor_name() -> str:
    """What the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def peak_memory() -> dict[str, int | str]:
    """Largest memory so far, in bytes: of the GPU that torch uses, where it does; else of this process.

    The process's peak is never reset: it includes what else the process did before.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return {"peak_memory_bytes": int(torch.cuda.max_memory_allocated()), "peak_memory_of": "cuda"}
    try:
        import resource
    except ImportError:  # no such module on Windows
        return {}
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"peak_memory_bytes": used if sys.platform == "darwin" else used * 1024, "peak_memory_of": "process"}
