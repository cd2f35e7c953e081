"""What the runs of a study have to say, gathered: forty runs that say the same say it once."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_VARIABLE: Final = re.compile(r"\b[0-9a-f]{8}\b|\d+(?:[.,]\d+)*")
"""What differs between runs in messages that are alike: hashes, numbers of folds, counts."""


def gathered(messages: Iterable[str]) -> tuple[str, ...]:
    """Each message once; of those that differ in numbers and hashes alone the first, and how many are like it.

    The others stay with their runs.

    >>> gathered(["fold-1: 540 figures added", "fold-2: 544 figures added", "an exception", "an exception"])
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
