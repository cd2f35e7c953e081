"""How dense figures lie: the rectangle of a given size that holds most of them, and the interval of a rate by area."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must
from atypia.statistics.confusion import FloatArray

CONFIDENCE: Final = 0.95
CELLS: Final = 1_500_000
"""Places at which a window is tried first."""
FINEST: Final = 256
"""Places within the width of a window."""
MOST_ACROSS: Final = 1024
"""Windows within the extent of the figures, a side; smaller windows are refused."""
WORK: Final = 12_000_000
"""Figures that are looked at to find the exact optimum, before the best so far is returned with its bound."""


@dataclass(frozen=True)
class DenseWindow:
    """The place of a window that holds most points.

    Attributes:
        left: Its left side, in the unit of the points.
        top: Its upper side.
        count: Points within it, its border included.
        at_most: No window of this size holds more: equal to ``count`` where that is the optimum.
    """

    left: float
    top: float
    count: int
    at_most: int


def densest_window(x: FloatArray, y: FloatArray, width: float, height: float) -> DenseWindow:
    """The axis-parallel rectangle of a size that holds most points.

    Windows on a grid give a bound of what a window near each place can hold; then those places are searched that
    may hold more than the best so far: a best window has a point on its left and one on its upper side, or can be moved so
    that it has. Of windows with the same points the one in their middle is returned.

    Args:
        x: Positions, shape (n,), finite; n may be 0.
        y: Positions, shape (n,).
        width: Of the window, above 0, in the unit of the positions.
        height: Of the window, above 0.

    Raises:
        InputError: A size is not positive, or less than 1/1024 of the extent of the points.

    >>> densest_window(np.array([0.0, 1.0, 9.0]), np.array([0.0, 1.0, 9.0]), 4.0, 2.0)
    DenseWindow(left=-1.5, top=-0.5, count=2, at_most=2)
    """
    for name, size in (("width", width), ("height", height)):
        if not (math.isfinite(size) and size > 0):
            raise InputError(must(name, "a positive number", size, "give the size of the field"))
    if not len(x):
        return DenseWindow(0.0, 0.0, 0, 0)
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    grid = _Grid(x, y, width, height)
    best, bounds = grid.best(), grid.upper
    flat, work, at_most = bounds.ravel(), 0, best.count
    better = np.flatnonzero(flat > best.count)
    for place in better[np.argsort(-flat[better], kind="stable")].tolist():
        if flat[place] <= best.count:
            break
        if work > WORK:
            at_most = int(flat[place])
            break
        row, column = divmod(place, bounds.shape[1])
        found, looked_at = grid.search(row, column, best)
        best, work = found, work + looked_at
    return _centred(x, y, width, height, best, max(at_most, best.count))


@dataclass(frozen=True)
class _Best:
    """A window: its corner and what it holds."""

    left: float
    top: float
    count: int


class _Grid:
    """Bounds of the counts of windows by the cell that their upper left corner is in."""

    def __init__(self, x: FloatArray, y: FloatArray, width: float, height: float) -> None:
        self.width, self.height = width, height
        across, down = float(np.ptp(x)) / width, float(np.ptp(y)) / height
        if max(across, down) > MOST_ACROSS:
            got = f"a field of {width:g} × {height:g} within {across * width:g} × {down * height:g}"
            raise InputError(
                must("the field", f"at least 1/{MOST_ACROSS} of the extent of the figures", got, "give a larger one")
            )
        self.steps = int(min(FINEST, max(1, math.sqrt(CELLS / ((across + 2) * (down + 2))))))
        self.side = width / self.steps, height / self.steps
        self.zero = float(x.min()), float(y.min())
        columns = np.floor((x - self.zero[0]) / self.side[0]).astype(np.int64)
        rows = np.floor((y - self.zero[1]) / self.side[1]).astype(np.int64)
        order = np.lexsort((x, y))
        self.x, self.y, self.columns, self.rows = x[order], y[order], columns[order], rows[order]
        size = int(rows.max()) + 1, int(columns.max()) + 1
        counts = np.bincount(rows * size[1] + columns, minlength=size[0] * size[1]).reshape(size)
        total = np.zeros((size[0] + 1, size[1] + 1), np.int64)
        total[1:, 1:] = counts.cumsum(0).cumsum(1)
        # One cell more than the window has: it may begin anywhere within its first.
        self.upper, self._lower = (self._sums(total, self.steps + more) for more in (1, 0))

    @staticmethod
    def _sums(total: npt.NDArray[np.int64], cells: int) -> npt.NDArray[np.int64]:
        """Counts of squares of cells by their upper left cell."""
        height, width = total.shape[0] - 1, total.shape[1] - 1
        bottom, right = (np.minimum(np.arange(side) + cells, side) for side in (height, width))
        return total[bottom][:, right] - total[:-1][:, right] - total[bottom][:, :-1] + total[:-1, :-1]

    def best(self) -> _Best:
        """The best window whose corner is the corner of a cell."""
        row, column = divmod(int(np.argmax(self._lower)), self._lower.shape[1])
        inside = (self.columns >= column) & (self.columns < column + self.steps)
        inside &= (self.rows >= row) & (self.rows < row + self.steps)
        # By its own points, so that no rounding of cells' borders counts.
        return _Best(float(self.x[inside].min()), float(self.y[inside].min()), self._count(inside))

    def _count(self, inside: npt.NDArray[np.bool_]) -> int:
        left, top = self.x[inside].min(), self.y[inside].min()
        within = (self.x >= left) & (self.x <= left + self.width) & (self.y >= top) & (self.y <= top + self.height)
        return int(np.count_nonzero(within))

    def search(self, row: int, column: int, best: _Best) -> tuple[_Best, int]:
        """The best window with its corner in a cell, if it holds more; and how many points were looked at."""
        first, last = np.searchsorted(self.rows, (row, row + self.steps + 1))
        columns = self.columns[first:last]
        near = (columns >= column) & (columns <= column + self.steps)
        x, y, rows = (part[first:last][near] for part in (self.x, self.y, self.rows))
        begins = x[columns[near] == column]
        work = last - first
        for left in np.unique(begins).tolist():
            inside = (x >= left) & (x <= left + self.width)
            ys, tops = y[inside], rows[inside] == row  # in order
            counts = np.searchsorted(ys, ys[tops] + self.height, side="right") - np.flatnonzero(tops)
            work += len(x)
            if len(counts) and int(counts.max()) > best.count:
                at = int(np.argmax(counts))
                best = _Best(left, float(ys[tops][at]), int(counts[at]))
        return best, int(work)


def _centred(x: FloatArray, y: FloatArray, width: float, height: float, best: _Best, at_most: int) -> DenseWindow:
    inside = (x >= best.left) & (x <= best.left + width) & (y >= best.top) & (y <= best.top + height)
    left = (float(x[inside].min()) + float(x[inside].max()) - width) / 2
    top = (float(y[inside].min()) + float(y[inside].max()) - height) / 2
    return DenseWindow(left, top, int(np.count_nonzero(inside)), at_most)


def poisson_interval(count: int, exposure: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Exact interval of a rate by area, from a count: how it would differ in as large an area of the same tissue.

    Garwood, Biometrika 28, 1936: the limits are quantiles of chi-squared distributions with 2k and 2k + 2 degrees of
    freedom, halved.

    Args:
        count: Events, 0 or more.
        exposure: The area, above 0.
        confidence: Probability that the interval holds the rate, in (0, 1).

    Returns:
        Lower and upper limit, per unit of the area.

    >>> [round(limit, 2) for limit in poisson_interval(10, 2.0)]
    [2.4, 9.2]
    """
    from scipy.special import chdtri

    tail = (1 - confidence) / 2
    low = 0.0 if count == 0 else float(chdtri(2 * count, 1 - tail)) / 2
    return low / exposure, float(chdtri(2 * count + 2, tail)) / 2 / exposure
