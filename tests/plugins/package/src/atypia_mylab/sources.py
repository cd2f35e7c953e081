"""A data source: how its folder is recognised and read, and the counts that it must have."""

from pathlib import Path

from atypia.base import records as r
from atypia.data.sources.catalogue import SOURCES, Expected, Source, SourceContents
from atypia.data.textfiles import read_table


def read(folder: Path) -> SourceContents:
    table = read_table(folder / "mylab.csv")
    table.require("crop", "class", "patient", "scanner")
    rows = [
        {
            r.FIGURE_ID: f"mylab/{Path(row['crop']).stem}",
            r.IMAGE: row["crop"],
            r.CASE_ID: f"mylab/{row['patient']}",
            r.LABEL: int(row["class"] == "atypical"),
            r.SCANNER: row["scanner"],
        }
        for row in table.rows
    ]
    return SourceContents(rows, root=folder)


SOURCES.add(
    "mylab",
    Source(
        name="mylab",
        title="figures of our laboratory",
        task=r.ATYPICAL_TASK,
        licence="CC BY 4.0",
        citation="MyLab et al., 2026",
        homepage="https://example.org/mylab",
        folders=("mylab",),
        marks=("mylab.csv",),
        inputs=("mylab.csv", "*.png"),
        read=read,
        expected=Expected(total=40),
        images=True,
        by_hand="ask us for the folder mylab, and put it below the data root",
    ),
)
