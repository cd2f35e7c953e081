"""Tests on result rows instead of predictions: by fold, over domains, between adaptations."""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atypia.base import records as r
from atypia.base import runs
from atypia.base.errors import InputError
from atypia.evaluation import rows as e
from atypia.statistics.differences.crossvalidation import MeanSd, corrected_t, mean_sd
from atypia.statistics.differences.groups import GroupTest, independent_groups, paired_groups
from atypia.statistics.differences.multiple import holm, rank_models
from atypia.statistics.metrics import UndefinedMetricWarning
from atypia.studies.findings.comparisons import is_baseline
from atypia.studies.findings.keys import Locate
from atypia.studies.findings.schema import COMMON, HELD_OUT, AdaptationTest, FoldDifference, Place, Ranked, Series
from atypia.studies.findings.scoring import AUROC, BA, SENSITIVITY, SPECIFICITY

HEADLINE: Final = (BA, SENSITIVITY, SPECIFICITY, AUROC)
FEWEST_OF_A_CLASS: Final = 5
"""Smallest number of figures of each class for a domain to enter a ranking."""
FEWEST_BLOCKS: Final = 5
FEWEST_RANKED: Final = 3
PAIRS: Final = (("probe", "lora"), ("full", "probe"), ("full", "lora"))
"""Compared adaptations, in the order of Banerjee et al., Table 4."""
PAIRED: Final = ("probe", "lora")
"""Adaptations of the same backbones; others are compared as independent groups."""
MOST_VALUES: Final = 400

Values = dict[int, dict[str, float]]
"""Row to fold to value, the mean over seeds."""


class FoldResults:
    """Result rows by place, row of the study and fold.

    Args:
        rows: Result rows of the study.
        places: What they are scored on.
        locate: Finds the place and the row that a result row is about.
    """

    def __init__(self, rows: pa.Table, places: Sequence[Place], locate: Locate) -> None:
        self.places = places
        wanted = rows.filter(pc.is_in(rows[e.METRIC], pa.array(list(HEADLINE))))  # pyright: ignore[reportAttributeAccessIssue]
        found: dict[tuple[int, str, str | None], dict[int, dict[str, list[float]]]] = {}
        self.sizes: dict[tuple[int, str], list[tuple[int, int]]] = defaultdict(list)
        for row in wanted.to_pylist():
            located = locate(row)
            if located is None:
                continue
            place, number = located
            of_place = found.setdefault((place, row[e.METRIC], row[r.DOMAIN]), {})
            of_place.setdefault(number, {}).setdefault(row[r.FOLD], []).append(row[e.VALUE])
            if row[r.DOMAIN] is not None and row[e.METRIC] == BA:
                self.sizes[place, row[r.DOMAIN]].append((row[e.N_POSITIVE], row[e.N] - row[e.N_POSITIVE]))
        self._found = found

    def values(self, place: int, metric: str, domain: str | None = None) -> Values:
        """Values on a place; NaN if undefined."""
        of_place = self._found.get((place, metric, domain), {})
        return {row: {fold: float(np.mean(v)) for fold, v in folds.items()} for row, folds in of_place.items()}

    def spread(self, place: int, row: int) -> dict[str, MeanSd]:
        """Mean and population sd of each headline metric over a row's runs: all folds and seeds."""
        found = {metric: self._found.get((place, metric, None), {}).get(row, {}) for metric in HEADLINE}
        return {
            metric: mean_sd([value for values in folds.values() for value in values])
            for metric, folds in found.items()
            if folds
        }

    def domains(self, place: int) -> list[str]:
        """Domains with results there."""
        return sorted({d for p, _, d in self._found if p == place and d is not None and d != e.UNKNOWN})


def fold_differences(
    results: FoldResults, series: Sequence[Series], about: pa.Table, baseline: str | None
) -> tuple[FoldDifference, ...]:
    """Corrected resampled t-tests on places where each fold has its own held-out part.

    Args:
        results: Values by fold.
        series: The study's rows.
        about: Runs, with :data:`atypia.studies.table.RUNS_SCHEMA`, for the folds' sizes.
        baseline: The study's row that is its baseline; None compares with the best row.
    """
    sizes = _fold_sizes(about)
    found: list[FoldDifference] = []
    for number, place in enumerate(results.places):
        if place.pooling != HELD_OUT:
            continue
        for metric in (BA, AUROC):
            values = results.values(number, metric)
            for group in dict.fromkeys(series[row].group for row in values):
                members = [row for row in values if series[row].group == group]
                reference = _reference(members, values, series, baseline)
                for row in members:
                    if row != reference:
                        found += _tested(row, reference, number, place, metric, values, series, sizes)
    adjusted = holm([one.outcome.p for one in found]) if found else []
    return tuple(replace(one, p_holm=float(p)) for one, p in zip(found, adjusted, strict=True))


def _tested(
    row: int, reference: int, number: int, place: Place, metric: str, values: Values, series: Sequence[Series],
    sizes: Mapping[tuple[str, str], tuple[int, int, int]],
) -> list[FoldDifference]:  # fmt: skip
    folds = sorted(set(values[row]) & set(values[reference]), key=runs.natural_key)
    gaps = [values[row][fold] - values[reference][fold] for fold in folds]
    if len(gaps) < 2 or any(math.isnan(gap) for gap in gaps):
        return []
    known = [sizes[series[row].row, fold] for fold in folds if (series[row].row, fold) in sizes]
    if not known:
        return []
    held = 1 if place.part == runs.VALIDATION else 2
    n_train, n_test = (float(np.mean([size[i] for size in known])) for i in (0, held))
    if not (n_train > 0 and n_test > 0):
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)  # shows as n/a
        outcome = corrected_t(gaps, n_train, n_test)
    return [FoldDifference(row, reference, number, metric, len(gaps), outcome, math.nan)]


