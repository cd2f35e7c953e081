"""Confusion tables: the four counts from which every decision metric is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Confusion:
    """Counts of a binary confusion table, or of many at once.

    Attributes:
        tp: Positives decided positive, int64, shape () or (draws,).
        fp: Negatives decided positive, same shape.
        tn: Negatives decided negative, same shape.
        fn: Positives decided negative, same shape.

    The ratios have the same shape, float64 in [0, 1], and are NaN, without a warning, where they
    are undefined.
    """

    tp: IntArray
    fp: IntArray
    tn: IntArray
    fn: IntArray

    @property
    def sensitivity(self) -> FloatArray:
        """TP / P."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> FloatArray:
        """TN / N."""
        return _ratio(self.tn, self.tn + self.fp)

    @property
    def balanced_accuracy(self) -> FloatArray:
        """(TP / P + TN / N) / 2."""
        return (self.sensitivity + self.specificity) / 2

    @property
    def accuracy(self) -> FloatArray:
        """(TP + TN) / n."""
        return _ratio(self.tp + self.tn, self.tp + self.fp + self.tn + self.fn)

    @property
    def precision(self) -> FloatArray:
        """TP / (TP + FP), the positive predictive value."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def npv(self) -> FloatArray:
        """TN / (TN + FN), the negative predictive value."""
        return _ratio(self.tn, self.tn + self.fn)

    @property
    def f1(self) -> FloatArray:
        """2 TP / (2 TP + FP + FN); NaN without positives, whose recall it averages."""
        return np.where(self.tp + self.fn > 0, _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn), np.nan)

    @property
    def weighted_f1(self) -> FloatArray:
        """P / n · F1 + N / n · F1 of the negative class; a class without figures weighs nothing."""
        p, n = self.tp + self.fn, self.tn + self.fp
        positive = _ratio(2 * self.tp * p, (2 * self.tp + self.fp + self.fn) * (p + n))
        negative = _ratio(2 * self.tn * n, (2 * self.tn + self.fp + self.fn) * (p + n))
        total = np.where(p > 0, positive, 0.0) + np.where(n > 0, negative, 0.0)
        return np.where(p + n > 0, total, np.nan)


def confusion(
    labels: npt.ArrayLike, decisions: npt.ArrayLike, multiplicities: npt.NDArray[np.integer[Any]] | None = None
) -> Confusion:
    """Counts the confusion table, once or for many draws of the same figures.

    Args:
        labels: Shape (n,), 0 or 1.
        decisions: Shape (n,), 0 or 1.
        multiplicities: How often each figure occurs in each draw, shape (draws, n), integers ≥ 0, as from
        a bootstrap; None counts each figure once.

    Returns:
        Counts of shape () without ``multiplicities``, else (draws,).

    Raises:
        InputError: Shapes differ, or a value is neither 0 nor 1.
    """
    y, d = check_binary("labels", labels), check_binary("decisions", decisions)
    check_length(y, "decisions", d)
    cells = [(y & d), (~y & d), (~y & ~d), (y & ~d)]
    if multiplicities is None:
        return Confusion(*(np.asarray(np.count_nonzero(cell), dtype=np.int64) for cell in cells))
    counts = np.asarray(multiplicities)
    if counts.ndim != 2 or counts.shape[1] != len(y) or counts.dtype.kind not in "iu" or bool((counts < 0).any()):
        raise InputError(
            must(
                "multiplicities",
                f"integers ≥ 0 of shape (draws, {len(y)})",
                f"{counts.dtype} of shape {counts.shape}",
                "give one row per draw",
            )
        )
    return Confusion(*(counts[:, cell].sum(axis=1, dtype=np.int64) for cell in cells))


def check_binary(name: str, values: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Labels or decisions as booleans, shape (n,).

    Raises:
        InputError: The shape is not (n,), or a value is neither 0 nor 1.
    """
    array = np.asarray(values)
    if array.ndim != 1:
        raise InputError(must(name, "of shape (n,)", f"shape {array.shape}", "pass one value per figure"))
    if array.dtype.kind not in "biuf":
        if array.size:
            raise InputError(must(name, "0 or 1", f"{array.dtype} values", "drop figures without a label; map names"))
        return array.astype(bool)
    wrong = (array != 0) & (array != 1)
    if bool(wrong.any()):
        raise InputError(must(name, "0 or 1", repr(array[wrong][0].item()), "pass no probabilities or NaN; map codes"))
    return array.astype(bool)


def check_finite(name: str, values: npt.ArrayLike) -> FloatArray:
    """Numbers as float64, shape (n,).

    Raises:
        InputError: The shape is another, or a value is no finite number.
    """
    array = np.asarray(values)
    if array.ndim != 1:
        raise InputError(must(name, "of shape (n,)", f"shape {array.shape}", "pass one value per figure"))
    if array.size and array.dtype.kind not in "biuf":
        raise InputError(must(name, "numbers", f"{array.dtype} values", "pass one number per figure"))
    array = array.astype(np.float64)
    wrong = int(np.count_nonzero(~np.isfinite(array)))
    if wrong:
        got = f"NaN or infinity in {wrong} of {len(array)}"
        raise InputError(must(name, "finite", got, "find out which figure or model gave it"))
    return array


def check_probabilities(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike
) -> tuple[npt.NDArray[np.bool_], FloatArray]:
    """Labels as booleans and probabilities as float64, both of shape (n,).

    Raises:
        InputError: Shapes differ, a label is neither 0 nor 1, or a probability is not in [0, 1].
    """
    y, p = check_binary("labels", labels), check_finite("probabilities", probabilities)
    check_length(y, "probabilities", p)
    outside = (p < 0) | (p > 1)
    if bool(outside.any()):
        raise InputError(
            must("probabilities", "between 0 and 1", float(p[outside][0]), "pass no logits, or calibrate them first")
        )
    return y, p


def check_length(labels: npt.NDArray[Any], name: str, values: npt.NDArray[Any]) -> None:
    """Raises an InputError unless ``values`` has the length of ``labels``."""
    if len(labels) != len(values):
        raise InputError(must(name, f"as long as `labels` ({len(labels)})", len(values), "align them by figure"))


def _ratio(part: IntArray, whole: IntArray) -> FloatArray:
    whole = np.asarray(whole)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole != 0)
