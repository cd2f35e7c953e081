"""How many cores this process may use."""

from __future__ import annotations

import os


def core_count() -> int:
    """Cores that this process may run on: fewer than the machine has inside a container or a job."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
