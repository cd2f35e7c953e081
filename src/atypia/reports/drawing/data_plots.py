"""Plots as SVG or PNG: counts by class and domain, ROC curves of folds, a metric by domain.

Colours are from Okabe and Ito and remain distinct with the common colour-vision
deficiencies; nothing depends on colour alone. The same input gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from atypia.base import records as r
from atypia.base.artifacts import atomic_file
from atypia.base.errors import InputError, must
from atypia.evaluation import rows as e
from atypia.evaluation.summary import SummaryRow, by_domain, overall, pivot
from atypia.statistics.metrics import METRICS, auroc, roc_curve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES: Final = (".svg", ".png")
WIDTH_INCHES: Final = 7.5
PNG_DPI: Final = 160
ROW_INCHES: Final = 0.32
INK, FAINT = "#222222", "#8a8a8a"
CLASS_COLOURS: Final = ("#56B4E9", "#D55E00")
"""Colours of the negative and the positive class."""
SERIES_COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
SERIES_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
_STYLE: Final[Any] = {
    "font.family": "DejaVu Sans",  # shipped with matplotlib: the same everywhere
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.hashsalt": "atypia",
}


@dataclass(frozen=True)
class RocInput:
    """Predictions of one fold.

    Attributes:
        name: Name of the fold.
        labels: Shape (n,), 0 or 1, both present.
        scores: Shape (n,), finite, higher means more positive.
    """

    name: str
    labels: npt.ArrayLike
    scores: npt.ArrayLike


def counts_plot(
    rows: Sequence[tuple[str, str, int, int]],
    path: Path,
    classes: tuple[str, str] = r.CLASS_NAMES[r.ATYPICAL_TASK],
) -> Path:
    """Draws the counts of both classes in each domain as stacked bars, with the positives' share.

    Args:
        rows: Data set, domain, negatives, positives; data sets in the order of the panels.
        path: File to write, ``.svg`` or ``.png``.
        classes: Names of the negative and the positive class.

    Raises:
        InputError: No rows, a negative count, or another suffix.
    """
    with styled():
        return save_plot(draw_counts(rows, classes), path)


def roc_plot(folds: Sequence[RocInput], path: Path, title: str = "ROC curves") -> Path:
    """Draws the ROC curve of each fold and their vertical mean ± population sd.

    Args:
        folds: At least one, each with both classes.
        path: File to write, ``.svg`` or ``.png``.
        title: Title: model and data set.

    Raises:
        InputError: No folds, a fold with one class only, or another suffix.
    """
    with styled():
        return save_plot(draw_roc(folds, title), path)


def domain_plot(summary: pa.Table, path: Path, metric: str = "balanced_accuracy", title: str | None = None) -> Path:
    """Draws a metric of each classifier on each domain as dots with ± sd, and overall as a line.

    Args:
        summary: With :data:`atypia.evaluation.summary.SUMMARY_SCHEMA`, of one part of a data set.
        path: File to write, ``.svg`` or ``.png``.
        metric: Name in :data:`atypia.statistics.metrics.METRICS`.
        title: Title; None: the metric's and the data set's name.

    Raises:
        InputError: No domains, several parts or data sets, more classifiers than can be
            distinguished, or another suffix.
    """
    with styled():
        return save_plot(draw_domains(summary, metric, title), path)


def draw_counts(rows: Sequence[tuple[str, str, int, int]], classes: tuple[str, str]) -> Figure:
    """The matplotlib figure of :func:`counts_plot`, not yet written: one panel per data set."""
    from matplotlib.figure import Figure

    if not rows:
        raise InputError(must("rows", "at least one domain", "none", "choose a data set with figures"))
    if any(negative < 0 or positive < 0 for _, _, negative, positive in rows):
        raise InputError(must("rows", "counts ≥ 0", "a negative count", "count again"))
    names = list(dict.fromkeys(row[0] for row in rows))
    panels = [[row for row in rows if row[0] == name] for name in names]
    heights = [len(panel) for panel in panels]
    inches = ROW_INCHES * sum(heights) + 0.5 * len(panels) + 0.9
    figure = Figure(figsize=(WIDTH_INCHES, inches), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights, sharex=True)[:, 0]
    largest = max(negative + positive for _, _, negative, positive in rows) or 1
    for axis, name, panel in zip(axes, names, panels, strict=True):
        places = np.arange(len(panel))
        negative, positive = (np.array([row[i] for row in panel]) for i in (2, 3))
        # The positives start at the axis, so that their lengths can be compared.
        axis.barh(places, positive, height=0.72, color=CLASS_COLOURS[1], label=classes[1])
        axis.barh(places, negative, height=0.72, left=positive, color=CLASS_COLOURS[0], label=classes[0], hatch="..",
                  edgecolor="white", linewidth=0)  # fmt: skip
        for place, zero, one in zip(places, negative, positive, strict=True):
            share = f"{one / (zero + one):.0%}" if zero + one else "no labels"
            text = f"{one:,} of {zero + one:,} ({share})" if zero + one else share
            axis.text(one + zero + largest * 0.01, place, text, va="center", fontsize=8)
        axis.set_yticks(places, [_wrapped(row[1]) for row in panel])
        axis.tick_params(axis="y", length=0)
        total, ones = int(negative.sum() + positive.sum()), int(positive.sum())
        axis.set_title(f"{name}: {ones:,} {classes[1]} of {total:,}", loc="left")
        axis.set_ylim(len(panel) - 0.5, -0.5)
        axis.spines["left"].set_visible(False)
    axes[-1].set_xlim(0, largest * 1.3)
    axes[-1].set_xlabel("figures")
    axes[-1].xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return figure


def draw_roc(folds: Sequence[RocInput], title: str) -> Figure:
    """The matplotlib figure of :func:`roc_plot`, not yet written."""
    from matplotlib.figure import Figure

    if not folds:
        raise InputError(must("folds", "at least one", "none", "pass the predictions of a part"))
    figure = Figure(figsize=(5.2, 5.2), layout="constrained")
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8, linestyle=":", label="chance")
    grid, mean, sd = mean_roc(folds)
    areas = np.array([auroc(fold.labels, fold.scores) for fold in folds])
    many = len(folds) > 1
    for i, (fold, area) in enumerate(zip(folds, areas, strict=True)):
        fpr, tpr, _ = roc_curve(fold.labels, fold.scores)
        colour = SERIES_COLOURS[i % len(SERIES_COLOURS)]
        width, alpha = (0.9, 0.75) if many else (1.8, 1.0)
        axis.plot(fpr, tpr, color=colour, linewidth=width, alpha=alpha, label=f"{fold.name}: AUROC {area:.3f}")
    if many:
        axis.fill_between(grid, np.maximum(mean - sd, 0), np.minimum(mean + sd, 1), color=INK, alpha=0.12, linewidth=0)
        label = f"mean: AUROC {areas.mean():.3f} ± {areas.std():.3f} (population sd)"
        axis.plot(grid, mean, color=INK, linewidth=2, label=label)
    axis.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel="1 − specificity", ylabel="sensitivity")
    axis.set_title(title, loc="left")
    axis.set_aspect("equal")
    axis.legend(loc="lower right", fontsize=8, frameon=False)
    return figure


def mean_roc(folds: Sequence[RocInput], points: int = 201) -> tuple[npt.NDArray[np.float64], ...]:
    """Vertical average of ROC curves.

    Args:
        folds: At least one, each with both classes.
        points: Number of false positive rates, equally spaced over [0, 1].

    Returns:
        False positive rates, mean sensitivity and its population sd, each float64 of shape
        (points,). Between its points a curve is straight; where it rises vertically, the highest
        sensitivity counts, except at 0, where the mean starts at (0, 0) like the curves.
    """
    grid = np.linspace(0, 1, points)
    curves = np.empty((len(folds), points))
    for i, fold in enumerate(folds):
        fpr, tpr, _ = roc_curve(fold.labels, fold.scores)
        last = np.append(np.diff(fpr) > 0, True)  # the highest point of each vertical rise
        curves[i] = np.interp(grid, fpr[last], tpr[last])
    curves[:, 0] = 0.0
    return grid, curves.mean(axis=0), curves.std(axis=0)


def draw_domains(summary: pa.Table, metric: str, title: str | None) -> Figure:
    """The matplotlib figure of :func:`domain_plot`, not yet written."""
    from matplotlib.figure import Figure

    about = METRICS[metric]
    rows = [row for row in pivot(by_domain(summary)) if metric in row.cells]
    wholes = [row for row in pivot(overall(summary)) if metric in row.cells]
    places = {(row.subject[r.DATASET], row.subject[r.PART]) for row in rows}
    if len(places) != 1:
        raise InputError(
            must("summary", "of one part of one data set, by domain", f"{len(places)} of them", "filter it")
        )
    (dataset, part) = places.pop()
    named = _series_names(rows)
    domains = list(dict.fromkeys(str(row.subject[r.DOMAIN]) for row in rows))
    series = {name: [row for row in rows if named(row) == name] for name in dict.fromkeys(map(named, rows))}
    if len(series) > len(SERIES_COLOURS):
        raise InputError(
            must("summary", f"of at most {len(SERIES_COLOURS)} classifiers", len(series), "choose some of them")
        )
    step = min(0.22, 0.66 / len(series))
    inches = max(ROW_INCHES, 0.14 * len(series)) * len(domains) * 1.25 + 1.5 + 0.22 * ((len(series) + 1) // 2)
    figure = Figure(figsize=(WIDTH_INCHES, inches), layout="constrained")
    axis = figure.subplots()
    for i, (name, points) in enumerate(series.items()):
        means = np.array([row.cells[metric].mean for row in points])
        sds = np.nan_to_num([row.cells[metric].sd for row in points])
        y = np.array([domains.index(str(row.subject[r.DOMAIN])) for row in points]) + (i - (len(series) - 1) / 2) * step
        colour = SERIES_COLOURS[i]
        axis.errorbar(means, y, xerr=sds, fmt=SERIES_MARKERS[i], color=colour, markersize=5, elinewidth=1.2, label=name)
        for whole in (
            row
            for row in wholes
            if named(row) == name and (row.subject[r.DATASET], row.subject[r.PART]) == (dataset, part)
        ):
            axis.axvline(whole.cells[metric].mean, color=colour, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
        for place in y[np.isnan(means)]:
            axis.text(0.01, place, "n/a", color=colour, fontsize=7, va="center", transform=axis.get_yaxis_transform())
    axis.set_yticks(range(len(domains)), [_labelled(domain, rows) for domain in domains])
    axis.set_ylim(len(domains) - 0.5, -0.5)
    for edge in range(1, len(domains)):
        axis.axhline(edge - 0.5, color="#e6e6e6", linewidth=0.8, zorder=0)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    kind = "sample" if rows[0].ddof else "population"
    axis.set_xlabel(f"{about.title} (mean ± {kind} sd over runs; dashed: all figures together)")
    axis.set_title(title or ", ".join(word for word in (f"{about.title} by domain", dataset, part) if word), loc="left")
    figure.legend(loc="outside lower center", ncols=min(2, len(series)), frameon=False, fontsize=8)
    return figure


def _series_names(rows: Sequence[SummaryRow]) -> Callable[[SummaryRow], str]:
    """Names a classifier by its model and by other columns that distinguish the rows."""
    others = (e.RECIPE, e.ADAPTATION, e.PROTOCOL, e.TRAIN_DATA)
    telling = [e.MODEL, *(name for name in others if len({row.subject[name] for row in rows}) > 1)]
    return lambda row: ", ".join(str(row.subject[name]) for name in telling if row.subject[name])


def _labelled(domain: str, rows: Sequence[SummaryRow]) -> str:
    largest = max(row.n_positive[1] for row in rows if row.subject[r.DOMAIN] == domain)
    figures = max(row.n[1] for row in rows if row.subject[r.DOMAIN] == domain)
    return f"{_wrapped(domain)}\n{largest:,} of {figures:,} positive"


def _wrapped(domain: str, width: int = 34) -> str:
    """A domain's name on several lines, broken between its parts."""
    first, *parts = domain.split(" | ")
    lines = [first]
    for part in parts:
        if len(lines[-1]) + 3 + len(part) <= width:
            lines[-1] += f" | {part}"
        else:
            lines[-1] += " |"
            lines.append(part)
    return "\n".join(lines)


@contextmanager
def styled() -> Iterator[None]:
    """Sets matplotlib's settings for all plots within the block."""
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        yield


def save_plot(figure: Figure, path: Path) -> Path:
    """Writes a matplotlib figure as SVG or PNG, atomically; the same figure gives the same bytes.

    Raises:
        InputError: Another suffix.
    """
    form = path.suffix.lower()
    if form not in SUFFIXES:
        raise InputError(
            must(str(path), f"a name ending in {' or '.join(SUFFIXES)}", path.suffix or "no suffix", "rename")
        )
    metadata = {"Date": None} if form == ".svg" else {"Software": None}
    with atomic_file(path) as file:
        figure.savefig(file, format=form[1:], dpi=PNG_DPI, metadata=metadata)
    return path
