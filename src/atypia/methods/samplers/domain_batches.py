"""Several domains in each batch, for terms that compare domains."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from atypia.methods.catalogue import SAMPLERS
from atypia.methods.options import SamplerOptions
from atypia.methods.sampler import Floats, GroupedDraws, Ints, Sampler


class DomainBatchesOptions(SamplerOptions):
    """``domains``: known domains in each batch; None: all domains, or as many as can have two figures each."""

    domains: int | None = Field(default=None, ge=2)


@SAMPLERS.register("domain-batches")
class DomainBatches(Sampler[DomainBatchesOptions]):
    """Each batch: ``domains`` domains, drawn without replacement, with equally many figures; classes balanced in each.

    Of a domain's figures ``positive_share`` are positives (rounded up or down at random if that is no whole number);
    from a domain that lacks a class, figures of the other class are taken. Figures are drawn with replacement,
    uniformly, or by weight with hard-example mining. Figures of unknown domain, if any, are an additional group in
    every batch, so that none is left out of the training.
    """

    Options = DomainBatchesOptions
    summary = "`domains` domains in each batch, equally many figures of each, with balanced classes"
    least_domains = 2

    def weights(self) -> Floats | None:
        return None

    def drawn(self, rng: np.random.Generator) -> Ints:
        codes = self.population.domains
        known = np.unique(codes[codes >= 0])
        unknown = int((codes < 0).any())
        group = np.where(codes < 0, len(known), np.searchsorted(known, codes)).astype(np.int64)
        places = GroupedDraws(2 * group + self.population.labels, 2 * (len(known) + unknown), self.hardness())
        most = max(2, self.batch_size // 2 - unknown)
        count = min(self.options.domains or most, len(known), most)
        batches = -(-self.draws // self.batch_size)
        chosen = np.argsort(rng.random((batches, len(known))), axis=1)[:, :count]
        if unknown:
            chosen = np.hstack([chosen, np.full((batches, 1), len(known))])
        # Position j of a batch belongs to its domain j mod count: figures differ by one at most.
        turn = np.arange(self.batch_size)
        domain = chosen[:, turn % chosen.shape[1]]
        share = self.options.positive_share
        nth, offset = turn // chosen.shape[1], rng.random((batches, chosen.shape[1]))[:, turn % chosen.shape[1]]
        # The n-th figure of a domain is a positive if the expected count of positives reaches the next whole number.
        positive = np.floor((nth + 1) * share + offset) > np.floor(nth * share + offset)
        wanted = (2 * domain + positive).reshape(-1)[: self.draws]
        return places.draw(np.where(places.sizes[wanted] > 0, wanted, wanted ^ 1), rng)
