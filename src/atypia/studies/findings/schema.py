"""Findings of a study as plain data: computed once, stored as JSON, read by reports.

Positions (``series``, ``place``, ``reference``) count the elements of :class:`Findings`, from 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from atypia.base import records as r
from atypia.statistics.differences.crossvalidation import CorrectedT, MeanSd
from atypia.statistics.differences.groups import GroupTest
from atypia.statistics.differences.multiple import Ranking
from atypia.statistics.intervals import Interval
from atypia.studies.findings.single_figures import Gallery, Raters

COMMON: Final = "common"
"""Every model of a row scored the same figures: the probability of each figure is the mean over models."""
HELD_OUT: Final = "held out"
"""Each figure was scored by the models that held it out: its probability is the mean of theirs."""

RANKED_BY: Final = ("balanced_accuracy", "auroc")
"""Metrics by which a report can order, draw and rank rows."""

RELIABILITY_BINS: Final = 10
RELIABILITY_FEWEST: Final = 10
"""Bins of a reliability curve, equal in width; bins with fewer figures than this are not drawn."""


@dataclass(frozen=True)
class Series:
    """A row of the study: one way to make a classifier, with all its folds and seeds.

    Attributes:
        label: Name in tables; unique.
        model: Its label in result rows, without the group.
        group: What else tells it from others, in words, empty where nothing does: the training set, the fraction of
            the data, the domain that was trained on. Rows of one group are compared with each other.
        backbone: Entry of the backbone catalogue.
        adaptation: How the backbone was adapted.
        factors: Name of each factor and the label of its level.
        decision: ``fixed`` or ``fitted`` threshold.
        row: Label of the study's row: what the baseline is known by, whatever tables call the row.
        fraction: Share of the data that was trained on, where the protocol has shares.
        setting: The group without the fraction.
    """

    label: str
    model: str
    group: str
    backbone: str
    adaptation: str
    factors: Mapping[str, str] = field(default_factory=dict)
    decision: str = ""
    row: str = ""
    fraction: float | None = None
    setting: str = ""


@dataclass(frozen=True)
class Place:
    """A part of a data set on which rows are scored.

    Attributes:
        dataset: Name, as in result rows.
        part: ``val``, ``test`` or ``external``.
        pooling: :data:`COMMON` or :data:`HELD_OUT`.
        n: Labelled figures that any row scored.
        n_positive: Positives among them.
        n_cases: Cases among them.
        n_known: Figures whose case or slide is known; each of the others counts as a case of its own.
        classes: Names of the negative and the positive class.
    """

    dataset: str
    part: str
    pooling: str
    n: int
    n_positive: int
    n_cases: int
    n_known: int
    classes: tuple[str, str] = r.CLASS_NAMES[r.ATYPICAL_TASK]


@dataclass(frozen=True)
class Line:
    """Points of a curve, reduced to a bounded number that keeps its ends and shape.

    Attributes:
        x: In [0, 1].
        y: In [0, 1], as many.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True)
class Curves:
    """Curves of the pooled probabilities.

    Attributes:
        roc: 1 − specificity, sensitivity.
        pr: Recall, precision.
        reliability: Mean probability and observed share of positives in bins of equal width.
        average_precision: Of the pooled probabilities.
        ece: Expected calibration error of the pooled probabilities.
    """

    roc: Line
    pr: Line
    reliability: Line
    average_precision: float
    ece: float


@dataclass(frozen=True)
class DomainScore:
    """One domain: labelled figures, positives and cases among them; of the pooled probabilities, balanced accuracy
    (``value``) and AUROC (``area``) with case-clustered intervals, NaN where a class is absent."""

    domain: str
    n: int
    n_positive: int
    n_cases: int
    value: Interval
    area: Interval | None = None

    def of(self, metric: str) -> Interval:
        """The interval of ``balanced_accuracy`` or ``auroc``."""
        return self.area if metric == "auroc" and self.area is not None else self.value


