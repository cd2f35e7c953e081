"""Results reported in papers, as data for comparison with one's own.

The numbers are transcribed from the papers' tables (and, for the folds of the AMi-Br benchmark, from
its published notebooks), always as shares in [0, 1]; each row names its table.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final, Literal

from atypia.base import records as r
from atypia.base.errors import InputError, must
from atypia.base.registry import Registry
from atypia.statistics.metrics import METRICS

FOLD: Final = "fold"
MEAN: Final = "mean"
SINGLE: Final = "single"
DIFFERENCE: Final = "difference"
Kind = Literal["fold", "mean", "single", "difference"]
KINDS: Final[tuple[Kind, ...]] = (FOLD, MEAN, SINGLE, DIFFERENCE)
HIDDEN_TEST: Final = "midog25-preliminary"
"""Name for results on the preliminary hidden test set of the MIDOG 2025 challenge, which is not public."""
FINAL_TEST: Final = "midog25-final"
"""Name for results on the final hidden test set of the MIDOG 2025 challenge (365 cases, 12 tumours), which is not public."""
CHALLENGE_DATA: Final = "midog25-atypical"
"""The challenge's training data: its final result stands beside every study on them."""


@dataclass(frozen=True)
class PaperResults:
    """A paper whose results ship with Atypia.

    Attributes:
        name: Key in :data:`PAPERS` and name of its table.
        citation: How to cite it.
        task: Key of :data:`atypia.base.records.CLASS_NAMES`.
        ddof: Divisor of its standard deviations is n − ddof; None if this is unknown.
        note: Remark for readers who compare results.
    """

    name: str
    citation: str
    task: str
    ddof: int | None
    note: str


@dataclass(frozen=True)
class PublishedRow:
    """One published number.

    Attributes:
        model: Name of the model in the paper.
        backbone: Entry of the backbone catalogue that it is; None where there is none.
        adaptation: ``probe``, ``lora`` or ``full``; None if unknown.
        dataset: Data source, :data:`HIDDEN_TEST` or :data:`FINAL_TEST`.
        setting: Part, condition or domain, in words.
        metric: Name in :data:`atypia.statistics.metrics.METRICS`.
        kind: ``fold``: one fold's value; ``mean``: mean over folds or repeats; ``single``: one
            result; ``difference``: mean difference from the paper's baseline.
        fold: Fold, from 1; None unless ``kind`` is ``fold``.
        value: The number, a share in [0, 1], or a difference of shares.
        sd: Its standard deviation over folds or repeats; None if not reported.
        source: Table or section of the paper.
    """

    paper: str
    model: str
    backbone: str | None
    adaptation: str | None
    dataset: str
    setting: str
    metric: str
    kind: Kind
    fold: int | None
    value: float
    sd: float | None
    source: str


PAPERS = Registry[PaperResults]("paper")
"""Papers with published rows."""

