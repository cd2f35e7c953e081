"""Memorisation: is a generated crop closer to a training crop than real crops are to each other?

Crops are compared as pixels at a small size, over the eight flips and quarter turns. The limit for
«too close» comes from real crops: the distance of each to its nearest neighbour from another case.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must
from atypia.base.process.progress import Progress, silent
from atypia.data.images.geometry import resize
from atypia.inference.classifier import dihedral_views
from atypia.synthesis.measures.quality import squared_distances

SIDE_PX: Final = 16
"""Side to which crops are scaled before they are compared: this keeps shape and stain and removes grain."""
QUANTILE: Final = 0.01
"""Share of real crops that are closer to a real crop of another case than the limit for copies."""
QUERIES: Final = 256
"""Crops compared at once."""

Crops = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Memorisation:
    """Nearest training neighbours of generated crops.

    Attributes:
        distances: Root mean square difference of the scaled pixels, in grey levels, shape (n,).
        nearest: Position of the nearest training crop, shape (n,).
        real: The same distance of each training crop to the nearest one of another case, shape (m,).
        limit: Below this distance a crop counts as a copy: the :data:`QUANTILE` of ``real``.
    """

    distances: npt.NDArray[np.float64]
    nearest: npt.NDArray[np.int64]
    real: npt.NDArray[np.float64]
    limit: float

    @property
    def copies(self) -> npt.NDArray[np.bool_]:
        """Which generated crops are copies, shape (n,)."""
        return self.distances < self.limit

    def as_dict(self) -> dict[str, Any]:
        """Shares and quantiles for a report; ``expected_share`` of new real crops would count as copies."""
        quantiles = (0.01, 0.1, 0.5)
        return {
            "copies": int(self.copies.sum()),
            "share": float(self.copies.mean()),
            "expected_share": QUANTILE,
            "limit": self.limit,
            "generated_to_training": {f"q{q:g}": float(np.quantile(self.distances, q)) for q in quantiles},
            "real_to_real": {f"q{q:g}": float(np.quantile(self.real, q)) for q in quantiles},
        }


def memorisation(
    made: Crops, real: Crops, cases: npt.NDArray[np.str_] | None = None, progress: Progress = silent
) -> Memorisation:
    """Compares generated crops with those that their generator learned from.

    Args:
        made: Generated crops, shape (n, h, h, 3), uint8, n ≥ 1.
        real: Training crops, shape (m, h', h', 3), uint8, m ≥ 2; the side may differ.
        cases: Case of each training crop, shape (m,): neighbours from the same case do not show how far
        apart independent crops are. None: each crop is its own case.
        progress: Receives the number of crops compared.

    Raises:
        InputError: Too few crops, or all training crops are from one case.
    """
    if len(made) < 1 or len(real) < 2:
        got = f"{len(made)} generated and {len(real)} real"
        raise InputError(must("crops", "at least one generated and two real", got, "give more crops"))
    groups = np.arange(len(real)) if cases is None else np.unique(cases, return_inverse=True)[1]
    if len(np.unique(groups)) < 2:
        raise InputError(must("training crops", "of at least two cases", "one", "leave the cases out"))
    reference = downscale_crops(real)
    nothing = np.full(len(made), -1)
    distances, nearest = _nearest(
        downscale_crops(made), reference, nothing, groups, progress, "generated crops compared"
    )
    own, _ = _nearest(reference, reference, groups, groups, progress, "real crops compared")
    return Memorisation(distances, nearest, own, float(np.quantile(own, QUANTILE)))


def downscale_crops(crops: Crops) -> Crops:
    """Crops scaled down to :data:`SIDE_PX`, antialiased, shape (n, 16, 16, 3)."""
    return np.stack([resize(np.asarray(crop), SIDE_PX) for crop in crops])


def _nearest(
    queries: Crops,
    reference: Crops,
    query_groups: npt.NDArray[np.int64],
    groups: npt.NDArray[np.int64],
    progress: Progress,
    what: str,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Distance and position of the nearest reference of another group, over eight views of the query."""
    flat = _flat(reference)
    scale = flat.shape[1]
    distances, nearest = np.empty(len(queries)), np.empty(len(queries), dtype=np.int64)
    for start in range(0, len(queries), QUERIES):
        part = queries[start : start + QUERIES]
        same = query_groups[start : start + QUERIES, None] == groups[None]
        best = np.full(len(part), np.inf)
        where = np.zeros(len(part), dtype=np.int64)
        for view in dihedral_views(part):
            squares = squared_distances(_flat(view), flat)
            squares[same] = np.inf
            position = squares.argmin(1)
            value = squares[np.arange(len(part)), position]
            where = np.where(value < best, position, where)
            best = np.minimum(best, value)
        distances[start : start + QUERIES] = np.sqrt(best / scale)
        nearest[start : start + QUERIES] = where
        progress(min(start + QUERIES, len(queries)), len(queries), what)
    return distances, nearest


def _flat(crops: Crops) -> npt.NDArray[np.float64]:
    return crops.reshape(len(crops), -1).astype(np.float64)
