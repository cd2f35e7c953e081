"""Calibration: from a network's logits to probabilities that can be read as frequencies.

The sigmoid of the logits of a network that was trained on rebalanced classes, with augmentation and soft
labels, cannot be read as a frequency. A monotone map, fitted on figures that the network was not trained
on, corrects this and does not change the order of the figures, nor the AUROC.

=============  ===========================  =======================================================
kind           p(atypical)                  use
=============  ===========================  =======================================================
temperature    sigmoid(z / T)               same class frequencies in training and use (Guo et al. 2017)
platt          sigmoid(slope · z + bias)    classes were rebalanced: the bias corrects it (Platt 1999)
isotonic       monotone, piecewise linear   many figures; ties among the probabilities are acceptable
=============  ===========================  =======================================================

All three are fitted to Platt's targets instead of 0 and 1: (N₁ + 1)/(N₁ + 2) for the N₁ atypical
and 1/(N₀ + 2) for the N₀ normal figures. So the optimum is finite even if a score separates the
classes, and no probability is exactly 0 or 1. Applying a calibration needs only NumPy.

Sources: Platt, Advances in Large Margin Classifiers, 1999; Guo et al., ICML 2017; Zadrozny and
Elkan, KDD 2002.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must
from atypia.base.registry import Registry
from atypia.statistics.confusion import check_binary, check_finite, check_length

Floats = npt.NDArray[np.float64]
KIND: Final = "kind"
"""Key of a calibration's kind in its JSON form."""
SAME: Final = 1e-6
"""Logits whose range is this share of the largest count as equal: networks compute in single precision (about 1e-7)."""
SLOPE_RANGE: Final = (1e-3, 1e3)
"""Bounds of a fitted slope on logits of deviation 1: the order of the figures is never reversed."""


class Calibration:
    """A monotone map from logits to probabilities of atypical."""

    kind: ClassVar[str]

    def apply(self, logits: npt.ArrayLike) -> Floats:
        """Probability of atypical, shape (n,), float64 in [0, 1], of finite logits (n,).

        Raises:
            InputError: The logits are not of shape (n,), or one is NaN or infinite.
        """
        return self._map(check_finite("logits", logits))

    def _map(self, logits: Floats) -> Floats:
        raise NotImplementedError(f"{type(self).__name__} must define _map")

    def as_dict(self) -> dict[str, Any]:
        """JSON form; :func:`calibration_from_dict` reads it."""
        raise NotImplementedError(f"{type(self).__name__} must define as_dict")


@dataclass(frozen=True)
class Temperature(Calibration):
    """``p = sigmoid(z / temperature)``.

    Attributes:
        temperature: > 0; 1 is the plain sigmoid, larger values move probabilities towards 0.5.
    """

    temperature: float = 1.0
    kind: ClassVar[str] = "temperature"

    def __post_init__(self) -> None:
        _check_parameter("temperature", self.temperature, positive=True)

    def _map(self, logits: Floats) -> Floats:
        return sigmoid(logits / self.temperature)

    def as_dict(self) -> dict[str, Any]:
        return {KIND: self.kind, "temperature": self.temperature}


@dataclass(frozen=True)
class Platt(Calibration):
    """``p = sigmoid(slope · z + bias)``.

    Attributes:
        slope: > 0.
        bias: Finite; negative if training had a larger share of atypical figures than the data.
    """

    slope: float
    bias: float
    kind: ClassVar[str] = "platt"

    def __post_init__(self) -> None:
        _check_parameter("slope", self.slope, positive=True)
        _check_parameter("bias", self.bias)

    def _map(self, logits: Floats) -> Floats:
        return sigmoid(self.slope * logits + self.bias)

    def as_dict(self) -> dict[str, Any]:
        return {KIND: self.kind, "slope": self.slope, "bias": self.bias}


@dataclass(frozen=True)
class Isotonic(Calibration):
    """Linear between knots, constant beyond the outer ones.

    Attributes:
        logits: Knots, increasing, at least one.
        probabilities: Values there, in [0, 1], never decreasing.
    """

    logits: tuple[float, ...]
    probabilities: tuple[float, ...]
    kind: ClassVar[str] = "isotonic"

    def __post_init__(self) -> None:
        x, p = check_finite("logits", self.logits), check_finite("probabilities", self.probabilities)
        if not len(x) or len(x) != len(p):
            raise InputError(must("probabilities", f"one for each of the {len(x)} knots", len(p), "fit it again"))
        if bool((np.diff(x) <= 0).any()) or bool((np.diff(p) < 0).any()) or p[0] < 0 or p[-1] > 1:
            raise InputError(must("knots", "increasing, of probabilities in [0, 1]", "others", "fit it again"))

    def _map(self, logits: Floats) -> Floats:
        return np.interp(logits, self.logits, self.probabilities)

    def as_dict(self) -> dict[str, Any]:
        return {KIND: self.kind, "logits": list(self.logits), "probabilities": list(self.probabilities)}


