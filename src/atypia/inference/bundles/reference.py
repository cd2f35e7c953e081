"""The log odds of each class that a decision was fitted on; a laboratory's own are compared with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must
from atypia.inference.bundles.calibration import Floats
from atypia.inference.bundles.conformal import CLASSES
from atypia.statistics.laboratories import Classes, ClassScores, check_reference

CLASSES_KEY: Final = "classes"
"""Key among a decision's facts."""
EDGE: Final = 1e-9
"""Probabilities nearer to 0 or 1 are taken for this near: their log odds would be infinite."""


def log_odds(probabilities: npt.ArrayLike) -> Floats:
    """log(p / (1 − p)), shape (n,), of probabilities that are kept :data:`EDGE` from 0 and 1."""
    p = np.clip(np.asarray(probabilities, dtype=np.float64), EDGE, 1 - EDGE)
    return np.log(p) - np.log1p(-p)


def classes_as_dict(classes: Classes) -> dict[str, dict[str, float]]:
    """JSON form of the classes' log odds."""
    return {name: {"mean": c.mean, "sd": c.sd, "figures": c.figures} for name, c in zip(CLASSES, classes, strict=True)}


def classes_from_dict(values: Mapping[str, Any]) -> Classes:
    """Reads what :func:`classes_as_dict` gave.

    Raises:
        InputError: A value is missing or wrong.
    """
    try:
        zero, one = (
            ClassScores(float(v["mean"]), float(v["sd"]), int(v["figures"]), float(v["figures"]))
            for v in (values[name] for name in CLASSES)
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            must(CLASSES_KEY, "mean, sd and figures of either class", repr(error), "train it again")
        ) from None
    return check_reference((zero, one))
