"""How well raters agree with each other: the human level beside the models.

Votes are those of a manifest's column ``votes``: one element per rater, in a fixed order, 1 atypical, 0
normal, null where that rater did not vote. Some published sets asked a third rater only about figures that
the first two disagreed on: agreement over all raters then has no meaningful value.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must
from atypia.statistics.confusion import FloatArray, confusion
from atypia.statistics.metrics import UndefinedMetricWarning


@dataclass(frozen=True)
class RaterScore:
    """One rater against the majority of the others.

    Attributes:
        rater: Position in ``votes``, from 0.
        n: Figures compared.
        n_positive: Figures that the others' majority calls atypical.
        ties: Figures left out because the other raters were tied or did not vote.
        sensitivity: In [0, 1]; NaN where the others called none atypical.
        specificity: In [0, 1].
        balanced_accuracy: In [0, 1].
    """

    rater: int
    n: int
    n_positive: int
    ties: int
    sensitivity: float
    specificity: float
    balanced_accuracy: float


@dataclass(frozen=True)
class Agreement:
    """Agreement of raters on one data set.

    Attributes:
        raters: Number of raters.
        n: Figures with at least two votes.
        n_complete: Figures that all raters voted on.
        unanimous: Of these, the figures on which all agree.
        fleiss: Fleiss' kappa; NaN where undefined.
        cohen: Cohen's kappa of each pair, (raters, raters), 1 on the diagonal, NaN where undefined.
        scores: Each rater against the majority of the others.
    """

    raters: int
    n: int
    n_complete: int
    unanimous: int
    fleiss: float
    cohen: tuple[tuple[float, ...], ...]
    scores: tuple[RaterScore, ...]

    @property
    def unanimous_share(self) -> float:
        """Share of the completely rated figures on which all agree, in [0, 1]."""
        return self.unanimous / self.n_complete if self.n_complete else math.nan

    @property
    def human_level(self) -> float:
        """Mean over raters of the balanced accuracy against the majority of the others, in [0, 1].

        It covers the figures on which the others have a majority. Models are scored against a label to which
        every rater contributed, so this is a level to compare with, not an upper limit.
        """
        return float(np.mean([score.balanced_accuracy for score in self.scores]))


def vote_matrix(votes: Sequence[Sequence[int | None] | None] | npt.NDArray[np.object_]) -> FloatArray:
    """Votes as an array.

    Args:
        votes: One element per figure: a list of one vote per rater (0, 1 or None), or None if nobody voted.

    Returns:
        Shape (n, raters), float64: 0, 1 or NaN.

    Raises:
        InputError: A vote is not 0, 1 or None, the numbers of raters differ, or nobody voted.
    """
    rows = [None if row is None else list(row) for row in votes]
    lengths = {len(row) for row in rows if row is not None}
    if len(lengths) != 1:
        got = "no votes" if not lengths else f"between {min(lengths)} and {max(lengths)}"
        raise InputError(must("votes", "one element per rater on every figure", got, "give null for a missing vote"))
    raters = lengths.pop()
    matrix = np.full((len(rows), raters), np.nan)
    for index, row in enumerate(rows):
        if row is not None:
            matrix[index] = [np.nan if vote is None else vote for vote in row]
    return _checked(matrix)


def fleiss_kappa(votes: npt.ArrayLike) -> float:
    """Fleiss' kappa of any number of raters; votes may be missing.

    κ = (P̄ − P̄ₑ)/(1 − P̄ₑ): P̄ is the mean over figures with rᵢ ≥ 2 votes of Σⱼ nᵢⱼ (nᵢⱼ − 1) / (rᵢ (rᵢ − 1)), P̄ₑ the
    sum of squares of the classes' mean shares (Fleiss, Psychological Bulletin 1971; missing votes as in
    Gwet, Handbook of Inter-Rater Reliability, 2014: shares are averaged over figures with a vote).

    Args:
        votes: Shape (n, raters): 0, 1 or NaN.

    Returns:
        At most 1; NaN, with a warning, where no figure has two votes or all votes are of one class.
    """
    v = _checked(votes)
    given = (~np.isnan(v)).sum(axis=1)
    ones = np.nansum(v, axis=1)
    r, k = given[given >= 2], ones[given >= 2]
    if not len(r):
        return _undefined("Fleiss' kappa", "no figure has two votes")
    observed = float(np.mean((k * (k - 1) + (r - k) * (r - k - 1)) / (r * (r - 1))))
    share = float(np.mean(ones[given > 0] / given[given > 0]))
    return _kappa("Fleiss' kappa", observed, share**2 + (1 - share) ** 2)


def cohen_kappa(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Cohen's kappa of two raters (Educational and Psychological Measurement 1960).

    κ = (pₒ − pₑ)/(1 − pₑ), pₒ the share of equal votes, pₑ = a b + (1 − a)(1 − b) with a and b the raters' shares of 1.

    Args:
        first: Shape (n,): 0, 1 or NaN.
        second: Same. Figures without a vote of both raters are left out.

    Returns:
        At most 1; NaN, with a warning, without common figures or where both raters gave all figures the same class.
    """
    v = _checked(np.stack([np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)], axis=1))
    v = v[~np.isnan(v).any(axis=1)]
    if not len(v):
        return _undefined("Cohen's kappa", "the raters have no figure in common")
    a, b = (float(share) for share in v.mean(axis=0))
    return _kappa("Cohen's kappa", float(np.mean(v[:, 0] == v[:, 1])), a * b + (1 - a) * (1 - b))


