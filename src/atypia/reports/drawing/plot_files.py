"""Plots as files, drawn with matplotlib: SVG for papers, PNG for slides."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from atypia.base.artifacts import fingerprint, read_json, write_json
from atypia.base.errors import WorkError
from atypia.base.extras import require
from atypia.reports.drawing.data_plots import (
    FAINT,
    INK,
    ROW_INCHES,
    SERIES_COLOURS,
    SERIES_MARKERS,
    SUFFIXES,
    WIDTH_INCHES,
    save_plot,
    styled,
)
from atypia.reports.drawing.plots import MOST_MARKS, ConfusionPlot, Drawing, ForestPlot, HeatMap, LinePlot, fitted, look
from atypia.reports.drawing.values import format_value

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VERSION: Final = 4
"""Increased when the same plot is drawn differently."""
DRAWN: Final = ".drawn.json"
"""File with the content hashes of drawn plots, so that unchanged ones are not drawn again."""
DASHES: Final = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)), (0, (6, 1.5, 1.5, 1.5)), (0, (3, 1)), (0, (8, 2)), (0, (1, 1)))
LABEL_CHARACTERS, LEGEND_CHARACTERS, WRAPPED_CHARACTERS = 48, 84, 96
MOST_LEVEL: Final = 6
"""Of a heat map's columns whose names stand level beneath."""


def write_plots(charts: Iterable[Drawing], folder: Path) -> list[Path]:
    """Writes each plot as SVG and PNG; unchanged files are kept, files of other plots are removed.

    Args:
        charts: Plots with different keys.
        folder: Output folder; files are named by key.

    Returns:
        The files.

    Raises:
        AbsentError: Matplotlib is not installed.
    """
    wanted = {chart.key: chart for chart in charts}
    known = _known(folder)
    marks = {key: _mark(chart) for key, chart in wanted.items()}
    todo = [
        key for key, mark in marks.items()
        if known.get(key) != mark or not all((folder / f"{key}{suffix}").is_file() for suffix in SUFFIXES)
    ]  # fmt: skip
    if todo:
        _require_matplotlib()
        with styled():
            for key in todo:
                figure = draw(wanted[key])
                for suffix in SUFFIXES:
                    save_plot(figure, folder / f"{key}{suffix}")
    for stale in set(known) - set(marks):
        for suffix in SUFFIXES:
            (folder / f"{stale}{suffix}").unlink(missing_ok=True)
    if marks != known:
        write_json(folder / DRAWN, marks)
    return [folder / f"{key}{suffix}" for key in wanted for suffix in SUFFIXES]


def draw(chart: Drawing) -> Figure:
    """The matplotlib figure of a plot."""
    if isinstance(chart, LinePlot):
        return _draw_chart(chart)
    if isinstance(chart, HeatMap):
        return _draw_heat(chart)
    return _draw_forest(chart) if isinstance(chart, ForestPlot) else _draw_confusions(chart)


def _draw_chart(chart: LinePlot) -> Figure:
    from matplotlib.figure import Figure

    square = chart.diagonal or not chart.log_x
    legend = 0.58 + 0.17 * len(chart.curves)
    height = (4.4 if square else 3.0) + legend
    figure = Figure(figsize=(5.0, height) if square else (WIDTH_INCHES, height))
    axis = figure.subplots()
    names = fitted([curve.name for curve in chart.curves], LEGEND_CHARACTERS)
    if chart.diagonal:
        axis.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8, linestyle=":")
    for curve in reversed(chart.curves):
        colour, marker, dash = look(curve.tone)
        axis.plot(curve.x, curve.y, color=SERIES_COLOURS[colour], linestyle=DASHES[dash], linewidth=1.6,
                  marker=SERIES_MARKERS[marker] if chart.markers else None, markersize=4.5,
                  label=names[curve.name])  # fmt: skip
        if len(curve.low):
            axis.vlines(curve.x, curve.low, curve.high, color=SERIES_COLOURS[colour], linewidth=1.1)
    if chart.log_x:
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        marks = sorted({x for curve in chart.curves for x in curve.x})
        if len(marks) <= MOST_MARKS:  # shares of the data: the points themselves
            axis.set_xticks(marks)
            axis.minorticks_off()
    pad = 0.01 * (chart.y_range[1] - chart.y_range[0])
    axis.set(ylim=(chart.y_range[0] - pad, chart.y_range[1] + pad), xlabel=chart.x_label, ylabel=chart.y_label)
    axis.set_xlim(*chart.x_range) if chart.log_x else axis.set_xlim(chart.x_range[0] - 0.01, chart.x_range[1] + 0.01)
    axis.set_title(format_value(chart.title), loc="left", wrap=True)
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="lower left", bbox_to_anchor=(0.1, 0.0), fontsize=8, frameon=False)
    figure.subplots_adjust(left=0.12, right=0.97, top=1 - 0.4 / height, bottom=(legend + 0.05) / height)
    return figure


