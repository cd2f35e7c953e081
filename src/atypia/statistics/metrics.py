"""Metrics of a binary classifier: pure functions of arrays.

Notation, with *atypical* (label 1) as the positive class: ``TP`` positives decided positive, ``FP``
negatives decided positive, ``TN`` negatives decided negative, ``FN`` positives decided negative,
``P = TP + FN``, ``N = TN + FP``, ``n = P + N``.

The kinds of input are separate arguments; nothing is guessed from a value's range:

* *labels*: shape (n,), 0 or 1;
* *decisions*: shape (n,), 0 or 1, made at some threshold;
* *scores*: shape (n,), finite, of any range, higher means more positive; only their order counts;
  *probabilities*: shape (n,), in [0, 1], of the positive class; their values count.

A metric that the labels leave undefined (a needed class is absent, or there are no figures) is NaN and
raises an :class:`UndefinedMetricWarning`; it is never 0.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must
from atypia.base.registry import Registry
from atypia.statistics.confusion import (
    FloatArray,
    IntArray,
    check_binary,
    check_finite,
    check_length,
    check_probabilities,
    confusion,
)

ECE_BINS = 15
"""Bins of the expected calibration error by default (Guo et al. 2017)."""


class UndefinedMetricWarning(UserWarning):
    """A metric has no value on these labels and is NaN."""


def balanced_accuracy(labels: npt.ArrayLike, decisions: npt.ArrayLike) -> float:
    """Mean of sensitivity and specificity, in [0, 1]; NaN where a class is absent.

    >>> balanced_accuracy([1, 1, 0, 0], [1, 0, 0, 0])
    0.75
    """
    return _defined("balanced accuracy", confusion(labels, decisions).balanced_accuracy, "a class is absent")


def sensitivity(labels: npt.ArrayLike, decisions: npt.ArrayLike) -> float:
    """Share of the positives that are decided positive (recall), in [0, 1]; NaN without positives."""
    return _defined("sensitivity", confusion(labels, decisions).sensitivity, "there are no positives")


def specificity(labels: npt.ArrayLike, decisions: npt.ArrayLike) -> float:
    """Share of the negatives that are decided negative, in [0, 1]; NaN without negatives."""
    return _defined("specificity", confusion(labels, decisions).specificity, "there are no negatives")


def accuracy(labels: npt.ArrayLike, decisions: npt.ArrayLike) -> float:
    """Share of figures whose decision equals the label, in [0, 1]; NaN without figures."""
    return _defined("accuracy", confusion(labels, decisions).accuracy, "there are no figures")


def precision(labels: npt.ArrayLike, decisions: npt.ArrayLike) -> float:
    """Share of positive decisions that are right, in [0, 1]; NaN where nothing is decided positive."""
    return _defined("precision", confusion(labels, decisions).precision, "nothing was decided positive")


def npv(labels: npt.ArrayLike, decisions: npt.ArrayLike) -> float:
    """Share of negative decisions that are right, in [0, 1]; NaN where nothing is decided negative."""
    return _defined("NPV", confusion(labels, decisions).npv, "nothing was decided negative")


def f1(labels: npt.ArrayLike, decisions: npt.ArrayLike) -> float:
    """F1 of the positive class, in [0, 1]; NaN without positives.

    It is 0, not undefined, where there are positives and none is found.
    """
    return _defined("F1", confusion(labels, decisions).f1, "there are no positives")


def weighted_f1(labels: npt.ArrayLike, decisions: npt.ArrayLike) -> float:
    """Mean of both classes' F1, weighted by the classes' counts, in [0, 1]; NaN without figures."""
    return _defined("weighted F1", confusion(labels, decisions).weighted_f1, "there are no figures")


def auroc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Area under the ROC curve: P(score of a positive > score of a negative) + ½ P(equal).

    Computed from integer rank counts, so ties are exact and the result is rounded once.

    Args:
        labels: Shape (n,), 0 or 1.
        scores: Shape (n,), finite, higher means more positive; only the order counts.

    Returns:
        In [0, 1]; NaN where a class is absent.

    >>> auroc([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.8])
    0.875
    """
    positives, negatives = _tied_counts(labels, scores)
    p, n = int(positives.sum()), int(negatives.sum())
    if p == 0 or n == 0:
        return _undefined("AUROC", "a class is absent")
    below = np.cumsum(negatives) - negatives
    # Twice the Mann-Whitney U: whole numbers up to 2 P N, which is far from the end of int64.
    twice_u = int((positives * (2 * below + negatives)).sum())
    return twice_u / (2 * p * n)


