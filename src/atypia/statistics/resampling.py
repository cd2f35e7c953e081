"""Metrics of weighted cases: the common part of bootstrap, jackknife and permutation tests.

A *case* (patient, else slide) is drawn or left out as a whole, because figures of one case
resemble each other. A draw is therefore a weight for each case, the number of times it was drawn,
and a statistic is a function of these weights: shape (draws, cases) in, shape (draws,) out, for
all draws at once. Metrics of decisions and Brier score and ECE are functions of sums over cases,
so their draws are one matrix product; AUROC and average precision run over figures sorted once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must
from atypia.statistics.casestats import (
    Auroc,
    AveragePrecision,
    CaseStatistic,
    Combination,
    Repeated,
    Sums,
    divide,
)
from atypia.statistics.confusion import Confusion, FloatArray, IntArray, check_binary, check_length
from atypia.statistics.metrics import ECE_BINS, METRICS, Metric, UndefinedMetricWarning, compute


@dataclass(frozen=True, eq=False)
class PredictedLabels:
    """Predictions of one classifier, or of several models of it, for the same figures.

    Attributes:
        probabilities: Shape (n,) or (models, n), float in [0, 1], of the positive class.
        decisions: Same shape, 0 or 1.

    With several models (five fold models that each scored the whole test set) a metric is the mean
    of the models' own values, as benchmarks report it; it is not the metric of their ensemble.
    """

    probabilities: npt.ArrayLike
    decisions: npt.ArrayLike


def case_codes(cases: Sequence[Any] | npt.NDArray[Any], n: int) -> tuple[IntArray, int]:
    """Numbers the cases.

    Args:
        cases: Shape (n,), the case of each figure: strings or numbers, none missing.
        n: Number of figures.

    Returns:
        Code of each figure's case, int64 of shape (n,), in [0, cases), in the order of the sorted
        names, so that row order does not matter; and the number of cases.

    Raises:
        InputError: A case is missing, or the number of cases is not n.
    """
    given = np.asarray(cases)
    if given.ndim != 1 or len(given) != n:
        raise InputError(must("cases", f"one per figure ({n})", f"shape {given.shape}", "align them by figure"))
    missing = sum(case is None or case != case for case in given.tolist())  # NaN is not equal to itself
    if missing:
        fix = "where the case is unknown, use the slide or the figure id"
        raise InputError(must("cases", "known for every figure", f"{missing} missing", fix))
    names, codes = np.unique(given.astype(str) if given.dtype.kind == "O" else given, return_inverse=True)
    return codes.astype(np.int64), len(names)


def metric_statistic(metric: Metric, labels: npt.ArrayLike, values: npt.ArrayLike, codes: IntArray) -> CaseStatistic:
    """A metric as a function of case weights.

    Args:
        metric: An entry of :data:`atypia.statistics.metrics.METRICS`, or any other metric, which is
        computed draw by draw on repeated figures: slow, but correct.
        labels: Shape (n,), 0 or 1.
        values: The type that ``metric.needs`` names, shape (n,) or (models, n): the mean over models.
        codes: Shape (n,), from :func:`case_codes`.

    Returns:
        The statistic.
    """
    y = check_binary("labels", labels)
    rows = np.atleast_2d(np.asarray(values, dtype=np.float64))
    parts = [_one(metric, y, row, codes, int(codes.max()) + 1) for row in rows]
    return parts[0] if len(parts) == 1 else Combination(tuple(parts), (1 / len(parts),) * len(parts))


def statistics_of(
    labels: npt.ArrayLike, predicted: PredictedLabels, codes: IntArray, names: Iterable[str] | None = None
) -> dict[str, CaseStatistic]:
    """The metrics of a classifier as functions of case weights.

    Args:
        labels: Shape (n,), 0 or 1.
        predicted: The classifier's predictions.
        codes: Shape (n,), from :func:`case_codes`.
        names: Metrics; None: all.

    Returns:
        Metric name to statistic.

    Raises:
        InputError: As :func:`atypia.statistics.metrics.compute`.
    """
    chosen = [METRICS[name] for name in (METRICS if names is None else names)]
    p, d = np.atleast_2d(np.asarray(predicted.probabilities)), np.atleast_2d(np.asarray(predicted.decisions))
    if p.ndim != 2 or p.shape != d.shape:
        got = f"shapes {p.shape} and {d.shape}"
        raise InputError(
            must("predicted", "probabilities and decisions of one shape", got, "give both for every model")
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)  # called only to check the input
        for probabilities, decisions in zip(p, d, strict=True):
            check_length(check_binary("labels", labels), "decisions", check_binary("decisions", decisions))
            compute(labels, probabilities, decisions, ["brier"])
    return {m.name: metric_statistic(m, labels, d if m.needs == "decisions" else p, codes) for m in chosen}


def _one(metric: Metric, y: npt.NDArray[np.bool_], values: FloatArray, codes: IntArray, cases: int) -> CaseStatistic:
    check_length(y, metric.needs, values)
    if metric.needs == "decisions" and isinstance(getattr(Confusion, metric.name, None), property):
        d = values > 0
        return Sums(_summed([y & d, ~y & d, ~y & ~d, y & ~d], codes, cases), _confused(metric.name))
    if metric.name == "auroc":
        positive, negative = (np.flatnonzero(mask)[np.argsort(values[mask], kind="stable")] for mask in (y, ~y))
        s, t = values[positive], values[negative]
        sides = (np.searchsorted(t, s, side="left"), np.searchsorted(t, s, side="right"))
        return Auroc(codes[positive], codes[negative], *sides, cases)
    if metric.name == "average_precision":
        positive, negative = (np.flatnonzero(mask)[np.argsort(-values[mask], kind="stable")] for mask in (y, ~y))
        s, t = -values[positive], -values[negative]
        sides = (np.searchsorted(s, s, side="right"), np.searchsorted(t, s, side="right"))
        return AveragePrecision(codes[positive], codes[negative], *sides, cases)
    if metric.name == "brier":
        return Sums(_summed([(values - y) ** 2, np.ones(len(y))], codes, cases), _share)
    if metric.name == "ece":
        bins = np.searchsorted(np.linspace(0.0, 1.0, ECE_BINS + 1)[1:-1], values, side="right")
        gaps = np.bincount(codes * ECE_BINS + bins, values - y, cases * ECE_BINS).astype(np.float64)
        return Sums(np.hstack([gaps.reshape(cases, ECE_BINS), _summed([np.ones(len(y))], codes, cases)]), _share)
    return Repeated(metric.function, y, values, codes, cases)


def _summed(columns: list[npt.NDArray[Any]], codes: IntArray, cases: int) -> FloatArray:
    """Sums over each case's figures, shape (cases, columns)."""
    sums = [np.bincount(codes, column.astype(np.float64), cases).astype(np.float64) for column in columns]
    return np.stack(sums, axis=1)


def _confused(name: str) -> Callable[[FloatArray], FloatArray]:
    def combine(sums: FloatArray) -> FloatArray:
        return getattr(Confusion(*np.rint(sums).astype(np.int64).T), name)

    return combine


def _share(sums: FloatArray) -> FloatArray:
    """Σ |sums of all columns but the last| / last column: the Brier score and the ECE."""
    return divide(np.abs(sums[:, :-1]).sum(axis=1), sums[:, -1])
