"""Plots as inline SVG for pages: colours come from the page's style sheet, so that they follow light and dark mode.

Series differ in colour, dash and marker. Elements carry classes and no inline styles, which the pages'
content security policy would refuse.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from markupsafe import Markup, escape

from atypia.reports.drawing.plots import (
    MOST_MARKS,
    Align,
    ForestPlot,
    HeatMap,
    LinePlot,
    PlottedEstimate,
    fitted,
    look,
    ticks,
)
from atypia.reports.drawing.values import format_value

CHART_WIDTH, CHART_HEIGHT = 340, 330
FOREST_WIDTH: Final = 400
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 40
LABEL_HEIGHT, DETAIL_HEIGHT, POINT_HEIGHT, ROW_GAP = 16, 13, 12, 9
CELL_WIDTH: Final = 30
"""Of a heat map, at least: its values have four characters."""
HEAT_CHARACTERS, FOREST_CHARACTERS, WIDE_CHARACTERS = 24, 58, 64
SHAPES: Final = (
    "M-3.2 0a3.2 3.2 0 1 0 6.4 0a3.2 3.2 0 1 0 -6.4 0z",
    "M-3 -3h6v6h-6z",
    "M0 -3.8L3.8 3L-3.8 3z",
    "M0 -4.2L3.6 0L0 4.2L-3.6 0z",
    "M0 3.8L3.8 -3L-3.8 -3z",
    "M-1.3 -3.8h2.6v2.5h2.5v2.6h-2.5v2.5h-2.6v-2.5h-2.5v-2.6h2.5z",
    "M-3.6 -3.6L3.6 3.6M-3.6 3.6L3.6 -3.6",
)
"""Markers, in the order of the series: disc, square, triangle, diamond, triangle down, plus, cross."""


def line_plot_svg(chart: LinePlot) -> Markup:
    """Curves over two axes."""
    width, height = CHART_WIDTH - LEFT - RIGHT, CHART_HEIGHT - TOP - BOTTOM
    low, high = (_log(end, chart.log_x) for end in chart.x_range)

    def at(x: float, y: float) -> tuple[float, float]:
        across = (_log(x, chart.log_x) - low) / (high - low)
        up = (y - chart.y_range[0]) / (chart.y_range[1] - chart.y_range[0])
        return LEFT + across * width, TOP + (1 - up) * height

    parts = [_open(CHART_WIDTH, CHART_HEIGHT, chart.title)]
    for value in ticks(*chart.y_range):
        y = at(chart.x_range[0], value)[1]
        parts.append(_line("grid", LEFT, y, LEFT + width, y) + _text(LEFT - 5, y + 3.5, f"{value:g}", "end"))
    shares = sorted({x for curve in chart.curves for x in curve.x})
    decades = [10.0**n for n in range(math.ceil(low), math.floor(high) + 1)]
    marks = (shares if len(shares) <= MOST_MARKS else decades) if chart.log_x else ticks(*chart.x_range)
    for value in marks:
        x = at(value, chart.y_range[0])[0]
        parts.append(_line("grid", x, TOP, x, TOP + height) + _text(x, TOP + height + 14, f"{value:g}"))
    if chart.diagonal:
        parts.append(_line("chance", *at(0, 0), *at(1, 1)))
    # The first series is drawn on top.
    for curve in reversed(chart.curves):
        spots = [at(x, y) for x, y in zip(curve.x, curve.y, strict=True)]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
        parts.append(f'<g class="{_class(curve.tone)}"><title>{escape(format_value(curve.name))}</title>')
        parts.append(f'<polyline class="curve" points="{points}"/>')
        for x, bottom, top in zip(curve.x, curve.low, curve.high, strict=False):  # empty without intervals
            if not (math.isnan(bottom) or math.isnan(top)):
                parts.append(_line("bar", *at(x, bottom), *at(x, top)))
        if chart.markers:
            parts += [_marker(curve.tone, x, y) for x, y in spots]
        parts.append("</g>")
    parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{TOP + height}H{LEFT + width}"/>')
    parts.append(_text(LEFT + width / 2, CHART_HEIGHT - 6, chart.x_label))
    middle = TOP + height / 2
    parts.append(
        f'<text class="label" text-anchor="middle" transform="translate(11 {middle:.1f}) rotate(-90)">'
        f"{escape(chart.y_label)}</text></svg>"
    )
    return Markup("".join(parts))  # noqa: S704 - every text in it is escaped above


def forest_svg(forest: ForestPlot) -> Markup:
    """Estimates with intervals: each row's label above its points, its size below a long label, so that it fits a narrow screen."""
    low, high = forest.x_range
    left, width = 14, FOREST_WIDTH - 28
    series = len(forest.names)
    long = any(len(row.label) + len(row.detail) > FOREST_CHARACTERS for row in forest.rows)
    label_height = LABEL_HEIGHT + (DETAIL_HEIGHT if long else 0)
    step = label_height + POINT_HEIGHT * series + ROW_GAP
    head = 8 + (14 if forest.lines else 0)
    bottom = head + step * len(forest.rows)

    def across(value: float) -> float:
        return left + (min(max(value, low), high) - low) / (high - low) * width

    parts = [_open(FOREST_WIDTH, bottom + 38, forest.title)]
    for value in ticks(low, high):
        parts.append(_line("grid", across(value), head, across(value), bottom))
        parts.append(_text(across(value), bottom + 14, f"{value:g}"))
    for value, name in forest.lines:
        if low <= value <= high:
            parts.append(f"<g><title>{escape(format_value(name))}</title>")
            parts.append(_line("mark", across(value), head, across(value), bottom) + "</g>")
            align: Align = "end" if across(value) > FOREST_WIDTH / 2 else "start"
            parts.append(_text(across(value), head - 5, format_value(name), align))
    for number, row in enumerate(forest.rows):
        top = head + step * number
        if number:
            parts.append(_line("rule", 0, top + 1, FOREST_WIDTH, top + 1))
        label, detail = _two_lines(row.label, row.detail) if long else (row.label, row.detail)
        below = f'x="{left}" dy="{DETAIL_HEIGHT}"' if long else 'dx="6"'
        parts.append(
            f'<text class="label" x="{left}" y="{top + 13}">{escape(format_value(label))}'
            f'<tspan class="detail" {below}>{escape(format_value(detail))}</tspan></text>'
        )
        for place, point in enumerate(row.points):
            y = top + label_height + POINT_HEIGHT * (place + 0.5)
            parts += _point(forest.tones[place], forest.names[place], point, y, across, left)
    parts.append(f'<path class="axis" d="M{left} {bottom}H{left + width}"/>')
    parts.append(_text(left + width / 2, bottom + 31, forest.x_label) + "</svg>")
    return Markup("".join(parts))  # noqa: S704 - every text in it is escaped above


