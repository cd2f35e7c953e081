"""The study's rows beside published results on the same data."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from atypia.base import runs
from atypia.evaluation.published import (
    CHALLENGE_DATA,
    DIFFERENCE,
    FINAL_TEST,
    FOLD,
    MEAN,
    PAPERS,
    PublishedRow,
    published_rows,
)
from atypia.reports.drawing.tables import Column, Table
from atypia.reports.drawing.values import Spread, Value
from atypia.reports.study.benchmark import HEADLINE, PART_WORDS
from atypia.reports.study.statistics import ADAPTATION_WORDS
from atypia.statistics.differences.crossvalidation import mean_sd
from atypia.statistics.metrics import METRICS
from atypia.studies.findings.schema import Findings

LITERATURE, PUBLISHED_DIFFERENCES = "literature", "literature-differences"
"""Names of the tables, and of their files."""
OURS: Final = "this study"
OFFICIAL: Final = "official"
"""The protocol with the test parts used by the papers."""
SHOWN: Final = (*HEADLINE, "weighted_f1", "f1")


def paper_of(name: str) -> str | None:
    """The paper in a study's name: ``banerjee`` for ``banerjee-table3``."""
    return next((paper for paper in PAPERS if name == paper or name.startswith(f"{paper}-")), None)


def literature_table(found: Findings, name: str, title: str, protocol: str = OFFICIAL) -> Table:
    """One line per published result on a data set of the study, and one per row of the study on that data set.

    Results of the study's own paper are shown for all data sets; those of other papers only for
    data sets of the study. A study on the MIDOG 2025 challenge's data also has the challenge's final result.

    Args:
        found: The study's findings.
        name: Of the study.
        title: Of the report.
        protocol: Description of the study's protocol; test parts of protocols other than :data:`OFFICIAL` are named after it.

    Returns:
        A table by data set and descending balanced accuracy; without rows if no paper reports on these data.
    """
    paper = paper_of(name)
    datasets = list(dict.fromkeys(place.dataset for place in found.places))
    context = [FINAL_TEST] if CHALLENGE_DATA in datasets else []
    published = [
        row for row in _averaged(published_rows())
        if row.kind != DIFFERENCE and row.metric in SHOWN and (row.paper == paper or row.dataset in (*datasets, *context))
    ]  # fmt: skip
    if not published:
        return Table("literature", [Column("source")], [], subject=title)
    metrics = [metric for metric in SHOWN if any(row.metric == metric for row in published)]
    division = protocol.partition(" ")[0]
    own = "" if division == OFFICIAL else division
    lines = [*_ours(found, metrics, {row.dataset for row in published}, own), *_theirs(published, metrics)]
    place = metrics.index("balanced_accuracy") + 5 if "balanced_accuracy" in metrics else 5
    shared = [dataset for dataset in datasets if any(row.dataset == dataset for row in published)]
    order = {dataset: number for number, dataset in enumerate(shared)}
    lines.sort(key=lambda line: (order.get(str(line[3]), len(order)), str(line[3]), -_mean(line[place])))
    columns = [
        Column("source"), Column("model"), Column("adaptation"), Column("data set", "dataset"), Column("setting"),
        *(Column(METRICS[metric].short, metric, "right", spread=True) for metric in metrics),
    ]  # fmt: skip
    cited = [PAPERS[name] for name in dict.fromkeys(row.paper for row in published)]
    notes = [f"{about.name}: {about.citation}. {about.note}" for about in cited]
    notes.append(f"{OURS}: mean ± population sd (ddof 0) over runs; papers: mean ± sd as reported, if given")
    if context:
        notes.append(
            f"{FINAL_TEST}: the challenge's final test set, which is not public: for context, not for comparison"
        )
    parts = {place.part for place in found.places if any(row.dataset == place.dataset for row in published)}
    if own and runs.TEST in parts:
        notes.append(
            f"test parts of this study are from protocol {own}, those of the papers are the published ones: the figures differ"
        )
    if paper is not None and not any(row.paper == paper for row in published if row.dataset in datasets):
        notes.append("the paper's results are on other data than this study's: for context, not for comparison")
    return Table("beside the literature", columns, lines, notes, subject=title)


