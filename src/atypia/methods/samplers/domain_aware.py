"""Rare classes and rare domains are drawn more often (Giedziun et al.)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from atypia.methods.catalogue import SAMPLERS
from atypia.methods.head import inverse_class_weights
from atypia.methods.options import SamplerOptions
from atypia.methods.sampler import Floats, Ints, Sampler


@SAMPLERS.register("domain-aware")
class DomainAware(Sampler[SamplerOptions]):
    """With replacement, by :func:`domain_aware_weights`."""

    summary = "with replacement; rarer classes and rarer domains have larger weights"
    least_domains = 2

    def weights(self) -> Floats | None:
        return domain_aware_weights(self.population.labels, self.population.domains)


def domain_aware_weights(labels: npt.NDArray[np.int8], domains: Ints) -> Floats:
    """``w_i = 1 / (N_class(i) · N_domain(i))``, scaled to mean 1 (Giedziun et al., «Sampling»).

    The paper says that weights rise for rarer classes and for rarer domains and gives no formula;
    the product of the inverse frequencies is the simplest one. Figures of unknown domain
    count as one domain.
    """
    _, codes = np.unique(domains, return_inverse=True)
    counts = np.bincount(codes).astype(np.float64)
    weights = inverse_class_weights(labels) / counts[codes]
    return weights / weights.mean()
