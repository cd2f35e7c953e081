"""MITOS_WSI_CCMCT: whole slides of canine cutaneous mast cell tumours."""

from __future__ import annotations

from pathlib import Path

from atypia.base import records as r
from atypia.data.domains import APERIO_CS2, BERLIN, CANINE, MAST_CELL, SCANNER_MPP
from atypia.data.sources.catalogue import Expected, RemoteFile, Source, SourceContents, add
from atypia.data.sources.layouts import first_existing, point_rows, points_csv, slide_root

TABLES = ("MITOS_WSI_CCMCT_ODAEL_binary_labels.csv", "databases/MITOS_WSI_CCMCT_ODAEL_binary_labels.csv")
LABELS = {"0": 0, "1": 1}

SLIDES = {
    "96274538c93980aad8d6": 16261559,
    "1018715d369dd0df2fc0": 16261562,
    "9374efe6ac06388cc877": 16261553,
    "552c51bfb88fd3e65ffe": 16261556,
    "285f74bb6be025a676b6": 16261550,
    "91a8e57ea1f9cb0aeb63": 16261544,
    "70ed18cd5f806cf396f0": 16261541,
    "066c94c4c161224077a9": 16261547,
    "39ecf7f94ed96824405d": 16261529,
    "34eb28ce68c1106b2bac": 16261538,
    "20c0753af38303691b27": 16261532,
    "3f2e034c75840cb901e6": 16261505,
    "2efb541724b5c017c503": 16261520,
    "2f2591b840e83a4b4358": 16261514,
    "8bebdd1f04140ed89426": 16261523,
    "8c9f9618fcaca747b7c3": 16261526,
    "2f17d43b3f9e7dacf24c": 16261535,
    "f3741e764d39ccc4d114": 16261493,
    "fff27b79894fe0157b08": 16261490,
    "f26e9fcef24609b988be": 16261496,
    "dd4246ab756f6479c841": 16261487,
    "c3eb4b8382b470dd63a9": 16261466,
    "c86cd41f96331adf3856": 16261475,
    "c91a842257ed2add5134": 16261481,
    "dd6dd0d54b81ebc59c77": 16261478,
    "be10fa37ad6e88e1f406": 16261469,
    "ce949341ba99845813ac": 16261484,
    "a0c8b612fe0655eab3ce": 16261424,
    "add0a9bbc53d1d9bac4c": 16261436,
    "2e611073cff18d503cea": 16261439,
    "0e56fd11a762be0983f0": 16261442,
    "ac1168b2c893d2acad38": 16261445,
}
"""Slide name → number of its file on figshare."""


def read(folder: Path) -> SourceContents:
    """Reads the table of the ODAEL variant: mitotic figures against all their look-alikes."""
    rows = point_rows(points_csv(first_existing(folder, TABLES) or folder / TABLES[0], LABELS), "CCMCT")
    for row in rows:
        row |= {
            r.CASE_ID: f"CCMCT/{Path(row[r.IMAGE]).stem}",
            r.SCANNER: APERIO_CS2,
            r.ORIGIN: BERLIN,
            r.SPECIES: CANINE,
            r.TUMOUR: MAST_CELL,
            r.MPP: SCANNER_MPP[APERIO_CS2],
        }
    root = slide_root(folder, (row[r.IMAGE] for row in rows), ("WSI", "."))
    return SourceContents(rows, root, () if root else ("labels only: the slides are not there",))


add(
    Source(
        name="ccmct",
        title="CCMCT, whole slides of canine cutaneous mast cell tumours (ODAEL), mitotic figures and look-alikes",
        task=r.MITOSIS_TASK,
        licence="as stated in the figshare collection",
        citation="Bertram et al., Scientific Data 6:274 (2019), doi 10.1038/s41597-019-0290-4",
        homepage="https://doi.org/10.6084/m9.figshare.c.4552445.v1",
        folders=("MITOS_WSI_CCMCT", "ccmct", "tables"),
        marks=TABLES,
        inputs=(*TABLES, "WSI", "*.svs"),
        read=read,
        expected=Expected(72845, 44880, cases=32),
        images=False,
        files=(
            RemoteFile(
                "https://raw.githubusercontent.com/DeepMicroscopy/FoundationModelComparison/"
                "1c1b63a8dc3481ee83a2e1f39feda6ef7236ef0d/databases/MITOS_WSI_CCMCT_ODAEL_binary_labels.csv",
                TABLES[0],
                "68061a9bf59c979f00dada58315fd51c9f69d7b9986829a514fbb5fca4344c22",
                3390814,
            ),
            *(
                RemoteFile(f"https://ndownloader.figshare.com/files/{number}", f"WSI/{slide}.svs")
                for slide, number in SLIDES.items()
            ),
        ),
        by_hand=(
            "download the slides of https://doi.org/10.6084/m9.figshare.c.4552445.v1 into WSI/ and put "
            f"{TABLES[0]} of https://github.com/DeepMicroscopy/FoundationModelComparison beside that folder"
        ),
        mpp="0.25",
        overlaps=("omg-octo",),
    )
)
