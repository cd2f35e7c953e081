"""Many L2-regularised logistic regressions over one feature matrix, solved together.

Inner folds and strengths share every pass over the features: one matrix product serves all
problems, which costs little more than one problem alone.

Problem k minimises, over standardised features z = (x − μ_k)/σ_k,

    f_k(u, b) = Σ_i w_ki ℓ(y_i, z_i · u + b) / Σ_i w_ki + λ_k/2 ‖u‖²,    ℓ(y, t) = log(1 + e^t) − y t,

with μ_k, σ_k the mean and deviation over the problem's own rows (w_ki > 0); the bias is not
penalised. The method is L-BFGS with one history a problem, preconditioned by the leading
eigenvectors of the features' Gram matrix, with Armijo backtracking on cached logits (Nocedal and
Wright 2006, algorithms 7.4 and 3.1; eigenvectors by Halko, Martinsson and Tropp 2011, algorithm 4.4).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, WorkError, count_noun, must
from atypia.methods.head import Floats

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
MEMORY = 8
"""Pairs of steps and gradient changes that L-BFGS keeps."""
CURVATURE = 0.15
"""Typical p(1 − p) of a fitted probe, by which the preconditioner is scaled; any value in (0, 1/4] converges."""
RANK = 128
"""Eigenvectors of the preconditioner; equal variance is assumed in all other directions."""
STAGNATION = 4
"""Consecutive steps without measurable progress after which a problem counts as solved."""
FLAT = 1e-10
"""A feature whose variance is this share of its squared mean is constant up to rounding."""


@dataclass(frozen=True, eq=False)
class Solution:
    """Solved problems.

    Attributes:
        weight: Shape (k, d), float64, on raw features.
        bias: Shape (k,), float64.
        iterations: Shape (k,).
        objective: Value of f_k, shape (k,).
        gradient: Norm of f_k's gradient, as a share of the norm at zero, shape (k,). Above the
            tolerance only if no further progress was possible in this precision.
    """

    weight: Floats
    bias: Floats
    iterations: npt.NDArray[np.int64]
    objective: Floats
    gradient: Floats


class Preconditioner:
    """An approximate inverse Hessian: leading eigenpairs of the features' Gram matrix.

    It changes how fast problems are solved, not their solution.

    Args:
        features: Shape (n, d).
        standardise: As in the problems.
        rank: Number of eigenpairs; those of smaller matrices are all taken, exactly.
    """

    def __init__(self, features: Array, standardise: bool = True, rank: int = RANK) -> None:
        scaled, _, deviation = _centred(features)
        if standardise:
            scaled /= deviation
        n, d = scaled.shape
        gram = scaled.T @ scaled / n
        trace = float(np.trace(gram))
        if d <= 2 * rank:
            values, vectors = np.linalg.eigh(gram)
            rest = 0.0
        else:
            basis = np.random.default_rng(0).standard_normal((d, rank)).astype(gram.dtype)
            for _ in range(2):
                basis = np.linalg.qr(gram @ basis)[0]
            values, turned = np.linalg.eigh(basis.T @ gram @ basis)
            vectors = basis @ turned
            rest = max(trace - float(values.sum()), 0.0) / (d - rank)
        self.values = np.maximum(values, 0).astype(features.dtype)
        self.vectors = np.ascontiguousarray(vectors.astype(features.dtype))
        self.rest = rest

    def apply(self, gradient: Array, strengths: Array) -> Array:
        """Approximately ``(c G + λ_k I)⁻¹ g_k`` for gradients (k, d)."""
        outside = 1 / (CURVATURE * self.rest + strengths[:, None])
        inside = 1 / (CURVATURE * self.values[None, :] + strengths[:, None])
        return ((gradient @ self.vectors) * (inside - outside)) @ self.vectors.T + outside * gradient


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
        labels: Shape (n,), 1 = positive, 0 = negative.
        weights: Shape (k, n), ≥ 0; 0 leaves a row out of a problem.
        strengths: λ, shape (k,), > 0.
        standardise: Whether features are standardised; else σ = 1 and u is the weight of raw features.
        tolerance: A problem is solved when its gradient's norm is this share of that at zero, or
            when no further progress is possible in this precision.
        max_iterations: Steps allowed.
        preconditioner: Of these features; None: made here.

    Returns:
        The solutions. The same call gives the same bits on one machine with one thread. Beside other problems, with
        more threads or on another processor, sums are rounded in another order, so solutions differ by rounding and
        by the step at which the tolerance was met: probabilities by less than 1e-5 at ``tolerance=1e-5`` and below.

    Raises:
        InputError: Shapes or types differ, a value is not finite, a strength is not positive, or a
            problem lacks a class.
        WorkError: A problem did not converge.
    """
    _check(features, labels, weights, strengths)
    used = (weights > 0).any(0)
    x = features if used.all() else features[used]
    state = whole = _State(x, labels[used], weights[:, used], strengths, standardise)
    pre = preconditioner or Preconditioner(x, standardise)
    count, d, dtype = len(weights), features.shape[1], features.dtype
    out = Solution(np.zeros((count, d)), np.zeros(count), np.zeros(count, np.int64), np.zeros(count), np.zeros(count))
    active = np.arange(count)
    here = state.at(np.zeros((count, d), dtype), np.zeros(count, dtype), np.zeros((count, len(x)), dtype))
    start = np.maximum(here.norm, np.finfo(dtype).tiny)
    best_value, best_norm, idle = here.value, here.norm, np.zeros(count, np.int64)
    history = _History()
    for iteration in range(max_iterations + 1):
        ratio = here.norm / start
        finished = (ratio <= tolerance) | (idle >= STAGNATION)
        if finished.any():
            rows = active[finished]
            out.weight[rows], out.bias[rows] = here.u[finished], here.b[finished]
            out.iterations[rows], out.objective[rows] = iteration, here.value[finished]
            out.gradient[rows] = ratio[finished]
            keep = ~finished
            if not keep.any():
                break
            state, here, active, start = state.subset(keep), here.subset(keep), active[keep], start[keep]
            best_value, best_norm, idle = best_value[keep], best_norm[keep], idle[keep]
            history.keep(keep)
        if iteration == max_iterations:
            raise WorkError(
                f"{len(active)} of {count} logistic regressions did not converge in {max_iterations} steps (gradient "
                f"{float(np.max(here.norm / start)):.1e} of that at zero); fix: larger strengths, or more steps"
            )
        du, db = history.direction(here, pre, state.strengths)
        step, there = _line_search(state, here, du, db)
        history.add(step, (du, db), (there.gu - here.gu, there.gb - here.gb))
        history.forget(step == 0)
        visible = best_value - there.value > 8 * np.finfo(dtype).eps * np.abs(best_value)
        idle = np.where(visible | (there.norm < 0.9 * best_norm), 0, idle + 1)
        best_value, best_norm = np.minimum(best_value, there.value), np.minimum(best_norm, there.norm)
        here = there
    weight = out.weight / whole.sigma
    centre = whole.centre + whole.offset.astype(np.float64)
    return Solution(weight, out.bias - (weight * centre).sum(1), out.iterations, out.objective, out.gradient)


