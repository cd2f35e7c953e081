"""AtNorM-Br: mitotic figures of TCGA breast cancer, one rater; a test set."""

from __future__ import annotations

from pathlib import Path

from atypia.base import records as r
from atypia.data.domains import BREAST, HUMAN
from atypia.data.sources.catalogue import Expected, RemoteFile, Source, SourceContents, add
from atypia.data.sources.layouts import published_crops

CROPS = "AtNorM-Br"


def read(folder: Path) -> SourceContents:
    """Reads the crops; the folder is the label of the one rater, patients are not published."""
    root = folder / CROPS
    rows = published_crops(root, CROPS)
    for row in rows:
        row |= {r.VOTES: [row[r.LABEL]], r.ORIGIN: "TCGA", r.SPECIES: HUMAN, r.TUMOUR: BREAST}
    return SourceContents(rows, root)


add(
    Source(
        name="atnorm-br",
        title="AtNorM-Br, TCGA human breast cancer, one rater; test set",
        task=r.ATYPICAL_TASK,
        licence="MIT",
        citation="Banerjee et al., MELBA 2026, doi 10.59275/j.melba.2026-6c1g",
        homepage="https://github.com/DeepMicroscopy/AMi-Br_Benchmark",
        folders=("AMi-Br_Benchmark",),
        marks=(f"{CROPS}/Atypical", f"{CROPS}/Normal"),
        inputs=(CROPS,),
        read=read,
        expected=Expected(746, 128),
        images=True,
        files=(
            RemoteFile("https://github.com/DeepMicroscopy/AMi-Br_Benchmark/archive/HEAD.zip", "AMi-Br_Benchmark.zip"),
        ),
        by_hand="clone https://github.com/DeepMicroscopy/AMi-Br_Benchmark",
    )
)
