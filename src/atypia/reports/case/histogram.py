"""The histogram of a case's probabilities, as shapes of a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from atypia.inference import results as res

BINS: Final = 20
"""Number of bars of the probability histogram."""
TITLES: Final = {
    res.CALLED_NORMAL: "normal, certain",
    res.CALLED_ATYPICAL: "atypical, certain",
    res.CALLED_UNCERTAIN: "uncertain",
    res.CALLED_REFUSED: "refused",
}
"""Titles of the calls on the page; counts of *atypical* include uncertain ones."""
STACKED: Final = (res.CALLED_NORMAL, res.CALLED_UNCERTAIN, res.CALLED_ATYPICAL)
"""Calls within a bar, from the axis upwards."""


def bars(histogram: Mapping[str, list[int]]) -> list[dict[str, Any]]:
    """Rectangles of the stacked bars; x from 0 to 100, y from 0 (top) to 40."""
    tallest = max(1, *(sum(column) for column in zip(*histogram.values(), strict=True)))
    width = 100 / BINS
    found = []
    for i in range(BINS):
        top = 40.0
        for call, counts in histogram.items():
            if counts[i]:
                height = 40 * counts[i] / tallest
                top -= height
                text = f"{counts[i]:,} {TITLES[call]}, probability {i / BINS:.2f} to {(i + 1) / BINS:.2f}"
                place = {"x": i * width + 0.2, "y": top, "width": width - 0.4, "height": height}
                found.append({"call": call, "text": text, **{k: f"{v:.3f}" for k, v in place.items()}})
    return found


def ticks(histogram: Mapping[str, list[int]]) -> list[dict[str, Any]]:
    """Counts beside the vertical axis: none, the tallest bar, and its half where that is whole."""
    tallest = max(1, *(sum(column) for column in zip(*histogram.values(), strict=True)))
    counts = [0, tallest // 2, tallest] if tallest % 2 == 0 else [0, tallest]
    return [{"y": round(40 - 40 * count / tallest, 2), "text": f"{count:,}"} for count in counts]


def bin_rows(histogram: Mapping[str, list[int]]) -> list[list[str]]:
    """Rows of the table of counts: the range of each bar that is not empty, and its figures by call."""
    rows = []
    for i in range(BINS):
        counts = [histogram[call][i] for call in STACKED]
        if any(counts):
            rows.append([f"{i / BINS:.2f} to {(i + 1) / BINS:.2f}", *(f"{n:,}" for n in counts)])
    return rows
