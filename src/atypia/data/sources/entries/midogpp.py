"""MIDOG++: seven human and canine tumours, mitotic figures and look-alikes."""

from __future__ import annotations

from pathlib import Path

from atypia.base import records as r
from atypia.data.domains import midog_case, midog_slides
from atypia.data.sources.catalogue import Expected, RemoteFile, Source, SourceContents, add
from atypia.data.sources.layouts import first_existing, point_rows, points_coco, points_csv, slide_number, slide_root

JSON = ("MIDOG++.json", "MIDOGpp.json", "databases/MIDOG++.json")
TABLE = "MIDOGpp.csv"
LABELS = {"2": 0, "1": 1}


def read(folder: Path) -> SourceContents:
    """Reads the annotations, COCO-like or as a table.

    ``part`` is the publishers' division of the slides into training and test.
    """
    path = first_existing(folder, JSON)
    points = points_coco(path) if path else points_csv(folder / TABLE, LABELS)
    rows = point_rows(points, "MIDOG++")
    for row in rows:
        slide = midog_slides()[slide_number(row[r.IMAGE], midog_slides())]
        row |= {r.CASE_ID: midog_case(slide.number), r.PART: slide.part, **slide.columns}
    root = slide_root(folder, (row[r.IMAGE] for row in rows), (".", "images"))
    return SourceContents(rows, root, () if root else ("labels only: the slides are not there",))


add(
    Source(
        name="midogpp",
        title="MIDOG++, seven tumours in ten domains, mitotic figures and look-alikes",
        task=r.MITOSIS_TASK,
        licence="CC0, as stated in its annotation file",
        citation="Aubreville et al., Scientific Data 10:484 (2023), doi 10.1038/s41597-023-02327-4",
        homepage="https://github.com/DeepMicroscopy/MIDOGpp",
        folders=("MIDOGpp", "midogpp", "MIDOG++", "tables"),
        marks=(*JSON, TABLE),
        inputs=(*JSON, TABLE, "*.tiff", "images"),
        read=read,
        # The public file holds two look-alikes fewer than the paper's 14,351.
        expected=Expected(26286, 11937, cases=503),
        images=False,
        files=(
            RemoteFile(
                "https://raw.githubusercontent.com/DeepMicroscopy/MIDOGpp/"
                "bd26c8197fc785b3e414ff2d41a63c1809dae1bc/databases/MIDOG%2B%2B.json",
                "MIDOG++.json",
                "8c87ab4276eb11f6b6b5ac0d956b89dad7568a5474e0904b653d54dc68091f47",
                2759851,
            ),
        ),
        by_hand=(
            "MIDOG++.json is all that `atypia data get` brings; the slides (65 GB, on figshare) come with Setup.ipynb "
            "of https://github.com/DeepMicroscopy/MIDOGpp: put NNN.tiff beside MIDOG++.json"
        ),
        mpp="0.23 (Hamamatsu) or 0.25 (Aperio, 3DHistech), by slide",
        overlaps=("ami-br", "atnorm-md", "midog25-atypical", "midog2021", "midog2022"),
    )
)
