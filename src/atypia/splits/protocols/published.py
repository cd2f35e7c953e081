"""Divisions as their authors made them, including leakage."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field

from atypia.base import records as r
from atypia.base.config import StrictModel
from atypia.base.errors import InputError, must
from atypia.base.seeds import generator
from atypia.splits.catalogue import Division, FoldRows, Protocol, add
from atypia.splits.figures import LabelledFigures, Rows, outside_parts
from atypia.splits.foldnames import domain_fold, fraction_fold
from atypia.splits.grouping import ranking
from atypia.splits.leakage import CASE_ACROSS_PARTS
from atypia.splits.protocols.domains import DomainColumn, fold_names, known_domains
from atypia.splits.protocols.montecarlo import FRACTIONS, Fraction, part_size

BANERJEE_SEED = 42
AMMELING_SEEDS = (42, 43, 44, 45, 46)


class BanerjeeSplitOptions(StrictModel):
    """``banerjee`` has no options: the published folds are fixed."""


class AmmelingSplitOptions(StrictModel):
    """Options of ``ammeling-as-published``.

    Attributes:
        fractions: Shares of the pool to use, each in (0, 1].
        seeds: Seeds of the independent draws.
    """

    fractions: tuple[Fraction, ...] = Field(default=FRACTIONS, min_length=1)
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**32)], ...] = Field(default=AMMELING_SEEDS, min_length=1)


class AmmelingDomainOptions(StrictModel):
    """Options of ``ammeling-domains-as-published``.

    Attributes:
        by: Column whose values are the domains.
        seeds: Seeds of the independent draws.
    """

    by: DomainColumn = r.TUMOUR
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**32)], ...] = Field(default=AMMELING_SEEDS, min_length=1)


class GiedziunOptions(StrictModel):
    """Options of ``giedziun-as-published``.

    Attributes:
        val_share: Share of the figures that is used for validation.
    """

    val_share: float = Field(default=0.05, gt=0, lt=1)


def banerjee(figures: LabelledFigures, options: BanerjeeSplitOptions, seed: int) -> Division:
    """The five folds of the AMi-Br benchmark, grouped by slide, tested on the published hold-out.

    Raises:
        InputError: No published parts, or fewer than five slides.
    """
    train, test, neither = figures.part_rows()
    slides = np.array([slide or "" for slide in figures.column(r.SLIDE_ID)], dtype=str)[train]
    if (slides == "").any():
        raise InputError(
            must("slide_id", "known for the training part", f"{(slides == '').sum()} nulls", "choose protocol official")
        )
    parts = stratified_group_folds(figures.labels[train], slides, 5, seed)
    folds = [FoldRows(f"fold-{k + 1}", train[parts != k], train[parts == k], test) for k in range(5)]
    return Division(folds, outside_parts(neither))


def stratified_group_folds(
    labels: npt.NDArray[np.integer], groups: npt.NDArray[np.str_], folds: int, random_state: int | None
) -> Rows:
    """Group folds as scikit-learn's StratifiedGroupKFold made them before version 1.8.

    Groups, ordered by name, are described by their class counts. They are processed from the
    largest to the smallest spread of these counts (standard deviation over the classes; ties keep
    their order). Each goes to the fold for which the class shares then differ least between folds
    (mean over classes of the standard deviation over folds of the share of the class); ties go to
    the fold with the fewest figures so far.

    Until version 1.7, shuffling permuted the *counts* but not the groups, so a group was placed
    by the counts of another group and the folds came out unequal. The published folds depend on
    this error, so it is reproduced. The order of rows and of classes has no influence.

    Args:
        labels: 0 or 1, shape (n,).
        groups: Name of each figure's group, shape (n,); names decide the order of groups.
        folds: Number of folds.
        random_state: Seed of the shuffling; None for no shuffling.

    Returns:
        Number of each figure's fold, shape (n,) int64.

    Raises:
        InputError: Fewer groups than folds.
    """
    names, group_of = np.unique(groups, return_inverse=True)
    if len(names) < folds:
        raise InputError(must("slide_id", f"{folds} or more slides", f"{len(names)}", "choose protocol kfold"))
    described = np.zeros((len(names), 2))
    np.add.at(described, (group_of, np.asarray(labels, dtype=np.int64)), 1)
    total = described.sum(axis=0)
    if random_state is not None:
        # NumPy froze this legacy generator, so the published draw never changes.
        np.random.RandomState(random_state).shuffle(described)
    fold_of_group = np.zeros(len(names), dtype=np.int64)
    filled = np.zeros((folds, 2))
    for group in np.argsort(-described.std(axis=1), kind="stable"):
        best, best_spread, best_size = 0, math.inf, math.inf
        for fold in range(folds):
            tried = filled.copy()
            tried[fold] += described[group]
            spread, size = float((tried / total).std(axis=0).mean()), float(filled[fold].sum())
            if spread < best_spread or (bool(np.isclose(spread, best_spread)) and size < best_size):
                best, best_spread, best_size = fold, spread, size
        filled[best] += described[group]
        fold_of_group[group] = best
    return fold_of_group[group_of]


def ammeling(figures: LabelledFigures, options: AmmelingSplitOptions, seed: int) -> Division:
    """Draws annotations one by one, ignoring cases: test, then a fraction, then validation.

    The draws equal those of the published code if the manifest has the rows of the published table
    in their order: the legacy generator, reseeded for every fraction, draws without
    replacement ``floor(0.2 n)`` rows for test, ``floor(f * rest)`` of the rest, and
    ``floor(0.2 * drawn)`` of those for validation.

    Raises:
        InputError: A fraction leaves too little to train on.
    """
    in_table = _in_table(figures)
    folds = []
    for number in options.seeds:
        for fraction in sorted(set(options.fractions)):
            rng = np.random.RandomState(number)
            test = rng.choice(len(in_table), part_size(len(in_table), 0.2), replace=False)
            pool = np.setdiff1d(np.arange(len(in_table)), test)
            drawn = rng.choice(pool, part_size(len(pool), fraction), replace=False)
            val = rng.choice(drawn, part_size(len(drawn), 0.2), replace=False)
            train = np.setdiff1d(drawn, val)
            parts = (in_table[rows] for rows in (train, val, test))
            folds.append(FoldRows(fraction_fold(f"seed-{number}", fraction), *parts))
    return Division(folds)


def ammeling_probe(figures: LabelledFigures, options: AmmelingSplitOptions, seed: int) -> Division:
    """The draws of the published code for linear probes, which are others than those for networks.

    By row number of the table, as :func:`ammeling`, but with NumPy's newer generator, seeded once for all fractions of a
    seed and drawn from in the order of the fractions: the draws are the published ones for the published fractions.
    Of the figures drawn for a fraction ``floor(0.8 n)`` train; the code leaves the others unused, here they are the
    validation part, on which this probe chooses nothing.

    Raises:
        InputError: A fraction leaves too little to train on.
    """
    in_table = _in_table(figures)
    folds = []
    for number in options.seeds:
        rng = np.random.default_rng(number)
        test = rng.choice(len(in_table), part_size(len(in_table), 0.2), replace=False)
        pool = np.setdiff1d(np.arange(len(in_table)), test)
        for fraction in sorted(set(options.fractions)):
            drawn = rng.choice(pool, part_size(len(pool), fraction), replace=False)
            train = rng.choice(drawn, part_size(len(drawn), 0.8), replace=False)
            parts = (in_table[rows] for rows in (train, np.setdiff1d(drawn, train), test))
            folds.append(FoldRows(fraction_fold(f"seed-{number}", fraction), *parts))
    return Division(folds)


def ammeling_domains(figures: LabelledFigures, options: AmmelingDomainOptions, seed: int) -> Division:
    """Trains on one domain and tests on a fifth of it and on all others; annotations are drawn one by one.

    As the published code, which calls pandas' ``sample`` twice with the same seed: ``round(0.2 n)`` annotations of the
    domain for test, then ``round(0.2 rest)`` for validation, each drawn without replacement by NumPy's legacy generator.

    Raises:
        InputError: Fewer than two domains are known.
    """
    known_rows, warnings = known_domains(figures, options.by)
    in_table = _in_table(figures)
    everything = np.sort(np.concatenate(list(known_rows.values())))
    folds = []
    for slug, own in zip(fold_names(list(known_rows)), known_rows.values(), strict=True):
        ordered = in_table[np.isin(in_table, own)]
        for repeat, number in enumerate(options.seeds, start=1):
            test = _sampled(ordered, number)
            rest = ordered[~np.isin(ordered, test)]
            val = _sampled(rest, number)
            train = rest[~np.isin(rest, val)]
            others = np.setdiff1d(everything, own)
            folds.append(FoldRows(domain_fold(slug, repeat), train, val, np.concatenate([test, others])))
    return Division(folds, tuple(warnings))


def _in_table(figures: LabelledFigures) -> Rows:
    """Positions of the figures in the order of the manifest's rows: published draws are by row number of the table."""
    return np.argsort(figures.order)


