"""Many L2-regularised logistic regressions over one feature matrix, solved together.

Folds, inner folds and strengths share every pass over the features: one product of matrices
serves all problems, which keeps both cores busy and costs little more than one problem alone.

Problem k minimises, over standardised features z = (x − μ_k)/σ_k,

    f_k(u, b) = Σ_i w_ki ℓ(y_i, z_i · u + b) / Σ_i w_ki + λ_k/2 ‖u‖²,    ℓ(y, t) = log(1 + e^t) − y t,

with μ_k, σ_k the mean and deviation over the problem's own rows (w_ki > 0); the bias is not
penalised. The method is L-BFGS with one history a problem, preconditioned by the eigenvectors of
the features' common Gram matrix, with Armijo backtracking on cached logits (Nocedal and Wright
2006, algorithms 7.4 and 3.1).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from atypia.errors import InputError, WorkError, must
from atypia.methods.head import Floats, log_loss, sigmoid

Array = npt.NDArray[Any]
MEMORY = 8
"""Pairs of steps and gradient changes that L-BFGS keeps."""
CURVATURE = 0.15
"""Typical p(1 − p) of a fitted probe, which scales the preconditioner; any value in (0, 1/4] converges."""


@dataclass(frozen=True, eq=False)
class Solution:
    """Solved problems.

    Attributes:
        weight: Shape (k, d), float64, on raw features.
        bias: Shape (k,), float64.
        iterations: Shape (k,).
        objective: Value of f_k, shape (k,).
    """

    weight: Floats
    bias: Floats
    iterations: npt.NDArray[np.int64]
    objective: Floats


class Preconditioner:
    """Eigenvectors and eigenvalues of the standardised features' Gram matrix over all rows.

    Args:
        features: Shape (n, d).
    """

    def __init__(self, features: Array) -> None:
        scaled = features - features.mean(0)
        deviation = scaled.std(0)
        scaled /= np.where(deviation > 0, deviation, 1)
        gram = scaled.T @ scaled / len(features)
        values, vectors = np.linalg.eigh(gram)
        self.values = np.maximum(values, 0).astype(features.dtype)
        self.vectors = np.ascontiguousarray(vectors.astype(features.dtype))

    def apply(self, gradient: Array, strengths: Array) -> Array:
        """``(c G + λ_k I)⁻¹ g_k`` for gradients (k, d)."""
        turned = gradient @ self.vectors
        turned /= CURVATURE * self.values[None, :] + strengths[:, None]
        return turned @ self.vectors.T


def solve(
    features: Array,
    labels: npt.NDArray[np.int8],
    weights: Array,
    strengths: Array,
    *,
    standardise: bool = True,
    tolerance: float = 1e-6,
    max_iterations: int = 500,
    preconditioner: Preconditioner | None = None,
) -> Solution:
    """Solves problems that share features.

    Args:
        features: Shape (n, d), float32 or float64; the work is done in this precision.
        labels: Shape (n,), 1 = positive.
        weights: Shape (k, n), ≥ 0; 0 leaves a row out of a problem.
        strengths: λ, shape (k,), > 0.
        standardise: Whether features are standardised; else μ = 0 and σ = 1.
        tolerance: A problem is solved when its gradient's norm is this share of that at zero.
        max_iterations: Steps allowed.
        preconditioner: Of these features; None: made here.

    Raises:
        InputError: Shapes differ, a strength is not positive, or a problem lacks a class.
        WorkError: A problem did not converge.
    """
    _check(features, labels, weights, strengths)
    state = _State(features, labels, weights, strengths, standardise)
    pre = preconditioner or Preconditioner(features)
    count, d = weights.shape[0], features.shape[1]
    final_u, final_b = np.zeros((count, d)), np.zeros(count)
    iterations, objective = np.zeros(count, dtype=np.int64), np.zeros(count)
    active = np.arange(count)
    u, b = np.zeros((count, d), features.dtype), np.zeros(count, features.dtype)
    logits = np.zeros((count, len(features)), features.dtype)
    value, gu, gb = state.evaluate(logits, u)
    start_norm = _norm(gu, gb)
    history: deque[tuple[Array, Array, Array, Array, Array]] = deque(maxlen=MEMORY)
    for iteration in range(max_iterations + 1):
        norm = _norm(gu, gb)
        done = norm <= tolerance * start_norm
        stuck = np.zeros(len(active), dtype=bool)
        if not done.all() and iteration < max_iterations:
            du, db = _direction(gu, gb, history, pre, state)
            dlogits = state.logits(du, db)
            step = _line_search(state, (logits, u), (dlogits, du), value, (gu * du).sum(1) + gb * db)
            # In the precision at hand no step improves any more: solved as far as can be seen.
            stuck = (step == 0) & ~done
            u, b, logits = u + step[:, None] * du, b + step * db, logits + step[:, None] * dlogits
            new_value, new_gu, new_gb = state.evaluate(logits, u)
            history.append(_pair(step, (du, db), (new_gu - gu, new_gb - gb)))
            value, gu, gb = new_value, new_gu, new_gb
        finished = done | stuck
        if iteration == max_iterations:
            finished[:] = True
            if (worst := float((norm / start_norm).max())) > max(100 * tolerance, 1e-2):
                raise WorkError(
                    f"a probe did not converge in {max_iterations} steps ({worst:.1e}); fix: stronger penalty"
                )
        if finished.any():
            rows = active[finished]
            final_u[rows], final_b[rows] = u[finished], b[finished]
            iterations[rows], objective[rows] = iteration, value[finished]
            keep = ~finished
            if not keep.any():
                break
            active, u, b, logits, value = active[keep], u[keep], b[keep], logits[keep], value[keep]
            gu, gb, start_norm = gu[keep], gb[keep], start_norm[keep]
            state = state.subset(keep)
            history = deque((tuple(part[keep] for part in pair) for pair in history), maxlen=MEMORY)  # pyright: ignore[reportArgumentType]
    whole = _State(features, labels, weights, strengths, standardise)
    weight = final_u / whole.sigma
    return Solution(weight, final_b - (weight * whole.mu).sum(1), iterations, objective)


class _State:
    """Features, weights and statistics of the problems that are still open."""

    def __init__(self, features: Array, labels: Array, weights: Array, strengths: Array, standardise: bool) -> None:
        dtype = features.dtype
        self.x = features
        self.y = labels.astype(dtype)[None, :]
        weights = weights.astype(dtype)
        self.w = weights / weights.sum(1, keepdims=True)
        self.strengths = strengths.astype(dtype)
        if standardise:
            inside = (weights > 0).astype(dtype)
            size = inside.sum(1, keepdims=True)
            # Centred at the common mean first: single precision then loses nothing in the variance.
            centre = features.mean(0)
            offset = inside @ (features - centre) / size
            variance = inside @ ((features - centre) ** 2) / size - offset**2
            self.mu = centre + offset
            flat = variance <= 1e-10 * np.maximum(np.abs(self.mu) ** 2, 1e-12)
            self.sigma = np.where(flat, 1, np.sqrt(np.maximum(variance, 1e-30))).astype(dtype)
        else:
            shape = (len(weights), features.shape[1])
            self.mu, self.sigma = np.zeros(shape, dtype), np.ones(shape, dtype)

    def subset(self, keep: npt.NDArray[np.bool_]) -> _State:
        part = object.__new__(_State)
        part.x, part.y = self.x, self.y
        part.w, part.strengths, part.mu, part.sigma = (
            self.w[keep],
            self.strengths[keep],
            self.mu[keep],
            self.sigma[keep],
        )
        return part

    def logits(self, u: Array, b: Array) -> Array:
        scaled = u / self.sigma
        return scaled @ self.x.T + (b - (scaled * self.mu).sum(1))[:, None]

    def value(self, logits: Array, u: Array) -> Array:
        return (self.w * log_loss(logits, self.y)).sum(1) + 0.5 * self.strengths * (u * u).sum(1)

    def evaluate(self, logits: Array, u: Array) -> tuple[Array, Array, Array]:
        """Objective (k,) and its gradient by u (k, d) and b (k,)."""
        residual = self.w * (sigmoid(logits) - self.y)
        gb = residual.sum(1)
        gu = (residual @ self.x - gb[:, None] * self.mu) / self.sigma + self.strengths[:, None] * u
        return self.value(logits, u), gu, gb


def _direction(gu: Array, gb: Array, history: Any, pre: Preconditioner, state: _State) -> tuple[Array, Array]:
    """The two-loop recursion for all problems at once."""
    qu, qb = gu.copy(), gb.copy()
    alphas = []
    for su, sb, yu, yb, rho in reversed(history):
        alpha = rho * ((su * qu).sum(1) + sb * qb)
        qu -= alpha[:, None] * yu
        qb -= alpha * yb
        alphas.append(alpha)
    qu, qb = pre.apply(qu, state.strengths), qb / CURVATURE
    for (su, sb, yu, yb, rho), alpha in zip(history, reversed(alphas), strict=True):
        beta = rho * ((yu * qu).sum(1) + yb * qb)
        qu += (alpha - beta)[:, None] * su
        qb += (alpha - beta) * sb
    du, db = -qu, -qb
    uphill = (gu * du).sum(1) + gb * db >= 0  # rounding can spoil a history: fall back to the gradient
    if uphill.any():
        du[uphill], db[uphill] = -gu[uphill], -gb[uphill]
    return du, db


def _line_search(
    state: _State, at: tuple[Array, Array], along: tuple[Array, Array], value: Array, slope: Array
) -> Array:
    """Armijo backtracking; 0 where no step down to 2⁻²⁰ improves. Costs no product of matrices."""
    (logits, u), (dlogits, du) = at, along
    step = np.ones_like(value)
    resolution = 4 * np.finfo(value.dtype).eps * np.abs(value)
    for _ in range(20):
        new = state.value(logits + step[:, None] * dlogits, u + step[:, None] * du)
        bad = new > value + 1e-4 * step * slope + resolution
        if not bad.any():
            return step
        step = np.where(bad, step / 2, step)
    step[bad] = 0
    return step


def _pair(step: Array, along: tuple[Array, Array], change: tuple[Array, Array]) -> tuple[Array, ...]:
    """A history entry; its weight ρ is 0 where the curvature is not safely positive."""
    su, sb = step[:, None] * along[0], step * along[1]
    yu, yb = change
    curvature = (su * yu).sum(1) + sb * yb
    safe = curvature > 1e-10 * np.sqrt(((su * su).sum(1) + sb * sb) * ((yu * yu).sum(1) + yb * yb))
    rho = np.where(safe, 1 / np.where(safe, curvature, 1), 0)
    return su, sb, yu, yb, rho.astype(su.dtype)


def _norm(gu: Array, gb: Array) -> Array:
    return np.sqrt((gu * gu).sum(1) + gb * gb)


def _check(features: Array, labels: Array, weights: Array, strengths: Array) -> None:
    n = len(features)
    if features.ndim != 2 or labels.shape != (n,) or weights.ndim != 2 or weights.shape[1] != n:
        got = (features.shape, labels.shape, weights.shape)
        raise InputError(must("features, labels, weights", "of shapes (n, d), (n,), (k, n)", got, "align them"))
    if strengths.shape != (len(weights),) or not bool(np.all(strengths > 0)):
        raise InputError(must("strengths", f"{len(weights)} positive numbers", strengths.tolist(), "use 1e-3 to 1e3"))
    if not bool(np.isfinite(features).all()):
        bad = int(np.count_nonzero(~np.isfinite(features).all(axis=1)))
        raise InputError(must("features", "finite", f"NaN or infinity in {bad} rows", "drop those rows"))
    for name, label in (("positive", 1), ("negative", 0)):
        lacking = np.flatnonzero((weights[:, labels == label] > 0).sum(1) == 0)
        if len(lacking):
            raise InputError(
                must("each problem", "with both classes", f"no {name} row in {len(lacking)}", "split otherwise")
            )
