"""Memory of this process, as Linux tells it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

RECORD: Final = Path("/proc/self/clear_refs")


def reset_peak() -> None:
    """Makes the kernel's record of this process's greatest resident memory start again; Linux only."""
    RECORD.write_text("5", "utf-8")


def status_kib(key: str) -> int:
    """A figure of ``/proc/self/status`` in KiB.

    ``VmHWM`` is the greatest resident memory. Unlike ``ru_maxrss`` it does not start from the peak of the process that
    started this one.

    Raises:
        RuntimeError: This system does not tell it.
    """
    try:
        lines = Path("/proc/self/status").read_text("utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))
    except (OSError, StopIteration):
        raise RuntimeError(f"this system does not tell {key} of a process") from None
