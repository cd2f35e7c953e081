"""MIDOG 2022: five human and canine tumours, mitotic figures and look-alikes."""

from __future__ import annotations

from pathlib import Path

from atypia.base import records as r
from atypia.data.domains import LAST_MIDOG21_SLIDE, midog_case, midog_slides
from atypia.data.sources.catalogue import Expected, RemoteFile, Source, SourceContents, add
from atypia.data.sources.layouts import first_existing, point_rows, points_coco, points_csv, slide_number, slide_root

JSON = ("MIDOG2022_training_png.json", "MIDOG2022_training.json")
TABLE = "MIDOG2022_training_tiff.csv"
LABELS = {"0": 0, "1": 1}


def midogpp_number(slide: int) -> int:
    """The MIDOG++ number of a MIDOG 2022 slide.

    Found by comparing all positions of the two sets' annotations: the numbers of the first 150
    are the same, those up to 346 differ by 50, those of 347 to 353 by 51, and 354 is 397.

    >>> [midogpp_number(slide) for slide in (1, 150, 151, 346, 347, 354)]
    [1, 150, 201, 396, 398, 397]
    """
    if slide <= LAST_MIDOG21_SLIDE:
        return slide
    return 397 if slide == 354 else slide + (50 if slide <= 346 else 51)


def read(folder: Path) -> SourceContents:
    """Reads the annotations, COCO-like or as a table; the domain follows from the slide's number."""
    path = first_existing(folder, JSON)
    points = points_coco(path) if path else points_csv(folder / TABLE, LABELS)
    rows = point_rows(points, "MIDOG22")
    numbers = range(1, 355)
    for row in rows:
        slide = midogpp_number(slide_number(row[r.IMAGE], numbers))
        row |= {r.CASE_ID: midog_case(slide), **midog_slides()[slide].columns}
    root = slide_root(folder, (row[r.IMAGE] for row in rows), (".", "images"))
    return SourceContents(rows, root, () if root else ("labels only: the slides are not there",))


add(
    Source(
        name="midog2022",
        title="MIDOG 2022 training set, five tumours, mitotic figures and look-alikes",
        task=r.MITOSIS_TASK,
        licence="CC BY 4.0",
        citation="Aubreville et al., Medical Image Analysis 94 (2024), doi 10.1016/j.media.2024.103155",
        homepage="https://zenodo.org/records/6547151",
        folders=("MIDOG2022", "midog2022", "tables"),
        marks=(*JSON, TABLE),
        inputs=(*JSON, TABLE, "*.png", "*.tiff", "images"),
        read=read,
        expected=Expected(20552, 9501, cases=354),
        images=False,
        files=(
            RemoteFile(f"https://zenodo.org/records/6547151/files/{JSON[0]}", JSON[0]),
            *(
                RemoteFile(f"https://zenodo.org/records/6547151/files/{slide:03d}.png", f"{slide:03d}.png")
                for slide in range(1, 355)
            ),
        ),
        by_hand=f"download the record https://zenodo.org/records/6547151: NNN.png and {JSON[0]} in one folder",
        mpp="0.23 (Hamamatsu) or 0.25 (Aperio, 3DHistech), by slide",
        overlaps=("ami-br", "atnorm-md", "midog25-atypical", "midog2021", "midogpp"),
    )
)