def _sampled(rows: Rows, seed: int) -> Rows:
    """A fifth of the rows as pandas' ``DataFrame.sample(frac=0.2, random_state=seed)`` draws it."""
    return rows[np.random.RandomState(seed).choice(len(rows), round(0.2 * len(rows)), replace=False)]


def giedziun(figures: LabelledFigures, options: GiedziunOptions, seed: int) -> Division:
    """One draw of figures, stratified by label only; the authors did not publish their seed."""
    order = ranking(figures.labels, generator(seed, "giedziun-as-published"))
    n_val = math.ceil(len(order) * options.val_share - 1e-9)
    return Division([FoldRows("repeat-1", order[n_val:], order[:n_val])])


def _caveat(what: str) -> str:
    return (
        f"{what}, as published: figures of one case are in several parts, so results are too optimistic; "
        f"training needs the exception {CASE_ACROSS_PARTS}"
    )


add(
    Protocol(
        name="banerjee",
        summary="the five published folds of the AMi-Br training part, by slide, tested on the hold-out",
        source="Banerjee et al., published code: StratifiedGroupKFold(5, shuffle, random_state 42) of scikit-learn < 1.8",
        leakage="none: no slide is in two parts, and no case, if each case has one slide (checked)",
        options=BanerjeeSplitOptions,
        divide=banerjee,
        fixed_seed=BANERJEE_SEED,
    )
)
add(
    Protocol(
        name="ammeling-as-published",
        summary="Monte-Carlo with fractions, annotations drawn one by one; seeds 42 to 46",
        source="Ammeling et al., published code (the paper says case-level: see monte-carlo)",
        leakage=f"cases are in all parts; needs the exception `{CASE_ACROSS_PARTS}`",
        options=AmmelingSplitOptions,
        divide=ammeling,
        fixed_seed=AMMELING_SEEDS[0],
        caveat=_caveat("annotations were divided one by one"),
    )
)
add(
    Protocol(
        name="ammeling-probe-as-published",
        summary="as ammeling-as-published, with the draws that the code makes for linear probes",
        source="Ammeling et al., published code (linear probing)",
        leakage=f"cases are in all parts; needs the exception `{CASE_ACROSS_PARTS}`",
        options=AmmelingSplitOptions,
        divide=ammeling_probe,
        fixed_seed=AMMELING_SEEDS[0],
        caveat=_caveat("annotations were divided one by one"),
    )
)
add(
    Protocol(
        name="ammeling-domains-as-published",
        summary="train on each tumour alone, test on 20 % of it and on all others, annotations drawn one by one",
        source="Ammeling et al., published code (the paper says case-level: see cross-domain)",
        leakage=f"cases are in all parts; needs the exception `{CASE_ACROSS_PARTS}`",
        options=AmmelingDomainOptions,
        divide=ammeling_domains,
        fixed_seed=AMMELING_SEEDS[0],
        caveat=_caveat("annotations were divided one by one"),
    )
)
add(
    Protocol(
        name="giedziun-as-published",
        summary="all figures pooled, 95 % training and 5 % validation, stratified by label only; no test part",
        source="Giedziun et al., final model",
        leakage=f"cases are in both parts; needs the exception `{CASE_ACROSS_PARTS}`",
        options=GiedziunOptions,
        divide=giedziun,
        caveat=_caveat("figures were divided one by one, stratified by label"),
    )
)
