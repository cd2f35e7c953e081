"""Divisions by domain: leave one out, or train on one and test on all others."""

from __future__ import annotations

import re
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field

from atypia.base import records as r
from atypia.base.config import StrictModel
from atypia.base.errors import InputError, count_noun, must
from atypia.base.runs import DEVICES
from atypia.base.seeds import generator
from atypia.splits.catalogue import GROUPED, Division, FoldRows, Protocol, add
from atypia.splits.figures import LabelledFigures, Rows
from atypia.splits.foldnames import domain_fold
from atypia.splits.grouping import allocate

DOMAIN_COLUMNS = (r.DOMAIN, *r.DOMAIN_PARTS, r.DATASET)
"""Manifest columns whose values can serve as domains."""


def _domain_column(name: str) -> str:
    if name not in DOMAIN_COLUMNS:
        raise ValueError(f"must be one of {', '.join(DOMAIN_COLUMNS)}")
    return name


DomainColumn = Annotated[str, AfterValidator(_domain_column)]


class LodoOptions(StrictModel):
    """Options of ``lodo``.

    Attributes:
        by: Column whose values are the domains.
        val_share: Share of the remaining domains' figures that is used for validation.
        balance_domains: Whether training and validation contain the remaining domains in proportion.
    """

    by: DomainColumn = r.DOMAIN
    val_share: float = Field(default=0.2, gt=0, lt=1)
    balance_domains: bool = True


class CrossDomainOptions(StrictModel):
    """Options of ``cross-domain``.

    Attributes:
        by: Column whose values are the domains.
        repeats: Independent draws for each training domain.
        test_share: Share of the training domain that is held out for testing.
        val_share: Share of the rest of the training domain that is used for validation.
    """

    by: DomainColumn = r.DOMAIN
    repeats: int = Field(default=5, ge=1, le=1000)
    test_share: float = Field(default=0.2, gt=0, lt=1)
    val_share: float = Field(default=0.2, gt=0, lt=1)


def leave_one_out(figures: LabelledFigures, options: LodoOptions, seed: int) -> Division:
    """One fold per domain: tested on it, trained and validated on all others.

    Raises:
        InputError: Fewer than two domains are known, or the other domains cannot be divided.
    """
    domains, warnings = known_domains(figures, options.by)
    of = _numbers(figures, domains)
    folds = []
    for name, test in domains.items():
        rest = np.setdiff1d(np.concatenate(list(domains.values())), test)
        rest, dropped = without_cases(figures, rest, test)
        if dropped:
            warnings.append(_spanning(name, dropped, "training and validation"))
        parts = allocate(
            figures.cases[rest],
            figures.labels[rest],
            (1 - options.val_share, options.val_share),
            generator(seed, "lodo", name),
            of[rest] if options.balance_domains else None,
        )
        folds.append((name, rest[parts == 0], rest[parts == 1], test))
    names = fold_names([name for name, *_ in folds])
    return Division([FoldRows(n, *rows) for n, (_, *rows) in zip(names, folds, strict=True)], tuple(warnings))


def cross_domain(figures: LabelledFigures, options: CrossDomainOptions, seed: int) -> Division:
    """For each domain, trains on it alone and tests on a held-out share of it and on all others.

    Raises:
        InputError: Fewer than two domains are known, or none can be trained on.
    """
    domains, warnings = known_domains(figures, options.by)
    everything = np.concatenate(list(domains.values()))
    remaining = 1 - options.test_share
    shares = (remaining * (1 - options.val_share), remaining * options.val_share, options.test_share)
    slugs = dict(zip(domains, fold_names(list(domains)), strict=True))
    folds = []
    for name, own in domains.items():
        drawn: list[FoldRows] = []
        for repeat in range(1, options.repeats + 1):
            if len(np.unique(figures.cases[own])) < len(shares) or len(np.unique(figures.labels[own])) < 2:
                break
            rng = generator(seed, "cross-domain", name, repeat)
            parts = allocate(figures.cases[own], figures.labels[own], shares, rng)
            train, val, held_out = (own[parts == part] for part in range(3))
            if len(np.unique(figures.labels[train])) < 2:
                break
            others, dropped = without_cases(figures, np.setdiff1d(everything, own), own)
            if dropped:
                warnings.append(_spanning(name, dropped, "test"))
            drawn.append(FoldRows(domain_fold(slugs[name], repeat), train, val, np.concatenate([held_out, others])))
        if len(drawn) < options.repeats:
            warnings.append(f"domain {name!r} has too few cases or figures of a class to train on: it is only tested")
        else:
            folds += drawn
    if not folds:
        raise InputError(
            must(
                options.by,
                "a domain of three cases with both classes",
                "none",
                "name another column: by=tumour, by=dataset",
            )
        )
    return Division(folds, tuple(dict.fromkeys(warnings)))


