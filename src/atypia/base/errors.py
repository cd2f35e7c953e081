"""Errors that a user can act on.

Every message states the remedy. The command line converts the class to an exit code:
2 for bad usage or bad input, 1 for work that failed.
"""

from __future__ import annotations

from collections.abc import Sequence


class AtypiaError(Exception):
    """Base of every error that Atypia raises on purpose. Exit code 1."""

    exit_code = 1


class InputError(AtypiaError, ValueError):
    """The user's input cannot be used: an argument, a file, a configuration. Exit code 2."""

    exit_code = 2


class DataError(InputError):
    """A data set is invalid: a missing column, a wrong count, a bad image."""


class LeakageError(DataError):
    """The same case or image is in two parts of a split, or in two sets."""


class AbsentError(InputError):
    """Something named is not on this machine: weights, a data set, an optional package."""


class WorkError(AtypiaError):
    """Work failed after it started: a full disk, a diverged training, a broken transfer."""


class LockedError(WorkError):
    """Another process holds a required lock."""


LONGEST_SHOWN = 300
"""Largest number of characters of a value shown in a message."""


def brief(value: object) -> str:
    """A value as shown in a message: its ``repr``, shortened in the middle if long; never fails.

    >>> brief(0), brief("x")
    ('0', "'x'")
    >>> brief(10**5000)
    'a whole number of more than 300 digits'
    """
    if isinstance(value, int) and not -(10**LONGEST_SHOWN) < value < 10**LONGEST_SHOWN:
        return f"a whole number of more than {LONGEST_SHOWN} digits"  # Python refuses to convert some of them to text
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        text = f"a {type(value).__name__} that cannot be shown"
    return _shortened(text)


def _shortened(text: str) -> str:
    half = LONGEST_SHOWN // 2
    return text if len(text) <= LONGEST_SHOWN else f"{text[:half]} … {text[-half:]}"


def count_noun(number: int, one: str, several: str = "") -> str:
    """A number with its noun, for messages and tables.

    Args:
        number: How many.
        one: What one is, with whatever else of the sentence depends on the number.
        several: The same of several; empty: ``one`` with an s.

    >>> count_noun(1, "error"), count_noun(1200, "error")
    ('1 error', '1,200 errors')
    >>> count_noun(2, "entry is", "entries are")
    '2 entries are'
    """
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def first_of(names: Sequence[str], shown: int = 1) -> str:
    """The first few of several names, and how many more there are.

    Args:
        names: The names, at least one.
        shown: How many are written out, ≥ 1.

    >>> first_of(["a", "b"], 2), first_of(["a", "b", "c"])
    ('a, b', 'a and 2 more')
    """
    more = f" and {len(names) - shown:,} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def must(name: str, expected: str, got: object, fix: str) -> str:
    """Formats an error message in the standard form.

    Args:
        name: The faulty argument, column or file. Long values and names are shortened.
        expected: What it must be.
        got: What was given; shown with ``repr`` unless it is a string.
        fix: The remedy.

    Returns:
        «`name` must be expected, got got; fix: fix»

    >>> must("batch_size", "a positive integer", 0, "pass --batch-size 32")
    '`batch_size` must be a positive integer, got 0; fix: pass --batch-size 32'
    """
    shown = _shortened(got) if isinstance(got, str) else brief(got)
    return f"`{_shortened(name)}` must be {expected}, got {shown}; fix: {fix}"