def _fold_sizes(about: pa.Table) -> dict[tuple[str, str], tuple[int, int, int]]:
    columns = ("row", r.FOLD, "n_train", "n_val", "n_test")
    lines = zip(*(about[name].to_pylist() for name in columns), strict=True)
    return {(row, fold): (train, val, test) for row, fold, train, val, test in lines}


def _reference(members: Sequence[int], values: Values, series: Sequence[Series], baseline: str | None) -> int:
    means = {row: _mean(values[row].values()) for row in members}
    best = max(members, key=lambda row: means[row])
    named = [row for row in members if baseline is not None and is_baseline(series[row], baseline)]
    return max(named, key=lambda row: means[row]) if named else best


def _mean(values: Any) -> float:
    value = float(np.mean(list(values)))
    return -math.inf if math.isnan(value) else value


def ranks(results: FoldResults, series: Sequence[Series], metric: str = BA) -> tuple[Ranked, ...]:
    """Ranks of the rows of each group over test sets and domains, by a headline metric.

    A domain of a test part or of another data set is a block, and a data set without domains is one; validation
    parts are not used, because selection was made on them. Blocks with fewer than
    :data:`FEWEST_OF_A_CLASS` figures of a class, or where a row has no value, are left out.
    """
    found = []
    for group in dict.fromkeys(one.group for one in series):
        members = [number for number, one in enumerate(series) if one.group == group]
        blocks: dict[str, list[float]] = {}
        left_out = 0
        for number, place in enumerate(results.places):
            if place.part == runs.VALIDATION:
                continue
            domains = results.domains(number)
            for domain in domains or [None]:
                values = results.values(number, metric, domain)
                means = [_mean(values[row].values()) if row in values else -math.inf for row in members]
                name = f"{place.dataset}: {domain}" if domain else place.dataset
                few = domain is not None and min(map(min, results.sizes[number, domain])) < FEWEST_OF_A_CLASS
                if few or not all(map(math.isfinite, means)):
                    left_out += 1
                elif name not in blocks:
                    blocks[name] = means
        if len(members) >= FEWEST_RANKED and len(blocks) >= FEWEST_BLOCKS:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UndefinedMetricWarning)  # shows as n/a
                ranking = rank_models(np.array(list(blocks.values())), [series[row].label for row in members])
            found.append(Ranked(group, metric, tuple(blocks), left_out, ranking))
    return tuple(found)


def adaptation_tests(results: FoldResults, series: Sequence[Series]) -> tuple[AdaptationTest, ...]:
    """Adaptations of backbones, compared as in Table 4 of Banerjee et al., and by the rows' means.

    Probe and LoRA are compared on the backbones that have both (signed rank), training end to end with either
    as independent groups (U).
    """
    found = []
    for number, place in enumerate(results.places):
        if place.pooling != COMMON or place.part == runs.VALIDATION:
            continue
        values = results.values(number, BA)
        for group in dict.fromkeys(series[row].group for row in values):
            by = {name: _folds_of(values, series, group, name) for name in ("probe", "lora", "full")}
            for first, second in PAIRS:
                ours, theirs = by[first], by[second]
                if (first, second) == PAIRED:
                    shared = [key for key in ours if key in theirs and len(ours[key]) == len(theirs[key])]
                    ours, theirs = ({key: side[key] for key in shared} for side in (ours, theirs))
                tests = _group_tests(ours, theirs, (first, second) == PAIRED)
                if tests:
                    found.append(
                        AdaptationTest(
                            number,
                            group,
                            first,
                            second,
                            len(ours),
                            len(theirs),
                            _mean_of(ours),
                            _mean_of(theirs),
                            tests,
                        )
                    )
    return tuple(found)


def _mean_of(side: Mapping[tuple[str, ...], Sequence[float]]) -> float:
    return float(np.mean([np.mean(values) for values in side.values()]))


def _group_tests(
    ours: Mapping[tuple[str, ...], Sequence[float]], theirs: Mapping[tuple[str, ...], Sequence[float]], paired: bool
) -> tuple[GroupTest, ...]:
    count = sum(map(len, ours.values())) + sum(map(len, theirs.values()))
    if min(len(ours), len(theirs)) < 2 or count > MOST_VALUES:
        return ()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)  # shows as n/a
        try:
            return tuple(paired_groups(ours, theirs) if paired else independent_groups(ours, theirs))
        except InputError:  # a value is not finite
            return ()


def _folds_of(
    values: Values, series: Sequence[Series], group: str, adaptation: str
) -> dict[tuple[str, ...], list[float]]:
    """Backbone, with levels and decision, to its values by fold."""
    found = {}
    for row, folds in values.items():
        one = series[row]
        if one.group == group and one.adaptation == adaptation:
            key = (one.backbone, *one.factors.values(), one.decision)
            values_of = [folds[fold] for fold in sorted(folds, key=runs.natural_key)]
            found[(*key, one.label) if key in found else key] = values_of
    return found
