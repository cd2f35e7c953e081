"""Which figures to label first, so that few labels tell much of how a laboratory's scores lie.

A class's mean is estimated without bias only from figures that were drawn without regard to their score, or from all
scores alike: the figures nearest to the threshold, which teach a training most, would pull both means towards it. So the
choice is *spread over the scores*: the middle one of each of n ranges that hold equally many, in an order that is spread
wherever one stops (van der Corput 1935), as in stratified sampling with proportional allocation (Cochran, Sampling
Techniques, 1977, ch. 5). The range that holds the threshold comes first. To prefer new cases or novel figures within a
range was tried: both change how often figures of a kind are drawn, and so bias the means (docs/results/calibration.md).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from atypia.statistics.confusion import FloatArray, IntArray


def spread_over_scores(
    scores: FloatArray, limit: int, threshold: float, labelled: npt.NDArray[np.bool_] | None = None
) -> IntArray:
    """Figures to label, best first.

    Args:
        scores: Shape (n,); figures whose score is NaN are passed over.
        limit: How many, ≥ 0.
        threshold: On the scores.
        labelled: Shape (n,): figures that have a label already; ranges that hold one come last.

    Returns:
        Positions, shape (at most ``limit``,), int64, none twice.

    >>> spread_over_scores(np.arange(8.0), 4, 3.0).tolist()
    [3, 7, 5, 1]
    """
    done = np.zeros(len(scores), bool) if labelled is None else labelled
    known = np.flatnonzero(np.isfinite(scores))
    free = int(np.count_nonzero(~done[known]))
    wanted = min(limit, free)
    if wanted <= 0:
        return np.empty(0, np.int64)
    ordered = known[np.lexsort((known, scores[known]))]
    count = wanted + len(known) - free
    # Rounded one by one: parts that differ by one figure lie among the others, not all at the low end.
    edges = [round(i * len(ordered) / count) for i in range(count + 1)]
    ranges = [ordered[start:stop] for start, stop in pairwise(edges)]
    order = _spread_order(count, int(np.searchsorted([scores[part[-1]] for part in ranges], threshold)))
    has_label = np.array([bool(done[part].any()) for part in ranges])
    chosen: list[int] = []
    for number in [*(i for i in order if not has_label[i]), *(i for i in order if has_label[i])]:
        left = [int(i) for i in ranges[number] if not done[i]]
        if left and len(chosen) < wanted:
            chosen.append(left[len(left) // 2])
    taken = set(chosen)
    rest = [i for i in ordered.tolist() if not done[i] and i not in taken]
    return np.array([*chosen, *rest[: wanted - len(chosen)]], dtype=np.int64)


def _spread_order(count: int, first: int) -> list[int]:
    """0 … count − 1 in van der Corput's order, turned so that it begins with ``first``."""
    bits = max(count - 1, 1).bit_length()
    turned = [int(f"{i:0{bits}b}"[::-1], 2) for i in range(1 << bits)]
    return [(first + i) % count for i in turned if i < count]
