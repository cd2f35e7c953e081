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


LONGEST_SHOWN = 300
"""Characters of a value that a message repeats."""


def brief(value: object) -> str:
    """A value as a message shows it: its ``repr``, the middle left out where it is long; never fails.

    >>> brief(0), brief("x")
    ('0', "'x'")
    >>> brief(10**5000)
    'a whole number of more than 300 digits'
    """
    if isinstance(value, int) and not -(10**LONGEST_SHOWN) < value < 10**LONGEST_SHOWN:
        return f"a whole number of more than {LONGEST_SHOWN} digits"  # Python refuses to write some of them
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        text = f"a {type(value).__name__} that cannot be shown"
    return _shortened(text)


def _shortened(text: str) -> str:
    half = LONGEST_SHOWN // 2
    return text if len(text) <= LONGEST_SHOWN else f"{text[:half]} … {text[-half:]}"


def must(name: str, expected: str, got: object, fix: str) -> str:
    """Words an error the house way.

    Args:
        name: What is wrong: an argument, a column, a file. Long values and names are shortened.
        expected: What it must be.
        got: What it is; shown with ``repr`` unless it is a string.
        fix: What the user can do.

    Returns:
        «`name` must be expected, got got; fix: fix»

    >>> must("batch_size", "a positive integer", 0, "pass --batch-size 32")
    '`batch_size` must be a positive integer, got 0; fix: pass --batch-size 32'
    """
    shown = _shortened(got) if isinstance(got, str) else brief(got)
    return f"`{_shortened(name)}` must be {expected}, got {shown}; fix: {fix}"
