"""One training and one validation part, by case; results are reported on other sets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from pydantic import Field

from atypia.base.config import StrictModel
from atypia.base.seeds import generator
from atypia.splits.catalogue import GROUPED, Division, FoldRows, Protocol, add
from atypia.splits.figures import LabelledFigures
from atypia.splits.grouping import allocate


class PooledOptions(StrictModel):
    """Options of ``pooled-95-5``.

    Attributes:
        val_share: Share of the figures that is used for validation.
        balance_domains: Whether domains are kept in proportion as well as the classes.
        repeats: Number of independent draws.
    """

    val_share: float = Field(default=0.05, gt=0, lt=1)
    balance_domains: bool = True
    repeats: int = Field(default=1, ge=1, le=1000)


class HoldoutOptions(PooledOptions):
    """Options of ``holdout-75-25``: those of ``pooled-95-5`` with a larger validation part."""

    val_share: float = Field(default=0.25, gt=0, lt=1)


def holdout(name: str) -> Callable[[LabelledFigures, PooledOptions, int], Division]:
    """The dividing function of the protocol with this name, which also names its random stream."""

    def divide(figures: LabelledFigures, options: PooledOptions, seed: int) -> Division:
        rows = np.arange(len(figures))
        domains = figures.domains if options.balance_domains else None
        shares = (1 - options.val_share, options.val_share)
        folds = []
        for repeat in range(1, options.repeats + 1):
            rng = generator(seed, name, repeat)
            parts = allocate(figures.cases, figures.labels, shares, rng, domains)
            folds.append(FoldRows(f"repeat-{repeat}", rows[parts == 0], rows[parts == 1]))
        return Division(folds)

    return divide


add(
    Protocol(
        name="pooled-95-5",
        summary="all figures pooled, 95 % training and 5 % validation, by case; no test part",
        source="Giedziun et al., final model (there stratified by label only: see giedziun-as-published)",
        leakage=GROUPED,
        options=PooledOptions,
        divide=holdout("pooled-95-5"),
    )
)
add(
    Protocol(
        name="holdout-75-25",
        summary="75 % training and 25 % validation, by case; no test part",
        source="Atey et al., section on data sets and splits",
        leakage=GROUPED,
        options=HoldoutOptions,
        divide=holdout("holdout-75-25"),
    )
)