def _draw_forest(forest: ForestPlot) -> Figure:
    from matplotlib.figure import Figure

    many = max(1, len(forest.names))
    height = max(ROW_INCHES * 1.3, 0.15 * many + 0.16) * len(forest.rows)
    legend = 0.19 * many if many > 1 else 0.0
    inches = height + 1.0 + legend
    figure = Figure(figsize=(WIDTH_INCHES, inches))
    axis = figure.subplots()
    names = fitted(forest.names, LEGEND_CHARACTERS)
    step = 0.7 / many
    for value, name in forest.lines:
        axis.axvline(value, color=FAINT, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
        axis.annotate(
            format_value(name), (value, 1.0), xycoords=("data", "axes fraction"), fontsize=7, ha="center", va="bottom"
        )
    for number, name in enumerate(forest.names):
        found = [(place, row.points[number]) for place, row in enumerate(forest.rows)]
        known = [(place, point) for place, point in found if point is not None and not math.isnan(point.value)]
        y = [place + (number - (many - 1) / 2) * step for place, _ in known]
        of_colour, marker, _ = look(forest.tones[number])
        colour = SERIES_COLOURS[of_colour]
        axis.hlines(y, [p.low for _, p in known], [p.high for _, p in known], color=colour, linewidth=1.2)
        axis.plot([p.value for _, p in known], y, SERIES_MARKERS[marker], color=colour, markersize=4.5,
                  label=names[name])  # fmt: skip
    of_row = fitted([row.label for row in forest.rows], LABEL_CHARACTERS)
    labels = [
        f"{of_row[row.label]}\n{format_value(row.detail)}" if row.detail else of_row[row.label] for row in forest.rows
    ]
    axis.set_yticks(range(len(forest.rows)), labels, fontsize=8)
    axis.set_ylim(len(forest.rows) - 0.5, -0.5)
    axis.set_xlim(*forest.x_range)
    for edge in range(1, len(forest.rows)):
        axis.axhline(edge - 0.5, color="#e6e6e6", linewidth=0.8, zorder=0)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.set_xlabel(forest.x_label)
    axis.set_title(format_value(forest.title), loc="left", pad=16 if forest.lines else 6)
    if many > 1:
        figure.legend(loc="lower left", bbox_to_anchor=(0.02, 0.0), frameon=False, fontsize=8)
    figure.subplots_adjust(left=0.42, right=0.97, top=1 - 0.42 / inches, bottom=(0.5 + legend) / inches)
    return figure


def _draw_confusions(chart: ConfusionPlot) -> Figure:
    from matplotlib.figure import Figure

    across = min(3, len(chart.panels))
    down = math.ceil(len(chart.panels) / across)
    figure = Figure(figsize=(max(2.6 * across, 4.0), 2.5 * down + 0.4))
    axes = np.atleast_1d(figure.subplots(down, across)).ravel()
    negative, positive = chart.classes
    names = fitted([panel.name for panel in chart.panels], 56)
    for axis, panel in zip(axes, chart.panels, strict=False):
        counts = np.array([[panel.tp, panel.fn], [panel.fp, panel.tn]])
        totals = counts.sum(axis=1, keepdims=True)
        shares = np.divide(counts, totals, out=np.zeros((2, 2)), where=totals > 0)
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1.3)
        for (i, j), count in np.ndenumerate(counts):
            axis.text(j, i, f"{count:,}\n{shares[i, j]:.1%}", ha="center", va="center", color=INK, fontsize=8)
        axis.set_xticks([0, 1], [positive, negative], fontsize=7)
        axis.set_yticks([0, 1], [positive, negative], fontsize=7, rotation=90, va="center")
        axis.tick_params(length=0)
        axis.set_title(textwrap.fill(names[panel.name], 28), fontsize=8)
        axis.set_xlabel("decided", fontsize=7)
        axis.set_ylabel("label", fontsize=7)
    for axis in axes[len(chart.panels) :]:
        axis.set_visible(False)
    figure.suptitle(format_value(chart.title), x=0.02, ha="left", fontsize=10)
    figure.subplots_adjust(left=0.1, right=0.98, top=1 - 0.65 / (2.5 * down + 0.4), bottom=0.13 / down + 0.05,
                           hspace=0.55, wspace=0.35)  # fmt: skip
    return figure


def _draw_heat(heat: HeatMap) -> Figure:
    from matplotlib.figure import Figure

    upright = len(heat.columns) > MOST_LEVEL  # names side by side would run into each other
    below = 2.0 if upright else 1.1
    inches = 0.8 + below + 0.42 * len(heat.rows)
    figure = Figure(figsize=(WIDTH_INCHES, inches))
    axis = figure.subplots()
    shades = np.array([[heat.strength(value) for value in line] for line in heat.values])
    axis.imshow(shades, cmap="Blues", vmin=0, vmax=1.8, aspect="auto")
    for (i, j), _ in np.ndenumerate(shades):
        value = heat.values[i][j]
        axis.text(j, i, "n/a" if math.isnan(value) else f"{value:.3f}", ha="center", va="center", color=INK, fontsize=8)
    names = fitted([*heat.rows, *heat.columns], WRAPPED_CHARACTERS)
    of_column = [textwrap.fill(names[n], 24 if upright else 16) for n in heat.columns]
    axis.set_xticks(range(len(heat.columns)), of_column, fontsize=6.5, rotation=90 if upright else 0)
    axis.set_yticks(range(len(heat.rows)), [textwrap.fill(names[n], 32) for n in heat.rows], fontsize=7)
    axis.tick_params(length=0)
    axis.set_xlabel(heat.column_title)
    axis.set_ylabel(heat.row_title)
    axis.set_title(format_value(heat.title), loc="left", wrap=True)
    figure.subplots_adjust(left=0.3, right=0.98, top=1 - 0.4 / inches, bottom=below / inches)
    return figure


def _mark(chart: Drawing) -> str:
    return fingerprint(VERSION, type(chart).__name__, repr(asdict(chart)))


def _known(folder: Path) -> dict[str, str]:
    try:
        value = read_json(folder / DRAWN)
    except WorkError:
        return {}
    return {str(key): str(mark) for key, mark in value.items()} if isinstance(value, Mapping) else {}


def _require_matplotlib() -> None:
    require("a plot as a file", "matplotlib")