def known_domains(figures: LabelledFigures, column: str) -> tuple[dict[str, Rows], list[str]]:
    """The figures of each domain by its sorted name; and a warning if some figures have no domain.

    Figures of unknown domain are not used: they might belong to the domain that is left out.

    Raises:
        InputError: Fewer than two domains are known.
    """
    values = figures.column(column)
    names = sorted({value for value in values if value is not None})
    if len(names) < 2:
        raise InputError(
            must(
                column,
                "known, with at least two values",
                f"{len(names)} in {figures.manifest.name}",
                "pool data of several domains (a+b), or choose a protocol without domains, for instance kfold",
            )
        )
    unknown = sum(value is None for value in values)
    warnings = [f"left out because their {column} is unknown: {count_noun(unknown, 'figure')}"] if unknown else []
    array = np.array(["" if value is None else value for value in values], dtype=str)
    known = np.array([value is not None for value in values])
    return {name: np.flatnonzero(known & (array == name)) for name in names}, warnings


def without_cases(figures: LabelledFigures, rows: Rows, other: Rows) -> tuple[Rows, int]:
    """The rows whose case has no figure in ``other``, and the number of rows left out."""
    kept = rows[~np.isin(figures.cases[rows], figures.cases[other])]
    return kept, len(rows) - len(kept)


def fold_names(names: list[str]) -> list[str]:
    """Turns names into valid folder names, all different.

    >>> fold_names(["Aperio CS2 | UMC", "Aperio CS2, UMC", "犬"])
    ['aperio-cs2-umc', 'aperio-cs2-umc-2', 'domain']
    """
    taken: set[str] = set()
    slugs = []
    for name in names:
        base = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:90].strip("-") or "domain"
        base = f"domain-{base}" if DEVICES.fullmatch(base) else base
        slug, number = base, 1
        while slug in taken:
            number += 1
            slug = f"{base}-{number}"
        taken.add(slug)
        slugs.append(slug)
    return slugs


def _numbers(figures: LabelledFigures, domains: dict[str, Rows]) -> Rows:
    numbers = np.zeros(len(figures), dtype=np.int64)
    for number, rows in enumerate(domains.values()):
        numbers[rows] = number
    return numbers


def _spanning(domain: str, dropped: int, where: str) -> str:
    return f"left out of {where} because they share a case with {domain!r}: {count_noun(dropped, 'figure')} of other domains"


add(
    Protocol(
        name="lodo",
        summary="leave one domain out for testing; train and validate on the rest, divided by case",
        source="Giedziun et al., model selection; Gulrajani and Lopez-Paz 2021 for the general form",
        leakage=f"{GROUPED}; cases that span domains are left out",
        options=LodoOptions,
        divide=leave_one_out,
    )
)
add(
    Protocol(
        name="cross-domain",
        summary="train on each domain alone, test on 20 % of it and on all other domains, by case",
        source="Ammeling et al., section 3.7 (there by tumour: by=tumour)",
        leakage=f"{GROUPED}; cases that span domains are left out",
        options=CrossDomainOptions,
        divide=cross_domain,
    )
)
