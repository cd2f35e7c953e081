"""Hotspot of 100,000 figures: seconds, and against sorting two million numbers on the same machine.

Layouts that are hard in different ways: figures spread evenly (nearly all windows hold the same), in clusters, and
within little more than one field. The ratio is the median of runs that alternate with the sorting.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from atypia.statistics.density import densest_window
from benchmarks.measuring import turns

FIGURES = 100_000
SORTED = 2_000_000
PAIRS = 5
WIDTH, HEIGHT = 6532.0, 4899.0
"""2 mm² at 0.25 µm/px."""


def layouts() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Positions by name of the layout."""
    rng = np.random.default_rng(0)
    centres = rng.uniform(10_000, 90_000, (40, 2))[rng.integers(0, 40, FIGURES)]
    return {
        "even": (rng.uniform(0, 160_000, FIGURES), rng.uniform(0, 80_000, FIGURES)),
        "clusters": (rng.normal(centres[:, 0], 1600), rng.normal(centres[:, 1], 1600)),
        "two fields": (rng.uniform(0, 2 * WIDTH, FIGURES), rng.uniform(0, 2 * HEIGHT, FIGURES)),
    }


def measure(pairs: int = PAIRS) -> dict[str, Any]:
    """Seconds (medians), ratio to the sorting, and how far the bound lies above the count, by layout."""
    numbers, found, kept = np.random.default_rng(1).random(SORTED), {}, {}
    for name, (x, y) in layouts().items():
        times: list[tuple[float, float]] = []
        window = densest_window(x, y, WIDTH, HEIGHT)
        for _ in range(pairs):
            start = time.perf_counter()
            np.sort(numbers)
            between = time.perf_counter()
            densest_window(x, y, WIDTH, HEIGHT)
            times.append((between - start, time.perf_counter() - between))
        found[name] = {
            "seconds": statistics.median(own for _, own in times),
            "ratio": statistics.median(own / sort for sort, own in times),
            "figures": window.count,
            "at_most": window.at_most,
        }
        kept[f"hotspot: {name}, against sorting"] = turns.pairs([sort for sort, _ in times], [own for _, own in times])
    return {"layouts": found, "pairs": kept}


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """What people read."""
    for name, one in found["layouts"].items():
        yield (
            f"{name}: {one['seconds']:.2f} s, {one['ratio']:.1f} times sorting {SORTED:,} numbers; "
            f"{one['figures']:,} figures, at most {one['at_most']:,}"
        )
