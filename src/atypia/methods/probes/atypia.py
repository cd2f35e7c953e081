"""Atypia's probe: standardised, class-balanced, its strength chosen by grouped inner cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from atypia.config import StrictModel
from atypia.methods.catalogue import PROBES
from atypia.methods.head import FoldRows, LinearHead, Probe, Rows, balanced_weights, check_folds, log_loss
from atypia.methods.logistic import Preconditioner, solve
from atypia.progress import Progress, silent
from atypia.seeds import generator


class AtypiaOptions(StrictModel):
    """Options of the probe.

    Attributes:
        strengths: λ to choose from; on standardised features and mean loss. One value: no choice.
        inner_folds: Folds of the inner cross-validation.
        balanced: Whether both classes weigh the same.
        standardise: Whether features are standardised over the training part.
    """

    strengths: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
    inner_folds: int = Field(default=5, ge=2, le=50)
    balanced: bool = True
    standardise: bool = True

    @field_validator("strengths")
    @classmethod
    def _positive(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if not values or min(values) <= 0:
            raise ValueError("must be one or more positive numbers")
        return tuple(sorted(values))


class AtypiaProbe(Probe[AtypiaOptions]):
    """Class-balanced logistic regression.

    The strength of a fold is the one with the least class-balanced log loss of the inner
    out-of-fold predictions: a proper score, smooth in the strength, where balanced accuracy on a
    few hundred positives moves in jumps and picks by luck. Cases are never divided.
    """

    name = "atypia"
    options_model = AtypiaOptions

    def fit_folds(
        self,
        features: npt.NDArray[np.floating[Any]],
        labels: npt.NDArray[np.int8],
        cases: npt.NDArray[np.str_],
        folds: Sequence[FoldRows],
        seed: int,
        options: AtypiaOptions,
        progress: Progress = silent,
    ) -> list[LinearHead]:
        """See :meth:`atypia.methods.head.Probe.fit_folds`."""
        check_folds(features, labels, folds)
        used = np.unique(np.concatenate([fold.train for fold in folds]))
        position = np.full(len(features), -1)
        position[used] = np.arange(len(used))
        x, y, groups = features[used].astype(np.float32), labels[used], cases[used]
        trains = [position[fold.train] for fold in folds]
        pre = Preconditioner(x)
        scores = self._inner_scores(x, y, groups, trains, seed, options, pre, progress)
        chosen = np.array([options.strengths[int(np.argmin(row))] for row in scores])
        weights = np.stack([_weights(y, rows, options.balanced) for rows in trains])
        solution = solve(x, y, weights, chosen, standardise=options.standardise, tolerance=1e-4, preconditioner=pre)
        return [
            LinearHead(
                solution.weight[i],
                float(solution.bias[i]),
                {
                    "strength": float(chosen[i]),
                    "iterations": int(solution.iterations[i]),
                    "objective": float(solution.objective[i]),
                    "inner_log_loss": dict(zip(map(str, options.strengths), map(float, scores[i]), strict=True)),
                },
            )
            for i in range(len(folds))
        ]

    def _inner_scores(
        self,
        x: npt.NDArray[np.float32],
        y: npt.NDArray[np.int8],
        groups: npt.NDArray[np.str_],
        trains: Sequence[Rows],
        seed: int,
        options: AtypiaOptions,
        pre: Preconditioner,
        progress: Progress,
    ) -> npt.NDArray[np.float64]:
        """Class-balanced log loss of inner out-of-fold predictions, shape (folds, strengths)."""
        strengths = np.array(options.strengths, dtype=np.float32)
        if len(strengths) == 1:
            return np.zeros((len(trains), 1))
        totals = np.zeros((len(trains), len(strengths)))
        for number, rows in enumerate(trains):
            inner = inner_folds(y[rows], groups[rows], options.inner_folds, seed, number)
            fits = [(rows[inner != part], rows[inner == part]) for part in np.unique(inner)]
            weights = np.stack([_weights(y, fit, options.balanced) for fit, _ in fits])
            solution = solve(
                x,
                y,
                np.repeat(weights, len(strengths), axis=0),
                np.tile(strengths, len(fits)),
                standardise=options.standardise,
                tolerance=5e-3,  # the order of the strengths is settled long before the last digits
                preconditioner=pre,
            )
            balance = np.zeros(len(y))
            balance[rows] = balanced_weights(y[rows])
            for k, (_, held_out) in enumerate(fits):
                block = slice(k * len(strengths), (k + 1) * len(strengths))
                logits = x[held_out].astype(np.float64) @ solution.weight[block].T + solution.bias[block]
                losses = log_loss(logits, y[held_out].astype(np.float64)[:, None])
                totals[number] += (balance[held_out][:, None] * losses).sum(0) / len(rows)
            progress(number + 1, len(trains), "strengths chosen")
        return totals


def inner_folds(
    labels: npt.NDArray[np.int8], cases: npt.NDArray[np.str_], count: int, seed: int, fold: int
) -> npt.NDArray[np.int64]:
    """Divides rows into inner folds without dividing a case; positives are spread evenly.

    Cases are taken in descending order of their positives, then of their figures (equal ones in
    a seeded order), and each goes to the fold with the fewest positives, then the fewest figures.
    Where there are fewer cases with positives than folds, there are as many folds as such cases
    (at least two are needed).

    Returns:
        Fold number of each row, shape (n,). Every fold has a positive and its rest has both classes.
    """
    names, codes = np.unique(cases, return_inverse=True)
    positives = np.bincount(codes, weights=labels == 1, minlength=len(names))
    sizes = np.bincount(codes, minlength=len(names))
    count = max(2, min(count, int(np.count_nonzero(positives))))
    shuffled = generator(seed, "inner folds", fold).permutation(len(names))
    order = shuffled[np.lexsort((-sizes[shuffled], -positives[shuffled]))]
    load = np.zeros((count, 2))
    place = np.zeros(len(names), dtype=np.int64)
    for case in order:
        target = int(np.lexsort((load[:, 1], load[:, 0]))[0])
        place[case] = target
        load[target] += (positives[case], sizes[case])
    return place[codes]


def _weights(labels: npt.NDArray[np.int8], rows: Rows, balanced: bool) -> npt.NDArray[np.float64]:
    weights = np.zeros(len(labels))
    weights[rows] = balanced_weights(labels[rows]) if balanced else 1.0
    return weights


PROBES.add(AtypiaProbe.name, AtypiaProbe())
