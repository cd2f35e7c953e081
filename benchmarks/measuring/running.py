"""Runs a benchmark: measures, and says the figures to people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any


def run(benchmark: ModuleType) -> dict[str, Any]:
    """Prints what the benchmark's ``measure()`` finds, in the lines of its own ``lines(found)`` where it has that, and returns it."""
    found = benchmark.measure()
    for line in getattr(benchmark, "lines", lines)(found):
        print(line, flush=True)
    return found


def lines(found: Mapping[str, Any], margin: str = "") -> Iterator[str]:
    """A line a figure, figures that belong together under their name.

    >>> list(lines({"crops": 512, "speed": {"own_s": 0.5, "plain_s": 1.5}, "pairs": {"against plain": [3.0, 2.9]}}))
    ['crops: 512', 'speed:', '  own_s: 0.5', '  plain_s: 1.5', 'pairs:', '  against plain: 3.0, 2.9']
    """
    for name, value in found.items():
        if isinstance(value, Mapping):
            yield f"{margin}{name}:"
            yield from lines(value, f"{margin}  ")
        else:
            yield f"{margin}{name}: {', '.join(map(str, value)) if isinstance(value, list) else value}"