for _paper in (
    PaperResults(
        "banerjee",
        "Banerjee et al., Benchmarking Deep Learning and Vision Foundation Models for Atypical vs. Normal Mitosis "
        "Classification with Cross-Dataset Evaluation, MELBA 2026, doi 10.59275/j.melba.2026-6c1g",
        r.ATYPICAL_TASK,
        0,
        "Means of five fold models, each scored on the whole test set. The means of the folds follow from the published "
        "notebooks for all models but Prov-Gigapath with probing, whose notebook is from an older run. EfficientNetV2 "
        "has no pretrained weights under the name used in the code.",
    ),
    PaperResults(
        "ammeling",
        "Ammeling et al., Benchmarking Foundation Models for Mitotic Figure Classification, 2025",
        r.MITOSIS_TASK,
        None,
        "Mitotic figures against look-alikes, five Monte-Carlo repeats. The published code splits annotations, not cases.",
    ),
    PaperResults(
        "giedziun",
        "Giedziun et al., Foundation Model-Driven Classification of Atypical Mitotic Figures with Domain-Aware Training "
        "Strategies, MIDOG 2025",
        r.ATYPICAL_TASK,
        None,
        "Differences are from the baseline mean; their sd is that of the configuration's folds, not of the differences.",
    ),
    PaperResults(
        "benito",
        "Benito-Del-Valle et al., Is Synthetic Image Augmentation Useful for Imbalanced Classification Problems? "
        "Case-Study on the MIDOG2025 Atypical Cell Detection Competition, 2025",
        r.ATYPICAL_TASK,
        0,
        "Reported in per cent. The preliminary test set is small and unlike the final one.",
    ),
    PaperResults(
        "atey",
        "Atey et al., Mix, Align, Distil: Reliable Cross-Domain Atypical Mitosis Classification, MIDOG 2025",
        r.ATYPICAL_TASK,
        None,
        "The preliminary test set is small and unlike the final one.",
    ),
    PaperResults(
        "balezo",
        "Balezo et al., Efficient Fine-Tuning of DINOv3 Pretrained on Natural Images for Atypical Mitotic Figure "
        "Classification (MIDOG 2025 Task 2 Winner), arXiv 2508.21041",
        r.ATYPICAL_TASK,
        None,
        "The best result of the challenge, on its final hidden test set of 365 cases, which no other row is of.",
    ),
):
    PAPERS.add(_paper.name, _paper)


def published_rows(
    papers: Iterable[str] | None = None,
    dataset: str | None = None,
    metric: str | None = None,
    kind: Kind | None = None,
) -> list[PublishedRow]:
    """Published results, in the papers' order.

    Args:
        papers: Keys of :data:`PAPERS`; None: all.
        dataset: Keep one data set.
        metric: Keep one metric.
        kind: Keep one kind.

    Returns:
        The rows; empty if nothing matches.

    Raises:
        InputError: A paper, metric or kind is unknown.
    """
    if metric is not None:
        metric = METRICS[metric].name
    if kind is not None and kind not in KINDS:
        raise InputError(must("kind", " or ".join(KINDS), kind, "name one of them"))
    chosen = [PAPERS[name].name for name in (PAPERS if papers is None else papers)]
    return [
        row
        for name in chosen
        for row in _rows(name)
        if dataset in (None, row.dataset) and metric in (None, row.metric) and kind in (None, row.kind)
    ]


def published_folds(paper: str, dataset: str, metric: str, adaptation: str) -> dict[str, list[float]]:
    """A paper's values by model, one per fold, in the form that :mod:`atypia.statistics.differences.groups` takes.

    Args:
        paper: Key of :data:`PAPERS`.
        dataset: Data set.
        metric: Metric.
        adaptation: ``probe``, ``lora`` or ``full``.

    Returns:
        Model to values, in order of folds; empty if the paper has none.
    """
    found: dict[str, list[float]] = {}
    for row in sorted(published_rows([paper], dataset, metric, FOLD), key=lambda row: row.fold or 0):
        if row.adaptation == adaptation:
            found.setdefault(row.model, []).append(row.value)
    return found


@cache
def _rows(paper: str) -> tuple[PublishedRow, ...]:
    text = files("atypia.evaluation").joinpath(f"literature/{paper}.csv").read_text(encoding="utf-8")
    return tuple(_row(paper, row) for row in csv.DictReader(text.splitlines()))


def _row(paper: str, row: dict[str, str]) -> PublishedRow:
    kinds: dict[str, Kind] = {kind: kind for kind in KINDS}
    return PublishedRow(
        paper,
        row["model"],
        row["backbone"] or None,
        row["adaptation"] or None,
        row["dataset"],
        row["setting"],
        row["metric"],
        kinds[row["kind"]],
        int(row["fold"]) if row["fold"] else None,
        float(row["value"]),
        float(row["sd"]) if row["sd"] else None,
        row["source"],
    )
