"""Atypia's probe: standardised, class-balanced, its strength chosen by grouped inner cross-validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from atypia.base.config import StrictModel
from atypia.base.errors import InputError, must
from atypia.base.process.progress import Progress
from atypia.base.seeds import generator
from atypia.methods.catalogue import PROBES
from atypia.methods.head import (
    FeatureRows,
    LinearHead,
    Probe,
    ProbeData,
    Rows,
    balanced_weights,
    log_loss,
    takes_domains,
)
from atypia.methods.logistic import Preconditioner, Solution, solve
from atypia.methods.parallel import map_threads

INNER_TOLERANCE = 2e-3
"""Tolerance of the inner fits. The ranking of the strengths does not need exact coefficients: on real
features this tolerance changes the criterion by 0.1 % or less at every strength that could be chosen."""
FINAL_TOLERANCE = 1e-5
ROUNDS = 10
"""Of group DRO."""


class AtypiaOptions(StrictModel):
    """Options of the probe.

    Attributes:
        strengths: λ to choose from; on standardised features and mean loss. One value: no choice.
        inner_folds: Folds of the inner cross-validation.
        balanced: Whether both classes have the same weight in the fit; in the criterion they always have.
        standardise: Whether features are standardised over the training part.
        groups: ``none``; ``balanced``: within each class all domains have the same weight; ``dro``: group DRO over the
            domains (Sagawa et al., ICLR 2020, algorithm 1): :data:`ROUNDS` times the fit is repeated with each domain's
            weight multiplied by exp(``dro_step`` · its class-balanced log loss), and the last fit is by the mean of the
            weights. Figures without a domain are one domain. A training part of one domain is refused.
        dro_step: Step of group DRO, η.
    """

    strengths: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
    inner_folds: int = Field(default=5, ge=2, le=50)
    balanced: bool = True
    standardise: bool = True
    groups: Literal["none", "balanced", "dro"] = "none"
    dro_step: float = Field(default=0.5, gt=0, le=10)

    @field_validator("strengths")
    @classmethod
    def _positive(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if not values or min(values) <= 0:
            raise ValueError("must be one or more positive numbers")
        if len(set(values)) < len(values):
            raise ValueError("must not name a strength twice")
        return tuple(sorted(values))


class AtypiaProbe(Probe[AtypiaOptions]):
    """Class-balanced logistic regression.

    The strength of a fold is the one with the least class-balanced log loss of the inner
    out-of-fold predictions: a proper score and a smooth function of the strength, whereas balanced accuracy on a
    few hundred positives changes in jumps and would choose by chance. Cases are never divided.
    """

    name = "atypia"
    options_model = AtypiaOptions

    def parse_options(self, options: Mapping[str, Any]) -> AtypiaOptions:
        """See :meth:`atypia.methods.head.Probe.parse_options`.

        Raises:
            InputError: Also where domains are to be weighed and ``fit_folds``, of a plug-in that derives from this probe, is
                given none.
        """
        parsed = super().parse_options(options)
        if parsed.groups != "none" and not takes_domains(self.fit_folds):
            expected = f"none for probe {self.name}, whose `fit_folds` takes no domains"
            fix = "give its `fit_folds` a parameter `domains` and pass it on"
            raise InputError(must("options.groups", expected, parsed.groups, fix))
        return parsed

    def fit(self, data: ProbeData, options: AtypiaOptions, progress: Progress) -> list[LinearHead]:
        """See :meth:`atypia.methods.head.Probe.fit`."""

        def one(fold: FeatureRows) -> LinearHead:
            rows = fold.train
            x = data.features[rows].astype(np.float32)
            domains = None if data.domains is None else data.domains[rows]
            return fit_fold(x, data.labels[rows], data.cases[rows], (data.seed, fold.key), options, domains)

        heads = []
        for head in map_threads(one, data.folds):
            heads.append(head)
            progress(len(heads), len(data.folds), "folds fitted")
        return heads


def fit_fold(
    x: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int8],
    cases: npt.NDArray[np.str_],
    seed: tuple[int, str],
    options: AtypiaOptions,
    domains: npt.NDArray[np.str_] | None = None,
) -> LinearHead:
    """Fits one training part.

    Args:
        x: Raw features, shape (n, d).
        labels: Shape (n,), both classes.
        cases: Shape (n,).
        seed: Master seed, and the fold's key.
        options: Of the probe.
        domains: Shape (n,), empty where it is unknown; None: all are unknown.

    Raises:
        InputError: The cases do not allow an inner cross-validation, or domains are to be weighed and there are not two.
    """
    if options.groups != "none":
        kinds = [] if domains is None else np.unique(domains).tolist()
        if len(kinds) < 2:  # nothing can be weighed: the fit would be that without groups, without a word
            known = [kind for kind in kinds if kind]
            where = f"all training figures are of one domain ({known[0]})" if known else "no figure's domain is known"
            fix = "give the figures their domains (docs/data.md), or drop groups"
            raise InputError(must("options.groups", f"none where {where}", options.groups, fix))
    pre = Preconditioner(x, options.standardise)
    strengths = np.array(options.strengths, dtype=np.float32)
    info: dict[str, Any] = {}
    chosen = 0
    if len(strengths) > 1:
        scores, parts = _inner_scores(x, labels, cases, seed, options, pre)
        chosen = int(np.argmin(scores))
        info["inner_log_loss"] = dict(zip(map(str, options.strengths), map(float, scores), strict=True))
        info["inner_folds"] = parts
        info["strength_at_edge"] = chosen in (0, len(strengths) - 1)
    codes = np.zeros(len(labels), np.int64) if domains is None else np.unique(domains, return_inverse=True)[1]

    def solved(weights: npt.NDArray[np.float64]) -> Solution:
        return solve(x, labels, weights[None], strengths[[chosen]], standardise=options.standardise,
                     tolerance=FINAL_TOLERANCE, preconditioner=pre)  # fmt: skip

    weights = _weights(labels, np.arange(len(labels)), options.balanced)
    if options.groups != "none":
        weights = group_weights(labels, codes)
        if options.groups == "dro":
            shares = _dro_shares(x, labels, codes, weights, options.dro_step, solved)
            info["domain_weights"] = [round(float(share), 4) for share in shares]
            weights = weights * (shares * len(shares))[codes]
    solution = solved(weights)
    info |= {
        "strength": options.strengths[chosen],
        "iterations": int(solution.iterations[0]),
        "objective": float(solution.objective[0]),
    }
    return LinearHead(solution.weight[0], float(solution.bias[0]), info)


def group_weights(labels: npt.NDArray[np.int8], domains: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Weights that give both classes the same sum, and within a class every domain that has it; shape (n,), sum n.

    >>> group_weights(np.array([0, 0, 0, 1], np.int8), np.array([0, 0, 1, 0])).tolist()
    [0.5, 0.5, 1.0, 2.0]
    """
    cell = domains * 2 + (labels == 1)
    sizes = np.bincount(cell, minlength=2 * int(domains.max()) + 2).astype(np.float64)
    having = np.array([np.count_nonzero(sizes[0::2]), np.count_nonzero(sizes[1::2])], dtype=np.float64)
    weights = len(labels) / (np.count_nonzero(having) * having[(labels == 1).astype(np.int64)] * sizes[cell])
    return weights.astype(np.float64)


