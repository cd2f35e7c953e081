"""Two classifiers on the same figures: difference, interval over cases and p-value of each metric."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from atypia.base.errors import DataError, InputError, must
from atypia.statistics.differences.paired import swap_test
from atypia.statistics.intervals import Bootstrap, Interval, difference_intervals
from atypia.statistics.metrics import METRICS
from atypia.statistics.resampling import PredictedLabels, case_codes, statistics_of

COMPARED_METRICS: Final = ("balanced_accuracy", "sensitivity", "specificity", "auroc")
"""What is compared where nobody names metrics."""


@dataclass(frozen=True, eq=False)
class ScoredFigures:
    """Labelled figures and what a classifier, or several models of one, said about them.

    Attributes:
        figures: What tells each figure from all others, shape (n,); for instance (data set, figure id).
        labels: 0 or 1, shape (n,).
        cases: The case of each figure, shape (n,).
        predicted: Probabilities and decisions, (n,) or (models, n).
    """

    figures: list[Any]
    labels: npt.NDArray[np.int8]
    cases: list[str]
    predicted: PredictedLabels

    def __len__(self) -> int:
        return len(self.figures)

    def take(self, rows: Sequence[int]) -> ScoredFigures:
        """The figures at these positions, in this order."""
        at = np.asarray(rows, dtype=np.int64)
        p, d = (np.asarray(values)[..., at] for values in (self.predicted.probabilities, self.predicted.decisions))
        cases = [self.cases[row] for row in at.tolist()]
        return ScoredFigures([self.figures[row] for row in at.tolist()], self.labels[at], cases, PredictedLabels(p, d))


def pool_models(
    figures: Sequence[Any],
    models: Sequence[Any],
    labels: npt.ArrayLike,
    cases: Sequence[str],
    probabilities: npt.ArrayLike,
    thresholds: npt.ArrayLike,
) -> ScoredFigures:
    """Brings the rows of several models together, each figure once.

    Where every model scored every figure (fold models on one test set) a metric is later the mean of the models'
    own values. Where each figure was scored by some of them (cross-validation) its probability is their mean, and it
    is decided positive where the mean of probability − threshold is at least 0.

    Args:
        figures: Of each row, shape (rows,).
        models: Which model scored it, shape (rows,).
        labels: 0 or 1, shape (rows,).
        cases: Shape (rows,).
        probabilities: Of the positive class, in [0, 1], shape (rows,).
        thresholds: Of the row's model, shape (rows,).

    Raises:
        InputError: A model scored a figure twice.

    >>> both = pool_models(["a", "b", "a", "b"], [1, 1, 2, 2], [1, 0, 1, 0], ["k"] * 4, [0.9, 0.2, 0.7, 0.6], [0.5] * 4)
    >>> both.figures, both.predicted.decisions.tolist()
    (['a', 'b'], [[1, 0], [1, 1]])
    """
    y = np.asarray(labels, dtype=np.int8)
    p, t = np.asarray(probabilities, dtype=np.float64), np.asarray(thresholds, dtype=np.float64)
    pairs = Counter(zip(models, figures, strict=True))
    if pairs and max(pairs.values()) > 1:
        (model, figure), _ = pairs.most_common(1)[0]
        raise InputError(must("figures", "scored once by a model", f"{figure} twice by {model}", "take one part only"))
    order = {figure: number for number, figure in enumerate(dict.fromkeys(figures))}
    at = np.array([order[figure] for figure in figures], dtype=np.int64)
    which = {model: number for number, model in enumerate(dict.fromkeys(models))}
    by = np.array([which[model] for model in models], dtype=np.int64)
    n = len(order)
    first = np.zeros(n, dtype=np.int64)
    first[at[::-1]] = np.arange(len(at))[::-1]
    if len(at) == n * len(which):  # every model scored every figure
        each, limits = np.empty((len(which), n)), np.empty((len(which), n))
        each[by, at], limits[by, at] = p, t
        decided = (each >= limits).astype(np.int8)
        predicted = PredictedLabels(each, decided) if len(which) > 1 else PredictedLabels(each[0], decided[0])
    else:
        counts = np.bincount(at, minlength=n)
        mean, margin = np.bincount(at, p, n) / counts, np.bincount(at, p - t, n) / counts
        predicted = PredictedLabels(mean, (margin >= 0).astype(np.int8))
    return ScoredFigures(list(order), y[first], [cases[row] for row in first.tolist()], predicted)


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Differences «first − second» of two classifiers on the figures that both scored.

    Attributes:
        first: Name of the first.
        second: Name of the second.
        values: Metric to the values of both.
        differences: Metric to the difference and its interval; cases are drawn, the same for both.
        p: Metric to the two-sided p-value of swaps of cases; NaN where the two are means of different numbers of
            models, which cannot be swapped in pairs.
        n: Figures that both scored.
        n_positive: Positive ones among them.
        n_cases: Their cases.
        left_out: Figures that only one of them scored.
    """

    first: str
    second: str
    values: Mapping[str, tuple[float, float]]
    differences: Mapping[str, Interval]
    p: Mapping[str, float]
    n: int
    n_positive: int
    n_cases: int
    left_out: int = field(default=0)

    def __getitem__(self, metric: str) -> Interval:
        if metric not in self.differences:
            _ = METRICS[metric]  # an unknown one lists the choices
            raise InputError(must("metric", f"one of {', '.join(self.differences)}", metric, "name it in `metrics`"))
        return self.differences[metric]

    def rows(self) -> list[dict[str, Any]]:
        """One mapping a metric: values of both, difference, interval, p-value."""
        return [
            {
                "metric": name,
                "first": self.values[name][0],
                "second": self.values[name][1],
                "difference": found.estimate,
                "low": found.low,
                "high": found.high,
                "p": self.p[name],
            }
            for name, found in self.differences.items()
        ]

    def __repr__(self) -> str:
        left = f", {self.left_out} of one only left out" if self.left_out else ""
        head = (f"<Comparison {self.first} − {self.second}: {self.n:,} figures ({self.n_positive:,} positive) "
                f"of {self.n_cases:,} cases{left}>")  # fmt: skip
        lines = [
            f"  {row['metric']}: {row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
            f" ({row['first']:.3f} − {row['second']:.3f}), p {row['p']:.3g}"
            for row in self.rows()
        ]
        return "\n".join([head, *lines])


