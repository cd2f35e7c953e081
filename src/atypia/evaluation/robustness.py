"""Whether frozen features show what a figure is, or where it comes from: indices of the package ``croma``.

Domains are compared in pairs, with as many figures of either class from either domain. Each figure's neighbours are of four kinds; two of them tell something: those of the same class from another domain, and those of the other class
from the same domain. Neighbours of the same case are left out.

* Robustness index (RI; Kömen et al., PathoROB, arXiv 2507.17845): of these two kinds among the k nearest neighbours, the share of the first.
* Margin-aware index (MaRI; Grisi et al., arXiv 2607.25497): the same, weighted by distance.
* CRoMa (Grisi et al.): (d_other − d_same) / (d_other + d_same) of each figure, d being the mean cosine distance to the five nearest of either kind.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must
from atypia.base.extras import require
from atypia.base.seeds import generator

NEIGHBOURS: Final = 5
"""Neighbours of either kind that CRoMa averages: the package's headline value."""
K: Final = (5, 11, 21)
"""Candidates of k; the package takes the one at which neighbours tell the classes best."""
PACKAGE: Final = "croma"


@dataclass(frozen=True)
class EncoderRobustness:
    """Indices of a backbone's features on one set.

    Attributes:
        n: Figures that were compared.
        left_out: Figures that were not: without five neighbours of either kind in other cases, or not drawn.
        domains: Number of domains.
        pairs: Pairs of domains; in each, classes and domains are equally frequent.
        ri: Robustness index, in [0, 1]; above 0.5 the class outweighs the domain.
        k: Neighbours at which it was taken.
        support: Share of the figures with a neighbour that tells something among these.
        mari: Margin-aware index, in [0, 1].
        croma: Median over figures, in (−1, 1); above 0 the class outweighs the domain.
        tail: Mean of CRoMa's lowest tenth of the figures.
        dominated: Share of the figures whose margin is at most 0.
    """

    n: int
    left_out: int
    domains: int
    pairs: int
    ri: float
    k: int
    support: float
    mari: float
    croma: float
    tail: float
    dominated: float


def encoder_robustness(
    features: npt.NDArray[np.floating[Any]],
    labels: npt.ArrayLike,
    domains: Sequence[str],
    cases: Sequence[str],
    seed: int = 0,
) -> EncoderRobustness:
    """The indices of frozen features.

    Args:
        features: Shape (n, d), finite, as the backbone gives them; neighbours are those by cosine distance.
        labels: Shape (n,), 0 or 1.
        domains: Domain of each figure.
        cases: Case of each figure; neighbours of the same case are left out.
        seed: Of the draw of figures (:func:`balanced_pairs`).

    Raises:
        AbsentError: The package ``croma`` is not installed.
        InputError: Shapes differ, features are not finite, or fewer than two domains have both classes in several cases.

    >>> encoder_robustness(np.zeros((2, 4)), [0, 1], ["a"], ["x", "y"])
    Traceback (most recent call last):
    ...
    atypia.base.errors.InputError: `domains` must be one for each of 2 figures, got 1; fix: give one value a figure
    """
    values, y = np.asarray(features, dtype=np.float64), np.asarray(labels)
    if values.ndim != 2:
        raise InputError(must("features", "of shape (figures, d)", values.shape, "give one row a figure"))
    for name, given in (("labels", y), ("domains", domains), ("cases", cases)):
        if len(given) != len(values):
            raise InputError(
                must(name, f"one for each of {len(values)} figures", len(given), "give one value a figure")
            )
    if not np.isfinite(values).all():
        raise InputError(must("features", "finite", "NaN or infinite values", "leave out figures that cannot be read"))
    where, of = np.asarray(domains), np.asarray(cases)
    pairs = balanced_pairs(y, where, of, seed)
    if not pairs:
        raise InputError(
            must("domains", f"two with more than {NEIGHBOURS} figures of both classes in several cases", "none such",
                 "robustness to the domain cannot be told from these figures")
        )  # fmt: skip
    require("Robustness of encoders", PACKAGE)
    import pandas as pd
    from croma import RI, CRoMa, MaRI  # pyright: ignore[reportMissingImports]

    rows = np.concatenate(pairs)
    frame = pd.DataFrame(
        {
            "sample_id": [str(row) for row in rows],
            "image_path": [str(row) for row in rows],  # required by the package, which reads no image
            "label": y[rows].astype(str),
            "group_id": of[rows].astype(str),
            "domain": where[rows].astype(str),
            "subset": np.repeat([f"pair {number}" for number in range(len(pairs))], [len(pair) for pair in pairs]),
        }
    )
    how: dict[str, Any] = {"confounder_column": "domain", "evaluation_design": "paired_2x2"}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*RI/MaRI", RuntimeWarning)  # it is among the indices
        ri = RI.compute(values[rows], frame, k_candidates=K, **how)
        mari = MaRI.compute(values[rows], frame, k_candidates=K, **how)
        margin: Any = CRoMa.compute(values[rows], frame, **how)  # one result, as no list of values of k is given
    used = len(np.unique(rows))
    return EncoderRobustness(
        used, len(values) - used, len(set(where[rows].tolist())), len(pairs),
        float(ri.value), int(ri.k), float(ri.support), float(mari.value),
        float(margin.value), float(margin.ltm_alpha), float(margin.f0),
    )  # fmt: skip


def balanced_pairs(
    labels: npt.NDArray[Any], domains: npt.NDArray[Any], cases: npt.NDArray[Any], seed: int = 0
) -> list[npt.NDArray[np.int64]]:
    """For each pair of domains as many figures of either class from either domain, drawn at random.

    In such a set a neighbour of the same class from the other domain is as frequent as one of the other class from the same domain, so that
    indices do not depend on how rare a class or how large a domain is.

    Returns:
        Rows of each pair; pairs with fewer than :data:`NEIGHBOURS` + 1 figures of a kind are left out.
    """
    found = []
    for first, second in combinations(sorted(set(domains.tolist())), 2):
        rng = generator(seed, "robustness", str(first), str(second))
        rows = np.flatnonzero((domains == first) | (domains == second))
        while len(rows):
            kept = rows[comparable(labels[rows], domains[rows], cases[rows])]
            cells = [
                kept[(labels[kept] == label) & (domains[kept] == domain)]
                for label in (0, 1)
                for domain in (first, second)
            ]
            least = min(len(cell) for cell in cells)
            if least <= NEIGHBOURS:
                break
            if len(kept) == len(rows) and all(len(cell) == least for cell in cells):
                found.append(rows)
                break
            rows = np.sort(np.concatenate([rng.permutation(cell)[:least] for cell in cells]))
    return found


def comparable(labels: npt.NDArray[Any], domains: npt.NDArray[Any], cases: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Figures with :data:`NEIGHBOURS` figures of either telling kind in other cases, among the figures that are kept.

    Returns:
        Mask of shape (n,).

    >>> comparable(np.array([0, 1]), np.array(["a", "b"]), np.array(["x", "y"]))
    array([False, False])
    """
    kept = np.ones(len(labels), dtype=bool)
    while kept.any():
        same = np.zeros(len(labels), dtype=np.int64)
        other = np.zeros(len(labels), dtype=np.int64)
        for row in np.flatnonzero(kept):
            apart = kept & (cases != cases[row])
            same[row] = (apart & (labels == labels[row]) & (domains != domains[row])).sum()
            other[row] = (apart & (labels != labels[row]) & (domains == domains[row])).sum()
        fewer = kept & (np.minimum(same, other) < NEIGHBOURS)
        if not fewer.any():
            break
        kept &= ~fewer
    return kept