def average_precision(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Average precision: the sum over thresholds of precision × gain in recall, not interpolated.

    Equal scores pass a threshold together, so their order in the array does not matter.

    Args:
        labels: Shape (n,), 0 or 1.
        scores: Shape (n,), finite, higher means more positive; only the order counts.

    Returns:
        In (0, 1]; NaN without positives.
    """
    positives, negatives = _tied_counts(labels, scores)
    p = int(positives.sum())
    if p == 0:
        return _undefined("average precision", "there are no positives")
    positives, negatives = positives[::-1], negatives[::-1]
    found = np.cumsum(positives)
    return float((positives / p * found / (found + np.cumsum(negatives))).sum())


def brier(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """Brier score: mean of (probability − label)², in [0, 1], lower is better; NaN without figures.

    This is half of Brier's original sum over both classes.
    """
    y, p = check_probabilities(labels, probabilities)
    return float(np.mean((p - y) ** 2)) if len(y) else _undefined("Brier score", "there are no figures")


def ece(labels: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = ECE_BINS) -> float:
    """Expected calibration error of the positive class's probability.

    [0, 1] is cut into bins of equal width, closed on the left (the last on both sides); the error
    is the sum over bins of (figures in the bin / n) · |mean probability − share of positives|.
    This is calibration of *p(positive)*, not of the confidence max(p, 1 − p).

    Args:
        labels: Shape (n,), 0 or 1.
        probabilities: Shape (n,), in [0, 1], of the positive class.
        bins: Number of bins, at least 1 (default 15).

    Returns:
        In [0, 1], lower is better; NaN without figures.
    """
    if bins < 1:
        raise InputError(must("bins", "at least 1", bins, f"use {ECE_BINS}"))
    y, p = check_probabilities(labels, probabilities)
    if not len(y):
        return _undefined("ECE", "there are no figures")
    inner_edges = np.linspace(0.0, 1.0, bins + 1)[1:-1]
    which = np.searchsorted(inner_edges, p, side="right")
    gap = np.bincount(which, weights=p - y, minlength=bins)
    return float(np.abs(gap).sum() / len(y))


def roc_curve(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The ROC curve, one point per distinct score.

    Args:
        labels: Shape (n,), 0 or 1, both classes present.
        scores: Shape (n,), finite, higher means more positive.

    Returns:
        False positive rate, true positive rate and threshold («positive where score ≥ threshold»),
        each float64 of shape (distinct scores + 1,), from (0, 0) with threshold ∞ to (1, 1).

    Raises:
        InputError: A class is absent, or the arguments are not labels and scores.
    """
    positives, negatives = _tied_counts(labels, scores)
    p, n = int(positives.sum()), int(negatives.sum())
    if p == 0 or n == 0:
        raise InputError(must("labels", "of both classes", f"{p} positives, {n} negatives", "choose another part"))
    thresholds = np.unique(np.asarray(scores, dtype=np.float64))[::-1]
    tpr = np.concatenate([[0.0], np.cumsum(positives[::-1]) / p])
    fpr = np.concatenate([[0.0], np.cumsum(negatives[::-1]) / n])
    return fpr, tpr, np.concatenate([[np.inf], thresholds])


@dataclass(frozen=True)
class Metric:
    """A metric and its description in reports.

    Attributes:
        name: Key in :data:`METRICS` and value of the column ``metric`` of result rows.
        title: Full name, for headings.
        short: Abbreviation, for narrow columns.
        needs: Type of the second argument: ``decisions``, ``scores`` or ``probabilities``.
        higher_is_better: Whether the best value is the highest.
        formula: In this module's notation.
        source: Publication that defines it.
        function: ``function(labels, second argument) -> float``.
    """

    name: str
    title: str
    short: str
    needs: Literal["decisions", "scores", "probabilities"]
    higher_is_better: bool
    formula: str
    source: str
    function: Callable[[npt.ArrayLike, npt.ArrayLike], float]


METRICS = Registry[Metric]("metric")
"""Every metric, in the order of reports."""

for _metric in (
    Metric(
        "balanced_accuracy", "Balanced accuracy", "BA", "decisions", True,
        "(TP / P + TN / N) / 2", "Brodersen et al., ICPR 2010", balanced_accuracy,
    ),
    Metric("sensitivity", "Sensitivity", "Sens.", "decisions", True, "TP / P", "Altman & Bland, BMJ 1994", sensitivity),
    Metric("specificity", "Specificity", "Spec.", "decisions", True, "TN / N", "Altman & Bland, BMJ 1994", specificity),
    Metric(
        "auroc", "Area under the ROC curve", "AUROC", "scores", True,
        "U / (P N), U = #(positive > negative) + ½ #(equal)", "Hanley & McNeil, Radiology 1982", auroc,
    ),
    Metric(
        "average_precision", "Average precision", "AP", "scores", True,
        "Σₖ (Rₖ − Rₖ₋₁) Pₖ over distinct thresholds", "Zhu, University of Waterloo, 2004", average_precision,
    ),
    Metric(
        "f1", "F1", "F1", "decisions", True,
        "2 TP / (2 TP + FP + FN)", "van Rijsbergen, Information Retrieval, 1979", f1,
    ),
    Metric(
        "weighted_f1", "Weighted F1", "wF1", "decisions", True,
        "P / n · F1(positive) + N / n · F1(negative)", "scikit-learn, f1_score(average='weighted')", weighted_f1,
    ),
    Metric("accuracy", "Accuracy", "Acc.", "decisions", True, "(TP + TN) / n", "Sokolova & Lapalme, IPM 2009", accuracy),
    Metric(
        "precision", "Precision (PPV)", "PPV", "decisions", True, "TP / (TP + FP)", "Altman & Bland, BMJ 1994", precision
    ),
    Metric(
        "npv", "Negative predictive value", "NPV", "decisions", True, "TN / (TN + FN)", "Altman & Bland, BMJ 1994", npv
    ),
    Metric(
        "brier", "Brier score", "Brier", "probabilities", False,
        "Σ (p − y)² / n", "Brier, Monthly Weather Review 1950", brier,
    ),
    Metric(
        "ece", "Expected calibration error", "ECE", "probabilities", False,
        "Σ_b n_b / n · |mean p − mean y|, 15 bins of equal width", "Naeini et al., AAAI 2015", ece,
    ),
):  # fmt: skip
    METRICS.add(_metric.name, _metric)


def compute(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    decisions: npt.ArrayLike,
    names: Iterable[str] | None = None,
) -> dict[str, float]:
    """Computes metrics of one set of predictions.

    Args:
        labels: Shape (n,), 0 or 1.
        probabilities: Shape (n,), in [0, 1], of the positive class.
        decisions: Shape (n,), 0 or 1.
        names: Metrics to compute; None: all.

    Returns:
        Metric name to value, in the order of ``names``; NaN with a warning where undefined.

    Raises:
        InputError: A name is unknown, shapes differ, or a value is out of range.
    """
    chosen = [METRICS[name] for name in (METRICS if names is None else names)]
    y, p = check_probabilities(labels, probabilities)
    given = {"decisions": decisions, "scores": p, "probabilities": p}
    return {metric.name: metric.function(y, given[metric.needs]) for metric in chosen}


def _defined(name: str, value: FloatArray, why_not: str) -> float:
    return _undefined(name, why_not, stacklevel=4) if np.isnan(value) else float(value)


def _undefined(name: str, why: str, stacklevel: int = 3) -> float:
    # The level makes the warning point at the caller of the public function.
    warnings.warn(f"{name} is undefined: {why}", UndefinedMetricWarning, stacklevel=stacklevel)
    return math.nan


def _tied_counts(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[IntArray, IntArray]:
    """Positives and negatives at each distinct score, in ascending order of the score."""
    y, s = check_binary("labels", labels), check_finite("scores", scores)
    check_length(y, "scores", s)
    distinct, which = np.unique(s, return_inverse=True)
    total = np.bincount(which, minlength=len(distinct)).astype(np.int64)
    positives = np.bincount(which[y], minlength=len(distinct)).astype(np.int64)
    return positives, total - positives
