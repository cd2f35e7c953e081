"""Statistical tables of a study: intervals, differences, ranks, adaptations, raters, confusion."""

from __future__ import annotations

import math
from typing import Final

from atypia.base import runs
from atypia.reports.drawing.tables import Column, Table
from atypia.reports.drawing.values import Spread, Value, format_value
from atypia.reports.study.benchmark import HEADLINE, PART_WORDS
from atypia.statistics.differences.groups import BY_FOLD, NOT_INDEPENDENT
from atypia.statistics.differences.multiple import Ranking
from atypia.statistics.intervals import Interval
from atypia.statistics.metrics import METRICS
from atypia.studies.findings.schema import COMMON, Difference, Effect, Findings, Place, PlaceScore

INTERVALS, DIFFERENCES, FOLDS, EFFECTS, RANKS, ADAPTATIONS, RATERS, CONFUSION = (
    "intervals", "differences", "fold-differences", "effects", "ranks", "adaptations", "raters", "confusion",
)  # fmt: skip
"""Names of the tables and of their files."""

METHODS: Final = {
    "bca": "BCa bootstrap of cases",
    "percentile": "percentile bootstrap of cases",
    "delong": "DeLong, cases as clusters",
    "delong-logit": "DeLong on the logit scale, cases as clusters",
    "none": "not computed",
}
SWAPS: Final = "random swaps of cases"
ADAPTATION_WORDS: Final = {"full": "end-to-end", "probe": "probe", "lora": "LoRA", "partial": "partial"}


def statistics_tables(found: Findings, title: str) -> dict[str, Table]:
    """Every table that has rows, by the name of its file."""
    tables = {
        INTERVALS: intervals_table(found, title),
        DIFFERENCES: differences_table(found, title),
        FOLDS: folds_table(found, title),
        EFFECTS: effects_table(found, title),
        RANKS: ranks_table(found, title),
        ADAPTATIONS: adaptations_table(found, title),
        RATERS: raters_table(found, title),
        CONFUSION: confusion_table(found, title),
    }
    return {name: table for name, table in tables.items() if table.rows}


def place_name(place: Place) -> str:
    """Name of a place on pages: data set and part."""
    return f"{place.dataset}, {PART_WORDS.get(place.part, place.part)}"


def pooling_note(found: Findings, place: int) -> str:
    """Describes how the probability of each figure was computed."""
    counts = sorted({score.n_models for score in found.scores if score.place == place})
    models = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    if found.places[place].pooling == COMMON:
        if counts == [1]:
            return "one probability per figure, from one model"
        return f"one probability per figure: the mean of a row's {models} fold models, each of which scored all figures"
    return (
        "one probability per figure, from the model that held it out (the mean if several did); probabilities "
        "of different models are pooled without rescaling"
    )


def interval_text(interval: Interval, digits: int = 3) -> str:
    """Both ends of an interval as text; «n/a» if undefined, empty if not computed."""
    if interval.method == "none":
        return ""
    if math.isnan(interval.low) or math.isnan(interval.high):
        return "n/a"
    return f"{format_value(interval.low, digits)} to {format_value(interval.high, digits)}"


def place_table(found: Findings, place: int, title: str = "") -> Table:
    """The rows of a place, best first: mean ± sd over runs and the interval of each headline metric."""
    scores = found.at(place)
    part = found.places[place].part
    columns = [Column("model", "model"), Column("runs", "n_runs", "right")]
    for name in HEADLINE:
        short = METRICS[name].short
        columns.append(Column(short, name, "right", best="max", spread=True, sd="sd_ddof0"))
        if name in ("balanced_accuracy", "auroc"):
            columns.append(Column(f"{short} 95 %", f"{name}_interval", "right"))
    rows: list[list[Value]] = []
    for score in scores:
        row: list[Value] = [found.series[score.series].label, score.n_models]
        for name in HEADLINE:
            row.append(_spread(score, name))
            if name in ("balanced_accuracy", "auroc"):
                row.append(interval_text(score.interval(name)))
        rows.append(row)
    notes = [
        "mean ± population sd (ddof 0) over runs, each on the figures that it scored",
        f"95 % interval over cases ({found.places[place].n_cases:,} of them), of the mean over models"
        if any(score.each for score in scores)
        else f"95 % interval over cases ({found.places[place].n_cases:,} of them): {pooling_note(found, place)}",
    ]
    notes += [
        f"human level: {format_value(one.level)} balanced accuracy of a rater against the majority of the others, mean of "
        f"{len(one.scores)}"
        for one in found.raters
        if one.place == place
    ]
    if part == runs.VALIDATION:
        notes.append(
            "epochs, regularisation and thresholds were chosen on validation parts: results on them are optimistic"
        )
    return Table(title, columns, rows, notes)


