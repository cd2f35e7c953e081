"""LUNG-MITO: mitotic figures of human lung, published with stMIDOG++."""

from __future__ import annotations

from pathlib import Path

from atypia.base import records as r
from atypia.data.domains import HUMAN, LUNG
from atypia.data.sources.catalogue import Expected, Source, SourceContents, add
from atypia.data.sources.layouts import first_existing, has_categories_of, point_rows, points_coco, slide_root

ANNOTATIONS = ("lung-mito.json", "LUNG-MITO.json", "lung_mito.json")


def read(folder: Path) -> SourceContents:
    """Reads COCO-like annotations beside their images, in the form of the MIDOG sets.

    The record's own layout could not be checked, so no counts are expected and a folder must be
    brought into this form to be read. With categories «normal» and «atypical» (also NMF, AMF), of which the record
    has none, its figures are of the atypical task, so that they can be pooled with MIDOG 2025 and AMi-Br.
    """
    path = first_existing(folder, ANNOTATIONS) or folder / ANNOTATIONS[0]
    task = r.ATYPICAL_TASK if path.is_file() and has_categories_of(path, r.ATYPICAL_TASK) else r.MITOSIS_TASK
    points = points_coco(path, task)
    rows = point_rows(points, "LUNG-MITO")
    for row in rows:
        row |= {r.CASE_ID: f"LUNG-MITO/{Path(row[r.IMAGE]).stem}", r.SPECIES: HUMAN, r.TUMOUR: LUNG}
    root = slide_root(folder, (row[r.IMAGE] for row in rows), (".", "images"))
    return SourceContents(rows, root, ("no published counts to check against",), task=task)


add(
    Source(
        name="lung-mito",
        title="LUNG-MITO, human lung, mitotic figures",
        task=r.MITOSIS_TASK,
        licence="as stated in the Zenodo record",
        citation="Iván et al., stMIDOG++ and LUNG-MITO, Zenodo 2025, doi 10.5281/zenodo.15854453",
        homepage="https://doi.org/10.5281/zenodo.15854453",
        folders=("LUNG-MITO", "lung-mito"),
        marks=ANNOTATIONS,
        inputs=(*ANNOTATIONS, "images", "*.tif*", "*.png"),
        read=read,
        expected=Expected(),
        images=False,
        by_hand=(
            "download the record https://doi.org/10.5281/zenodo.15854453; put the annotations as COCO-like JSON "
            "(categories «mitotic figure» and «hard negative», corner boxes) as lung-mito.json beside the images; with labels of "
            "one's own, categories «normal» and «atypical»"
        ),
    )
)