def _dro_shares(
    x: npt.NDArray[np.float32], labels: npt.NDArray[np.int8], domains: npt.NDArray[np.int64],
    weights: npt.NDArray[np.float64], step: float, solved: Callable[[npt.NDArray[np.float64]], Solution],
) -> npt.NDArray[np.float64]:  # fmt: skip
    """Mean over the rounds of group DRO of the domains' weights, which sum to 1."""
    count = int(domains.max()) + 1
    shares, total = np.full(count, 1 / count), np.zeros(count)
    sums = np.bincount(domains, weights, minlength=count)
    for _ in range(ROUNDS):
        solution = solved(weights * (shares * count)[domains])
        logits = x.astype(np.float64) @ solution.weight[0] + solution.bias[0]
        losses = np.bincount(domains, weights * log_loss(logits, labels.astype(np.float64)), minlength=count) / sums
        shares = shares * np.exp(step * losses)
        shares /= shares.sum()
        total += shares
    return total / ROUNDS


def _inner_scores(
    x: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int8],
    cases: npt.NDArray[np.str_],
    seed: tuple[int, str],
    options: AtypiaOptions,
    pre: Preconditioner,
) -> tuple[npt.NDArray[np.float64], int]:
    """Class-balanced log loss of inner out-of-fold predictions (strengths,), and how many inner folds there were."""
    strengths = np.array(options.strengths, dtype=np.float32)
    inner = inner_folds(labels, cases, options.inner_folds, *seed)
    parts = [(np.flatnonzero(inner != part), np.flatnonzero(inner == part)) for part in np.unique(inner)]
    weights = np.stack([_weights(labels, rest, options.balanced) for rest, _ in parts])
    solution = solve(
        x,
        labels,
        np.repeat(weights, len(strengths), axis=0),
        np.tile(strengths, len(parts)),
        standardise=options.standardise,
        tolerance=INNER_TOLERANCE,
        preconditioner=pre,
    )
    total = np.zeros(len(strengths))
    balance = balanced_weights(labels)
    for k, (_, held_out) in enumerate(parts):
        block = slice(k * len(strengths), (k + 1) * len(strengths))
        logits = x[held_out].astype(np.float64) @ solution.weight[block].T + solution.bias[block]
        losses = log_loss(logits, labels[held_out].astype(np.float64)[:, None])
        total += balance[held_out] @ losses / len(labels)
    return total, len(parts)


