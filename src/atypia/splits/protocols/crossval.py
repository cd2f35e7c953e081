"""Cross-validation by case: inside a published training part, or over all figures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from pydantic import Field

from atypia.base.config import StrictModel
from atypia.base.seeds import generator
from atypia.splits.catalogue import GROUPED, NO_ROWS, Division, FoldRows, Protocol, add
from atypia.splits.figures import LabelledFigures, Rows, outside_parts
from atypia.splits.grouping import allocate


class OfficialOptions(StrictModel):
    """Options of ``official``.

    Attributes:
        folds: Number of folds inside the training part.
        balance_domains: Whether domains are kept in proportion as well as the classes.
    """

    folds: int = Field(default=5, ge=2, le=100)
    balance_domains: bool = True


class KFoldOptions(StrictModel):
    """Options of ``kfold``.

    Attributes:
        folds: Number of folds.
        nested: Whether the part of each fold is its test part, with validation drawn from the
        rest; otherwise it is the validation part and there is no test part.
        val_share: Share of the rest that is used for validation, if nested.
        balance_domains: Whether domains are kept in proportion as well as the classes.
    """

    folds: int = Field(default=5, ge=2, le=100)
    nested: bool = False
    val_share: float = Field(default=0.2, gt=0, lt=1)
    balance_domains: bool = True


class FinalOptions(StrictModel):
    """``final`` has no options: nothing is divided."""


class EverythingOptions(StrictModel):
    """``everything`` has no options: nothing is divided."""


def everything(figures: LabelledFigures, options: EverythingOptions, seed: int) -> Division:
    """Every figure trains; none is left to select by, to decide by or to test on.

    How to train, and the decision, are settled beforehand on folds of the same figures: those of ``lodo`` for a
    classifier that is meant for laboratories which it never saw.
    """
    return Division([FoldRows("all", np.arange(len(figures)), NO_ROWS)])


def final(figures: LabelledFigures, options: FinalOptions, seed: int) -> Division:
    """Trains on the whole published training part and tests on the published test part.

    There is no validation part: the folds of ``official`` decide beforehand how to train.

    Raises:
        InputError: No published parts.
    """
    train, test, neither = figures.part_rows()
    return Division([FoldRows("all", train, NO_ROWS, test)], outside_parts(neither))


def official(figures: LabelledFigures, options: OfficialOptions, seed: int) -> Division:
    """Folds inside the published training part; every fold is tested on the published test part.

    Raises:
        InputError: No published parts, or too few cases for the folds.
    """
    train, test, neither = figures.part_rows()
    equal = (1 / options.folds,) * options.folds
    parts = _place(figures, train, equal, generator(seed, "official"), options.balance_domains)
    folds = [FoldRows(f"fold-{k + 1}", train[parts != k], train[parts == k], test) for k in range(options.folds)]
    return Division(folds, outside_parts(neither))


def kfold(figures: LabelledFigures, options: KFoldOptions, seed: int) -> Division:
    """Folds over all figures.

    Raises:
        InputError: Too few cases for the folds.
    """
    everything = np.arange(len(figures))
    equal = (1 / options.folds,) * options.folds
    parts = _place(figures, everything, equal, generator(seed, "kfold"), options.balance_domains)
    folds = []
    for k in range(options.folds):
        own, rest = everything[parts == k], everything[parts != k]
        if not options.nested:
            folds.append(FoldRows(f"fold-{k + 1}", rest, own, NO_ROWS))
            continue
        shares = (1 - options.val_share, options.val_share)
        inner = _place(figures, rest, shares, generator(seed, "kfold", "nested", k), options.balance_domains)
        folds.append(FoldRows(f"fold-{k + 1}", rest[inner == 0], rest[inner == 1], own))
    return Division(folds)


def _place(
    figures: LabelledFigures, rows: Rows, shares: Sequence[float], rng: Generator, balance_domains: bool
) -> Rows:
    domains = figures.domains[rows] if balance_domains else None
    return allocate(figures.cases[rows], figures.labels[rows], shares, rng, domains)


add(
    Protocol(
        name="final",
        summary="trains on the whole published training part, without validation; tests on the published test part",
        source="Atypia: for a model that ships, after the folds of official have decided how to train it",
        leakage=f"{GROUPED}, if the publisher's parts share no case (checked)",
        options=FinalOptions,
        divide=final,
        validated=False,
    )
)
add(
    Protocol(
        name="everything",
        summary="every figure trains, none validates, none is tested",
        source="Atypia: for a model that ships, once the folds of lodo or kfold have settled how to train it",
        leakage="none: there is one part",
        options=EverythingOptions,
        divide=everything,
        validated=False,
    )
)
add(
    Protocol(
        name="official",
        summary="published training and test part; case-grouped stratified folds inside training, tested on the test part",
        source="parts: the data set's publisher (AMi-Br: Banerjee et al.); folds: Atypia",
        leakage=f"{GROUPED}, if the publisher's parts share no case (checked)",
        options=OfficialOptions,
        divide=official,
    )
)
add(
    Protocol(
        name="kfold",
        summary="case-grouped stratified k-fold; each part validates (or tests, if nested) once",
        source="Atypia; the grouped k-fold that Giedziun et al. use for their ablation and Benito-Del-Valle et al. imply",
        leakage=GROUPED,
        options=KFoldOptions,
        divide=kfold,
    )
)
