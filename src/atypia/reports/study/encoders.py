"""The table of encoders: what a study's probes reach, beside whether their features show the class or the domain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from atypia.base import runs
from atypia.reports.drawing.tables import Column, Table
from atypia.reports.drawing.values import Value
from atypia.reports.study.statistics import place_name
from atypia.studies.encoders import StudyEncoder
from atypia.studies.findings.schema import Findings

ENCODERS: Final = "encoders"
"""Name of the table and of its files."""
MOST_PLACES: Final = 3


def encoders_table(found: Findings, encoders: Sequence[StudyEncoder], title: str) -> Table:
    """One line per row of a probe: balanced accuracy and AUROC on the first places, then the indices of its encoder."""
    places = [n for n, place in enumerate(found.places) if place.part != runs.VALIDATION]
    places = (places or list(range(len(found.places))))[:MOST_PLACES]
    by = {(score.series, score.place): score for score in found.scores}
    columns = [Column("model"), Column("backbone"), Column("input", "input_px", "right")]
    for number in places:
        name = place_name(found.places[number])
        columns += [
            Column(f"BA: {name}", f"place{number + 1}_ba", "right"),
            Column(f"AUROC: {name}", f"place{number + 1}_auroc", "right"),
        ]
    columns += [
        Column("RI", "ri", "right", best="max"), Column("support", align="right", digits=2), Column("k", align="right"),
        Column("MaRI", "mari", "right", best="max"), Column("CRoMa", "croma", "right", best="max"),
        Column("worst tenth", "tail", "right", best="max"), Column("domain wins", "dominated", "right", digits=2),
        Column("figures", "n", "right"), Column("left out", "left_out", "right"), Column("domains", align="right"), Column("pairs", align="right"),
    ]  # fmt: skip
    rows: list[list[Value]] = []
    for encoder in encoders:
        for series, one in enumerate(found.series):
            if one.row not in encoder.labels:
                continue
            row: list[Value] = [one.label, encoder.backbone, encoder.input_px]
            for number in places:
                score = by.get((series, number))
                row += [None, None] if score is None else [score.value("balanced_accuracy"), score.value("auroc")]
            i = encoder.indices
            row += [None] * 11 if i is None else [
                i.ri, i.support, i.k, i.mari, i.croma, i.tail, i.dominated, i.n, i.left_out, i.domains, i.pairs
            ]  # fmt: skip
            rows.append(row)
    notes = [
        "domains are compared in pairs, with as many figures of either class from either domain; neighbours of the same case do not count. RI and MaRI: "
        "of the neighbours of the same class from the other domain and of the other class from the same domain, the share of the first, counted and "
        "weighted by distance: 0.5 by chance. Support: share of the figures with such a neighbour among the k nearest",
        "CRoMa: margin between both kinds of neighbours, median over figures, above 0 the class outweighs the domain; worst tenth: mean of the "
        "lowest tenth; domain wins: share of the figures at or below 0. Package croma, cosine distance",
        "computed on the figures that the study trains and validates on, before any probe; never on a test part",
        *(f"{encoder.backbone}: {encoder.why_not}" for encoder in encoders if encoder.why_not),
    ]
    return Table(
        "encoders: scores of their probes, and robustness of their features to the domain",
        columns,
        rows,
        notes,
        subject=title,
    )
