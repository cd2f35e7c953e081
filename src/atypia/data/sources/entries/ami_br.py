"""AMi-Br: atypical and normal mitotic figures of human breast cancer, three raters."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from atypia.base import records as r
from atypia.base.errors import DataError, count_noun
from atypia.data.domains import midog_case, midog_slides, tupac_columns
from atypia.data.sources.catalogue import Expected, RemoteFile, Source, SourceContents, add
from atypia.data.sources.layouts import class_crops, existing_paths, natural
from atypia.data.textfiles import number, read_table

CROPS = "AMi-Br"
TRAINING = "amibr_train_split.csv"
FULL_TABLES = (
    "AM[iI]-[bB][rR]*.csv",
    "tables/AMI-BR.csv",
    "../tables/AMI-BR.csv",
    "AMi-Br-*/*.csv",
    "../AMi-Br-*/*.csv",
)
"""Where the table of all figures is looked for; it comes from another repository than the crops."""

VOTES = ("expert1_atypical", "expert2_atypical", "expert3_atypical")
PHASES = ("expert1_label", "expert2_label")
_VOTE = {"true": 1, "false": 0, "": None}


def read(folder: Path) -> SourceContents:
    """Reads the benchmark's folder.

    Part ``train`` is the published training table, ``test`` is every other crop. Slides, votes
    and phases of the test part are known only where the table of all figures is there too.

    Raises:
        DataError: The training table is missing, or a table disagrees with the crops' folders.
    """
    root = folder / CROPS
    crops, _ = class_crops(root)
    split = read_table(folder / TRAINING)
    split.require("dataset", "uid", "slide", "majority_atypical", *VOTES, *PHASES)
    needed = {"dataset", "uid", "slide", "x", "y", "majority_atypical", *VOTES, *PHASES}
    tables = (read_table(path) for path in existing_paths(folder, FULL_TABLES))
    full = next((table for table in tables if needed <= set(table.columns)), None)
    training = {_figure(row): row for row in split.rows}
    known = {**({_figure(row): row for row in full.rows} if full else {}), **training}

    rows: list[dict[str, Any]] = []
    positions: dict[str, tuple[str, float, float]] = {}
    for path, label in sorted(crops, key=lambda crop: natural(crop[0].stem)):
        figure = path.stem
        row: dict[str, Any] = {
            r.FIGURE_ID: figure,
            r.IMAGE: path.relative_to(root).as_posix(),
            r.LABEL: label,
            r.PART: "train" if figure in training else "test",
        }
        if figure in known:
            entry = known[figure]
            row |= _facts(figure, entry)
            if (entry["majority_atypical"].lower() == "true") != bool(label):
                raise DataError(
                    f"{path.name} lies in {path.parent.name}, but the table says otherwise; fix: get it again"
                )
            if entry.get("x") and entry.get("y"):
                x, y = (number(entry[axis], axis, f"figure {figure}") for axis in "xy")
                positions[figure] = (entry["slide"], x, y)
        rows.append(row)

    there = {row[r.FIGURE_ID] for row in rows}
    lost = [figure for figure in training if figure not in there]
    hints = [f"{TRAINING} names {count_noun(len(lost), 'figure')} without a crop, first {lost[0]}.png"] if lost else []
    blind = sum(row[r.FIGURE_ID] not in known for row in rows)
    notes = [
        f"{count_noun(blind, 'figure')} without slide, votes and phases: the table of all figures, AMI-BR.csv, is not there"
    ]
    return SourceContents(rows, root, tuple(notes if blind else ()), tuple(hints), positions)


def _figure(row: dict[str, str]) -> str:
    return f"{row['dataset']}_{row['uid']}"


def _facts(figure: str, row: dict[str, str]) -> dict[str, Any]:
    slide = row["slide"]
    found = re.match(r"0*(\d+)", slide)
    if found is None:
        raise DataError(f"figure {figure}: slide {slide!r} has no number; fix: get the table again")
    case = int(found[1])
    if row["dataset"] == "MIDOG21":
        if case not in midog_slides():
            raise DataError(f"figure {figure}: there is no MIDOG slide {case}; fix: get the table again")
        columns: dict[str, Any] = {r.CASE_ID: midog_case(case), **midog_slides()[case].columns}
    else:
        columns = dict(tupac_columns(case))
    phases = [row[column] or None for column in PHASES]
    return columns | {
        r.SLIDE_ID: slide,
        r.VOTES: [_VOTE[row[column].lower()] for column in VOTES],
        r.PHASE: phases if any(phases) else None,
    }


add(
    Source(
        name="ami-br",
        title="AMi-Br, human breast cancer (TUPAC16 and MIDOG 2021), three raters",
        task=r.ATYPICAL_TASK,
        licence="MIT",
        citation=(
            "Bertram et al., Histologic Dataset of Normal and Atypical Mitotic Figures on Human Breast Cancer "
            "(AMi-Br), BVM 2025; training part and hold-out: Banerjee et al., MELBA 2026, "
            "doi 10.59275/j.melba.2026-6c1g"
        ),
        homepage="https://github.com/DeepMicroscopy/AMi-Br_Benchmark",
        folders=("AMi-Br_Benchmark",),
        marks=(f"{CROPS}/Atypical", f"{CROPS}/Normal"),
        inputs=(CROPS, TRAINING, *FULL_TABLES),
        read=read,
        expected=Expected(3720, 832, cases=202, parts={"train": (2894, 648), "test": (826, 184)}),
        images=True,
        files=(
            RemoteFile("https://github.com/DeepMicroscopy/AMi-Br_Benchmark/archive/HEAD.zip", "AMi-Br_Benchmark.zip"),
            RemoteFile("https://github.com/DeepMicroscopy/AMi-Br/archive/HEAD.zip", "AMi-Br.zip"),
        ),
        by_hand=(
            "clone https://github.com/DeepMicroscopy/AMi-Br_Benchmark; for votes, phases and slides of the hold-out "
            "put AMI-BR.csv of https://github.com/DeepMicroscopy/AMi-Br beside amibr_train_split.csv"
        ),
        mpp="0.23 (Hamamatsu) or 0.25 (Aperio, Leica), by slide",
        overlaps=("midog25-atypical", "midog2021", "midog2022", "midogpp", "tupac16-al"),
    )
)