def _two_lines(label: str, detail: str) -> tuple[str, str]:
    """A row's label and detail, where the label's last parts (``A | B | C``) move to the detail as far as it is too long."""
    parts = label.split(" | ")
    kept = len(parts)
    while kept > 1 and len(" | ".join(parts[:kept])) > FOREST_CHARACTERS:
        kept -= 1
    first = " | ".join(parts[:kept])
    return fitted([first], FOREST_CHARACTERS)[first], ", ".join(
        text for text in (" | ".join(parts[kept:]), detail) if text
    )


def heat_svg(heat: HeatMap) -> Markup:
    """A value for each pair; columns are numbered and named below, so that long names fit a narrow screen.

    Rows take the columns' numbers where they have their names, and are named below too where a name is long.
    """
    names = [format_value(name) for name in heat.rows]
    numbers = {format_value(name): number + 1 for number, name in enumerate(heat.columns)}
    long = any(len(name) > HEAT_CHARACTERS for name in names)
    labels: list[str] = [*numbers, *(name for name in names if long and name not in numbers)]
    numbers |= {name: numbers.get(name, labels.index(name) + 1) for name in labels}
    left, most = 148, max(1, len(heat.columns))
    width = max(FOREST_WIDTH, left + 4 + CELL_WIDTH * most)
    side = min(46.0, (width - left - 4) / most)
    height = 26.0
    bottom = 20 + height * len(heat.rows)
    parts = [_open(width, bottom + 22 + 14 * len(labels), heat.title)]
    parts += [_text(left + side * (j + 0.5), 14, str(j + 1)) for j, _ in enumerate(heat.columns)]
    for i, (name, values) in enumerate(zip(names, heat.values, strict=True)):
        y = 20 + height * i
        cut = name[: HEAT_CHARACTERS - 5 - len(str(numbers[name]))]
        short = f"{numbers[name]}  {cut}…" if len(name) > HEAT_CHARACTERS else name
        short = short if not long or len(name) > HEAT_CHARACTERS else f"{numbers[name]}  {name}"
        parts.append(f"<g><title>{escape(name)}</title>{_text(left - 6, y + height / 2 + 4, short, 'end')}</g>")
        for j, value in enumerate(values):
            said = f"{name}, {format_value(heat.columns[j])}: {format_value(value)}"
            parts.append(
                f'<g><title>{escape(said)}</title><rect class="heat" x="{left + side * j + 1:.1f}" y="{y + 1:.1f}" '
                f'width="{side - 2:.1f}" height="{height - 2:.1f}" fill-opacity="{0.65 * heat.strength(value):.2f}"/>'
                f"{_text(left + side * (j + 0.5), y + height / 2 + 4, 'n/a' if math.isnan(value) else f'{value:.2f}')}</g>"
            )
    parts.append(_text(4, bottom + 16, f"{heat.row_title} (rows), {heat.column_title} (columns):", "start"))
    named = fitted(labels, WIDE_CHARACTERS)
    parts += [_text(4, bottom + 30 + 14 * j, f"{j + 1}  {named[name]}", "start") for j, name in enumerate(labels)]
    return Markup("".join([*parts, "</svg>"]))  # noqa: S704 - every text in it is escaped above


