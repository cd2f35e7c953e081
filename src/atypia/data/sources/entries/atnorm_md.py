"""AtNorM-MD: mitotic figures of six MIDOG++ domains, five raters; a test set."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from atypia.base import records as r
from atypia.base.errors import DataError, count_noun, must
from atypia.data.sources.catalogue import Expected, RemoteFile, Source, SourceContents, add
from atypia.data.sources.layouts import class_label, first_existing, published_crops
from atypia.data.textfiles import TextTable, read_table

CROPS = "AtNorM-MD"
TABLES = (f"{CROPS}_expert_votes.csv", f"{CROPS}/{CROPS}_expert_votes.csv", f"{CROPS}/*votes*.csv", "*MD*votes*.csv")


def read(folder: Path) -> SourceContents:
    """Reads the crops and, where the table is there, the five raters' votes.

    The label is the folder's. Which of the six domains a crop comes from is not published.
    """
    root = folder / CROPS
    rows = published_crops(root, CROPS)
    path = first_existing(folder, TABLES)
    if path is None:
        return SourceContents(rows, root, (f"no votes: {TABLES[0]} is not there",))
    table = read_table(path)
    votes, majority = _votes(table)
    notes = []
    for row in rows:
        row[r.VOTES] = votes.get(PurePosixPath(row[r.IMAGE]).stem)
    silent = sum(row[r.VOTES] is None for row in rows)
    if silent:
        notes.append(f"{count_noun(silent, 'crop')} without votes in {path.name}")
    stems = {PurePosixPath(row[r.IMAGE]).stem for row in rows}
    lost = [stem for stem in votes if stem not in stems]
    hints = [f"{path.name} names {count_noun(len(lost), 'figure')} without a crop, first {lost[0]}"] if lost else []
    against = sum(majority.get(PurePosixPath(row[r.IMAGE]).stem, row[r.LABEL]) != row[r.LABEL] for row in rows)
    if against:
        notes.append(
            f"{count_noun(against, 'crop lies', 'crops lie')} in another class folder than {path.name} says; the folder's label is used"
        )
    return SourceContents(rows, root, tuple(notes), tuple(hints))


def _votes(table: TextTable) -> tuple[dict[str, list[int | None]], dict[str, int | None]]:
    experts = sorted(column for column in table.columns if re.fullmatch(r"(?i)expert[ _]?\d+", column))
    names = {column.casefold(): column for column in table.columns}
    if "filename" not in names or not experts:
        raise DataError(
            must(table.path.name, "a table with Filename and Expert_1 to Expert_5", table.columns, "get it again")
        )
    votes: dict[str, list[int | None]] = {}
    majority: dict[str, int | None] = {}
    for row, line in zip(table.rows, table.lines, strict=True):
        name = PurePosixPath(row[names["filename"]].replace("\\", "/")).name
        stem = name[:-4] if name.lower().endswith(".png") else name
        try:
            votes[stem] = [class_label(row[expert]) for expert in experts]
            if "majority" in names and row[names["majority"]]:
                majority[stem] = class_label(row[names["majority"]])
        except KeyError as error:
            where = f"{table.path.name}, line {line}"
            raise DataError(f"{where}: {must('vote', 'Atypical or Normal', error.args[0], 'get it again')}") from None
    return votes, majority


add(
    Source(
        name="atnorm-md",
        title="AtNorM-MD, six human and canine domains of MIDOG++, five raters; test set",
        task=r.ATYPICAL_TASK,
        licence="MIT",
        citation="Banerjee et al., MELBA 2026, doi 10.59275/j.melba.2026-6c1g",
        homepage="https://github.com/DeepMicroscopy/AMi-Br_Benchmark",
        folders=("AMi-Br_Benchmark",),
        marks=(f"{CROPS}/Atypical", f"{CROPS}/Normal"),
        inputs=(CROPS, *TABLES),
        read=read,
        expected=Expected(2107, 219),
        images=True,
        files=(
            RemoteFile("https://github.com/DeepMicroscopy/AMi-Br_Benchmark/archive/HEAD.zip", "AMi-Br_Benchmark.zip"),
        ),
        by_hand="clone https://github.com/DeepMicroscopy/AMi-Br_Benchmark",
        mpp="0.23 or 0.25, by slide; not published by crop",
        overlaps=("midogpp", "midog2022", "midog25-atypical"),
    )
)
