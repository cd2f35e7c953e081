"""Novelty: how unlike the training figures a crop is, by its features.

Training features are described by the subspace of their leading principal components, the centre
of each class in it and one covariance shared by the classes. For features x with coordinates z in
the subspace and the rest r outside it,

    novelty(x) = √(½ (M²(z) / a + ‖r‖² / b)),    M²(z) = min over classes c of Σ_j (z_j − m_cj)² / v_j,

where the axes are those along which the shared covariance is diagonal, v_j its values, and a and b
the means of M² and ‖r‖² over the training figures. A training figure has about 1. The first part
reacts to unusual values along directions in which figures vary, the second to everything else: a blank tile, a
photograph. Above a limit, set on held-out figures, a crop is refused.

Sources: Lee et al., NeurIPS 2018 (class-conditional Mahalanobis distance); Wang et al., CVPR 2022
(the residual outside the principal subspace); Ledoit and Wolf, JMA 2004 (the shrinkage).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, count_noun, must
from atypia.inference.bundles.calibration import Floats
from atypia.statistics.confusion import check_binary

Array = npt.NDArray[Any]
PREFIX: Final = "novelty."
MEAN, BASIS, CENTRES, VARIANCES = (PREFIX + name for name in ("mean", "basis", "centres", "variances"))
"""Names of the tensors."""
SCALARS: Final = ("inside", "outside", "limit", "quantile")
"""Keys of the JSON form."""
COMPONENTS: Final = 64
QUANTILE: Final = 0.999
ROWS: Final = 4096
"""Rows that are converted to float64 at a time."""
FLAT: Final = 1e-6
"""Share of the training features' variance below which a direction counts as constant: rounding of half precision."""


@dataclass(frozen=True, eq=False)
class Novelty:
    """The distance and its limit.

    Attributes:
        mean: Centre of the training features, shape (d,), float32.
        basis: Orthonormal axes of the subspace, shape (k, d), float32.
        centres: Centres of class 0 and 1 on these axes, shape (2, k), float32.
        variances: Shared variance within the classes along the axes, shape (k,), float32, > 0.
        inside: a, mean of M² over the training figures, > 0.
        outside: b, mean of ‖r‖² over the training figures, > 0.
        limit: Novelty above which a crop is refused, > 0.
        quantile: Share of held-out training-domain figures that lie within the limit.
    """

    mean: Array
    basis: Array
    centres: Array
    variances: Array
    inside: float
    outside: float
    limit: float
    quantile: float

    def __post_init__(self) -> None:
        k, d = self.basis.shape if self.basis.ndim == 2 else (0, 0)
        shapes = (self.mean.shape, self.centres.shape, self.variances.shape)
        if not k or shapes != ((d,), (2, k), (k,)):
            raise InputError(must("novelty tensors", "(d,), (2, k), (k,) and (k, d)", str(shapes), "fit it again"))
        finite = all(bool(np.isfinite(tensor).all()) for tensor in self.tensors().values())
        scales = np.array([self.inside, self.outside, self.limit])
        if not finite or not bool((self.variances > 0).all()) or not bool((np.isfinite(scales) & (scales > 0)).all()):
            raise InputError(must("novelty", "finite, with scales above 0", "other values", "fit it again"))

    def apply(self, features: Array) -> Floats:
        """Novelty, shape (n,), float64 ≥ 0, of features (n, d) of any floating type.

        Raises:
            InputError: The features have another dimension, or one is NaN or infinite.
        """
        squared = _by_rows(features, len(self.mean), self.distances)
        return np.sqrt((squared / (self.inside, self.outside)).mean(axis=1))

    def refused(self, novelty: Floats) -> npt.NDArray[np.bool_]:
        """Whether a novelty lies beyond the limit, shape (n,)."""
        return novelty > self.limit

    def distances(self, features: Floats) -> Floats:
        """M² and ‖r‖² of features (n, d), shape (n, 2), float64 ≥ 0."""
        centred = features - self.mean
        z = centred @ self.basis.T
        within = [(((z - centre) ** 2) / self.variances).sum(axis=1) for centre in self.centres]
        # The part inside the subspace is subtracted from x, because a difference of the norms would lose precision.
        rest = centred - z @ self.basis
        return np.stack([np.minimum(*within), (rest**2).sum(axis=1)], axis=1)

    def tensors(self) -> dict[str, Array]:
        """The arrays that :meth:`as_dict` leaves out, by name."""
        return {MEAN: self.mean, BASIS: self.basis, CENTRES: self.centres, VARIANCES: self.variances}

    def as_dict(self) -> dict[str, float]:
        """JSON form, without the tensors."""
        return dict(zip(SCALARS, (self.inside, self.outside, self.limit, self.quantile), strict=True))

    @classmethod
    def from_tensors(cls, values: Mapping[str, Any], tensors: Mapping[str, Array]) -> Novelty:
        """Reads what :meth:`as_dict` and :meth:`tensors` gave; other tensors are left alone.

        Raises:
            InputError: A value or a tensor is missing or wrong.
        """
        try:
            mean, basis, centres, variances = (np.asarray(tensors[name]) for name in (MEAN, BASIS, CENTRES, VARIANCES))
            inside, outside, limit, quantile = (float(values[name]) for name in SCALARS)
        except (KeyError, TypeError) as error:
            raise InputError(must("novelty", "values and tensors as saved", repr(error), "fit it again")) from None
        return cls(mean, basis, centres, variances, inside, outside, limit, quantile)


