"""The history for people: a table for the terminal and docs/results/speed.md, and a plot for each ratio."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from atypia.base.artifacts import atomic_file
from benchmarks.measuring.history import QUIET, ROOT, Run, load
from benchmarks.measuring.slower import Compared, compare, references

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAGE: Final = ROOT / "docs" / "results" / "speed.md"
PLOT: Final = ROOT / "docs" / "images" / "speed-history.svg"
MARK: Final = "speed history"
SHOWN: Final = 4
"""Runs in the table; all are in the plot."""
COLUMNS: Final = 3


def names_of(runs: Sequence[Run]) -> list[str]:
    """All ratios, in alphabetical order."""
    return sorted({name for run in runs for name in run.pairs})


def table(runs: Sequence[Run] | None = None) -> str:
    """The last runs as Markdown: a row a ratio, its median and in brackets least and greatest pair."""
    given = load() if runs is None else runs
    shown = given[-SHOWN:]
    lines = [
        "| ratio: yardstick's time / own time | " + " | ".join(_head(run) for run in shown) + " |",
        "|---" * (len(shown) + 1) + "|",
    ]
    for name in names_of(shown):
        cells = [_cell(run.pairs.get(name, ())) for run in shown]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    about = []
    for run in shown:
        said = f"{run.date}: {run.processor}, {run.cores} cores, {run.memory_gib} GiB"
        if run.source:
            about.append(f"{said}; medians alone, copied from {run.source}")
            continue
        kept = ", ".join(f"{key} {value}" for key, value in run.versions.items())
        taken = "an unknown part" if run.others is None else f"{run.others:.0%}".replace("%", " %")
        about.append(f"{said}; other programs took {taken} of the processor; {kept}")
    return "\n".join([*lines, "", *(f"- {line}." for line in about)])


def verdict(run: Run, earlier: Sequence[Run]) -> str:
    """What a run says: what became slower, or why that is not known."""
    if run.busy:
        return (
            f"not compared: other programs took more than {QUIET:.0%} of the processor; measure again when it is quiet"
        )
    fit, compared = references(run, earlier), compare(run, earlier)
    if not compared:
        return (
            f"not compared: no earlier quiet run on {run.processor} with {run.cores} cores; the next one has this one"
        )
    slower = [one for one in compared if one.slower]
    against = f"{len(compared)} ratios against {len(fit)} run{'s' * (len(fit) > 1)} since {fit[0].date}"
    if not slower:
        return f"nothing became slower by more than noise ({against})"
    return "\n".join([f"slower by more than noise ({against}):", *(f"  {_fallen(one)}" for one in slower)])


def write(runs: Sequence[Run] | None = None, page: Path = PAGE, plot: Path = PLOT) -> None:
    """Writes table and plot of the documentation anew."""
    given = load() if runs is None else runs
    text, mark = page.read_text("utf-8"), f"<!-- {MARK} -->\n"
    head, _, rest = text.partition(mark)
    _, end, tail = rest.partition(f"<!-- /{MARK} -->")
    with atomic_file(page) as file:
        file.write(f"{head}{mark}{table(given)}\n{end}{tail}".encode())
    draw(given, plot)


def seal(runs: Sequence[Run]) -> str:
    """A hash of what a plot was drawn from, which the plot holds."""
    return hashlib.sha256(json.dumps([asdict(run) for run in runs]).encode()).hexdigest()[:16]


def draw(runs: Sequence[Run], path: Path) -> None:
    """A small plot for each ratio: median and range of the pairs in every run that has it."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from atypia.reports.drawing.data_plots import styled

    names = names_of(runs)
    rows = -(-len(names) // COLUMNS)
    with styled(), matplotlib.rc_context({"svg.hashsalt": "speed"}):
        figure, grid = plt.subplots(
            rows, COLUMNS, figsize=(9.6, 1.55 * rows + 0.5), sharex=True, squeeze=False, layout="constrained"
        )
        for axes, name in zip(grid.flat, names, strict=False):
            _panel(axes, runs, name)
        for axes in grid.flat[max(0, len(names) - COLUMNS) : len(names)]:
            axes.tick_params(labelbottom=True)  # the last of its column
        for axes in grid.flat[len(names) :]:
            axes.set_axis_off()
        figure.supylabel("yardstick's time / own time: more is faster", fontsize=8)
        with atomic_file(path) as file:
            figure.savefig(file, format="svg", metadata={"Date": None, "Description": f"history {seal(runs)}"})
        plt.close(figure)


def _panel(axes: Axes, runs: Sequence[Run], name: str) -> None:
    for place, run in enumerate(runs):
        values = run.pairs.get(name)
        if not values:
            continue
        middle = statistics.median(values)
        axes.plot([place, place], [min(values), max(values)], color="#1f5fa8", linewidth=1)
        marker, face = ("s", "#8a8f98") if run.source else ("o", "white" if run.busy else "#1f5fa8")
        axes.plot(place, middle, marker, color="#8a8f98" if run.source else "#1f5fa8", mfc=face, markersize=4)
    axes.set_title(name, fontsize=7, loc="left")
    axes.set_xlim(-0.5, len(runs) - 0.5)
    axes.set_ylim(bottom=0)
    axes.set_xticks(range(len(runs)), [run.date[5:] for run in runs], fontsize=6, rotation=45)
    axes.tick_params(axis="y", labelsize=6)


def _head(run: Run) -> str:
    what = run.commit or "several commits"
    notes = [*(["changed files"] if run.changed else []), *([_busy(run)] if run.busy and not run.source else [])]
    return f"{run.date}, {', '.join([what, *notes])}" + (", from this page" if run.source else "")


def _busy(run: Run) -> str:
    return "load not known" if run.others is None else "busy machine"


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    middle = f"{statistics.median(values):.2f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.2f} to {max(values):.2f})"


def _fallen(one: Compared) -> str:
    return f"{one.name}: {one.before:.2f} → {one.now:.2f} ({one.change:+.0%}, p = {one.p:.2g})"