def published_differences(found: Findings, name: str, title: str) -> Table:
    """Differences from a baseline: those reported in the study's own paper, and those of the study.

    Args:
        found: The study's findings.
        name: Of the study.
        title: Of the report.

    Returns:
        A table; without rows if the paper reports none or the study has no baseline.
    """
    paper = paper_of(name)
    theirs = [] if paper is None or not found.baseline else published_rows([paper], kind=DIFFERENCE)
    if paper is None or not theirs:
        return Table("literature", [Column("source")], [], subject=title)
    metrics = [metric for metric in SHOWN if any(row.metric == metric for row in theirs)]
    lines = _theirs(theirs, metrics)
    ours: dict[tuple[int, int], dict[str, float]] = {}
    for one in found.differences:
        ours.setdefault((one.series, one.place), {})[one.metric] = one.value.estimate
    for (row, place), values in ours.items():
        at, series = found.places[place], found.series[row]
        words = ADAPTATION_WORDS.get(series.adaptation, series.adaptation)
        spreads = [Spread(values[metric], math.nan) if metric in values else None for metric in metrics]
        lines.append([OURS, series.label, words, at.dataset, PART_WORDS.get(at.part, at.part), *spreads])
    columns = [
        Column("source"), Column("model"), Column("adaptation"), Column("data set", "dataset"), Column("setting"),
        *(Column(f"Δ {METRICS[metric].short}", metric, "right", spread=True) for metric in metrics),
    ]  # fmt: skip
    notes = [
        f"{paper}: {PAPERS[paper].citation}. {PAPERS[paper].note}",
        f"{OURS}: differences of pooled probabilities from the baseline",
    ]
    return Table("differences beside the literature", columns, lines, notes, subject=title)


def _averaged(published: list[PublishedRow]) -> list[PublishedRow]:
    """Means of the folds, with population sd, if a paper reports only folds; other rows unchanged."""
    kept = [row for row in published if row.kind != FOLD]
    told = {_subject(row) for row in kept}
    folds: dict[tuple[str | None, ...], list[PublishedRow]] = {}
    for row in published:
        if row.kind == FOLD and _subject(row) not in told:
            folds.setdefault(_subject(row), []).append(row)
    for rows in folds.values():
        spread = mean_sd([row.value for row in rows])
        kept.append(replace(rows[0], kind=MEAN, fold=None, value=spread.mean, sd=spread.sd))
    return kept


def _subject(row: PublishedRow) -> tuple[str | None, ...]:
    return row.paper, row.model, row.adaptation, row.dataset, row.setting, row.metric


def _ours(found: Findings, metrics: list[str], datasets: set[str], protocol: str) -> list[list[Value]]:
    lines: list[list[Value]] = []
    for score in found.scores:
        place, series = found.places[score.place], found.series[score.series]
        if place.part == runs.VALIDATION or place.dataset not in datasets:
            continue
        values = [
            Spread(score.runs[metric].mean, score.runs[metric].sd) if metric in score.runs else None
            for metric in metrics
        ]
        words = ADAPTATION_WORDS.get(series.adaptation, series.adaptation)
        part = PART_WORDS.get(place.part, place.part)
        told = f"{part} of {protocol}" if protocol and place.part == runs.TEST else part
        setting = ", ".join(text for text in (told, series.group) if text)
        lines.append([OURS, series.model, words, place.dataset, setting, *values])
    return lines


def _theirs(published: list[PublishedRow], metrics: list[str]) -> list[list[Value]]:
    grouped: dict[tuple[str, ...], dict[str, PublishedRow]] = {}
    for row in published:
        key = (row.paper, row.model, row.adaptation or "", row.dataset, row.setting)
        grouped.setdefault(key, {})[row.metric] = row
    lines: list[list[Value]] = []
    for (paper, model, adaptation, dataset, setting), values in grouped.items():
        spreads = [
            Spread(values[metric].value, math.nan if values[metric].sd is None else float(values[metric].sd or 0.0))
            if metric in values else None
            for metric in metrics
        ]  # fmt: skip
        lines.append([paper, model, ADAPTATION_WORDS.get(adaptation, adaptation), dataset, setting, *spreads])
    return lines


def _mean(value: Value) -> float:
    mean = value.mean if isinstance(value, Spread) else math.nan
    return -1.0 if math.isnan(mean) else mean