def fit_novelty(
    features: Array,
    labels: npt.ArrayLike,
    val_features: Array | None = None,
    quantile: float = QUANTILE,
    k: int = COMPONENTS,
    held_out: Floats | None = None,
) -> Novelty:
    """Fits the distance on training features and its limit on held-out ones.

    A network that was trained on every figure has no held-out figures. Its limit is then set by the novelty of the
    held-out figures of a cross-validation, each by its own classifier; for each of them a training figure has about 1.

    Nothing in it is random. The limit is the ⌈(m + 1) · quantile⌉-th smallest novelty of the m
    held-out figures, the largest where they are fewer: about 1 − quantile of new figures of the same
    kind are refused, at most 1/(m + 1) where m is small.

    Args:
        features: Of the training figures, shape (n, d), as the network gives them at prediction.
        labels: Shape (n,), 1 = atypical, 0 = normal; both must be there.
        val_features: Of held-out figures of the same domains, shape (m, d).
        quantile: In (0, 1).
        k: Components at most; fewer where the features vary along fewer directions.
        held_out: Novelty of held-out figures by such classifiers, shape (m,), in place of their features.

    Raises:
        InputError: A class is absent, shapes differ, a value is not finite, or the features do not vary.
    """
    from sklearn.covariance import ledoit_wolf_shrinkage

    y = check_binary("labels", labels)
    if features.ndim != 2 or len(features) != len(y):
        raise InputError(must("features", f"of shape ({len(y)}, d)", features.shape, "give one row a figure"))
    if y.all() or not y.any():
        raise InputError(must("labels", "of both classes", "one class", "choose a training part that has both"))
    if (val_features is None) == (held_out is None):
        got = "neither" if held_out is None else "both"
        raise InputError(must("held-out figures", "given as features or as novelty", got, "give one of them"))
    count = sum(len(given) for given in (val_features, held_out) if given is not None)
    if not 0 < quantile < 1 or k < 1 or not count:
        got = f"quantile {quantile}, k {k}, {count} held-out figures"
        raise InputError(
            must("novelty", "fitted with a quantile in (0, 1), k ≥ 1 and held-out figures", got, "use 0.999")
        )
    n, d = features.shape
    mean = _total(features, lambda rows: rows.sum(axis=0)) / n
    values, axes = np.linalg.eigh(_total(features, lambda rows: (rows - mean).T @ (rows - mean)) / n)
    total = float(values.sum())
    varying = int(np.count_nonzero(values > FLAT * total))
    if total <= 0 or not varying:
        raise InputError(must("features", "of figures that differ", "the same everywhere", "train the model"))
    axes = axes[:, ::-1][:, : min(k, varying)]
    z = _by_rows(features, d, lambda rows: (rows - mean) @ axes)
    centres = np.stack([z[~y].mean(axis=0), z[y].mean(axis=0)])
    within = z - centres[y.astype(np.intp)]
    covariance = within.T @ within / n
    level = float(np.trace(covariance)) / len(covariance)
    if level <= FLAT * total:
        raise InputError(must("features", "different within a class", "one value a class", "give more figures"))
    shrinkage = float(ledoit_wolf_shrinkage(within, assume_centered=True))
    covariance = (1 - shrinkage) * covariance + shrinkage * level * np.eye(len(covariance))
    # Rotated so that the covariance is diagonal, the axes stay orthonormal and no whitening matrix is needed.
    variances, turn = np.linalg.eigh(covariance)
    mean, basis, centres, variances = (
        np.ascontiguousarray(array, dtype=np.float32)
        for array in (mean, (axes @ turn).T, centres @ turn, np.maximum(variances, FLAT * level))
    )
    unscaled = Novelty(mean, basis, centres, variances, inside=1.0, outside=1.0, limit=1.0, quantile=quantile)
    inside, outside = _by_rows(features, d, unscaled.distances).mean(axis=0)
    # If training features had no part outside the subspace, any such part counts as far, except rounding.
    scaled = replace(unscaled, inside=float(inside), outside=max(float(outside), FLAT * total))
    ordered = np.sort(scaled.apply(val_features) if val_features is not None else np.asarray(held_out))
    rank = min(math.ceil((count + 1) * quantile - 1e-9), count)
    return replace(scaled, limit=float(ordered[rank - 1]))


def _pieces(features: Array, dimension: int) -> Iterator[Floats]:
    """The rows, checked, some at a time: bounds the float64 copy of half-precision features."""
    if features.ndim != 2 or features.shape[1] != dimension:
        raise InputError(must("features", f"of shape (n, {dimension})", features.shape, "use the model's own"))
    for start in range(0, max(len(features), 1), ROWS):
        rows = features[start : start + ROWS].astype(np.float64)
        wrong = int(np.count_nonzero(~np.isfinite(rows).all(axis=1)))
        if wrong:
            got = f"NaN or infinity in {count_noun(wrong, 'row')}"
            raise InputError(must("features", "finite", got, "find out which figure or model gave it"))
        yield rows


def _by_rows(features: Array, dimension: int, function: Callable[[Floats], Floats]) -> Floats:
    """A function of each row, for all rows."""
    return np.concatenate([function(rows) for rows in _pieces(features, dimension)])


def _total(features: Array, function: Callable[[Floats], Floats]) -> Floats:
    """Sum over all rows of a function that sums over some."""
    sums = (function(rows) for rows in _pieces(features, features.shape[1]))
    return reduce(np.add, sums)
