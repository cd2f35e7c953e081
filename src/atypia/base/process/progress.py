"""Progress reports of long work."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called repeatedly during long work; the command line shows a progress bar."""

    def __call__(self, done: int, total: int, what: str) -> None:
        """Reports that ``done`` of ``total`` units of ``what`` («crops decoded») are finished; ``total`` 0: not known."""


def silent(done: int, total: int, what: str) -> None:
    """A :class:`Progress` that reports nothing."""