class _Point(NamedTuple):
    """Parameters of the open problems, with their logits, objective and gradient."""

    u: Array
    b: Array
    logits: Array
    value: Array
    gu: Array
    gb: Array

    @property
    def norm(self) -> Array:
        return np.sqrt((self.gu * self.gu).sum(1) + self.gb * self.gb)

    def subset(self, keep: Mask) -> _Point:
        return _Point(*(part[keep] for part in self))


class _State:
    """Features, weights and statistics of the problems that are still open.

    Features are centred at their common mean, so that large means cost no accuracy in single
    precision; ``offset`` is a problem's own mean relative to it. Centring changes only the bias,
    which is not penalised, so problems that are not standardised are centred too.
    """

    def __init__(self, features: Array, labels: Array, weights: Array, strengths: Array, standardise: bool) -> None:
        dtype = features.dtype
        self.x, self.centre, _ = _centred(features)
        self.y = labels.astype(dtype)[None, :]
        self.w = (weights / weights.sum(1, keepdims=True)).astype(dtype)
        self.strengths = strengths.astype(dtype)
        inside = (weights > 0).astype(dtype)
        size = inside.sum(1, keepdims=True)
        self.offset = inside @ self.x / size
        if standardise:
            variance = inside @ (self.x**2) / size - self.offset**2
            self.sigma = _deviation(variance, self.centre + self.offset).astype(dtype)
        else:
            self.sigma = np.ones_like(self.offset)

    def subset(self, keep: Mask) -> _State:
        part = object.__new__(_State)
        part.x, part.y, part.centre = self.x, self.y, self.centre
        part.w, part.strengths, part.offset, part.sigma = (
            values[keep] for values in (self.w, self.strengths, self.offset, self.sigma)
        )
        return part

    def logits(self, u: Array, b: Array) -> Array:
        scaled = u / self.sigma
        return scaled @ self.x.T + (b - (scaled * self.offset).sum(1))[:, None]

    def value(self, u: Array, logits: Array) -> tuple[Array, Array]:
        """Objective (k,), and e^−|logit| (k, n), which the gradient needs as well."""
        small = np.exp(-np.abs(logits))
        # log(1 + e) is accurate to one rounding unit, which is enough for a mean of losses.
        loss = np.maximum(logits, 0) - self.y * logits + np.log(1 + small)
        return (self.w * loss).sum(1) + 0.5 * self.strengths * (u * u).sum(1), small

    def at(self, u: Array, b: Array, logits: Array, known: tuple[Array, Array] | None = None) -> _Point:
        value, small = known or self.value(u, logits)
        residual = self.w * (np.where(logits >= 0, 1, small) / (1 + small) - self.y)
        gb = residual.sum(1)
        gu = (residual @ self.x - gb[:, None] * self.offset) / self.sigma + self.strengths[:, None] * u
        return _Point(u, b, logits, value, gu, gb)


