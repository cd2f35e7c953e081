"""Giedziun et al., MIDOG 2025: differences of augmentations from none, and results by left-out domain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from atypia.base import records as r
from atypia.evaluation import rows as e
from atypia.evaluation.published import DIFFERENCE, published_rows
from atypia.evaluation.summary import SummaryRow
from atypia.reports.drawing.values import Spread, Value
from atypia.reports.paper.beside import ColumnKey, PaperItem, PaperLine, beside, metric_column, published
from atypia.reports.paper.own import OURS, OwnStudy, spread

NAME: Final = "giedziun"
METRICS: Final = {
    "balanced_accuracy": "BA", "f1": "F1", "auroc": "AUC", "sensitivity": "AMF recall", "specificity": "NMF recall",
}  # fmt: skip
FACTOR: Final = "augmentation"
BASELINE: Final = "baseline"
SECTIONS: Final = {
    "Baseline (absolute)": (BASELINE,),
    "Base augmentations (Δ vs baseline)": ("flip&rotate", "color", "blur&noise", "distortion", "cutout", "RASS"),
    "Composite pipelines (Δ vs baseline)": ("basic", "medium", "heavy"),
    "MixUp variants (Δ vs baseline)": ("standard mixup", "strong mixup", "domain-aware mixup"),
}
LEFT_OUT: Final = "left out: "
LODO: Final = "leave one domain out"
RECALLS: Final = {"balanced_accuracy": "BA", "sensitivity": "AMF recall", "specificity": "NMF recall"}
DOMAINS, MEAN_LINE = "domain left out", "mean over domains"


def items(own: Sequence[OwnStudy]) -> list[PaperItem]:
    """The paper's table and its results by domain, with own studies beside."""
    return [_table_1(own), _by_domain(own)]


def _table_1(own: Sequence[OwnStudy]) -> PaperItem:
    values: dict[str, dict[ColumnKey, Value]] = {}
    for row in published_rows([NAME]):
        if row.source == "Table 1":
            sd = math.nan if row.sd is None else row.sd
            cell = Spread(row.value, sd, row.kind == DIFFERENCE)
            values.setdefault(row.setting.removeprefix("augmentation: "), {})["", row.metric] = cell
    theirs = [
        PaperLine(name, section, (name, ""), values[name]) for section, names in SECTIONS.items() for name in names
    ]
    ours = [line for study in own for line in _own_differences(study)]
    columns = [metric_column(title, ("", metric), 3) for metric, title in METRICS.items()]
    notes = [
        "Δ: difference of the means over five folds; ± is the sd of the configuration's own folds, as in the paper"
    ]
    notes += [f"{OURS}: {study.title}" for study in own if any(FACTOR in f for f in study.factors.values())]
    title = "Augmentations, EfficientNetV2-S, five folds"
    table = beside(
        title, columns, theirs, ours, first="configuration", notes=notes, warnings=_warned(own), sections=True
    )
    return PaperItem("table", "1", title, [table])


def _own_differences(study: OwnStudy) -> list[PaperLine]:
    """Own rows that differ from the baseline in the augmentation: of each model, data set and part."""
    of_level: dict[tuple[str, ...], dict[str, SummaryRow]] = {}
    for line in study.lines:
        level = study.factors.get(str(line.subject[e.MODEL]), {}).get(FACTOR)
        if level is not None:
            place = (str(line.subject[e.BACKBONE]), str(line.subject[r.DATASET]), str(line.subject[r.PART]))
            of_level.setdefault(place, {})[level] = line
    sections = {name: section for section, names in SECTIONS.items() for name in names}
    found = []
    for place, levels in of_level.items():
        base = levels.get(BASELINE)
        for level, line in levels.items():
            if base is None:
                continue
            values = {("", metric): _less(line, base, metric, level == BASELINE) for metric in METRICS}
            name = f"{level}: {place[0]}, {place[1]}"
            found.append(PaperLine(name, sections.get(level, "Others (Δ vs baseline)"), (level, ""), values))
    return found


def _less(line: SummaryRow, base: SummaryRow, metric: str, absolute: bool) -> Value:
    ours, theirs = spread(line, metric), spread(base, metric)
    if ours is None or theirs is None or absolute:
        return ours
    return Spread(ours.mean - theirs.mean, ours.sd, True)


def _by_domain(own: Sequence[OwnStudy]) -> PaperItem:
    domains: dict[str, dict[ColumnKey, Value]] = {}
    for row in published_rows([NAME]):
        if row.source != "Table 1":
            name = MEAN_LINE if row.setting == LODO else row.setting.removeprefix(LEFT_OUT)
            domains.setdefault(name, {})["", row.metric] = published(row)
    names = [*(name for name in domains if name != MEAN_LINE), MEAN_LINE]
    theirs = [PaperLine(name, "mean" if name == MEAN_LINE else DOMAINS, (name, ""), domains[name]) for name in names]
    ours = [line for study in own for line in _own_domains(study)]
    columns = [metric_column(title, ("", metric), 3, best=False) for metric, title in RECALLS.items()]
    notes = ["H-optimus-0 with LoRA, one of ten domains left out at a time",
             "the paper's text gives four of the ten domains: one with both recalls, one with one, two without"]  # fmt: skip
    notes += [f"{OURS}: {study.title}; mean ± population sd over domains" for study in own if study.findings.unseen]
    notes += [] if ours else ["give `--study DIR` of a study that leaves domains out for your own rows"]
    title = "Results by domain left out"
    table = beside(title, columns, theirs, ours, first="domain", notes=notes, warnings=_warned(own))
    return PaperItem("table", "domains", title, [table])


def _own_domains(study: OwnStudy) -> list[PaperLine]:
    """Each domain, where the study leaves domains out, of each row; and the mean over the folds."""
    if not study.findings.unseen:
        return []
    found = [
        PaperLine(f"{line.subject[r.DOMAIN]}: {line.subject[e.MODEL]}", DOMAINS, (str(line.subject[r.DOMAIN]), ""),
             {("", metric): spread(line, metric) for metric in RECALLS})
        for line in study.domains
    ]  # fmt: skip
    found += [
        PaperLine(f"{MEAN_LINE}: {line.subject[e.MODEL]}", "mean", (MEAN_LINE, ""),
             {("", metric): spread(line, metric) for metric in RECALLS})
        for line in study.lines
    ]  # fmt: skip
    return found


def _warned(own: Sequence[OwnStudy]) -> list[str]:
    return [text for study in own for text in study.warnings]