def _spread(score: PlaceScore, name: str) -> Value:
    known = score.runs.get(name)
    return score.value(name) if known is None else Spread(known.mean, known.sd)


def intervals_table(found: Findings, title: str) -> Table:
    """One line per row, place, metric and estimand."""
    columns = [
        Column("model"), Column("data set", "dataset"), Column("part"), Column("metric"), Column("of"),
        Column("models", "n_models", "right"), Column("estimate", align="right"), Column("low", align="right"),
        Column("high", align="right"), Column("method"), Column("draws", align="right"),
        Column("figures", "n", "right"), Column("cases", "n_cases", "right"),
    ]  # fmt: skip
    rows: list[list[Value]] = []
    for place in range(len(found.places)):
        for score in found.at(place):
            for kind, intervals in (("mean over models", score.each), ("pooled probabilities", score.pooled)):
                rows += [
                    [found.series[score.series].label, *_where(found, place), METRICS[name].short, kind, score.n_models,
                     value.estimate, value.low, value.high, METHODS.get(value.method, value.method), value.draws,
                     value.n, value.n_cases]
                    for name, value in intervals.items()
                ]  # fmt: skip
    notes = [
        f"nominal coverage {found.level:.0%}; cases are the unit; at most {found.draws:,} bootstrap draws",
        "mean over models: mean of the models' values, as in benchmark tables; "
        "pooled probabilities: one probability per figure, the mean of the models that scored it",
        "an interval over cases states how results would vary with other patients, not with other trainings",
    ]
    return Table("intervals", columns, rows, notes, found.limits, subject=title)


def differences_table(found: Findings, title: str) -> Table:
    """One line per row, place and metric: the difference from the reference."""
    columns = [
        Column("model"), Column("compared with", "reference"), Column("data set", "dataset"), Column("part"),
        Column("metric"), Column("difference", align="right"), Column("low", align="right"),
        Column("high", align="right"), Column("p", align="right", digits=4), Column("p Holm", "p_holm", "right", 4),
        Column("test"), Column("only model right", "only_first", "right"),
        Column("only other right", "only_second", "right"), Column("p McNemar", "p_mcnemar", "right", 4),
    ]  # fmt: skip
    rows: list[list[Value]] = [
        [found.series[d.series].label, found.series[d.reference].label, *_where(found, d.place),
         METRICS[d.metric].short, d.value.estimate, d.value.low, d.value.high, d.p, d.p_holm, d.test,
         d.only_first, d.only_second, d.p_mcnemar]
        for d in found.differences
    ]  # fmt: skip
    chosen = (
        "compared with the study's baseline"
        if found.baseline
        else "compared with the best row of each place, chosen on the same figures: its lead is optimistic"
    )
    notes = [
        f"{chosen}; pooled probabilities on the figures that both scored; intervals from draws of cases",
        f"Holm over all {len(rows)} p-values of this table; McNemar's mid-p assumes independent figures and is "
        "not corrected; it is given for comparison with papers",
    ]
    return Table("differences", columns, rows, notes, found.limits, subject=title)


def effects_table(found: Findings, title: str) -> Table:
    """One line per factor level, place and metric: the mean difference from the factor's reference level."""
    columns = [
        Column("factor"), Column("level"), Column("less", "reference"), Column("data set", "dataset"), Column("part"),
        Column("metric"), Column("pairs", "n_pairs", "right"), Column("difference", align="right"),
        Column("low", align="right"), Column("high", align="right"), Column("least", align="right"),
        Column("most", align="right"),
    ]  # fmt: skip
    rows: list[list[Value]] = [
        [one.factor, ADAPTATION_WORDS.get(one.level, one.level), ADAPTATION_WORDS.get(one.reference, one.reference),
         *_where(found, one.place), METRICS[one.metric].short, one.n_pairs, one.value.estimate, one.value.low,
         one.value.high, one.least, one.most]
        for one in found.effects
    ]  # fmt: skip
    return _effects_as(columns, rows, found, title)


