"""Plots as plain data, independent of rendering. Pages render them as SVG, files with matplotlib."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

MOST_SERIES: Final = 7
"""Colours, markers and dashes; series beyond that take the colours again, with other markers and dashes."""

MOST_MARKS: Final = 8
"""Marks of a logarithmic axis that are set at the points."""


def look(tone: int) -> tuple[int, int, int]:
    """Positions of a series' colour, marker and dash: 49 series, and more, differ in at least one of them.

    >>> look(3), look(10), len({look(tone) for tone in range(49)})
    ((3, 3, 3), (3, 4, 5), 49)
    """
    again = tone // MOST_SERIES
    return tone % MOST_SERIES, (tone + again) % MOST_SERIES, (tone + 2 * again) % MOST_SERIES


@dataclass(frozen=True)
class Curve:
    """A line of a plot.

    Attributes:
        name: Name in the legend.
        x: Positions, ascending or along the curve.
        y: Values, as many as ``x``.
        low: Lower ends of intervals; empty without intervals intervals.
        high: Upper ends.
        tone: Colour, dash and marker, from 0; the same for a classifier in all plots of a report.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    tone: int = 0


@dataclass(frozen=True)
class LinePlot:
    """Curves over two axes.

    Attributes:
        key: Name of its files.
        title: One line.
        x_label: Label of the horizontal axis, with its unit.
        y_label: Label of the vertical axis, with its unit.
        curves: The best first.
        x_range: Ends of the horizontal axis.
        y_range: Ends of the vertical axis.
        diagonal: Whether the line y = x is drawn.
        markers: Whether points are marked.
        log_x: Whether the horizontal axis is logarithmic.
    """

    key: str
    title: str
    x_label: str
    y_label: str
    curves: Sequence[Curve]
    x_range: tuple[float, float] = (0.0, 1.0)
    y_range: tuple[float, float] = (0.0, 1.0)
    diagonal: bool = False
    markers: bool = False
    log_x: bool = False


@dataclass(frozen=True)
class PlottedEstimate:
    """An estimate with its interval; NaN ends are not drawn."""

    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class ForestRow:
    """A row of a forest plot.

    Attributes:
        label: Its name.
        detail: Its size, in small type.
        points: One per series; None if the series has none.
    """

    label: str
    detail: str
    points: Sequence[PlottedEstimate | None]


@dataclass(frozen=True)
class ForestPlot:
    """Estimates with intervals, one row per domain or classifier.

    Attributes:
        key: Name of its files.
        title: One line.
        x_label: What is across.
        names: Names of the series.
        tones: Colour and marker of each series, from 0.
        rows: From top to bottom.
        x_range: Ends of the axis.
        lines: Values marked by a vertical line, with their names.
    """

    key: str
    title: str
    x_label: str
    names: Sequence[str]
    tones: Sequence[int]
    rows: Sequence[ForestRow]
    x_range: tuple[float, float]
    lines: Sequence[tuple[float, str]] = ()


@dataclass(frozen=True)
class Panel:
    """A confusion matrix.

    Attributes:
        name: Name of the classifier.
        tp: Positives decided positive.
        fn: Positives decided negative.
        fp: Negatives decided positive.
        tn: Negatives decided negative.
    """

    name: str
    tp: int
    fn: int
    fp: int
    tn: int


@dataclass(frozen=True)
class ConfusionPlot:
    """Confusion matrices side by side.

    Attributes:
        key: Name of the files.
        title: One line.
        classes: Names of the negative and the positive class.
        panels: At least one.
    """

    key: str
    title: str
    classes: tuple[str, str]
    panels: Sequence[Panel]


@dataclass(frozen=True)
class HeatMap:
    """A value for each pair of a row and a column.

    Attributes:
        key: Name of its files.
        title: One line.
        rows: Names, from top to bottom.
        columns: Names, from left to right.
        row_title: Label of the rows.
        column_title: Label of the columns.
        values: One list per row; NaN for missing values.
        range: Values of the lightest and the darkest colour.
    """

    key: str
    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    row_title: str
    column_title: str
    values: Sequence[Sequence[float]]
    range: tuple[float, float]

    def strength(self, value: float) -> float:
        """Strength of a value's colour, in [0, 1]; 0 for a missing value."""
        low, high = self.range
        return 0.0 if math.isnan(value) or high <= low else min(max((value - low) / (high - low), 0.0), 1.0)


Drawing: TypeAlias = LinePlot | ForestPlot | ConfusionPlot | HeatMap
Align = Literal["start", "middle", "end"]


def row_ends(rows: Sequence[ForestRow]) -> list[float]:
    """All values of a forest's rows, including the ends of intervals."""
    return [end for row in rows for point in row.points if point for end in (point.value, point.low, point.high)]


def zero_forest(key: str, title: str, x_label: str, names: Sequence[str], rows: Sequence[ForestRow]) -> ForestPlot:
    """A forest of differences: zero is included and marked, and series use the tones in their order.

    Args:
        key: As in :class:`ForestPlot`, like the others.
        title: One line.
        x_label: What is across.
        names: Names of the series.
        rows: From top to bottom.
    """
    x_range = padded_range([*row_ends(rows), 0.0])
    return ForestPlot(key, title, x_label, names, list(range(len(names))), rows, x_range, [(0.0, "no difference")])


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round values inside a range: steps of 1, 2 or 5 times a power of ten, at most ``most`` of them.

    >>> ticks(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    span = high - low
    if not span > 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * factor for factor in (1, 2, 5, 10, 20) if span / (power * factor) <= most - 1 + 1e-9)
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 10) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def padded_range(
    values: Sequence[float], least: float = 0.1, ends: tuple[float, float] = (-1.0, 1.0)
) -> tuple[float, float]:
    """A range that holds all finite values with some room, at least ``least`` wide, within ``ends``."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ends
    low, high = min(finite), max(finite)
    room = max(0.05 * (high - low), (least - (high - low)) / 2, 0.01)
    return max(ends[0], low - room), min(ends[1], high + room)


def fitted(names: Iterable[str], most: int) -> dict[str, str]:
    """Each name as a label of at most ``most`` characters, its middle cut out; never so that two names read alike.

    Names that would read alike, and those that differ in blanks or invisible characters alone, are told apart by a
    number before them.

    >>> fitted(["a model of the first kind", "a model of the other kind", "short"], 12)
    {'a model of the first kind': '1 a mode… kind', 'a model of the other kind': '2 a mode… kind', 'short': 'short'}
    """
    found: dict[str, str] = {}
    for name in names:
        text = " ".join("".join(c if c.isprintable() else " " for c in name).split())
        head = (most - 1) * 3 // 5
        found[name] = text if len(text) <= most else f"{text[:head]}…{text[head + 1 - most :]}"
    numbers: dict[str, int] = {}
    alike = [label for label in found.values() if list(found.values()).count(label) > 1]
    for name, label in found.items():
        if label in alike:
            numbers[label] = numbers.get(label, 0) + 1
            found[name] = f"{numbers[label]} {label}"
    return found
