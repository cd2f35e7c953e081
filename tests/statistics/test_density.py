"""The densest window against trying all of them, and intervals of rates by area against published values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2

from atypia.base.errors import InputError
from atypia.statistics import density
from atypia.statistics.density import densest_window, poisson_interval


def tried(x: np.ndarray, y: np.ndarray, width: float, height: float) -> int:
    """The largest count of all windows that have a point on their left and one on their upper side."""
    return max(
        int(np.count_nonzero((x >= left) & (x <= left + width) & (y >= top) & (y <= top + height)))
        for left in x
        for top in y
    )


@pytest.mark.parametrize("seed", range(60))
def test_against_all_windows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 50))
    x, y = rng.uniform(0, 100, n).round(int(rng.integers(0, 3))), rng.uniform(0, 60, n).round(int(rng.integers(0, 3)))
    width, height = rng.uniform(1, 60, 2).round(1).tolist()
    found = densest_window(x, y, width, height)
    assert found.count == found.at_most == tried(x, y, width, height)
    within = (x >= found.left - 1e-9) & (x <= found.left + width + 1e-9)
    within &= (y >= found.top - 1e-9) & (y <= found.top + height + 1e-9)
    assert int(within.sum()) == found.count


def test_made_up_layouts() -> None:
    # A cluster of 30 among scattered figures, wider than a grid's cell and off it.
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(0, 40_000, 300), rng.uniform(11_111, 12_111, 30)])
    y = np.concatenate([rng.uniform(0, 30_000, 300), rng.uniform(7_777, 8_777, 30)])
    found = densest_window(x, y, 1633.0, 1225.0)
    assert found.count >= 30 and found.left < 11_200 < 12_000 < found.left + 1633 and found.top < 7_900
    # The window is in the middle of what it holds: the corners of a square.
    square = densest_window(np.array([0.0, 10.0, 0.0, 10.0]), np.array([0.0, 0.0, 10.0, 10.0]), 20.0, 12.0)
    assert (square.left, square.top, square.count) == (-5.0, -1.0, 4)
    alone = densest_window(np.array([3.0]), np.array([4.0]), 2.0, 2.0)
    assert (alone.left, alone.top, alone.count) == (2.0, 3.0, 1)
    assert densest_window(np.array([]), np.array([]), 2.0, 2.0).count == 0
    border = densest_window(np.array([0.0, 2.0]), np.array([0.0, 0.0]), 2.0, 1.0)
    assert border.count == 2, "the border belongs to the window"


def test_what_was_not_searched_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    x, y = rng.uniform(0, 100, 4000), rng.uniform(0, 100, 4000)
    whole = densest_window(x, y, 30.0, 20.0)
    monkeypatch.setattr(density, "WORK", 0)
    monkeypatch.setattr(density, "CELLS", 2000)
    short = densest_window(x, y, 30.0, 20.0)
    assert whole.count == whole.at_most
    assert short.count <= whole.count <= short.at_most and short.count < short.at_most


def test_bad_sizes() -> None:
    with pytest.raises(InputError, match="`width` must be a positive number, got 0"):
        densest_window(np.array([1.0]), np.array([1.0]), 0.0, 1.0)
    with pytest.raises(InputError, match=r"must be at least 1/1024 of the extent of the figures"):
        densest_window(np.array([0.0, 1e6]), np.array([0.0, 1.0]), 10.0, 10.0)


def test_interval() -> None:
    # Garwood 1936: of 10 events 4.80 to 18.39, of none 0 to 3.69.
    assert [round(limit, 2) for limit in poisson_interval(10, 1.0)] == [4.80, 18.39]
    assert [round(limit, 2) for limit in poisson_interval(0, 1.0)] == [0.0, 3.69]
    low, high = poisson_interval(7, 3.5, 0.9)
    assert low == pytest.approx(chi2.ppf(0.05, 14) / 2 / 3.5) and high == pytest.approx(chi2.ppf(0.95, 16) / 2 / 3.5)
