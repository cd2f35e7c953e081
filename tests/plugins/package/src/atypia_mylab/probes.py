"""A probe: a linear head that is fitted on frozen features."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from atypia.base.config import StrictModel
from atypia.base.process.progress import Progress, silent
from atypia.methods.catalogue import PROBES
from atypia.methods.head import FeatureRows, LinearHead, Probe, check_folds


class CentroidOptions(StrictModel):
    """Options of the probe.

    Attributes:
        scale: Factor of the logit.
    """

    scale: float = Field(default=1.0, gt=0)


class CentroidProbe(Probe[CentroidOptions]):
    """The class whose mean feature is nearer: ``z = s (x · (m₁ − m₀) − (‖m₁‖² − ‖m₀‖²) / 2)``."""

    name = "mylab-centroid"
    options_model = CentroidOptions

    def fit_folds(
        self,
        features: npt.NDArray[np.floating[Any]],
        labels: npt.NDArray[np.int8],
        cases: npt.NDArray[np.str_],
        folds: Sequence[FeatureRows],
        seed: int,
        options: CentroidOptions,
        progress: Progress = silent,
    ) -> list[LinearHead]:
        check_folds(features, labels, folds)
        heads = []
        for fold in folds:
            x, y = features[fold.train].astype(np.float64), labels[fold.train]
            one, zero = x[y == 1].mean(axis=0), x[y == 0].mean(axis=0)
            bias = -float(one @ one - zero @ zero) / 2
            heads.append(LinearHead(options.scale * (one - zero), options.scale * bias))
            progress(len(heads), len(folds), "folds fitted")
        return heads


PROBES.add("mylab-centroid", CentroidProbe(), version=1)
