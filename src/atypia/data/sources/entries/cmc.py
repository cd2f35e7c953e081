"""MITOS_WSI_CMC: whole slides of canine mammary carcinoma."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import quote

from atypia.base import records as r
from atypia.base.errors import DataError
from atypia.data.domains import APERIO_CS2, BERLIN, BREAST, CANINE, SCANNER_MPP
from atypia.data.sources.catalogue import Expected, RemoteFile, Source, SourceContents, add
from atypia.data.sources.layouts import LabelledPoint, first_existing, point_rows, slide_root

DATABASES: Final = tuple(
    f"{folder}MITOS_WSI_CMC_{name}.sqlite"
    for name in ("CODAEL_TR_ROI", "CODAEL_TR", "CODAEL", "ODAEL_TR", "ODAEL")
    for folder in ("", "databases/")
)
"""The variants of that many figures, the most consistent first: the paper's own counts are of CODAEL."""
PUBLISHED: Final = (13907, 36379)
"""Mitotic figures and look-alikes, as the paper's abstract counts them. The notebook beside the databases counts
13,937 and 36,349 (CODAEL) and 14,154 and 36,132 (ODAEL): always 50,286, which is checked; the shares are told."""
SPOT: Final = 1
"""SlideRunner's type of an annotation that is a point."""
MITOSIS: Final = "mito"
DENIALS: Final = ("non", "not", "like", "negative", "look")

SLIDES: Final = {
    "deb768e5efb9d1dcbc13": 22407414,
    "d37ab62158945f22deed": 22585835,
    "022857018aa597374b6c": 22407537,
    "69a02453620ade0edefd": 22407411,
    "a8773be388e12df89edd": 22407540,
    "c4b95da36e32993289cb": 22407552,
    "3d3d04eca056556b0b26": 22407585,
    "d0423ef9a648bb66a763": 22407624,
    "50cf88e9a33df0c0c8f9": 22407531,
    "084383c18b9060880e82": 22407486,
    "4eee7b944ad5e46c60ce": 22407528,
    "2191a7aa287ce1d5dbc0": 22407525,
    "13528f1921d4f1f15511": 22407519,
    "2d56d1902ca533a5b509": 22407522,
    "460906c0b1fe17ea5354": 22407447,
    "da18e7b9846e9d38034c": 22407453,
    "72c93e042d0171a61012": 22407456,
    "b1bdee8e5e3372174619": 22407423,
    "fa4959e484beec77543b": 22407459,
    "e09512d530d933e436d5": 22407465,
    "d7a8af121d7d4f3fbf01": 22407477,
}
"""Slide name → number of its file on figshare."""


def label_of(name: str | None) -> int | None:
    """1 for mitotic figures, 0 for their look-alikes, None for whatever else was annotated (tumour regions).

    >>> label_of("Mitotic figure"), label_of("Non-mitotic cell"), label_of("Tumor region")
    (1, 0, None)
    """
    word = (name or "").casefold()
    if MITOSIS not in word:
        return None
    return int(not any(denial in word for denial in DENIALS))


def read(folder: Path) -> SourceContents:
    """Reads one of the publisher's SlideRunner databases: spots at the figures' centres, with the class agreed upon."""
    path = first_existing(folder, DATABASES) or folder / DATABASES[0]
    points = [
        LabelledPoint(Path(str(slide)).name, float(x), float(y), label)
        for slide, x, y, name in _spots(path)
        if (label := label_of(name)) is not None
    ]
    rows = point_rows(points, "CMC")
    for row in rows:
        row |= {
            r.CASE_ID: f"CMC/{Path(row[r.IMAGE]).stem}",
            r.SCANNER: APERIO_CS2,
            r.ORIGIN: BERLIN,
            r.SPECIES: CANINE,
            r.TUMOUR: BREAST,
            r.MPP: SCANNER_MPP[APERIO_CS2],
        }
    root = slide_root(folder, (row[r.IMAGE] for row in rows), ("WSI", "."))
    notes = () if root else ("labels only: the slides are not there",)
    mitoses = sum(point.label for point in points)
    counts = (mitoses, len(points) - mitoses)
    if counts != PUBLISHED:
        notes = (*notes, f"{path.name} holds {counts[0]:,} mitotic figures and {counts[1]:,} look-alikes; the paper "
                         f"counts {PUBLISHED[0]:,} and {PUBLISHED[1]:,}")  # fmt: skip
    return SourceContents(rows, root, notes)


def _spots(path: Path) -> list[tuple[str, float, float, str | None]]:
    """File of the slide, position and class of every spot that was not deleted, in the database's order."""
    query = (
        "SELECT s.filename, c.coordinateX, c.coordinateY, k.name FROM Annotations a JOIN Slides s ON s.uid = a.slide "  # noqa: S608
        "JOIN Annotations_coordinates c ON c.annoId = a.uid LEFT JOIN Classes k ON k.uid = a.agreedClass "
        f"WHERE a.type = {SPOT} {{kept}} ORDER BY a.uid"
    )
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1", uri=True)) as database:
            columns = {row[1] for row in database.execute("PRAGMA table_info(Annotations)")}
            kept = "AND COALESCE(a.deleted, 0) = 0" if "deleted" in columns else ""
            return database.execute(query.format(kept=kept)).fetchall()
    except sqlite3.Error as error:
        raise DataError(f"{path.name} is damaged or no SlideRunner database ({error}); fix: get it again") from error


add(
    Source(
        name="cmc",
        title="MITOS_WSI_CMC, whole slides of canine mammary carcinoma (CODAEL), mitotic figures and look-alikes",
        task=r.MITOSIS_TASK,
        licence="as stated in the figshare collection",
        citation="Aubreville et al., Scientific Data 7:417 (2020), doi 10.1038/s41597-020-00756-z",
        homepage="https://github.com/DeepMicroscopy/MITOS_WSI_CMC",
        folders=("MITOS_WSI_CMC", "cmc"),
        marks=DATABASES,
        inputs=(*DATABASES, "WSI", "*.svs"),
        read=read,
        expected=Expected(50286, cases=21),
        images=False,
        files=(
            RemoteFile(
                "https://github.com/DeepMicroscopy/MITOS_WSI_CMC/raw/master/databases/MITOS_WSI_CMC_CODAEL_TR_ROI.sqlite",
                "MITOS_WSI_CMC_CODAEL_TR_ROI.sqlite",
            ),
            *(
                RemoteFile(f"https://ndownloader.figshare.com/files/{number}", f"WSI/{slide}.svs")
                for slide, number in SLIDES.items()
            ),
        ),
        by_hand=(
            "put MITOS_WSI_CMC_CODAEL_TR_ROI.sqlite of https://github.com/DeepMicroscopy/MITOS_WSI_CMC (folder databases) "
            "beside a folder WSI with the slides, which that repository's Setup.ipynb names"
        ),
        mpp="0.25",
    )
)