def inner_folds(
    labels: npt.NDArray[np.int8], cases: npt.NDArray[np.str_], count: int, seed: int, key: str
) -> npt.NDArray[np.int64]:
    """Divides rows into inner folds without dividing a case; both classes are spread evenly.

    Cases are taken in descending order of their positives, then of their figures (equal ones in
    a seeded order), and each goes to the fold where it adds least to the sum, over folds and
    classes, of the squared share of the class that the fold holds. Where fewer cases than folds
    have positives, there are as many folds as such cases.

    Args:
        labels: Shape (n,), both classes.
        cases: Shape (n,).
        count: Number of folds, at least 2.
        seed: Master seed.
        key: Purpose of the random stream.

    Returns:
        Fold number of each row, shape (n,). Every fold has a positive and its rest has both classes.

    Raises:
        InputError: No such division exists: one case holds all figures of a class.
    """
    names, codes = np.unique(cases, return_inverse=True)
    counts = np.stack([np.bincount(codes, weights=labels == label, minlength=len(names)) for label in (1, 0)], axis=1)
    totals = counts.sum(0)
    for label, held in (("positive", counts[:, 0]), ("negative", counts[:, 1])):
        if np.count_nonzero(held) < 2:
            raise InputError(
                must(
                    "training part",
                    f"with {label} figures of two cases or more, to choose the strength by",
                    f"{np.count_nonzero(held)} such case",
                    "set one strength (--set options.strengths=[1.0])",
                )
            )
    count = min(count, int(np.count_nonzero(counts[:, 0])))
    shuffled = generator(seed, "inner folds", key).permutation(len(names))
    order = shuffled[np.lexsort((-counts.sum(1)[shuffled], -counts[shuffled, 0]))]
    load = np.zeros((count, 2))
    place = np.zeros(len(names), dtype=np.int64)
    for case in order:
        share = counts[case] / totals
        # (a + b)² − a² = 2ab + b²; b² is the same in every fold.
        target = int(np.argmin(load @ share))
        place[case] = target
        load[target] += share
    if (load[:, 1] >= 1 - 1e-9).any():
        # All negatives are in one fold: move the case with the fewest of them to the next fold.
        full = int(np.argmax(load[:, 1]))
        candidates = np.flatnonzero((place == full) & (counts[:, 1] > 0))
        moved = candidates[np.lexsort((counts[candidates, 1], counts[candidates, 0]))[0]]
        place[moved] = (full + 1) % count
    return place[codes]


def _weights(labels: npt.NDArray[np.int8], rows: Rows, balanced: bool) -> npt.NDArray[np.float64]:
    weights = np.zeros(len(labels))
    weights[rows] = balanced_weights(labels[rows]) if balanced else 1.0
    return weights


PROBES.add(AtypiaProbe.name, AtypiaProbe())
