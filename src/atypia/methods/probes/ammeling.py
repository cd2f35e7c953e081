"""The probe of Ammeling et al.: unbalanced logistic regression by L-BFGS at a fixed strength."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from atypia.base.config import StrictModel
from atypia.base.process.progress import Progress
from atypia.methods.catalogue import PROBES
from atypia.methods.head import FeatureRows, LinearHead, Probe, ProbeData, log_loss, sigmoid
from atypia.methods.parallel import map_threads

CLASSES = 2


class AmmelingProbeOptions(StrictModel):
    """Options of the probe.

    Attributes:
        penalty: ``squared``: ½ ‖w‖² added to the sum of losses, the ℓ2 penalty that the paper's
            source describes. ``norm``: ½ ‖W‖, not squared, added to the mean loss, as in the
            implementation that the paper names.
        max_iterations: Of L-BFGS.
    """

    penalty: Literal["squared", "norm"] = "squared"
    max_iterations: int = Field(default=1000, ge=1)


class AmmelingProbe(Probe[AmmelingProbeOptions]):
    """Logistic regression with strength 1/C, C = features × classes / 100 (Ammeling et al., section 3).

    ``squared`` minimises ``Σ ℓ_i + (1/C) · ½ ‖w‖²``, scikit-learn's convention for C, in the form
    divided by n. ``norm`` minimises ``mean ℓ + (1/C) · ½ ‖W‖`` with a matrix W of two rows, one a
    class; by symmetry its optimum is W = (−w/2, w/2) for one logit with weights w, so
    ½ ‖W‖ = ‖w‖ / (2 √2). Raw features, no balancing, zero start.
    """

    name = "ammeling"
    options_model = AmmelingProbeOptions

    def fit(self, data: ProbeData, options: AmmelingProbeOptions, progress: Progress) -> list[LinearHead]:
        """See :meth:`atypia.methods.head.Probe.fit`; nothing is random here."""

        def one(fold: FeatureRows) -> LinearHead:
            return fit(data.features[fold.train].astype(np.float64), data.labels[fold.train], options)

        heads = []
        for head in map_threads(one, data.folds):
            heads.append(head)
            progress(len(heads), len(data.folds), "folds fitted")
        return heads


def fit(x: npt.NDArray[np.float64], labels: npt.NDArray[np.int8], options: AmmelingProbeOptions) -> LinearHead:
    """Fits one head.

    Args:
        x: Raw features, shape (n, d).
        labels: Shape (n,), 0 or 1.
        options: Of the probe.

    Returns:
        The head; ``converged`` in its ``info`` says whether L-BFGS ended before its last iteration,
        which the published probe does not check.
    """
    from scipy.optimize import minimize

    y = labels.astype(np.float64)
    strength = 100 / (x.shape[1] * CLASSES)

    def objective(parameters: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        w, b = parameters[:-1], parameters[-1]
        logits = x @ w + b
        residual = (sigmoid(logits) - y) / len(y)
        penalty, slope = _penalty(w, options.penalty, len(y))
        gradient = np.append(x.T @ residual + strength * slope, residual.sum())
        return float(log_loss(logits, y).mean() + strength * penalty), gradient

    found = minimize(
        objective,
        np.zeros(x.shape[1] + 1),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": options.max_iterations, "maxfun": 10 * options.max_iterations, "ftol": 1e-12, "gtol": 1e-7},
    )
    info = {"strength": strength, "iterations": int(found.nit), "objective": float(found.fun),
            "converged": bool(found.success)}  # fmt: skip
    return LinearHead(found.x[:-1], float(found.x[-1]), info)


def _penalty(w: npt.NDArray[np.float64], kind: str, n: int) -> tuple[float, npt.NDArray[np.float64]]:
    """Value and gradient of the penalty on one logit's weights (d,), beside the mean loss of n figures."""
    if kind == "squared":
        return float(w @ w) / (2 * n), w / n
    # The norm has no gradient at zero; the tiny constant makes it smooth there and nowhere else.
    norm = float(np.sqrt(w @ w + 1e-16))
    return norm / (2 * np.sqrt(2)), w / (norm * 2 * np.sqrt(2))


PROBES.add(AmmelingProbe.name, AmmelingProbe())
