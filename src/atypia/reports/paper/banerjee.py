"""Banerjee et al., MELBA 2026: data sets, models, ROC curves, results on three test sets, tests between groups."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from atypia.base import runs
from atypia.evaluation.papers import paper_text
from atypia.evaluation.published import MEAN, PublishedRow, published_folds, published_rows
from atypia.reports.drawing.plots import Curve, Drawing, ForestPlot, ForestRow, LinePlot, PlottedEstimate, padded_range
from atypia.reports.drawing.tables import Column, Table
from atypia.reports.drawing.values import Value
from atypia.reports.paper.beside import (
    GROUP_WORDS,
    PaperItem,
    beside,
    lines_of,
    metric_column,
    other_sets,
    own_lines,
    printed,
)
from atypia.reports.paper.own import OURS, OwnStudy
from atypia.reports.study.plots import slug
from atypia.reports.study.statistics import place_name
from atypia.statistics.differences.groups import BY_FOLD, GroupTest, independent_groups, paired_groups

NAME: Final = "banerjee"
SETS: Final = {"ami-br": "AMi-Br", "atnorm-br": "AtNorM-Br", "atnorm-md": "AtNorM-MD"}
METRICS: Final = {"balanced_accuracy": "BA", "auroc": "AUROC"}
ORDER: Final = (
    "efficientnetv2-m", "vit-l16", "swin-b", "uni", "uni2-h", "virchow", "virchow2", "prov-gigapath", "h-optimus-0",
    "h-optimus-1",
)  # fmt: skip
"""Of the paper's Table 3; in each group."""
SUFFIXES: Final = {"full": " (Baseline)", "lora": " (LoRA)"}
PAIRS: Final = (("probe", "lora"), ("full", "probe"), ("full", "lora"))


def items(own: Sequence[OwnStudy]) -> list[PaperItem]:
    """The paper's tables and figures, with own studies beside."""
    text = paper_text(NAME)
    return [
        PaperItem("table", "1", text.tables["1"].title, [printed(text.tables["1"])], notes=["your own sets: `atypia data info SET`"]),
        PaperItem("table", "2", text.tables["2"].title, [printed(text.tables["2"])]),
        _figure_2(own),
        _table_3(own),
        _table_4(own),
    ]  # fmt: skip


def means() -> list[PublishedRow]:
    """Published means, in the order of Table 3."""
    groups = ("full", "probe", "lora")
    rows = published_rows([NAME], kind=MEAN)
    return sorted(rows, key=lambda row: (groups.index(row.adaptation or ""), ORDER.index(row.backbone or "")))


def _table_3(own: Sequence[OwnStudy]) -> PaperItem:
    theirs = lines_of(means(), SUFFIXES)
    ours = [line for study in own for line in own_lines(study.lines, list(METRICS))]
    sets = {**SETS, **{name: name for name in other_sets(ours, SETS)}}
    columns = [
        metric_column(f"{title} {short}", (name, metric), 4, sd="sd_ddof0")
        for name, title in sets.items()
        for metric, short in METRICS.items()
    ]
    notes = ["mean ± population sd (ddof 0) over fold models, each on the whole test set; threshold 0.5"]
    notes += [f"{OURS}: {study.title}" for study in own]
    title = "Results of all models, trained on AMi-Br"
    return PaperItem("table", "3", title, [beside(title, columns, theirs, ours, notes=notes, warnings=_warned(own))])


