"""Things that are timed in turns, so that all of them meet the same machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

Seconds = dict[str, list[float]]


def in_turns(tasks: Mapping[str, Callable[[], object]], rounds: int, warm: bool = True) -> Seconds:
    """Seconds of each task in each round; a round before the first, which counts for nothing, fills caches."""
    times: Seconds = {name: [] for name in tasks}
    for task in tasks.values() if warm else ():
        task()
    for _ in range(rounds):
        for name, task in tasks.items():
            started = time.perf_counter()
            task()
            times[name].append(time.perf_counter() - started)
    return times


def medians(times: Seconds) -> dict[str, float]:
    """Median seconds of each task."""
    return {name: statistics.median(values) for name, values in times.items()}


def pairs(yardstick: Sequence[float], own: Sequence[float]) -> list[float]:
    """How often the own work fits into the yardstick's time, round by round: more is faster.

    >>> pairs([2.0, 3.0], [1.0, 2.0])
    [2.0, 1.5]
    """
    return [round(a / b, 4) for a, b in zip(yardstick, own, strict=True)]
