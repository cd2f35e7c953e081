"""Divides whole cases into parts of given shares, with classes (and domains) in proportion.

The deviation from exactly proportional parts is measured by the chi-square distance

    C = sum over parts f and strata s of  w_s (x_fs - t_fs)^2 / t_fs,   t_fs = p_f N_s,

where x_fs is the number of figures of stratum s in part f, N_s that of stratum s in all parts, p_f the part's
share and w_s the stratum's weight. The strata are the two classes (weight 1 each) and, if
domains are balanced too, every occurring pair of domain and class (weight 1 together). Dividing
by the target makes the rare class count as much as the frequent one.

Cases are placed one by one in random order, each in the part where C grows least; then single cases
are moved while that lowers C. Cases with equal counts in every stratum are
interchangeable: they are first spread over the parts in proportion. This keeps tens of thousands
of figures of unknown case as fast as a few hundred known cases.

Tolerance. At the end no single move lowers C. Writing u_fs = x_fs / t_fs - 1 for the relative
deviation and v_cs for the figures of case c in stratum s, summing this condition over the cases
of two parts a and b, each weighted by 1/p of its part, gives for all parts of two or more cases

    sum_s w_s N_s (u_as - u_bs)^2
        <= 1/2 sum_s w_s (1/t_as + 1/t_bs) (S_as / p_a + S_bs / p_b),   S_fs = sum over c in f of v_cs^2.

So parts agree as closely as their largest cases allow; with one figure per case the parts of a
k-fold agree to about one figure in every stratum. :func:`imbalance` gives both sides.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_DIGITS = 10
"""Costs are rounded to this many decimals before they are compared: processors differ in the last bits of a
sum, but the same seed must give the same parts on all of them."""

_GAIN = 1e-9
"""A move must lower C by at least this; larger than the rounding, so that moves never cycle."""


def allocate(
    cases: npt.NDArray[np.int64],
    labels: npt.NDArray[np.integer],
    shares: Sequence[float],
    rng: np.random.Generator,
    domains: npt.NDArray[np.int64] | None = None,
) -> Ints:
    """Assigns whole cases to parts.

    Args:
        cases: Number of each figure's case, shape (n,).
        labels: 0 or 1, shape (n,).
        shares: Share of the figures that each part should have, in (0, 1), adding up to 1.
        rng: Random generator.
        domains: Number of each figure's domain, shape (n,), to balance domains too.

    Returns:
        The number of each figure's part, shape (n,) int64. No part is empty.

    Raises:
        InputError: Fewer cases than parts, or only one class.
    """
    if any(not 0 < share < 1 for share in shares) or abs(sum(shares) - 1) > 1e-9:
        raise InputError(must("shares", "between 0 and 1, adding up to 1", tuple(shares), "correct them"))
    numbers, case_of = np.unique(cases, return_inverse=True)
    if len(numbers) < len(shares):
        raise InputError(
            must(
                "cases",
                f"at least {len(shares)}, one for each part",
                f"{len(numbers)} ({len(cases)} figures)",
                "use fewer folds, or give more cases",
            )
        )
    if len(np.unique(labels)) < 2:
        raise InputError(
            must(
                "label", "of both classes", f"{len(labels)} figures of one class", "give figures of the other class too"
            )
        )
    counts, weights = stratum_counts(case_of, labels, domains)
    kinds, kind_of = np.unique(counts, axis=0, return_inverse=True)
    placed = _place(kinds, np.bincount(kind_of.ravel()), weights, np.asarray(shares, dtype=np.float64), rng)
    shuffled = rng.permutation(len(numbers))
    by_kind = shuffled[np.argsort(kind_of.ravel()[shuffled], kind="stable")]
    part_of_case = np.empty(len(numbers), dtype=np.int64)
    part_of_case[by_kind] = np.repeat(np.tile(np.arange(len(shares)), len(kinds)), placed.ravel())
    return part_of_case[case_of]


def stratum_counts(
    case_of: Ints, labels: npt.NDArray[np.integer], domains: npt.NDArray[np.int64] | None = None
) -> tuple[Ints, Floats]:
    """Number of figures of each case in each stratum.

    Args:
        case_of: Number of each figure's case, from 0 to the number of cases − 1, shape (n,).
        labels: 0 or 1, shape (n,).
        domains: Number of each figure's domain, shape (n,); None: only classes are strata.

    Returns:
        Counts, shape (cases, strata) int64, classes first; and weights, shape (strata,).
    """
    strata = [np.asarray(labels, dtype=np.int64)]
    if domains is not None:
        pairs = np.unique(domains * 2 + strata[0], return_inverse=True)[1].ravel()
        if pairs.max() >= 2:
            strata.append(2 + pairs)
    width = int(max(stratum.max() for stratum in strata)) + 1
    counts = np.zeros((int(case_of.max()) + 1, width), dtype=np.int64)
    for stratum in strata:
        np.add.at(counts, (case_of, stratum), 1)
    weights = np.ones(width)
    weights[2:] = 1 / max(width - 2, 1)
    return counts, weights


def imbalance(
    counts: Ints, weights: Floats, parts: Ints, shares: Sequence[float], a: int, b: int
) -> tuple[float, float]:
    """The distance between two parts, and the bound that :func:`allocate` guarantees.

    Args:
        counts: Makeup of each case, shape (cases, strata), as :func:`stratum_counts` gives it.
        weights: Weights of the strata, shape (strata,).
        parts: Number of each case's part, shape (cases,).
        shares: Shares of the parts.
        a: One part; the bound holds for parts of two or more cases.
        b: The other part.

    Returns:
        Left and right side of the inequality in this module's docstring.
    """
    total = counts.sum(axis=0)
    target = {f: shares[f] * total for f in (a, b)}
    deviation = {f: counts[parts == f].sum(axis=0) / target[f] - 1 for f in (a, b)}
    squares = sum((counts[parts == f] ** 2).sum(axis=0) / shares[f] for f in (a, b))
    apart = float((weights * total * (deviation[a] - deviation[b]) ** 2).sum())
    return apart, float(0.5 * (weights * (1 / target[a] + 1 / target[b]) * squares).sum())


def ranking(labels: npt.NDArray[np.integer], rng: np.random.Generator) -> Ints:
    """A random order of figures in which every leading section has the classes in proportion.

    Among the first m figures, the number of each class is m times its share, ± 1.

    Args:
        labels: 0 or 1, shape (n,).
        rng: Random generator.

    Returns:
        Positions in this order, shape (n,) int64.
    """
    keys = np.empty(len(labels))
    for label in np.unique(labels):
        inside = np.flatnonzero(labels == label)
        # The j-th of the N figures of a class is placed at the fraction (j + 1/2) / N of the order.
        keys[rng.permutation(inside)] = (np.arange(len(inside)) + 0.5) / len(inside)
    return np.lexsort((rng.permutation(len(labels)), keys))


def _place(kinds: Ints, members: Ints, weights: Floats, shares: Floats, rng: np.random.Generator) -> Ints:
    """Number of cases of each kind in each part, shape (kinds, parts)."""
    target = shares[:, None] * (members @ kinds)
    scale = weights / target
    placed = np.floor(members[:, None] * shares + 1e-9).astype(np.int64)
    counts = (placed.T @ kinds).astype(np.float64)
    left = rng.permutation(np.repeat(np.arange(len(kinds)), members - placed.sum(axis=1)))
    for kind in left:
        makeup_of = kinds[kind]
        growth = (scale * makeup_of * (2 * (counts - target) + makeup_of)).sum(axis=1)
        part = int(np.argmin(np.round(growth, _DIGITS)))
        placed[kind, part] += 1
        counts[part] += makeup_of
    _fill_empty(kinds, placed, target, scale)
    _improve(kinds, placed, target, scale)
    return placed


def _moves(kinds: Ints, placed: Ints, target: Floats, scale: Floats) -> tuple[Floats, Floats]:
    """Change of C when a case of a kind leaves a part, and when it joins one, each (kinds, parts).

    Leaving costs infinity where the part has no such case, or only this one.
    """
    deviation = placed.T @ kinds - target
    straight, square = 2 * kinds @ (scale * deviation).T, kinds**2 @ scale.T
    leave: Floats = square - straight
    leave[(placed == 0) | (placed.sum(axis=0) < 2)] = np.inf
    return np.round(leave, _DIGITS), np.round(square + straight, _DIGITS)


def _fill_empty(kinds: Ints, placed: Ints, target: Floats, scale: Floats) -> None:
    """Gives every empty part the case whose move costs least."""
    for part in np.flatnonzero(placed.sum(axis=0) == 0):
        leave, join = _moves(kinds, placed, target, scale)
        cost = np.round(leave + join[:, [part]], _DIGITS)
        kind, source = np.unravel_index(int(np.argmin(cost)), cost.shape)
        placed[kind, source] -= 1
        placed[kind, part] += 1


def _improve(kinds: Ints, placed: Ints, target: Floats, scale: Floats) -> None:
    """Moves single cases, always the one that lowers C most, until no move lowers it.

    C falls with every move and there are finitely many placements, so this ends.
    """
    parts, every = np.arange(placed.shape[1]), np.arange(len(kinds))
    while True:
        leave, join = _moves(kinds, placed, target, scale)
        # Every kind moves to the part where it costs least, or to the second best if it leaves the best.
        first, second = np.argsort(join, axis=1, kind="stable")[:, :2].T
        goal = np.where(first[:, None] == parts, second[:, None], first[:, None])
        cost = np.round(leave + join[every[:, None], goal], _DIGITS)
        kind, source = np.unravel_index(int(np.argmin(cost)), cost.shape)
        if cost[kind, source] > -_GAIN:
            return
        placed[kind, source] -= 1
        placed[kind, goal[kind, source]] += 1