class _Pair(NamedTuple):
    """A step (s), the gradient's change along it (y), and 1 / s·y; if that is 0, the pair is not used."""

    su: Array
    sb: Array
    yu: Array
    yb: Array
    rho: Array


class _History:
    """The history of L-BFGS, for all open problems at once."""

    def __init__(self) -> None:
        self.pairs: deque[_Pair] = deque(maxlen=MEMORY)

    def add(self, step: Array, along: tuple[Array, Array], change: tuple[Array, Array]) -> None:
        """Adds a pair; it is not used if the curvature is not safely positive."""
        su, sb = step[:, None] * along[0], step * along[1]
        yu, yb = change
        curvature = (su * yu).sum(1) + sb * yb
        safe = curvature > 1e-10 * np.sqrt(((su * su).sum(1) + sb * sb) * ((yu * yu).sum(1) + yb * yb))
        rho = np.where(safe, 1 / np.where(safe, curvature, 1), 0).astype(su.dtype)
        self.pairs.append(_Pair(su, sb, yu, yb, rho))

    def keep(self, keep: Mask) -> None:
        """Drops problems that are solved."""
        self.pairs = deque((_Pair(*(part[keep] for part in pair)) for pair in self.pairs), maxlen=MEMORY)

    def forget(self, which: Mask) -> None:
        """Stops using the pairs of problems whose line search failed with them."""
        for pair in self.pairs:
            pair.rho[which] = 0

    def direction(self, here: _Point, pre: Preconditioner, strengths: Array) -> tuple[Array, Array]:
        """The two-loop recursion."""
        qu, qb = here.gu.copy(), here.gb.copy()
        alphas = []
        for pair in reversed(self.pairs):
            alpha = pair.rho * ((pair.su * qu).sum(1) + pair.sb * qb)
            qu -= alpha[:, None] * pair.yu
            qb -= alpha * pair.yb
            alphas.append(alpha)
        qu, qb = pre.apply(qu, strengths), qb / CURVATURE
        for pair, alpha in zip(self.pairs, reversed(alphas), strict=True):
            beta = pair.rho * ((pair.yu * qu).sum(1) + pair.yb * qb)
            qu += (alpha - beta)[:, None] * pair.su
            qb += (alpha - beta) * pair.sb
        du, db = -qu, -qb
        uphill = (here.gu * du).sum(1) + here.gb * db >= 0  # rounding can spoil a history: then use the gradient
        du[uphill], db[uphill] = -here.gu[uphill], -here.gb[uphill]
        return du, db


