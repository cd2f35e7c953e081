"""MIDOG 2021: human breast cancer of three scanners, mitotic figures and look-alikes."""

from __future__ import annotations

from pathlib import Path

from atypia.base import records as r
from atypia.data.domains import LAST_MIDOG21_SLIDE, midog_case, midog_slides
from atypia.data.sources.catalogue import Expected, RemoteFile, Source, SourceContents, add
from atypia.data.sources.layouts import first_existing, point_rows, points_coco, slide_number, slide_root

ANNOTATIONS = ("MIDOG.json", "databases/MIDOG.json")


def read(folder: Path) -> SourceContents:
    """Reads the annotations; slides 151 to 200, of a fourth scanner, carry none."""
    points = points_coco(first_existing(folder, ANNOTATIONS) or folder / ANNOTATIONS[0])
    rows = point_rows(points, "MIDOG21")
    for row in rows:
        slide = slide_number(row[r.IMAGE], midog_slides())
        row |= {r.CASE_ID: midog_case(slide), **midog_slides()[slide].columns}
    return SourceContents(rows, slide_root(folder, (row[r.IMAGE] for row in rows), (".", "images")))


add(
    Source(
        name="midog2021",
        title="MIDOG 2021 training set, human breast cancer, mitotic figures and look-alikes",
        task=r.MITOSIS_TASK,
        licence="CC BY-NC-ND, as stated in its annotation file",
        citation="Aubreville et al., Medical Image Analysis 84 (2023), doi 10.1016/j.media.2022.102699",
        homepage="https://zenodo.org/record/4643381",
        folders=("MIDOG2021", "midog2021", "MIDOG21"),
        marks=ANNOTATIONS,
        inputs=(*ANNOTATIONS, "*.tiff", "images"),
        read=read,
        expected=Expected(4435, 1721),
        images=False,
        files=(
            RemoteFile(
                "https://raw.githubusercontent.com/DeepMicroscopy/MIDOG/"
                "9cec488f1acee63d1ca79505d6c8b1e988fbe573/databases/MIDOG.json",
                "MIDOG.json",
                size_bytes=381860,
            ),
            *(
                RemoteFile(f"https://zenodo.org/record/4643381/files/{slide:03d}.tiff?download=1", f"{slide:03d}.tiff")
                for slide in range(1, LAST_MIDOG21_SLIDE + 1)
            ),
        ),
        by_hand="download the record https://zenodo.org/record/4643381: NNN.tiff and MIDOG.json in one folder",
        mpp="0.23 (Hamamatsu) or 0.25 (Aperio), by slide",
        overlaps=("ami-br", "midog25-atypical", "midog2022", "midogpp"),
    )
)
