"""Scores on a grid over a slide, kept in a file while they are computed, and the positions that stand out.

The file has two bytes a place, 0 for a place that has not been scored, so that what a killed process did is kept, and
nothing of a slide's size is held in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from atypia.base.artifacts import atomic_file, disk_errors
from atypia.base.errors import WorkError

STEPS: Final = 65_534
"""Differences between scores that are kept: 0 to 1 in steps of 0.000015."""
STRIP: Final = 512
"""Rows of places that are looked at together."""
REACH: Final = 4.0
"""Standard deviations of the smoothing that are looked at."""

Floats = npt.NDArray[np.float64]


class ScoreGrid:
    """Scores in [0, 1] of places on a grid.

    Args:
        path: The file; made where it is absent.
        rows: Of the grid.
        columns: Of the grid.

    Raises:
        WorkError: The file cannot be written, or has another size.
    """

    def __init__(self, path: Path, rows: int, columns: int) -> None:
        size = 2 * rows * columns
        with disk_errors(path):
            if not path.exists():
                with atomic_file(path, private=True) as file:
                    file.truncate(size)
            if path.stat().st_size != size:
                raise WorkError(f"{path} is damaged; fix: delete it (`atypia cache clear --kind detections`)")
            self._kept = np.memmap(path, np.uint16, "r+", shape=(rows, columns))
        self.shape = rows, columns

    def missing(self, rows: slice, columns: slice, asked: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """The places of a part of the grid that are asked for and have no score, shape (k, 2): row and column of the grid."""
        left = asked & (self._kept[rows, columns] == 0)
        return np.argwhere(left) + np.array([rows.start, columns.start])

    def put(self, places: npt.NDArray[np.int64], scores: Floats) -> None:
        """Keeps scores."""
        self._kept[places[:, 0], places[:, 1]] = 1 + np.rint(np.clip(scores, 0, 1) * STEPS).astype(np.uint16)

    def scores(self, rows: slice) -> npt.NDArray[np.float32]:
        """Scores of some rows; 0 where a place has none."""
        kept = np.array(self._kept[rows])
        return (np.maximum(kept.astype(np.float32) - 1, 0) / STEPS).astype(np.float32)

    def close(self) -> None:
        """Writes everything down."""
        self._kept.flush()
        del self._kept


@dataclass(frozen=True)
class PeakRule:
    """When a place stands out; lengths in steps of the grid.

    Attributes:
        distance: Two positions are never nearer: of those that are, the one with the higher smoothed score stays.
        blur: Standard deviation of the smoothing by which the middle of a plateau is found.
        least: Least score.
    """

    distance: float
    blur: float
    least: float


def peaks(heat: ScoreGrid, rule: PeakRule) -> tuple[Floats, Floats, Floats]:
    """Positions whose smoothed score is the highest within a distance (non-maximum suppression), and their scores.

    A position is the mean of the places within half of the distance, weighted by the squares of their scores, so that it is
    finer than the grid. Its score is the highest of the places next to it. What is found does not depend on how the grid
    is cut into strips.

    Returns:
        Column, row (fractions of a step, 0 is the middle of the first place) and score, each of shape (n,), by descending
        score.
    """
    from scipy.ndimage import gaussian_filter, maximum_filter

    halo = int(np.ceil(rule.distance + REACH * rule.blur)) + 2
    disc, next_to = _disc(rule.distance), _disc(max(1.0, rule.blur))
    found: list[tuple[float, float, float, float]] = []
    for top in range(0, heat.shape[0], STRIP):
        first, last = max(0, top - halo), min(heat.shape[0], top + STRIP + halo)
        scores = heat.scores(slice(first, last))
        if not (scores >= rule.least).any():
            continue
        smooth = gaussian_filter(scores, rule.blur, mode="constant", truncate=REACH) if rule.blur else scores
        highest = maximum_filter(scores, footprint=next_to, mode="constant")
        standing = (smooth == maximum_filter(smooth, footprint=disc, mode="constant")) & (highest >= rule.least)
        standing &= smooth > 0
        rows, columns = np.nonzero(standing)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            if top <= row + first < min(top + STRIP, heat.shape[0]):
                right, down = _middle(scores, row, column, rule.distance / 2)
                place = column + right, row + first + down
                found.append((float(highest[row, column]), float(smooth[row, column]), *place))
    return _apart(found, rule.distance)


def _disc(radius: float) -> npt.NDArray[np.bool_]:
    reach = int(radius)
    across = np.arange(-reach, reach + 1)
    return across[:, None] ** 2 + across[None] ** 2 <= radius**2


def _middle(scores: npt.NDArray[np.float32], row: int, column: int, radius: float) -> tuple[float, float]:
    """Mean position around a place, from it: right and down."""
    reach = int(radius)
    top, left = max(0, row - reach), max(0, column - reach)
    part = scores[top : row + reach + 1, left : column + reach + 1].astype(np.float64) ** 2
    y, x = np.mgrid[top - row : top - row + part.shape[0], left - column : left - column + part.shape[1]]
    part = np.where(y**2 + x**2 <= radius**2, part, 0)
    total = part.sum()
    return (float((part * x).sum() / total), float((part * y).sum() / total)) if total else (0.0, 0.0)


def _apart(found: list[tuple[float, float, float, float]], distance: float) -> tuple[Floats, Floats, Floats]:
    """Without positions that are nearer than the distance to a higher one: equal neighbours, and those that came nearer."""
    from scipy.spatial import KDTree

    rows = np.array(sorted(found, key=lambda one: (-one[1], -one[0], one[3], one[2])), np.float64).reshape(-1, 4)
    kept = np.ones(len(rows), bool)
    if len(rows):
        tree = KDTree(rows[:, 2:])
        for row, near in enumerate(tree.query_ball_point(rows[:, 2:], distance * (1 - 1e-9))):
            if kept[row]:
                kept[[other for other in near if other > row]] = False
    rows = rows[kept]
    rows = rows[np.argsort(-rows[:, 0], kind="stable")]
    return rows[:, 2], rows[:, 3], rows[:, 0]