def _line_search(state: _State, here: _Point, du: Array, db: Array) -> tuple[Array, _Point]:
    """Armijo backtracking; a step is 0 if no step down to 2⁻²⁰ improves. Trials need no matrix product."""
    dlogits = state.logits(du, db)
    slope = (here.gu * du).sum(1) + here.gb * db
    resolution = 4 * np.finfo(here.value.dtype).eps * np.abs(here.value)
    step = np.ones_like(here.value)
    u, logits = here.u + du, here.logits + dlogits
    known = state.value(u, logits)
    for halvings in range(1, 22):
        # Written so that a NaN counts as bad.
        bad = ~(known[0] <= here.value + 1e-4 * step * slope + resolution) & (step > 0)
        if not bad.any():
            break
        step = np.where(bad, step / 2 if halvings < 21 else 0, step)
        u, logits = here.u + step[:, None] * du, here.logits + step[:, None] * dlogits
        known = state.value(u, logits)
    return step, state.at(u, here.b + step * db, logits, known)


def _centred(features: Array) -> tuple[Array, Floats, Array]:
    """Features less their mean, that mean (d,) in double precision, and their deviation (d,)."""
    mean = features.mean(0, dtype=np.float64)
    centred = features - mean.astype(features.dtype)
    # Correct for the rounding of the mean, so that mean and centred features match exactly.
    mean = mean.astype(features.dtype).astype(np.float64)
    variance = np.einsum("nd,nd->d", centred, centred) / len(features)
    return centred, mean, _deviation(variance, mean).astype(features.dtype)


def _deviation(variance: Array, mean: Array) -> Array:
    """Standard deviation; 1 for a feature that is constant up to rounding, which then has no influence."""
    flat = variance <= FLAT * np.maximum(mean**2, 1e-12)
    return np.sqrt(np.where(flat, 1, variance))


def _check(features: Array, labels: Array, weights: Array, strengths: Array) -> None:
    n = len(features)
    if features.ndim != 2 or labels.shape != (n,) or weights.ndim != 2 or weights.shape[1] != n:
        got = (features.shape, labels.shape, weights.shape)
        raise InputError(must("features, labels, weights", "of shapes (n, d), (n,), (k, n)", got, "align them"))
    if features.dtype not in (np.float32, np.float64):
        raise InputError(must("features", "float32 or float64", str(features.dtype), "convert them"))
    if not np.isin(labels, (0, 1)).all():
        raise InputError(must("labels", "0 or 1", np.unique(labels).tolist(), "drop figures without a label"))
    if not bool(np.isfinite(weights).all()) or bool((weights < 0).any()):
        raise InputError(must("weights", "finite and not negative", "others", "use 0 to leave a row out"))
    usable = np.isfinite(strengths) & (strengths > 0)
    if strengths.shape != (len(weights),) or not bool(usable.all()):
        raise InputError(must("strengths", f"{len(weights)} positive numbers", strengths.tolist(), "use 1e-3 to 1e3"))
    if not bool(np.isfinite(features).all()):
        bad = int(np.count_nonzero(~np.isfinite(features).all(axis=1)))
        raise InputError(must("features", "finite", f"NaN or infinity in {count_noun(bad, 'row')}", "drop those rows"))
    for name, label in (("positive", 1), ("negative", 0)):
        lacking = np.flatnonzero((weights[:, labels == label] > 0).sum(1) == 0)
        if len(lacking):
            raise InputError(
                must("each problem", "with both classes", f"no {name} row in {len(lacking)}", "split otherwise")
            )
