"""How many cores this process may use, and what the devices are called that networks run on."""

from __future__ import annotations

import os
from typing import Final

DEVICES: Final = ("auto", "cpu", "cuda")
"""What ``--device`` takes; ``auto`` is a GPU where there is one."""


def core_count() -> int:
    """Cores that this process may run on: fewer than the machine has inside a container or a job."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
