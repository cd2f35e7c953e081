"""Makes a split from a protocol's name and a manifest."""

from __future__ import annotations

from typing import Any

import numpy as np

from atypia.base import records as r
from atypia.base.config import parse
from atypia.base.errors import InputError, count_noun, must
from atypia.data.manifest import Manifest
from atypia.splits.catalogue import PROTOCOLS, Division, FoldRows, Protocol
from atypia.splits.figures import LabelledFigures, Rows
from atypia.splits.leakage import find_leakage
from atypia.splits.split import PARTS, Fold, Split, count_positives, plain_params


def make_split(name: str, manifest: Manifest, seed: int = 0, **params: Any) -> Split:
    """Divides a manifest by a protocol.

    The same figures, options and seed give the same folds, whatever the order of the rows
    (except those of Ammeling et al. as published, which draw by row number). Leakage
    gives a warning here, not an error; :func:`atypia.splits.leakage.check_split` raises.

    Args:
        name: Entry of :data:`atypia.splits.catalogue.PROTOCOLS`.
        manifest: The figures; those without a label are left out, with a warning.
        seed: Master seed; ignored by protocols published with their own seed.
        **params: The protocol's options.

    Returns:
        The split; figure ids are sorted within every part.

    Raises:
        InputError: No such protocol or option, or the figures cannot be divided this way: too few
        cases, one class only, no published parts, no domains.

    >>> from atypia import open_data
    >>> split = make_split("kfold", open_data("mine.csv"), folds=2)
    >>> split
    <Split kfold(folds=2, nested=False, val_share=0.2, balance_domains=True), seed 0: 2 folds>
      <Fold fold-1: 24 train, 24 val, 0 test>
      <Fold fold-2: 24 train, 24 val, 0 test>
    """
    protocol = PROTOCOLS[name]
    options = parse(protocol.options, params, f"protocol {name}")
    if seed < 0:
        raise InputError(must("seed", "0 or a positive integer", seed, "pass --seed 0"))
    used_seed = seed if protocol.fixed_seed is None else protocol.fixed_seed
    figures = LabelledFigures.of(manifest)
    division = protocol.divide(figures, options, used_seed)
    for fold in division.folds:
        _check_trainable(protocol, fold, figures)
    ids = np.array(figures.manifest.ids, dtype=object)

    def named(rows: Rows) -> tuple[str, ...]:
        return tuple(ids[np.sort(rows)])

    folds = tuple(Fold(f.name, named(f.train), named(f.val), named(f.test)) for f in division.folds)
    split = Split(name, plain_params(options), used_seed, manifest.fingerprint, folds)
    found = [finding.text() for finding in find_leakage(split, manifest)]
    warnings = (*_about_figures(figures), *_about_protocol(protocol, division, figures), *found)
    return Split(
        name,
        split.params,
        used_seed,
        manifest.fingerprint,
        folds,
        tuple(dict.fromkeys(warnings)),
        count_positives(folds, manifest),
    )


def _check_trainable(protocol: Protocol, fold: FoldRows, figures: LabelledFigures) -> None:
    zero, one = r.CLASS_NAMES[figures.manifest.task]
    counts = np.bincount(figures.labels[fold.train], minlength=2)
    if counts.all() and (len(fold.val) or not protocol.validated):
        return
    wanted = f"{zero} and {one} figures in training" + (", and figures for validation" if protocol.validated else "")
    known = ", ".join(protocol.options.model_fields) or "none"
    raise InputError(
        must(
            f"{protocol.name}, {fold.name}",
            f"a fold that can be trained: {wanted}",
            f"{counts[0]} {zero} and {counts[1]} {one} in training, {len(fold.val)} for validation",
            f"give more cases, or change the protocol or its options ({known})",
        )
    )


def _about_figures(figures: LabelledFigures) -> list[str]:
    warnings = []
    if figures.left_out:
        warnings.append(
            f"{count_noun(figures.left_out, 'figure without a label was', 'figures without a label were')} left out of the split"
        )
    if figures.without_case:
        warnings.append(
            f"{figures.without_case:,} of {len(figures):,} figures have no known case or slide: "
            "each counts as a case of its own, so leakage between them cannot be seen"
        )
    return warnings


def _about_protocol(protocol: Protocol, division: Division, figures: LabelledFigures) -> list[str]:
    warnings = [protocol.caveat] if protocol.caveat else []
    warnings += division.warnings
    names = r.CLASS_NAMES[figures.manifest.task]
    for part in PARTS[1:]:
        for label, word in enumerate(names):
            lacking = [
                fold.name
                for fold in division.folds
                if len(rows := getattr(fold, part)) and not (figures.labels[rows] == label).any()
            ]
            if lacking:
                shown = ", ".join(lacking[:3]) + (", …" if len(lacking) > 3 else "")
                warnings.append(
                    f"no {word} figure in the {part} part of {len(lacking)} of {len(division.folds)} folds ({shown}): "
                    "metrics that need both classes are undefined there"
                )
    return warnings
