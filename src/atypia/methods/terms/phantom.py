"""An auxiliary task on rendered figures, of which class and phase are known: the phantom set beside the real figures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from atypia.base.errors import InputError, must
from atypia.base.seeds import derive_seed
from atypia.methods.catalogue import TERMS
from atypia.methods.options import RenderedSet, RenderedTask, TermOptions
from atypia.methods.term import MODULES, RENDERED, Batch, Rendered, Setting, Term

LEAST: Final = 2
"""Fewest rendered figures at a step: one crop has no statistics for batch norm."""


class PhantomOptions(TermOptions):
    """Rendered figures beside each batch, and a head of their own.

    ``figures``: size of the phantom set, rendered once and kept in the cache. ``seed``: of that set; sets of different
    seeds share no figure. ``share``: rendered figures at each step, as a share of the batch; at least two. ``task``:
    what the head tells: ``phases``, the five normal phases and seven forms of atypia of the set, one by one; or
    ``classes``, normal and atypical.
    """

    weight: float = Field(default=0.3, gt=0)
    figures: int = Field(default=2048, ge=24, le=100_000)
    share: float = Field(default=0.25, gt=0, le=1)
    task: RenderedTask = "phases"
    seed: int = Field(default=18, ge=0, lt=2**32)

    @property
    def rendered(self) -> RenderedSet:
        return RenderedSet(self.figures, self.seed, self.task)


@TERMS.register("phantom")
class Phantom(Term[PhantomOptions]):
    """Cross-entropy of a linear head on the pooled features of rendered figures.

    The gradient reaches the backbone (and CBAM) through the pooled features; the classifier's own layers after them are
    not used, so that the decision on real figures is learned from real figures alone. The loss of guessing is ln 12 =
    2.48 for ``phases`` and ln 2 = 0.69 for ``classes``, as every category is drawn equally often. Figures are never mixed
    with real ones, also not by MixUp; MixStyle mixes them among themselves.

    Batch norm uses the statistics of the rendered batch itself and leaves its running ones as they are: these stay those
    of real figures. With ``checkpointing: true`` they follow rendered figures too, as the backward pass computes the
    activations once more.
    """

    Options = PhantomOptions
    summary = "a head of its own learns the phases or classes of rendered figures (the phantom set), beside each batch"
    formula = "CE(phantom head(pooled(x)), category), x rendered figures"
    source = "Atypia; auxiliary tasks: Caruana 1997"
    needs = frozenset({MODULES, RENDERED})

    def __init__(self, options: PhantomOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        if setting.rendered is None:
            raise InputError(
                must("setting of the term phantom", "one with rendered figures", None, "give Objective the figures")
            )
        self.rendered: Rendered = setting.rendered
        self.head = nn.Linear(setting.features, len(self.rendered.categories))

    def forward(self, batch: Batch) -> Tensor:
        if batch.network is None:
            raise InputError(must("batch", "one with its network", None, "give Batch the network"))
        count = max(LEAST, round(self.options.share * len(batch.images)))
        images, categories = self.rendered.draw(derive_seed(batch.seed, "phantom"), count)
        with running_statistics_kept(batch.network):
            pooled = batch.network(images).pooled
        return F.cross_entropy(self.head(pooled.float()), categories)


@contextmanager
def running_statistics_kept(network: object) -> Iterator[None]:
    """While it is open, batch norm in training mode leaves its running statistics alone; all else is as before."""
    norms = [
        module
        for module in (network.modules() if isinstance(network, nn.Module) else ())
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
    ]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
