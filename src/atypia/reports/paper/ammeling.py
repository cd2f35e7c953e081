"""Ammeling et al. 2025: data scaling on two sets, training on one domain and testing on all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from atypia.base import records as r
from atypia.evaluation import rows as e
from atypia.evaluation.papers import paper_text
from atypia.evaluation.published import MEAN, published_rows
from atypia.reports.drawing.plots import Drawing, ForestPlot, ForestRow, PlottedEstimate, padded_range
from atypia.reports.paper.beside import (
    GROUP_WORDS,
    PaperItem,
    PaperLine,
    beside,
    lines_of,
    metric_column,
    printed,
    published,
)
from atypia.reports.paper.own import ALL_DATA, OURS, OwnStudy, key_of, spread
from atypia.reports.study.heat import heat_maps
from atypia.reports.study.plots import learning_plots, slug
from atypia.reports.study.tables import matrix_table
from atypia.studies.shift import IN_DOMAIN, OUT_OF_DOMAIN

NAME: Final = "ammeling"
SUFFIXES: Final = {"full": " (End-To-End)", "probe": " (LinProb)", "lora": " (LoRA)"}
METRICS: Final = {"balanced_accuracy": "Balanced ACC", "weighted_f1": "Weighted F1", "auroc": "AUROC"}
SHIFT_METRICS: Final = {"auroc": "AUROC", "balanced_accuracy": "Balanced ACC", "weighted_f1": "Weighted F1"}
SETS: Final = {"ccmct": ("3", "2", "CCMCT"), "midog2022": ("4", "3", "MIDOG 2022")}
"""Data set to the numbers of its table and figure, and its name there."""


def items(own: Sequence[OwnStudy]) -> list[PaperItem]:
    """The paper's tables and figures, with own studies beside."""
    text = paper_text(NAME)
    found = [
        PaperItem("table", number, text.tables[number].title, [printed(text.tables[number])]) for number in ("1", "2")
    ]
    found += [_learning(name, own) for name in SETS]
    found += [_scaling(name, own) for name in SETS]
    return [*found, _shift(own), _maps(own)]


def _scaling(dataset: str, own: Sequence[OwnStudy]) -> PaperItem:
    number, _, title = SETS[dataset]
    rows = [row for row in published_rows([NAME], dataset, kind=MEAN) if row.source == f"Table {number}"]
    theirs = [replace(line, values={("", key[1]): value for key, value in line.values.items()})
              for line in lines_of(rows, SUFFIXES)]  # fmt: skip
    ours = [line for study in own for line in _at_all_data(study, dataset)]
    columns = [metric_column(name, ("", metric), 2) for metric, name in METRICS.items()]
    notes = ["mean ± sd over five repeats; mitotic figures against look-alikes"]
    notes += [
        f"{OURS}: {study.title}; mean ± population sd over repeats" for study in own if _at_all_data(study, dataset)
    ]
    heading = f"Results with 100 % of {title}"
    return PaperItem(
        "table", number, heading, [beside(heading, columns, theirs, ours, notes=notes, warnings=_warned(own))]
    )


def _at_all_data(study: OwnStudy, dataset: str) -> list[PaperLine]:
    """Own rows with all data, of this set, or of sets that the paper does not have."""
    if study.results.matrix.num_rows:
        return []
    found = []
    for line in study.lines:
        trained, protocol = str(line.subject[e.TRAIN_DATA]), str(line.subject[e.PROTOCOL])
        whole = protocol.endswith(ALL_DATA) or "% of the data" not in protocol
        if whole and (trained == dataset or trained not in SETS):
            backbone, adaptation = key_of(line)
            model = str(line.subject[e.MODEL])
            name = model if line.subject[r.DATASET] == dataset else f"{model}, on {line.subject[r.DATASET]}"
            values = {("", metric): spread(line, metric) for metric in METRICS}
            found.append(PaperLine(name, GROUP_WORDS.get(adaptation, adaptation), (backbone, adaptation), values))
    return found