@dataclass(frozen=True)
class PlaceScore:
    """A row on a place.

    Attributes:
        series: Position of the row.
        place: Position of the place.
        n_models: Models that scored it.
        n: Labelled figures that it scored.
        threshold: Mean of the models' thresholds.
        pooled: Metric to interval, of one probability per figure (see ``Place.pooling``).
        each: Metric to interval of the mean of the models' own values, which benchmark tables report; empty
            unless the pooling is :data:`COMMON` with several models.
        confusion: TP, FN, FP, TN of the pooled probabilities at the mean threshold.
        domains: Scores by domain; only for rows shown in plots.
        curves: Only for rows shown in plots.
        runs: Metric to mean and population sd (ddof 0) of the runs' own values, each on the figures that it scored.
    """

    series: int
    place: int
    n_models: int
    n: int
    threshold: float
    pooled: Mapping[str, Interval]
    each: Mapping[str, Interval]
    confusion: tuple[int, int, int, int]
    domains: tuple[DomainScore, ...] = ()
    curves: Curves | None = None
    runs: Mapping[str, MeanSd] = field(default_factory=dict)

    def interval(self, metric: str) -> Interval:
        """Of the mean over models where there is one, which is what tables show, else of the pooled probabilities."""
        return self.each.get(metric) or self.pooled[metric]

    def value(self, metric: str) -> float:
        """Estimate of :meth:`interval`."""
        return self.interval(metric).estimate


@dataclass(frozen=True)
class Difference:
    """Difference of a row from its reference, using pooled probabilities on the figures that both scored.

    Attributes:
        series: Position of the row.
        reference: Position of the row that it is compared with.
        place: Position of the place.
        metric: Name of the metric.
        value: Difference with its interval.
        p: Two-sided p-value; NaN if undefined.
        p_holm: After Holm's correction over all differences of the study.
        test: Name of the test.
        only_first: Figures that only the row classifies correctly.
        only_second: Figures that only the reference classifies correctly.
        p_mcnemar: McNemar's mid-p-value, which assumes independent figures; not corrected.
    """

    series: int
    reference: int
    place: int
    metric: str
    value: Interval
    p: float
    p_holm: float
    test: str
    only_first: int
    only_second: int
    p_mcnemar: float


@dataclass(frozen=True)
class FoldDifference:
    """Difference of a row from its reference in cross-validation, each fold on its own held-out part.

    Attributes:
        series: Position of the row.
        reference: Position of the row that it is compared with.
        place: Position of the place.
        metric: Name of the metric.
        n_folds: Folds that both have.
        outcome: Corrected resampled t-test.
        p_holm: After Holm's correction over all such tests of the study.
    """

    series: int
    reference: int
    place: int
    metric: str
    n_folds: int
    outcome: CorrectedT
    p_holm: float


@dataclass(frozen=True)
class Ranked:
    """Rows ranked over test sets or domains.

    Attributes:
        group: The rows' group.
        metric: By which they are ranked.
        blocks: Test sets and domains that every row has a value on.
        left_out: Number of those that were left out: too few figures of a class, or a row without a value.
        ranking: Ranks with critical difference.
    """

    group: str
    metric: str
    blocks: tuple[str, ...]
    left_out: int
    ranking: Ranking


@dataclass(frozen=True)
class Effect:
    """A factor's main effect: one level minus a reference, averaged over pairs of rows that differ in nothing else.

    Attributes:
        place: Position of the place.
        metric: Name of the metric, of the pooled probabilities.
        factor: One of the study's factors, or ``adaptation``, ``backbone``, ``decision``.
        level: The level.
        reference: The factor's first level; of the adaptation, the probe.
        n_pairs: Pairs of rows.
        value: Mean difference with its interval over cases; the rows are those of the study, not a sample of rows.
        least: Smallest difference of a pair.
        most: Largest difference of a pair.
    """

    place: int
    metric: str
    factor: str
    level: str
    reference: str
    n_pairs: int
    value: Interval
    least: float
    most: float