def fit_temperature(logits: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Temperature:
    """Fits one temperature by the least weighted log loss.

    Args:
        logits: Shape (n,), finite, of figures that the network was not trained on.
        labels: Shape (n,), 1 = atypical, 0 = normal; both must occur.
        weights: Shape (n,), ≥ 0: how many figures each one counts for; None: 1 each.

    Raises:
        InputError: A class is absent, the logits are all equal or not finite, or shapes differ.
    """
    return Temperature(1 / _fit_line(logits, labels, weights, with_bias=False)[0])


def fit_platt(logits: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Platt:
    """Fits a slope and a bias by the least weighted log loss; arguments and errors as :func:`fit_temperature`."""
    return Platt(*_fit_line(logits, labels, weights, with_bias=True))


def fit_isotonic(logits: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Isotonic:
    """Fits a monotone map by the least weighted squares; arguments and errors as :func:`fit_temperature`."""
    from sklearn.isotonic import IsotonicRegression

    z, targets, w = _fitting_data(logits, labels, weights)
    # Only rows that count: a row of weight 0 would still set the outer knots.
    used = w > 0
    fitted = IsotonicRegression(out_of_bounds="clip").fit(z[used], targets[used], w[used])
    return Isotonic(
        tuple(float(x) for x in fitted.X_thresholds_),
        # Pooling averages with rounding: a later block may come out below an earlier one in the last digit.
        tuple(float(p) for p in np.maximum.accumulate(fitted.y_thresholds_)),
    )


@dataclass(frozen=True)
class CalibrationEntry:
    """A kind of calibration.

    Attributes:
        build: Its class, called with the JSON form's values.
        fit: ``fit(logits, labels, weights)``.
        summary: In a line.
    """

    build: Callable[..., Calibration]
    fit: Callable[..., Calibration]
    summary: str


CALIBRATIONS = Registry[CalibrationEntry]("calibration")
"""Every kind of calibration, by name."""
CALIBRATIONS.add(Platt.kind, CalibrationEntry(Platt, fit_platt, "sigmoid(slope · z + bias)"))
CALIBRATIONS.add(Temperature.kind, CalibrationEntry(Temperature, fit_temperature, "sigmoid(z / T)"))
CALIBRATIONS.add(
    Isotonic.kind,
    CalibrationEntry(
        lambda logits, probabilities: Isotonic(tuple(logits), tuple(probabilities)), fit_isotonic, "monotone, by steps"
    ),
)


def calibration_from_dict(values: Mapping[str, Any]) -> Calibration:
    """Reads what :meth:`Calibration.as_dict` gave.

    Raises:
        InputError: The kind is unknown, or a value is missing, superfluous or wrong.
    """
    rest = dict(values)
    entry = CALIBRATIONS[str(rest.pop(KIND, "of no kind"))]
    try:
        return entry.build(**rest)
    except TypeError:
        raise InputError(must("calibration", "a mapping as it was saved", dict(values), "fit it again")) from None


def sigmoid(logits: Floats) -> Floats:
    """``1 / (1 + e^−z)`` in float64; the two-sided form neither overflows nor cancels."""
    # Written here as well as among the methods, whose module loads configuration schemas that a prediction never needs.
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1.0, small) / (1 + small)


def _fitting_data(
    logits: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike | None
) -> tuple[Floats, Floats, Floats]:
    """Logits, Platt's targets and weights, checked."""
    z, y = check_finite("logits", logits), check_binary("labels", labels)
    check_length(y, "logits", z)
    w = np.ones(len(z)) if weights is None else check_finite("weights", weights)
    check_length(y, "weights", w)
    if bool((w < 0).any()):
        raise InputError(must("weights", "≥ 0", float(w.min()), "count each figure 0 times or more"))
    normal, atypical = float(w[~y].sum()), float(w[y].sum())
    if min(normal, atypical) <= 0:
        got = f"weight {atypical:g} of atypical and {normal:g} of normal figures"
        raise InputError(must("labels", "of both classes", got, "choose a validation part that has both"))
    used = z[w > 0]
    if np.ptp(used) <= SAME * max(1.0, float(np.abs(used).max())):  # a slope through rounding would be no calibration
        raise InputError(must("logits", "of at least two values", f"{used[0]:g} everywhere", "train the model"))
    targets = np.where(y, (atypical + 1) / (atypical + 2), 1 / (normal + 2))
    return z, targets, w


def _fit_line(
    logits: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike | None, with_bias: bool
) -> tuple[float, float]:
    from scipy.optimize import minimize

    z, targets, w = _fitting_data(logits, labels, weights)
    share = w / w.sum()
    centre = float(share @ z) if with_bias else 0.0
    scale = math.sqrt(float(share @ (z - centre) ** 2))
    x = (z - centre) / scale  # on one scale the two parameters are equally easy to find

    def loss(parameters: Floats) -> tuple[float, Floats]:
        t = parameters[0] * x + parameters[1]
        gap = share * (sigmoid(t) - targets)
        return float(share @ (np.logaddexp(0, t) - targets * t)), np.array([gap @ x, gap.sum()])

    bounds = [SLOPE_RANGE, (None, None) if with_bias else (0.0, 0.0)]
    options = {"maxiter": 1000, "ftol": 1e-15, "gtol": 1e-10}
    found = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    slope = float(found.x[0]) / scale
    return slope, float(found.x[1]) - slope * centre


def _check_parameter(name: str, value: Any, positive: bool = False) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or (positive and value <= 0):
        raise InputError(must(name, "a finite number" + (" above 0" if positive else ""), value, "fit it again"))


UNCALIBRATED: Final = Temperature(1.0)
"""The sigmoid itself."""
