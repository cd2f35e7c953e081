"""MIDOG 2025 track 2 training set: the mitotic figures of MIDOG++ as atypical or normal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from atypia.base import records as r
from atypia.base.errors import DataError, count_noun, must
from atypia.data.domains import SCANNER_MPP, domain_columns, midog_case
from atypia.data.sources.catalogue import Expected, Source, SourceContents, add
from atypia.data.sources.layouts import class_label, first_existing, majority, natural
from atypia.data.textfiles import number, read_table

TABLES = ("MIDOG25_Atypical_Classification_Train_Set.csv", "MIDOG25.csv")
IMAGES = ("MIDOG25_Binary_Classification_Train_Set", "images", ".")
EXPERTS = ("expert1", "expert2", "expert3")


def read(folder: Path) -> SourceContents:
    """Reads the label table and looks for its crops.

    Where the first two raters agree the third is missing, so a soft label is a share of two or
    of three votes. The label is the published ``majority``, which is not that of the votes in 49
    rows; the votes' own majority is 1,771 atypical figures, the number that papers give (``--labels votes``).
    """
    path = first_existing(folder, TABLES)
    if path is None:
        raise DataError(must(str(folder), f"a folder with {TABLES[0]}", "one without", "get it again"))
    table = read_table(path)
    table.require("image_id", "filename", "coordinateX", "coordinateY", "Tumor", "Scanner", "Origin", "Species")
    table.require(*EXPERTS, "majority")
    rows: list[dict[str, Any]] = []
    positions = {}
    for cells, line in zip(table.rows, table.lines, strict=True):
        where = f"{path.name}, line {line}"
        domain = domain_columns(cells["Scanner"], cells["Origin"], cells["Species"], cells["Tumor"])
        stem = cells["filename"].partition(".")[0]
        figure = f"MIDOG25_{Path(cells['image_id']).stem}"
        try:
            votes = [class_label(cells[expert]) for expert in EXPERTS]
            label = class_label(cells["majority"])
        except KeyError as error:
            raise DataError(f"{where}: {must('label', 'AMF or NMF', error.args[0], 'get it again')}") from None
        rows.append(
            {
                r.FIGURE_ID: figure,
                r.IMAGE: cells["image_id"],
                r.CASE_ID: midog_case(int(number(stem, "filename", where))),
                r.SLIDE_ID: cells["filename"],
                r.LABEL: label,
                r.VOTES: votes,
                r.MPP: SCANNER_MPP.get(domain[r.SCANNER] or ""),
                **domain,
            }
        )
        x, y = (number(cells[column], column, where) for column in ("coordinateX", "coordinateY"))
        positions[figure] = (cells["filename"], x, y)
    rows.sort(key=lambda row: natural(row[r.FIGURE_ID]))
    first = rows[0][r.IMAGE] if rows else ""
    root = next((folder / sub for sub in IMAGES if first and (folder / sub / first).is_file()), None)
    notes = []
    against = sum(majority(row[r.VOTES]) not in (None, row[r.LABEL]) for row in rows)
    if against:
        notes.append(
            f"{count_noun(against, 'published label is', 'published labels are')} not the majority of their votes, which --labels votes takes"
        )
    if root is None:
        notes.append("labels only: the crops are not there")
    return SourceContents(rows, root, tuple(notes), positions=positions)


add(
    Source(
        name="midog25-atypical",
        title="MIDOG 2025 track 2 training set, ten domains of MIDOG++, two or three raters",
        task=r.ATYPICAL_TASK,
        licence="as stated in the Zenodo record",
        citation=(
            "Weiss et al., A Dataset of Atypical vs Normal Mitoses Classification for MIDOG 2025, Zenodo 2025, "
            "doi 10.5281/zenodo.16044804"
        ),
        homepage="https://doi.org/10.5281/zenodo.16044804",
        folders=("MIDOG25", "midog25-atypical", "tables"),
        marks=TABLES,
        inputs=(*TABLES, IMAGES[0], "images", "[0-9]*.png"),
        read=read,
        expected=Expected(11937, 1748, cases=475),
        images=True,
        by_hand=(
            "download the record https://doi.org/10.5281/zenodo.16044804 and unpack it into one folder: "
            f"{TABLES[0]} beside {IMAGES[0]}/"
        ),
        mpp="0.23 (Hamamatsu) or 0.25 (Aperio, 3DHistech), by slide",
        overlaps=("ami-br", "atnorm-md", "midog2021", "midog2022", "midogpp"),
        version=2,
    )
)