def swatch(number: int) -> Markup:
    """A series' line and marker, for a legend."""
    return Markup(  # noqa: S704 - holds numbers only
        f'<svg class="swatch" viewBox="0 0 34 12" aria-hidden="true"><g class="{_class(number)}">'
        f"{_line('curve', 1, 6, 33, 6)}{_marker(number, 17, 6)}</g></svg>"
    )


def _point(
    number: int, name: str, point: PlottedEstimate | None, y: float, place: Callable[[float], float], left: float
) -> list[str]:
    if point is None:
        return []
    said = f"{format_value(name)}: {format_value(point.value)}"
    if math.isnan(point.value):
        return [f'<text class="detail {_class(number)}" x="{left}" y="{y + 3.5:.1f}">n/a</text>']
    parts = []
    if not (math.isnan(point.low) or math.isnan(point.high)):
        said += f" ({format_value(point.low)} to {format_value(point.high)})"
        parts.append(_line("bar", place(point.low), y, place(point.high), y))
    head = f'<g class="{_class(number)}"><title>{escape(said)}</title>'
    return [head, *parts, _marker(number, place(point.value), y), "</g>"]


def _class(tone: int) -> str:
    """Classes of a series: its colour, and its dash where that is not the colour's own."""
    colour, _, dash = look(tone)
    return f"s{colour}" if dash == colour else f"s{colour} v{dash}"


def _open(width: float, height: float, title: str) -> str:
    return f'<svg class="chart" viewBox="0 0 {width} {height:g}" role="img" aria-label="{escape(format_value(title))}">'


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, align: Align = "middle") -> str:
    return f'<text class="label" x="{x:.1f}" y="{y:.1f}" text-anchor="{align}">{escape(text)}</text>'


def _marker(number: int, x: float, y: float) -> str:
    return f'<path class="marker" transform="translate({x:.1f} {y:.1f})" d="{SHAPES[look(number)[1]]}"/>'


def _log(value: float, log: bool) -> float:
    return math.log10(value) if log else value
