"""The command line as on Windows, as far as another system can show it: ``windows_like.py COMMAND… [-- COMMAND…]``.

Atypia's own modules cannot import what only POSIX has, their `os` lacks what Windows lacks, signal 0 is refused, processes are
spawned, and text that is opened without an encoding is an error.
"""

from __future__ import annotations

import builtins
import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

MODULES = frozenset({"fcntl", "grp", "pwd", "resource", "termios"})
LACKING = frozenset(
    {
        *("sched_setaffinity", "sched_getaffinity", "getuid", "geteuid", "getloadavg", "sysconf", "mkfifo", "fork"),
        *("fchmod", "statvfs", "posix_fallocate", "O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC"),
    }
)


class WindowsOs(ModuleType):
    """`os` for Atypia's modules; other packages keep this system's."""

    name = "nt"

    def __getattr__(self, wanted: str) -> Any:
        if wanted in LACKING:
            raise AttributeError(f"module 'os' has no attribute {wanted!r}")
        return getattr(os, wanted)

    @staticmethod
    def kill(pid: int, number: int) -> None:
        """As `os.kill`, of which signal 0 is Ctrl-C on Windows."""
        if number == 0:
            raise RuntimeError("os.kill(pid, 0) interrupts a process on Windows")
        os.kill(pid, number)


def imitate() -> None:
    """Takes away what Windows does not have, for Atypia's modules in this process."""
    imported: Callable[..., Any] = builtins.__import__
    windows_os = WindowsOs("os")

    def without_posix(name: str, globals: Any = None, *rest: Any, **more: Any) -> Any:  # noqa: A002 - its name
        if str((globals or {}).get("__name__", "")).startswith("atypia"):
            if name in MODULES:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            if name == "os":
                return windows_os
        return imported(name, globals, *rest, **more)

    builtins.__import__ = without_posix
    multiprocessing.set_start_method("spawn", force=True)
    warnings.filterwarnings("error", category=EncodingWarning, module=r"atypia\..*")


if __name__ in ("__main__", "__mp_main__"):  # also in the processes that are spawned
    imitate()
if __name__ == "__main__":
    from core_only import chain, run

    sys.exit(run(chain(sys.argv[1:])))