def _table_4(own: Sequence[OwnStudy]) -> PaperItem:
    words = {pair: f"{GROUP_WORDS[pair[0]]} and {GROUP_WORDS[pair[1]]}" for pair in PAIRS}
    columns = [
        Column("data set", "dataset"),
        Column("values", "values"),
        *(Column(w, align="right") for w in words.values()),
    ]
    rows: list[list[Value]] = []
    for (name, title), said in zip(SETS.items(), _printed_p(), strict=True):
        folds = {kind: published_folds(NAME, name, "balanced_accuracy", kind) for kind in ("full", "probe", "lora")}
        tests = {
            pair: (paired_groups if pair == PAIRS[0] else independent_groups)(folds[pair[0]], folds[pair[1]])
            for pair in PAIRS
        }
        rows += [
            [title, "printed", *said],
            [title, "published folds, by fold", *(_p(tests[pair], True) for pair in PAIRS)],
            [title, "published folds, by model", *(_p(tests[pair], False) for pair in PAIRS)],
        ]
    for study in own:
        for number, place in enumerate(study.findings.places):
            found = {(t.first, t.second): t.tests for t in study.findings.adaptations if t.place == number}
            rows += [
                [place_name(place), f"{OURS}, by {unit}", *(_p(found[p], whole) if p in found else None for p in PAIRS)]
                for unit, whole in (("fold", True), ("row", False))
                if found
            ]
    notes = [
        "two-sided: probe and LoRA by Wilcoxon's signed rank of the same models and folds, the others by Mann-Whitney's U",
        "folds of a model share figures and are not independent: the test of the models' means stands beneath",
    ]
    title = "p-values of balanced accuracy between groups of models"
    return PaperItem("table", "4", title, [Table(title, columns, rows, notes, _warned(own))])


def _printed_p() -> list[list[Value]]:
    by_set = {row[0]: row[1:] for row in paper_text(NAME).tables["4"].rows}
    return [list(by_set[title]) for title in SETS.values()]


def _p(tests: Sequence[GroupTest], by_fold: bool) -> str:
    """The p-value of one unit, with the digits and in the form of the printed ones: 2.91e-8."""
    p = next((test.outcome.p for test in tests if (test.unit == BY_FOLD) == by_fold), math.nan)
    return "n/a" if math.isnan(p) else f"{p:.2e}".replace("e-0", "e-") if p < 0.001 else f"{p:.2f}"


def _figure_2(own: Sequence[OwnStudy]) -> PaperItem:
    plots: list[Drawing] = [_areas()]
    for study in own:
        plots += [plot for place in range(len(study.findings.places)) for plot in roc_plots(study, place)]
    notes = ["the paper's curves are not published as numbers: its AUROCs stand in their place, of all 17 models"]
    if not own:
        notes.append("give `--study DIR` for the ROC curves of your own models, all of them")
    return PaperItem("figure", "2", "ROC curves", plots=plots, notes=notes)


def _areas() -> ForestPlot:
    lines = lines_of(means(), SUFFIXES)
    values = {(line.name, row.dataset): row for line in lines for row in means()
              if row.metric == "auroc" and (row.backbone, row.adaptation) == line.key}  # fmt: skip
    rows = []
    for line in lines:
        found = [values[line.name, name] for name in SETS]
        rows.append(ForestRow(line.name, "", [_point(row.value, row.sd) for row in found]))
    ends = [end for row in rows for point in row.points if point for end in (point.low, point.high)]
    return ForestPlot(
        "figure-2-published", "Published AUROC of all 17 models", "AUROC, mean ± sd over five folds", list(SETS.values()),
        [0, 1, 2], rows, padded_range(ends, ends=(0.0, 1.0)), [(0.5, "chance")],
    )  # fmt: skip


def _point(value: float, sd: float | None) -> PlottedEstimate:
    return PlottedEstimate(value) if sd is None else PlottedEstimate(value, value - sd, value + sd)


def roc_plots(study: OwnStudy, place: int) -> list[LinePlot]:
    """The ROC curves of all rows on a place, one plot; none for a validation part."""
    found = study.findings
    if found.places[place].part == runs.VALIDATION and len(found.places) > 1:
        return []
    curves = [
        Curve(f"{found.series[score.series].label}: {score.pooled['auroc'].estimate:.3f}", score.curves.roc.x,
              score.curves.roc.y, tone=number)
        for number, score in enumerate(score for score in found.at(place) if score.curves is not None)
        if score.curves is not None
    ]  # fmt: skip
    if not curves:
        return []
    title = f"ROC: {place_name(found.places[place])}"
    key = f"figure-2-{slug(study.name)}-{slug(place_name(found.places[place]))}"
    return [LinePlot(key, title, "1 − specificity", "sensitivity", curves, diagonal=True)]


def _warned(own: Sequence[OwnStudy]) -> list[str]:
    return list(dict.fromkeys(text for study in own for text in study.warnings))