def compare_scored(
    first: ScoredFigures,
    second: ScoredFigures,
    names: tuple[str, str] = ("first", "second"),
    metrics: Iterable[str] = COMPARED_METRICS,
    options: Bootstrap | None = None,
) -> Comparison:
    """Compares two classifiers on the figures that both scored: paired, with cases as the unit.

    Intervals are those of :func:`atypia.statistics.intervals.difference_intervals`, p-values those of
    :func:`atypia.statistics.differences.paired.swap_test`. They tell how the difference varies with other patients, not with
    another training.

    Args:
        first: What the first said.
        second: What the second said.
        names: What messages and tables call them.
        metrics: Names in :data:`atypia.statistics.metrics.METRICS`.
        options: How to draw.

    Raises:
        InputError: No figure was scored by both, or a metric is unknown.
        DataError: The two have different labels of a figure.
    """
    chosen, options = list(metrics), options or Bootstrap()
    where = {figure: row for row, figure in enumerate(second.figures)}
    ours = [row for row, figure in enumerate(first.figures) if figure in where]
    if not ours:
        fix = "compare them on the same data set and part"
        raise InputError(must("predictions", "of some figures in common", "none", fix))
    theirs = [where[first.figures[row]] for row in ours]
    left_out = len(first) + len(second) - 2 * len(ours)
    a, b = first.take(ours), second.take(theirs)
    differ = np.flatnonzero(a.labels != b.labels)
    if len(differ):
        raise DataError(must("labels", "the same for both", f"{len(differ)} others (first {a.figures[differ[0]]})",
                             "compare them on the same labels"))  # fmt: skip
    codes, n_cases = case_codes(a.cases, len(a))
    whole = np.ones((1, n_cases))
    both = [statistics_of(a.labels, one.predicted, codes, chosen) for one in (a, b)]
    values = {name: (float(both[0][name].of(whole)[0]), float(both[1][name].of(whole)[0])) for name in chosen}
    differences = difference_intervals(a.labels, a.predicted, b.predicted, a.cases, chosen, options)
    p = dict.fromkeys(chosen, math.nan)
    if np.shape(a.predicted.decisions) == np.shape(b.predicted.decisions):
        swapped = swap_test(a.labels, a.predicted, b.predicted, a.cases, chosen, options.draws, options.seed)
        p = {name: swapped[name].p for name in chosen}
    return Comparison(*names, values, differences, p, len(a), int(a.labels.sum()), n_cases, left_out)