def majority_of_others(votes: npt.ArrayLike, rater: int) -> FloatArray:
    """The majority vote of all raters but one.

    Args:
        votes: Shape (n, raters): 0, 1 or NaN.
        rater: The rater that is left out, counted from 0.

    Returns:
        Shape (n,): 0, 1, or NaN where the others are tied or did not vote. Drop the NaN figures, pass the result as
        labels and the rater's votes as decisions to :func:`atypia.statistics.intervals.metric_intervals`, and you
        have confidence intervals.
    """
    v = _checked(votes)
    if not 0 <= rater < v.shape[1]:
        raise InputError(must("rater", f"between 0 and {v.shape[1] - 1}", rater, "count raters from 0"))
    others = np.delete(v, rater, axis=1)
    given, ones = (~np.isnan(others)).sum(axis=1), np.nansum(others, axis=1)
    return np.where(2 * ones == given, np.nan, (2 * ones > given).astype(np.float64))


def agreement(votes: npt.ArrayLike) -> Agreement:
    """All measures of agreement.

    Args:
        votes: Shape (n, raters), raters ≥ 2: 0, 1 or NaN; from :func:`vote_matrix`.

    Returns:
        The measures; undefined ones are NaN with a warning.

    Raises:
        InputError: Fewer than two raters, or a value that is not 0, 1 or NaN.
    """
    v = _checked(votes)
    if v.shape[1] < 2:
        raise InputError(must("votes", "of at least two raters", v.shape[1], "agreement needs two"))
    raters = v.shape[1]
    complete = v[~np.isnan(v).any(axis=1)]
    cohen = np.eye(raters)
    for i in range(raters):
        for j in range(i):
            cohen[i, j] = cohen[j, i] = cohen_kappa(v[:, i], v[:, j])
    return Agreement(
        raters,
        int(((~np.isnan(v)).sum(axis=1) >= 2).sum()),
        len(complete),
        int((complete == complete[:, :1]).all(axis=1).sum()),
        fleiss_kappa(v),
        tuple(tuple(float(value) for value in row) for row in cohen),
        tuple(_score(v, rater) for rater in range(raters)),
    )


def _score(v: FloatArray, rater: int) -> RaterScore:
    others, own = majority_of_others(v, rater), v[:, rater]
    usable = ~np.isnan(others) & ~np.isnan(own)
    table = confusion(others[usable], own[usable])
    ties = int((np.isnan(others) & ~np.isnan(own)).sum())
    ba = float(table.balanced_accuracy)
    if math.isnan(ba):
        _undefined(f"balanced accuracy of rater {rater}", "the others' majority lacks a class")
    positives = int(table.tp + table.fn)
    return RaterScore(rater, int(usable.sum()), positives, ties, float(table.sensitivity), float(table.specificity), ba)


def _checked(votes: npt.ArrayLike) -> FloatArray:
    v = np.asarray(votes, dtype=np.float64)
    if v.ndim != 2:
        raise InputError(must("votes", "of shape (n, raters)", f"shape {v.shape}", "use vote_matrix"))
    wrong = ~(np.isnan(v) | (v == 0) | (v == 1))
    if bool(wrong.any()):
        raise InputError(must("votes", "0, 1 or NaN", float(v[wrong][0]), "map class names to 0 and 1"))
    return v


def _kappa(name: str, observed: float, chance: float) -> float:
    if 1 - chance < 1e-12:
        return _undefined(name, "all votes are of one class")
    return (observed - chance) / (1 - chance)


def _undefined(name: str, why: str) -> float:
    warnings.warn(f"{name} is undefined: {why}", UndefinedMetricWarning, stacklevel=3)
    return math.nan
