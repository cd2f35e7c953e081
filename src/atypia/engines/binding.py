"""Binds worker processes to cores, so that parallel workers do not compete for cores."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from filelock import FileLock, Timeout

_held: list[FileLock] = []
"""Locks of the cores that this process is bound to, held until it ends."""


def keep_to_cores(share: int) -> None:
    """Binds this process, until it ends, to cores that no other worker of this user is bound to.

    Runtimes and decoders use as many threads as the process has cores. If all cores are taken, or the system
    cannot bind, nothing changes. A second call changes nothing either.

    Args:
        share: Number of cores.
    """
    if _held or not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    if share >= len(cores):
        return
    folder = Path(tempfile.gettempdir()) / f"atypia-cores-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        for first in range(0, len(cores) - share + 1, share):
            mine = cores[first : first + share]
            taken = FileLock(folder / f"{share}-{mine[0]}.lock")
            try:
                taken.acquire(timeout=0)
            except Timeout:
                continue
            _held.append(taken)
            os.sched_setaffinity(0, mine)
            return
    except OSError:
        return  # bound or not, the results are the same
