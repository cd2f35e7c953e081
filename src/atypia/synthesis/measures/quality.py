"""Distances between two sets of feature vectors: FID, KID, precision, recall, density, coverage.

All are pure functions of arrays. State the features beside every number:
values on different features cannot be compared.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must
from atypia.base.seeds import generator

Array = npt.NDArray[np.floating[Any]]
CHUNK = 1024
"""Number of rows whose distances are in memory at once."""


def frechet_distance(real: Array, made: Array) -> float:
    """Fréchet distance of two Gaussians with the sets' means and covariances (FID, Heusel et al. 2017).

    ``|μ_r − μ_m|² + tr(Σ_r + Σ_m − 2 (Σ_r Σ_m)^½)``; covariances divide by n − 1. The trace of the root is
    the sum of the singular values of ``X_r X_mᵀ``, X the centred data over √(n − 1).
    Biased upwards for small n: only compare sets of equal size.

    Args:
        real: Shape (n, d), n ≥ 2.
        made: Shape (m, d), m ≥ 2.

    Returns:
        ≥ 0; 0 if means and covariances agree.

    Raises:
        InputError: Shapes do not fit, or values are not finite.
    """
    a, b = _checked(real, made, 2)
    mean = a.mean(0) - b.mean(0)
    x, y = (a - a.mean(0)) / np.sqrt(len(a) - 1), (b - b.mean(0)) / np.sqrt(len(b) - 1)
    # tr (XᵀX YᵀY)^½ is the sum of the singular values of X Yᵀ: same non-zero eigenvalues.
    if min(len(x), len(y)) <= x.shape[1]:
        cross = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    else:
        cross = np.linalg.svd(_root(x) @ _root(y), compute_uv=False).sum()
    value = float(mean @ mean + (x**2).sum() + (y**2).sum() - 2 * cross)
    return max(0.0, value)


def _root(x: Array) -> Array:
    """The symmetric square root of XᵀX."""
    values, vectors = np.linalg.eigh(x.T @ x)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


@dataclass(frozen=True)
class Kid:
    """Kernel distance: mean and standard deviation over subsets of size ``subset``."""

    mean: float
    sd: float
    subset: int


def kernel_distance(real: Array, made: Array, subset: int = 100, repeats: int = 100, seed: int = 0) -> Kid:
    """Squared maximum mean discrepancy, unbiased, under ``(x·y/d + 1)³`` (KID, Bińkowski et al. 2018).

    Args:
        real: Shape (n, d).
        made: Shape (m, d).
        subset: Vectors per set and subset; at most the size of the smaller set.
        repeats: Subsets drawn.
        seed: Seed for drawing them.

    Returns:
        Mean and standard deviation over subsets; as an unbiased estimate, the mean may be below 0.

    Raises:
        InputError: Shapes do not fit, or values are not finite.
    """
    a, b = _checked(real, made, 2)
    size = min(subset, len(a), len(b))
    rng = generator(seed, "kid")
    values = []
    for _ in range(repeats):
        x, y = a[rng.choice(len(a), size, replace=False)], b[rng.choice(len(b), size, replace=False)]
        values.append(_mmd(x, y))
    return Kid(float(np.mean(values)), float(np.std(values)), size)


def _mmd(x: Array, y: Array) -> float:
    n, d = x.shape
    kxx, kyy, kxy = ((p @ q.T / d + 1) ** 3 for p, q in ((x, x), (y, y), (x, y)))
    within = (kxx.sum() - np.trace(kxx) + kyy.sum() - np.trace(kyy)) / (n * (n - 1))
    return float(within - 2 * kxy.mean())


@dataclass(frozen=True)
class FeatureOverlap:
    """How far two sets cover each other; shares of figures, but ``density`` may exceed 1.

    Attributes:
        precision: Generated figures inside the k-nearest ball of some real one (Kynkäänniemi et al. 2019).
        recall: Real figures inside the ball of some generated one.
        density: Balls of real figures that contain a generated one, over k (Naeem et al. 2020).
        coverage: Real figures whose ball contains a generated one.
        k: Neighbour whose distance is the radius of a ball.
    """

    precision: float
    recall: float
    density: float
    coverage: float
    k: int


def overlap(real: Array, made: Array, k: int = 5) -> FeatureOverlap:
    """Precision, recall, density and coverage by k-nearest-neighbour balls.

    The radius of a figure's ball is its distance to its k-th nearest other figure of its own set; a
    figure on the edge is inside, as in the published code of both papers for precision and recall. If
    a set has at most k figures, measures that need its balls are NaN, with a warning.

    Args:
        real: Shape (n, d).
        made: Shape (m, d).
        k: Neighbours, ≥ 1.

    Raises:
        InputError: Shapes do not fit, values are not finite, or k < 1.
    """
    if k < 1:
        raise InputError(must("k", "at least 1", k, "for instance 5"))
    a, b = _checked(real, made, 1)
    radius_a, radius_b = _radii(a, k), _radii(b, k)
    inside_any = np.zeros(len(b), dtype=bool)
    balls = np.zeros(len(b), dtype=np.int64)
    recalled = np.zeros(len(a), dtype=bool)
    covered = np.zeros(len(a), dtype=bool)
    for start in range(0, len(b), CHUNK):
        part = slice(start, start + CHUNK)
        distances = squared_distances(b[part], a)
        if radius_a is not None:
            within = distances <= radius_a[None]
            inside_any[part], balls[part] = within.any(1), within.sum(1)
            covered |= within.any(0)
        if radius_b is not None:
            recalled |= (distances <= radius_b[part, None]).any(0)
    if radius_a is None or radius_b is None:
        text = f"sets of {len(a)} and {len(b)} figures are too small for k = {k}: some measures are not defined"
        warnings.warn(text, RuntimeWarning, stacklevel=2)
    nan = float("nan")
    return FeatureOverlap(
        precision=nan if radius_a is None else float(inside_any.mean()),
        recall=nan if radius_b is None else float(recalled.mean()),
        density=nan if radius_a is None else float(balls.mean() / k),
        coverage=nan if radius_a is None else float(covered.mean()),
        k=k,
    )


def squared_distances(x: Array, y: Array) -> npt.NDArray[np.float64]:
    """Squared Euclidean distances, shape (n, m), ≥ 0."""
    squares = (x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * (x @ y.T)
    return np.maximum(squares, 0)


def _radii(x: Array, k: int) -> npt.NDArray[np.float64] | None:
    """Squared distance of each row to its k-th nearest other row; None if there are too few."""
    if len(x) <= k:
        return None
    found = np.empty(len(x))
    for start in range(0, len(x), CHUNK):
        distances = squared_distances(x[start : start + CHUNK], x)
        rows = np.arange(len(distances))
        distances[rows, start + rows] = np.inf  # a figure is not its own neighbour
        found[start : start + CHUNK] = np.partition(distances, k - 1, axis=1)[:, k - 1]
    return found


def _checked(real: Array, made: Array, fewest: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    a, b = np.asarray(real, dtype=np.float64), np.asarray(made, dtype=np.float64)
    for name, values in (("real", a), ("made", b)):
        if values.ndim != 2 or len(values) < fewest:
            expected = f"of shape (n, d), n ≥ {fewest}"
            raise InputError(must(name, expected, f"shape {values.shape}", "give more figures"))
        if not np.isfinite(values).all():
            raise InputError(must(name, "finite", "NaN or infinity", "leave out figures without features"))
    if a.shape[1] != b.shape[1]:
        raise InputError(must("made", f"of {a.shape[1]} features", b.shape[1], "use one backbone for both"))
    return a, b
