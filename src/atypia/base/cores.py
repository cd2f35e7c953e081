"""Number of cores that this process may use, and the names of devices for networks."""

from __future__ import annotations

import os
from typing import Final

DEVICES: Final = ("auto", "cpu", "cuda")
"""Values of ``--device``; ``auto`` uses a GPU if there is one."""


def core_count() -> int:
    """Number of cores that this process may run on; in a container or job fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
