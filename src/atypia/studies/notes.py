"""Combines the messages of a study's runs: messages repeated by many runs are shown once."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_VARIABLE: Final = re.compile(r"\b[0-9a-f]{8}\b|\d+(?:[.,]\d+)*")
"""Varying parts of otherwise equal messages: hashes, fold numbers, counts."""


def distinct_notes(messages: Iterable[str]) -> tuple[str, ...]:
    """Each message once; of messages that differ only in numbers and hashes, the first and the number of others.

    The others remain in their runs.

    >>> distinct_notes(["fold-1: 540 figures added", "fold-2: 544 figures added", "an exception", "an exception"])
    ('fold-1: 540 figures added (and 1 more like it)', 'an exception')
    """
    alike: dict[str, dict[str, None]] = {}
    for message in messages:
        alike.setdefault(_VARIABLE.sub("#", message), {})[message] = None
    found = []
    for group in alike.values():
        first, *others = group
        found.append(f"{first} (and {len(others)} more like it)" if others else first)
    return tuple(found)