def _learning(dataset: str, own: Sequence[OwnStudy]) -> PaperItem:
    _, number, title = SETS[dataset]
    plots: list[Drawing] = [_published_areas(dataset, number, title)]
    for study in own:
        for chart in learning_plots(study.findings):
            others = not any(name in chart.key for name in SETS)
            if dataset in chart.key or others:
                plots.append(replace(chart, key=f"figure-{number}-{slug(study.name)}-{chart.key}"))
    notes = [
        f"the paper's curves are not published as numbers but for 100 % of the data (Table {SETS[dataset][0]})",
        *([] if len(plots) > 1 else ["give `--study DIR` of a study with shares of the data for your own curves"]),
    ]
    return PaperItem("figure", number, f"AUROC by training data: {title}", plots=plots, notes=notes)


def _published_areas(dataset: str, number: str, title: str) -> ForestPlot:
    rows = [row for row in published_rows([NAME], dataset, "auroc", MEAN) if row.source == f"Table {SETS[dataset][0]}"]
    drawn = []
    for row in rows:
        sd = row.sd or 0.0
        name = f"{row.model}{SUFFIXES[row.adaptation or '']}"
        drawn.append(ForestRow(name, "", [PlottedEstimate(row.value, row.value - sd, row.value + sd)]))
    ends = [end for row in drawn for point in row.points if point for end in (point.low, point.high)]
    return ForestPlot(
        f"figure-{number}-published", f"Published AUROC with 100 % of {title}", "AUROC, mean ± sd over five repeats",
        [title], [0], drawn, padded_range(ends, ends=(0.0, 1.0)),
    )  # fmt: skip


def _shift(own: Sequence[OwnStudy]) -> PaperItem:
    found: dict[tuple[str, str], PaperLine] = {}
    for row in published_rows([NAME], "midog2022", kind=MEAN):
        if row.source == "Table 5":
            adaptation = row.adaptation or ""
            name = f"{row.model}{SUFFIXES[adaptation]}"
            line = found.setdefault(
                (name, ""), PaperLine(name, GROUP_WORDS[adaptation], (row.backbone or "", adaptation), {})
            )
            found[name, ""] = replace(line, values={**line.values, (row.setting, row.metric): published(row)})
    ours = [line for study in own for line in _own_shift(study)]
    parts = {IN_DOMAIN: "in-domain", OUT_OF_DOMAIN: "out-of-domain"}
    columns = [
        metric_column(f"{name}, {words}", (part, metric), 2)
        for metric, name in SHIFT_METRICS.items() for part, words in parts.items()
    ]  # fmt: skip
    notes = ["mean ± sd over all pairs of training and test domain; MIDOG 2022"]
    notes += [f"{OURS}: {study.title}" for study in own if study.shift]
    notes += [] if ours else ["give `--study DIR` of a cross-domain study for your own rows"]
    title = "Training on one domain"
    table = beside(title, columns, list(found.values()), ours, notes=notes, warnings=_warned(own))
    return PaperItem("table", "5", title, [table])


def _own_shift(study: OwnStudy) -> list[PaperLine]:
    found: dict[str, PaperLine] = {}
    for line in study.shift:
        name = str(line.subject[e.MODEL])
        backbone, adaptation = key_of(line)
        one = found.setdefault(
            name, PaperLine(name, GROUP_WORDS.get(adaptation, adaptation), (backbone, adaptation), {})
        )
        part = str(line.subject[r.PART])
        values = {(part, metric): spread(line, metric) for metric in SHIFT_METRICS}
        found[name] = replace(one, values={**one.values, **values})
    return list(found.values())


def _maps(own: Sequence[OwnStudy]) -> PaperItem:
    plots: list[Drawing] = []
    for study in own:
        if study.results.matrix.num_rows:
            table = matrix_table(study.results.matrix, "")
            plots += [replace(heat, key=f"figure-4-{slug(study.name)}-{heat.key}")
                      for heat in heat_maps(table, study.findings.metric, every=True)]  # fmt: skip
    notes = ["the paper's maps are not published as numbers"]
    notes += [] if plots else ["give `--study DIR` of a cross-domain study: a map for each of its models"]
    return PaperItem("figure", "4", "Each training domain on each test domain", plots=plots, notes=notes)


def _warned(own: Sequence[OwnStudy]) -> list[str]:
    return [text for study in own for text in study.warnings]
