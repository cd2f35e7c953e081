"""Monte-Carlo cross-validation with fractions of the data: to see how much data a method needs."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from pydantic import Field

from atypia.base.config import StrictModel
from atypia.base.errors import InputError, must
from atypia.base.seeds import generator
from atypia.splits.catalogue import GROUPED, Division, FoldRows, Protocol, add
from atypia.splits.figures import LabelledFigures, Rows
from atypia.splits.foldnames import fraction_fold
from atypia.splits.grouping import allocate, ranking

FRACTIONS = (0.001, 0.01, 0.1, 1.0)
"""Fractions of Ammeling et al., section 3.6."""

Fraction = Annotated[float, Field(gt=0, le=1)]


class MonteCarloOptions(StrictModel):
    """Options of ``monte-carlo``.

    Attributes:
        fractions: Shares of the pool that are used, each in (0, 1].
        repeats: Number of independent repetitions.
        nested: Whether each fraction contains the smaller ones of its repeat, in training and in
        validation; otherwise every fraction is drawn independently.
        test_share: Share of the figures of the test part.
        shared_test: Whether one test part, that of the first repeat, serves all repeats (Ammeling et al., section 3.6);
        otherwise each repeat draws its own.
        val_share: Share of a fraction that is used for validation.
        balance_domains: Whether domains are also kept in proportion when cases are placed.
    """

    fractions: tuple[Fraction, ...] = Field(default=FRACTIONS, min_length=1)
    repeats: int = Field(default=5, ge=1, le=1000)
    nested: bool = True
    test_share: float = Field(default=0.2, gt=0, lt=1)
    shared_test: bool = False
    val_share: float = Field(default=0.2, gt=0, lt=1)
    balance_domains: bool = True


def part_size(figures: int, share: float) -> int:
    """Figures in a share, rounded down as the published code does.

    >>> [part_size(16442, share) for share in (0.001, 0.01, 0.1, 1.0)]
    [16, 164, 1644, 16442]
    """
    # The small term prevents a product like 0.29 * 100 = 28.999999999999996 from becoming 28.
    return math.floor(figures * share + 1e-9)


def monte_carlo(figures: LabelledFigures, options: MonteCarloOptions, seed: int) -> Division:
    """A test part by case, then fractions of the rest, one fold per repeat and fraction.

    All fractions of a repeat share its test part; with ``shared_test`` all repeats do. Of a pool of n figures the fraction f uses
    ``floor(n f)``, of these ``floor(floor(n f) * val_share)`` for validation. Training and
    validation figures come from different cases; within each of the two, figures are drawn one by
    one, with the classes in proportion, because a thousandth of the data is less than one case.

    Raises:
        InputError: Too few cases; or a fraction so small that training lacks a class or validation
        is empty.
    """
    rows = np.arange(len(figures))
    fractions = sorted(set(options.fractions))
    folds: list[FoldRows] = []
    failed: set[float] = set()
    pool = rows
    for repeat in range(1, options.repeats + 1):
        place = _Placer(figures, options, seed, repeat)
        tested = _Placer(figures, options, seed, 1) if options.shared_test else place
        parts = tested(rows, options.test_share, "test")
        test, pool = rows[parts == 1], rows[parts == 0]
        sides: tuple[Rows, Rows] | None = None
        for fraction in fractions:
            if sides is None or not options.nested:
                use = "pool" if options.nested else f"pool {fraction!r}"
                inner = place(pool, options.val_share, use)
                sides = place.ranked(pool[inner == 0], use), place.ranked(pool[inner == 1], use)
            used = part_size(len(pool), fraction)
            n_val = part_size(used, options.val_share)
            # At fraction 1 the whole pool is used; dividing by case makes its parts a few figures larger or smaller.
            train, val = sides if used == len(pool) else (sides[0][: used - n_val], sides[1][:n_val])
            if len(np.unique(figures.labels[train])) < 2 or not len(val):
                failed.add(fraction)
            folds.append(FoldRows(fraction_fold(f"repeat-{repeat}", fraction), train, val, test))
    if failed:
        large = [fraction for fraction in fractions if fraction not in failed]
        raise InputError(
            must(
                "fractions",
                "so large that training has both classes and validation has a figure",
                f"{sorted(failed)} of {len(pool):,} figures",
                f"pass fractions={large}" if large else "give more figures",
            )
        )
    return Division(folds)


class _Placer:
    """Random divisions within one repeat, each with its own random stream."""

    def __init__(self, figures: LabelledFigures, options: MonteCarloOptions, seed: int, repeat: int) -> None:
        self.figures = figures
        self.options = options
        self.names = (seed, "monte-carlo", repeat)

    def __call__(self, rows: Rows, share: float, use: str) -> Rows:
        """Part 1 gets ``share`` of the rows, part 0 the rest, by case."""
        domains = self.figures.domains[rows] if self.options.balance_domains else None
        rng = generator(*self.names, use)
        return allocate(self.figures.cases[rows], self.figures.labels[rows], (1 - share, share), rng, domains)

    def ranked(self, rows: Rows, use: str) -> Rows:
        """The rows in a random order in which every leading section has the classes in proportion."""
        return rows[ranking(self.figures.labels[rows], generator(*self.names, use, "ranking", len(rows)))]


add(
    Protocol(
        name="monte-carlo",
        summary="20 % test by case, then 0.1, 1, 10 and 100 % of the rest, 20 % of that for validation; 5 repeats",
        source="Ammeling et al., section 3.6",
        leakage=GROUPED,
        options=MonteCarloOptions,
        divide=monte_carlo,
    )
)
