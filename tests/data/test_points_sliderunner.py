"""Points in databases of SlideRunner."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from atypia.base.errors import DataError
from atypia.data.points.base import PointLimits
from atypia.data.points.reading import read_points

SCHEMA = """
CREATE TABLE Slides (uid INTEGER PRIMARY KEY, filename TEXT, width INTEGER, height INTEGER);
CREATE TABLE Classes (uid INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE Annotations (uid INTEGER PRIMARY KEY, guid TEXT, deleted INTEGER DEFAULT 0, slide INTEGER, type INTEGER,
    agreedClass INTEGER);
CREATE TABLE Annotations_coordinates (uid INTEGER PRIMARY KEY, coordinateX INTEGER, coordinateY INTEGER,
    annoId INTEGER, orderIdx INTEGER);
INSERT INTO Slides (uid, filename) VALUES (1, 'a.svs'), (2, 'b.svs');
INSERT INTO Classes VALUES (5, 'mitotic figure');
"""
SPOT, AREA, POLYGON, CIRCLE, WHOLE = 1, 2, 3, 5, 6

Row = tuple[str | None, int, int, int, int, list[tuple[float, float]]]


def database(path: Path, rows: list[Row], schema: str = SCHEMA) -> Path:
    with closing(sqlite3.connect(path)) as made:
        made.executescript(schema)
        for uid, (guid, deleted, slide, kind, agreed, vertices) in enumerate(rows, 1):
            made.execute("INSERT INTO Annotations VALUES (?, ?, ?, ?, ?, ?)", (uid, guid, deleted, slide, kind, agreed))
            for order, (x, y) in reversed(list(enumerate(vertices))):
                made.execute(
                    "INSERT INTO Annotations_coordinates (coordinateX, coordinateY, annoId, orderIdx) VALUES (?, ?, ?, ?)",
                    (x, y, uid, order),
                )
        made.commit()
    return path


ROWS: list[Row] = [
    ("g1", 0, 1, SPOT, 5, [(10, 20)]),
    ("g2", 0, 1, AREA, 0, [(0, 0), (20, 40)]),
    ("g3", 0, 2, POLYGON, 5, [(0, 0), (6, 0), (0, 6)]),
    ("g4", 0, 2, CIRCLE, 5, [(100, 100), (150, 150)]),
    ("g5", 1, 2, SPOT, 5, [(1, 1)]),
    ("g6", 0, 1, WHOLE, 5, []),
    ("g7", 0, 1, POLYGON, 5, [(0, 0), (9000, 0), (9000, 9000)]),
    ("g8", 0, 1, SPOT, 5, []),
]


def test_annotations(tmp_path: Path) -> None:
    points = read_points(database(tmp_path / "any.name", ROWS))
    assert points.ids == ["g1", "g2", "g3", "g4"]
    assert points.x_px.tolist() == [10.0, 10.0, 2.0, 125.0]
    assert points.y_px.tolist() == [20.0, 20.0, 2.0, 125.0]
    assert points.images == ["a.svs", "a.svs", "b.svs", "b.svs"]
    assert points.classes == ["mitotic figure", None, "mitotic figure", "mitotic figure"]
    assert points.sizes_px is not None and points.sizes_px[3].tolist() == [50.0, 50.0]
    assert sorted(points.notes) == [
        "left out: 1 annotation without a position",
        "left out: 1 deleted annotation",
        "left out: 1 label of a whole image",
        "left out: `mitotic figure`, a shape of 9000 × 9000 px: a region, not a figure"
        " (µm/px is unknown: objects larger than 400 px are treated as regions)",
    ]


def test_own_ids_where_global_ones_are_missing(tmp_path: Path) -> None:
    rows: list[Row] = [("g1", 0, 1, SPOT, 5, [(1, 2)]), (None, 0, 1, SPOT, 5, [(3, 4)])]
    assert read_points(database(tmp_path / "a.sqlite", rows)).ids == ["1", "2"]


def test_nothing_is_written(tmp_path: Path) -> None:
    path = database(tmp_path / "a.sqlite", ROWS)
    before = path.read_bytes()
    path.chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        read_points(path)
    finally:
        tmp_path.chmod(0o755)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.sqlite"]


def test_bad_databases(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no table Annotations_coordinates; there are: Annotations, Classes, Slides"):
        read_points(database(tmp_path / "a", [], SCHEMA + "DROP TABLE Annotations_coordinates;"))
    with pytest.raises(DataError, match=r"no column Slides\.filename; there are: "):
        read_points(database(tmp_path / "b", [], SCHEMA + "ALTER TABLE Slides RENAME COLUMN filename TO name;"))
    with pytest.raises(DataError, match="holds no points"):
        read_points(database(tmp_path / "c", []))
    with pytest.raises(DataError, match="at most 1 points"):
        read_points(database(tmp_path / "d", ROWS), limits=PointLimits(max_points=1))
    (tmp_path / "e").write_bytes(b"SQLite format 3\0" + b"\7" * 5000)
    with pytest.raises(DataError, match="damaged database"):
        read_points(tmp_path / "e")
    rows: list[Row] = [("g", 0, 1, SPOT, 5, [("here", 2)])]  # pyright: ignore[reportAssignmentType]
    with pytest.raises(DataError, match="annotation 1: a coordinate is not a number"):
        read_points(database(tmp_path / "f", rows))