def moved_table(found: Findings, title: str) -> Table:
    """The effects for a page: one line per level and place, both metrics side by side."""
    columns = [
        Column("factor"), Column("level"), Column("less", "reference"), Column("on", "place"),
        Column("pairs", "n_pairs", "right"), Column("Δ BA", "ba", "right"), Column("95 %", "ba_interval", "right"),
        Column("of single pairs", "ba_range", "right"), Column("Δ AUROC", "auroc", "right"),
        Column("95 %", "auroc_interval", "right"),
    ]  # fmt: skip
    by_key: dict[tuple[int, str, str, str], dict[str, Effect]] = {}
    for one in found.effects:
        by_key.setdefault((one.place, one.factor, one.level, one.reference), {})[one.metric] = one
    rows: list[list[Value]] = []
    for (place, factor, level, reference), by_metric in by_key.items():
        ba, area = by_metric.get("balanced_accuracy"), by_metric.get("auroc")
        words = [ADAPTATION_WORDS.get(name, name) for name in (level, reference)]
        rows.append(
            [factor, *words, place_name(found.places[place]), (ba or area or next(iter(by_metric.values()))).n_pairs,
             *((ba.value.estimate, interval_text(ba.value), f"{format_value(ba.least)} to {format_value(ba.most)}") if ba
               else (None, None, None)),
             *((area.value.estimate, interval_text(area.value)) if area else (None, None))]
        )  # fmt: skip
    return _effects_as(columns, rows, found, title)


def _effects_as(columns: list[Column], rows: list[list[Value]], found: Findings, title: str) -> Table:
    notes = [
        "mean difference over pairs of rows that differ in nothing else, using pooled probabilities; interval over cases "
        "(for exactly these rows, not for a sample of rows); least and most: over single pairs",
    ]
    return Table("effect of each factor", columns, rows, notes, found.limits, subject=title)


def compared_table(found: Findings, title: str) -> Table:
    """The differences for a page: one line per row and place, both metrics side by side."""
    columns = [
        Column("model"), Column("compared with", "reference"), Column("on", "place"),
        Column("Δ BA", "ba", "right"), Column("95 %", "ba_interval", "right"), Column("p Holm", "ba_p_holm", "right"),
        Column("Δ AUROC", "auroc", "right"), Column("95 %", "auroc_interval", "right"),
        Column("p Holm", "auroc_p_holm", "right"), Column("p McNemar", "p_mcnemar", "right"),
    ]  # fmt: skip
    pairs: dict[tuple[int, int], dict[str, Difference]] = {}
    for one in found.differences:
        pairs.setdefault((one.series, one.place), {})[one.metric] = one
    rows: list[list[Value]] = []
    for (series, place), by_metric in pairs.items():
        first = next(iter(by_metric.values()))
        row: list[Value] = [
            found.series[series].label, found.series[first.reference].label, place_name(found.places[place]),
        ]  # fmt: skip
        for metric in ("balanced_accuracy", "auroc"):
            value = by_metric.get(metric)
            row += [None] * 3 if value is None else [
                value.value.estimate, interval_text(value.value), p_text(value.p_holm),
            ]  # fmt: skip
        rows.append([*row, p_text(first.p_mcnemar)])
    whole = differences_table(found, title)
    notes = [
        *whole.notes,
        f"p of BA from {SWAPS}, of AUROC by DeLong's test; uncorrected ones are in {DIFFERENCES}.csv",
    ]
    return Table(whole.title, columns, rows, notes, whole.warnings, subject=whole.subject)


def folds_table(found: Findings, title: str) -> Table:
    """Corrected resampled t-tests."""
    columns = [
        Column("model"), Column("compared with", "reference"), Column("data set", "dataset"), Column("part"),
        Column("metric"), Column("folds", "n_folds", "right"), Column("difference", align="right"),
        Column("low", align="right"), Column("high", align="right"), Column("t", align="right", digits=2),
        Column("p", align="right", digits=4), Column("p Holm", "p_holm", "right", 4),
    ]  # fmt: skip
    rows: list[list[Value]] = [
        [found.series[d.series].label, found.series[d.reference].label, *_where(found, d.place),
         METRICS[d.metric].short, d.n_folds, d.outcome.mean, d.outcome.low, d.outcome.high, d.outcome.t, d.outcome.p,
         d.p_holm]
        for d in found.folds
    ]  # fmt: skip
    notes = [
        "corrected resampled t-test (Nadeau & Bengio 2003): each fold on its own held-out part, folds paired, "
        "seeds averaged",
        f"Holm over all {len(rows)} p-values of this table",
    ]
    return Table("fold by fold", columns, rows, notes, subject=title)


