"""TUPAC16 auxiliary mitosis set with the alternative labels: human breast cancer of three centres."""

from __future__ import annotations

from pathlib import Path

from atypia.base import records as r
from atypia.base.errors import DataError, must
from atypia.data.domains import tupac_columns
from atypia.data.sources.catalogue import Expected, RemoteFile, Source, SourceContents, add
from atypia.data.sources.layouts import LabelledPoint, first_existing, natural, point_rows, walk_files
from atypia.data.textfiles import number

LABELS = "TUPAC_AL"
MARKS = (LABELS, f"TUPAC16_AlternativeLabels*/{LABELS}")
CLASSES = {"mitoses_ground_truth": 1, "nonmitoses_ground_truth": 0}
PARTS = ("mitoses_image_data_part_1", "mitoses_image_data_part_2", "mitoses_image_data_part_3")


def read(folder: Path) -> SourceContents:
    """Reads one file of «y,x» lines for each class and image tile (``case/tile.csv``).

    The tiles themselves come from the challenge and lie in its three ``mitoses_image_data_part``
    folders, or all in one.
    """
    labels = first_existing(folder, MARKS) or folder / LABELS
    points = []
    for name, label in CLASSES.items():
        for path in sorted(walk_files(labels / name), key=lambda file: natural(file.as_posix())):
            if path.suffix == ".csv":
                points += _points(path, label)
    tiles = _tiles(folder)
    rows = point_rows(points, "TUPAC16")
    for row in rows:
        tile = row[r.IMAGE]
        row |= tupac_columns(int(number(tile.partition("/")[0], "case", tile)))
        row[r.FIGURE_ID] = row[r.FIGURE_ID].replace("/", "_")
        row[r.IMAGE] = tiles.get(tile, tile)
    return SourceContents(
        rows, folder if tiles else None, () if tiles else ("labels only: the image tiles are not there",)
    )


def _points(path: Path, label: int) -> list[LabelledPoint]:
    tile = f"{path.parent.name}/{path.stem}.tif"
    points = []
    for line, text in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        cells = [cell.strip() for cell in text.split(",")]
        if not any(cells):
            continue
        where = f"{path.name}, line {line}"
        if len(cells) != 2:
            raise DataError(f"{where}: {must('line', 'two numbers, y and x', text, 'get the file again')}")
        points.append(LabelledPoint(tile, number(cells[1], "x", where), number(cells[0], "y", where), label))
    return points


def _tiles(folder: Path) -> dict[str, str]:
    tiles: dict[str, str] = {}
    for part in (*PARTS, "images"):
        for path in sorted((folder / part).glob("*/*.tif")) if (folder / part).is_dir() else ():
            tiles[f"{path.parent.name}/{path.name}"] = path.relative_to(folder).as_posix()
    return tiles


add(
    Source(
        name="tupac16-al",
        title="TUPAC16 auxiliary set with alternative labels, human breast cancer, mitotic figures and look-alikes",
        task=r.MITOSIS_TASK,
        licence="labels: see the repository; images: terms of the TUPAC16 challenge",
        citation=(
            "Bertram et al., Are pathologist-defined labels reproducible?, LABELS 2020, "
            "doi 10.1007/978-3-030-61166-8_22; images: Veta et al., Medical Image Analysis 54 (2019)"
        ),
        homepage="https://github.com/DeepMicroscopy/TUPAC16_AlternativeLabels",
        folders=("TUPAC16", "tupac16-al", "TUPAC16_AlternativeLabels"),
        marks=MARKS,
        inputs=(*MARKS, *PARTS, "images"),
        read=read,
        expected=Expected(12482, 1999),
        images=False,
        files=(
            RemoteFile(
                "https://github.com/DeepMicroscopy/TUPAC16_AlternativeLabels/archive/HEAD.zip",
                "TUPAC16_AlternativeLabels.zip",
            ),
        ),
        by_hand=(
            "labels are all that `atypia data get` brings; for the images follow https://tupac.grand-challenge.org/Dataset/ and put "
            f"{PARTS[0]}, _2 and _3 beside them"
        ),
        mpp="0.25",
        overlaps=("ami-br",),
    )
)
