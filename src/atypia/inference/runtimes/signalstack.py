"""The stack on which signals are handled, kept as it was while a library is loaded.

On Linux OpenVINO's CPU plugin sets an alternate signal stack of its own (``sigaltstack``) whenever a
``Core`` loads it, and unmaps it with the ``Core``. It puts back the one before only where its own is still in place:
of two cores that are closed in the order in which they were opened, the second puts back the stack that
the first has unmapped. The next signal, be it Ctrl-C, is then fatal.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

DISABLED: Final = 2
"""``SS_DISABLE``: there is no alternate stack."""


class _Stack(ctypes.Structure):
    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def signal_stack() -> tuple[int, int] | None:
    """Address and size of this thread's alternate signal stack; None if there is none, and on other systems."""
    found = _current()
    return None if found is None or found.flags & DISABLED else (found.start or 0, found.size)


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Puts this thread's alternate signal stack back, whatever was set meanwhile."""
    before = _current()
    try:
        yield
    finally:
        if before is not None:
            before.flags &= DISABLED
            # Refused, it leaves the library's stack in place: nothing is lost.
            ctypes.CDLL(None).sigaltstack(ctypes.byref(before), None)


def _current() -> _Stack | None:
    if sys.platform != "linux":
        return None
    found = _Stack()
    return found if ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found)) == 0 else None