def ranks_table(found: Findings, title: str) -> Table:
    """Mean ranks over test sets and domains."""
    columns = [Column("model"), Column("group"), Column("mean rank", "mean_rank", "right", 2, best="min"),
               Column("as good as the best", "as_best")]  # fmt: skip
    rows: list[list[Value]] = []
    notes = []
    for ranked in found.ranks:
        ranking = ranked.ranking
        rows += [
            [name, ranked.group, rank, as_best(ranking, rank)]
            for name, rank in zip(ranking.names, ranking.mean_ranks, strict=True)
        ]
        left = f"; {ranked.left_out} left out (too few figures of a class, or no value)" if ranked.left_out else ""
        notes.append(
            f"{f'{ranked.group}: ' if ranked.group else ''}{METRICS[ranked.metric].short} on {ranking.n_blocks} test "
            f"sets and domains{left}; Friedman's test with Iman and Davenport's F: {p_said(ranking.p_f)}; Nemenyi's "
            f"critical difference {ranking.critical_difference:.2f} (α = {ranking.alpha:g}): mean ranks closer than "
            "that do not differ significantly"
        )
    if rows:
        notes.append("domains of one data set share its patients' origin: they are independent in their cases only")
    return Table("ranks", columns, rows, notes, best_within=("group",), subject=title)


def as_best(ranking: Ranking, rank: float) -> bool:
    """Whether a mean rank is within the critical difference of the best one."""
    return rank - ranking.mean_ranks[0] < ranking.critical_difference


def adaptations_table(found: Findings, title: str) -> Table:
    """Adaptations of backbones, tested by fold and by row."""
    columns = [
        Column("comparison"), Column("group"), Column("data set", "dataset"), Column("part"), Column("unit"),
        Column("first mean", align="right"), Column("second mean", align="right"), Column("first n", align="right"),
        Column("second n", align="right"), Column("test"), Column("p", align="right", digits=6),
    ]  # fmt: skip
    rows: list[list[Value]] = []
    for one in found.adaptations:
        name = f"{ADAPTATION_WORDS[one.first]} and {ADAPTATION_WORDS[one.second]}"
        rows += [
            [name, one.group, *_where(found, one.place), "fold" if test.unit == BY_FOLD else "row", one.mean_first,
             one.mean_second, test.outcome.n_first, test.outcome.n_second,
             f"{test.outcome.test} ({test.outcome.method})", test.outcome.p]
            for test in one.tests
        ]  # fmt: skip
    notes = ["balanced accuracy, two-sided; signed rank: only pairs that differ count", NOT_INDEPENDENT]
    return Table("adaptations", columns, rows, notes, subject=title)


def raters_table(found: Findings, title: str) -> Table:
    """The human level: each rater compared with the majority of the others."""
    columns = [
        Column("rater"), Column("data set", "dataset"), Column("part"), Column("figures", "n", "right"),
        Column("ties", align="right"), Column("Sens.", "sensitivity", "right"),
        Column("Spec.", "specificity", "right"), Column("BA", "balanced_accuracy", "right"),
        Column("low", align="right"), Column("high", align="right"),
    ]  # fmt: skip
    rows: list[list[Value]] = []
    notes = []
    for one in found.raters:
        where = _where(found, one.place)
        for score, interval in zip(one.scores, one.intervals, strict=True):
            rows.append([f"rater {score.rater + 1}", *where, score.n, score.ties, score.sensitivity,
                         score.specificity, score.balanced_accuracy, interval.low, interval.high])  # fmt: skip
        rows.append(["mean", *where, one.n, None, None, None, one.level, None, None])
        notes.append(
            f"{place_name(found.places[one.place])}: raters agree on {one.unanimous:.1%} of the figures that all voted "
            f"on; Fleiss' κ {format_value(one.fleiss)}"
        )
    if rows:
        notes.append(
            "each rater against the majority of the others, ties left out: not with the label that models are scored on, to "
            "which every rater contributed; a level for comparison, not an upper limit"
        )
    return Table("the human level", columns, rows, notes, subject=title)


def confusion_table(found: Findings, title: str) -> Table:
    """Counts of the pooled probabilities at the rows' mean thresholds."""
    columns = [
        Column("model"), Column("data set", "dataset"), Column("part"), Column("threshold", align="right"),
        Column("TP", align="right"), Column("FN", align="right"), Column("FP", align="right"),
        Column("TN", align="right"),
    ]  # fmt: skip
    rows: list[list[Value]] = [
        [found.series[score.series].label, *_where(found, place), score.threshold, *score.confusion]
        for place in range(len(found.places))
        for score in found.at(place)
    ]
    return Table(
        "confusion", columns, rows, ["one probability per figure, at the mean of the models' thresholds"], subject=title
    )


def p_text(p: float) -> str:
    """A p-value as text, «< 0.001» below 0.001.

    >>> p_text(0.0004)
    '< 0.001'
    """
    if math.isnan(p):
        return "n/a"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def p_said(p: float) -> str:
    """A p-value in a sentence: «p = 0.012», «p < 0.001»."""
    said = p_text(p)
    return f"p {said}" if said.startswith("<") else f"p = {said}"


def _where(found: Findings, place: int) -> tuple[str, str]:
    at = found.places[place]
    return at.dataset, PART_WORDS.get(at.part, at.part)