@dataclass(frozen=True)
class AdaptationTest:
    """Two adaptations of backbones, compared on a place by balanced accuracy.

    Attributes:
        place: Position of the place.
        group: The rows' group.
        first: Adaptation of the first group of rows.
        second: Of the second.
        n_first: Rows of the first.
        n_second: Rows of the second.
        mean_first: Mean of the first group's values.
        mean_second: Of the second's.
        tests: By fold, and by row.
    """

    place: int
    group: str
    first: str
    second: str
    n_first: int
    n_second: int
    mean_first: float
    mean_second: float
    tests: tuple[GroupTest, ...]


@dataclass(frozen=True)
class LeftOut:
    """A row on one domain that its training never saw, at its own threshold.

    Attributes:
        name: The domain, or whatever else the protocol left out at once.
        n: Labelled figures.
        n_positive: Positives among them.
        n_cases: Cases among them.
        n_models: Models that scored it: the seeds.
        threshold: Mean of the models' thresholds.
        values: Metric to the mean of the models' own values, with an interval over the domain's cases.
    """

    name: str
    n: int
    n_positive: int
    n_cases: int
    n_models: int
    threshold: float
    values: Mapping[str, Interval]


@dataclass(frozen=True)
class Unseen:
    """A row on all domains that were left out one at a time.

    Attributes:
        series: Position of the row.
        place: Position of the place.
        domains: Ordered by name.
        mean: Metric to its mean over the domains where it is defined, each of equal weight, with an interval over
            all their cases: how the mean would vary with other patients of the same domains.
        reference: Position of the baseline's row at the same decision; None if there is none.
        gain: Metric to the difference of the means, this row less the reference, paired by case.
    """

    series: int
    place: int
    domains: tuple[LeftOut, ...]
    mean: Mapping[str, Interval]
    reference: int | None = None
    gain: Mapping[str, Interval] = field(default_factory=dict)

    def worst(self, metric: str) -> LeftOut | None:
        """The domain with the lowest value of the metric; None if it is undefined on all."""
        known = [one for one in self.domains if not math.isnan(one.values[metric].estimate)]
        return min(known, key=lambda one: one.values[metric].estimate, default=None)


@dataclass(frozen=True)
class Findings:
    """Findings of a study.

    Attributes:
        series: Its rows.
        places: Places where rows are scored: test parts, other data sets, validation parts.
        scores: One per row and place.
        differences: From a reference, on each place.
        folds: The same fold by fold, where each fold has its own held-out part.
        ranks: Over test sets and domains, where there are enough.
        adaptations: Comparisons of adaptations.
        effects: Main effects of factors, if the study crosses any.
        unseen: Domains left out one at a time, if the protocol does this.
        raters: The human level, if votes are known.
        galleries: Confidently wrong figures.
        baseline: Whether references are the study's baseline; else each is the best row of its group and place.
        draws: Largest number of bootstrap draws.
        level: Nominal coverage of intervals.
        limits: Notes on work that was left out to limit the cost.
        metric: By which rows are ordered and drawn, one of :data:`RANKED_BY`.
        every: Whether every row is drawn; else the best few of each place, and the baseline.
    """

    series: tuple[Series, ...]
    places: tuple[Place, ...]
    scores: tuple[PlaceScore, ...]
    differences: tuple[Difference, ...] = ()
    folds: tuple[FoldDifference, ...] = ()
    ranks: tuple[Ranked, ...] = ()
    adaptations: tuple[AdaptationTest, ...] = ()
    effects: tuple[Effect, ...] = ()
    unseen: tuple[Unseen, ...] = ()
    raters: tuple[Raters, ...] = ()
    galleries: tuple[Gallery, ...] = ()
    baseline: bool = False
    draws: int = 0
    level: float = 0.95
    limits: tuple[str, ...] = ()
    metric: str = "balanced_accuracy"
    every: bool = False

    def at(self, place: int) -> list[PlaceScore]:
        """Scores on a place, the best by :attr:`metric` first."""
        found = [score for score in self.scores if score.place == place]
        values = {id(score): score.value(self.metric) for score in found}
        return sorted(found, key=lambda score: (math.isnan(values[id(score)]), -values[id(score)]))
