"""Errors that a user can act on.

Every message names the remedy. The command line turns the class into an exit code:
2 for bad usage or bad input, 1 for work that failed.
"""

from __future__ import annotations


class AtypiaError(Exception):
    """Base of every error that Atypia raises on purpose. Exit code 1."""

    exit_code = 1


class InputError(AtypiaError, ValueError):
    """What the user gave cannot be used: an argument, a file, a configuration. Exit code 2."""

    exit_code = 2


class DataError(InputError):
    """A data set is not what it should be: a missing column, a wrong count, a bad image."""


class LeakageError(DataError):
    """The same case or the same image is on both sides of a split, or in two sets."""


class AbsentError(InputError):
    """Something named is not on this machine: weights, a data set, an optional package."""


class WorkError(AtypiaError):
    """Work that began could not be finished: a full disk, a diverged fit, a broken transfer."""


class LockedError(WorkError):
    """Another process holds what is needed."""


def must(name: str, expected: str, got: object, fix: str) -> str:
    """Words an error the house way.

    Args:
        name: What is wrong: an argument, a column, a file.
        expected: What it must be.
        got: What it is; shown with ``repr`` unless it is a string.
        fix: What the user can do.

    Returns:
        «`name` must be expected, got got; fix: fix»

    >>> must("batch_size", "a positive integer", 0, "pass --batch-size 32")
    '`batch_size` must be a positive integer, got 0; fix: pass --batch-size 32'
    """
    shown = got if isinstance(got, str) else repr(got)
    return f"`{name}` must be {expected}, got {shown}; fix: {fix}"
