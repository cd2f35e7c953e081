"""OMG-Octo Atypical: mitotic figures of many public slides, sub-labelled as atypical or normal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from atypia.base import records as r
from atypia.base.errors import DataError, count_noun, must
from atypia.data.sources.catalogue import Expected, Source, SourceContents, add
from atypia.data.sources.entries.ccmct import SLIDES as CCMCT_SLIDES
from atypia.data.sources.layouts import class_label, first_existing, make_unique
from atypia.data.textfiles import read_table

TABLES = ("OMG-Octo.csv", "OMG-Octo_orig.csv", "*Octo*.csv", "*octo*.csv")
IMAGES = ("images", "patches", "OMG-Octo", ".")


def read(folder: Path) -> SourceContents:
    """Reads the label table, in the record's columns (``image_file, label``) or the prepared ones
    (``image_id, filename, majority``).

    The slide is the first part of a crop's name. Slides of CCMCT get CCMCT's case, because they
    are the same animals; of the others no domain is published with the table.
    """
    path = first_existing(folder, TABLES)
    if path is None:
        raise DataError(must(str(folder), f"a folder with {TABLES[0]}", "one without", "get it again"))
    table = read_table(path)
    name_column, label_column = ("image_file", "label") if "image_file" in table.columns else ("image_id", "majority")
    table.require(name_column, label_column)
    rows: list[dict[str, Any]] = []
    other = 0
    for cells in table.rows:
        word = cells[label_column]
        try:
            label = 0 if word == "MF" else class_label(word)
        except KeyError:
            label = None
        if label is None:
            other += 1
            continue
        image = cells[name_column]
        slide = image.partition("_")[0]
        rows.append(
            {
                r.FIGURE_ID: f"OMG-Octo_{Path(image).stem}",
                r.IMAGE: image,
                r.CASE_ID: f"{'CCMCT' if slide in CCMCT_SLIDES else 'OMG-Octo'}/{slide}",
                r.SLIDE_ID: slide,
                r.LABEL: label,
            }
        )
    repeated = make_unique(rows)
    notes = []
    if repeated:
        notes.append(
            f"{count_noun(len(repeated), 'crop is', 'crops are')} listed twice (first {repeated[0]}); the second mention of each has ~2 in its id"
        )
    if other:
        notes.append(
            f"{count_noun(other, 'row with another label than AMF or NMF was', 'rows with another label than AMF or NMF were')} left out"
        )
    first = rows[0][r.IMAGE] if rows else ""
    root = next((folder / sub for sub in IMAGES if first and (folder / sub / first).is_file()), None)
    if root is None:
        notes.append("labels only: the crops are not there")
    return SourceContents(rows, root, tuple(notes))


add(
    Source(
        name="omg-octo",
        title="OMG-Octo Atypical, public slides of several tumours and species",
        task=r.ATYPICAL_TASK,
        licence="as stated in the Zenodo record",
        citation=(
            "Shen et al., OMG-Octo Atypical: a refinement of the original OMG-Octo database to incorporate atypical "
            "mitoses, Zenodo 2025, doi 10.5281/zenodo.16107743"
        ),
        homepage="https://doi.org/10.5281/zenodo.16107743",
        folders=("OMG-Octo", "omg-octo", "tables"),
        marks=TABLES,
        inputs=(*TABLES, "images", "patches", "OMG-Octo"),
        read=read,
        expected=Expected(1757, 1378, cases=125),
        images=True,
        by_hand="download the record https://doi.org/10.5281/zenodo.16107743 and unpack it into one folder",
        overlaps=("ccmct",),
    )
)
