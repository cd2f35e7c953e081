"""Points of detectors and viewers: files that the real programs wrote, or in the form that they document."""

from __future__ import annotations

import json
import shutil
import sqlite3
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atypia.base.errors import DataError, InputError
from atypia.data.points.base import AboutSlide, Points, ScaleError
from atypia.data.points.reading import read_points, read_scaled
from atypia.data.slides.slidecrops import slide_points

WRITTEN = Path(__file__).parents[1] / "fixtures/detectors"
"""By TIAToolbox itself; see the README there."""


def wrote(tmp_path: Path, content: Any, name: str) -> Path:
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def places(points: Points) -> list[tuple[float, float]]:
    return list(zip(points.x_px.tolist(), points.y_px.tolist(), strict=True))


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    path = tmp_path / "case.png"
    Image.fromarray(np.full((1000, 2000, 3), 200, np.uint8)).save(path)
    return path


# TIAToolbox ----------------------------------------------------------------------------------


def test_annotation_store() -> None:
    points = read_points(WRITTEN / "detections.db")
    assert places(points) == [(1200.0, 830.0), (40.0, 76.0), (116.0, 120.0), (116.0, 120.0)]
    assert points.classes == ["mitotic figure", "mitotic figure", "other", "other"]
    assert points.scores is not None and points.scores.round(3).tolist() == [0.91, 0.31, 0.5, 0.25]
    assert points.sizes_px is not None and points.sizes_px[3].tolist() == [32.0, 40.0]
    assert len(set(points.ids)) == 4 and len(points.ids[0]) == 36
    assert points.origin == "canvas"


def test_json_for_qupath_says_the_same() -> None:
    points = read_points(WRITTEN / "detections.json")
    assert places(points) == [(1200.0, 830.0), (40.0, 76.0), (116.0, 120.0)]
    assert points.classes == ["mitotic figure", "mitotic figure", "other"]
    assert points.scores is not None and points.scores.round(3).tolist() == [0.91, 0.31, 0.5]
    assert points.origin == "canvas"


def test_zarr_needs_the_resolution_and_then_says_the_same() -> None:
    with pytest.raises(DataError, match=r"pixels of the detector's, which the file does not state; fix: pass --unit"):
        read_points(WRITTEN / "detections.zarr", mpp=0.25)
    with pytest.raises(ScaleError, match=r"pixels of 0.5 µm and the slide's µm/px is not known; fix: give --mpp"):
        read_points(WRITTEN / "detections.zarr", unit="0.5")
    points = read_points(WRITTEN / "detections.zarr", mpp=0.25, unit="0.5")
    assert places(points) == [(1200.0, 830.0), (40.0, 76.0), (116.0, 120.0)]
    assert points.classes == ["0", "0", "1"]
    assert points.scores is not None and points.scores.round(3).tolist() == [0.91, 0.31, 0.5]


def test_zarr_in_other_forms(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"stored plain, or with zstd, gzip or zlib.*got blosc; fix: save the output as"
    ):
        read_points(WRITTEN / "blosc.zarr", unit="px")
    folder = tmp_path / "two.zarr"
    shutil.copytree(WRITTEN / "blosc.zarr", folder)
    for name in ("classes", "probabilities"):
        shutil.rmtree(folder / name)
    assert places(read_points(folder, unit="px")) == [(600.0, 415.0), (20.0, 38.0), (58.0, 60.0)]
    (folder / "x/1").write_bytes(b"\1")
    with pytest.raises(DataError, match=r"two.zarr/x is damaged: 1 bytes in place of 8"):
        read_points(folder, unit="px")
    (folder / "x/1").unlink()
    with pytest.raises(DataError, match=r"chunk 1 is not there; fix: copy the whole folder"):
        read_points(folder, unit="px")
    shutil.rmtree(folder / "y")
    with pytest.raises(DataError, match=r"a Zarr folder with only `x`; fix: save the detections as annotationstore"):
        read_points(folder, unit="px")


def test_zarr_is_a_file_of_points_not_a_folder_of_them(slide: Path) -> None:
    points = slide_points(slide, WRITTEN / "detections.zarr", mpp=0.25, unit="0.5", classes=["0"])
    assert places(points) == [(1200.0, 830.0), (40.0, 76.0)]


def test_bad_annotation_stores(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as made:
        made.execute(
            "CREATE TABLE annotations (id INTEGER, key TEXT, cx FLOAT, cy FLOAT, geometry BLOB, properties TEXT)"
        )
        bomb = zlib.compress(b"\1" * (1 << 23))
        made.execute("INSERT INTO annotations VALUES (1, 'a', 1, 2, ?, '{}')", (bomb,))
        made.commit()
    with pytest.raises(DataError, match=r"annotation 1: its outline has more than 4,194,304 bytes"):
        read_points(path)
    with closing(sqlite3.connect(path)) as made:
        made.execute("UPDATE annotations SET geometry = ?", (b"\1\3no outline",))
        made.commit()
    with pytest.raises(DataError, match=r"annotation 1: its outline is damaged"):
        read_points(path)
    with closing(sqlite3.connect(path)) as made:
        made.execute("ALTER TABLE annotations RENAME COLUMN cx TO x")
        made.commit()
    with pytest.raises(DataError, match=r"no column annotations\.cx; there are: cy, geometry, id, key, properties, x"):
        read_points(path)
    with closing(sqlite3.connect(path)) as made:
        made.execute("ALTER TABLE annotations RENAME TO cells")
        made.commit()
    with pytest.raises(DataError, match=r"got a SQLite database with `cells`; fix: export it as GeoJSON"):
        read_points(path)


# Scores --------------------------------------------------------------------------------------


def test_scores_select(slide: Path) -> None:
    points = slide_points(slide, WRITTEN / "detections.db", mpp=0.25, classes=["mitotic figure"], min_score=0.5)
    assert places(points) == [(1200.0, 830.0)]
    assert points.notes == ("left out: 2 of 4 points with a score below 0.5",)
    everything = slide_points(slide, WRITTEN / "detections.db", mpp=0.25, classes=["mitotic figure"])
    assert "points have scores from 0.25 to 0.91, and all are used; --min-score takes fewer" in everything.notes
    with pytest.raises(InputError, match=r"at most the highest score of the points, got 0.95, and the highest is 0.91"):
        slide_points(slide, WRITTEN / "detections.db", min_score=0.95)
    bare = wrote(slide.parent, "x,y\n10,20\n", "bare.csv")
    with pytest.raises(InputError, match=r"`--min-score` must be left out where points have no scores"):
        slide_points(slide, bare, min_score=0.5)


def measured(x: float, y: float, score: float | None) -> dict[str, Any]:
    """A detection of QuPath, as StarDist makes it there."""
    found = {} if score is None else {"Detection probability": score}
    shape = {"type": "Point", "coordinates": [x, y]}
    return {
        "type": "Feature",
        "geometry": shape,
        "properties": {"objectType": "detection", "measurements": found},
    }


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "x,y,Confidence\n10,20,0.9\n30,40,\n50,60,0.2\n"),
        ("b.csv", "x;y;Detection probability\n10,0;20,0;0,9\n30,5;40,0;\n50,0;60,0;0,2\n"),
        ("c.geojson", [measured(10, 20, 0.9), measured(30, 40, None), measured(50, 60, 0.2)]),
        ("a.json", [{"x": 10, "y": 20, "prob": 0.9}, {"x": 30, "y": 40}, {"x": 50, "y": 60, "prob": 0.2}]),
    ],
)
def test_points_without_a_score_are_left_out_and_counted(slide: Path, name: str, content: Any) -> None:
    points = slide_points(slide, wrote(slide.parent, content, name), min_score=0.5)
    assert places(points) == [(10.0, 20.0)]
    assert points.notes == (
        "left out: 1 of 3 points with a score below 0.5",
        "left out: 1 of 3 points without a score",
    )


# JSON ----------------------------------------------------------------------------------------


def challenge(*found: tuple[float, float, str, float]) -> dict[str, Any]:
    """In the form of MIDOG's reference container, with its spelling of the type."""
    points = [{"name": name, "point": [x, y, 0.0], "probability": p} for x, y, name, p in found]
    return {
        "name": "Points of interest",
        "type": "Mulitple points",
        "points": points,
        "version": {"major": 1, "minor": 0},
    }


def test_grand_challenge_in_mm_and_in_px(slide: Path) -> None:
    mm = challenge((0.3, 0.2, "mitotic figure", 0.9), (0.01, 0.1, "non-mitotic figure", 0.4))
    points = slide_points(slide, wrote(slide.parent, mm, "mm.json"), mpp=0.25, classes=["mitotic figure"])
    assert places(points) == [(1200.0, 800.0)]
    assert points.scores is not None and points.scores.tolist() == [0.9]
    assert points.notes[0].startswith(
        "mm.json: positions are read as mm, as pixels all would lie within 1 µm of the upper left"
    )
    px = challenge((1200.0, 800.0, "mitotic figure", 0.9))
    points = slide_points(slide, wrote(slide.parent, px, "px.json"), mpp=0.25)
    assert places(points) == [(1200.0, 800.0)]
    assert points.notes == (
        "px.json: positions are read as pixels of full resolution, as 1,200 mm would be larger than any slide",
    )
    near = challenge((60.0, 40.0, "mitotic figure", 0.9))
    points = slide_points(slide, wrote(slide.parent, near, "near.json"), mpp=0.25)
    assert places(points) == [(60.0, 40.0)], "60 mm lie outside a slide of 0.5 mm"


def test_grand_challenge_where_nothing_decides(tmp_path: Path) -> None:
    path = wrote(tmp_path, challenge((30.0, 20.0, "mitotic figure", 0.9)), "a.json")
    with pytest.raises(ScaleError, match=r"may be mm or pixels, and the slide's µm/px is not known; fix: give --mpp"):
        read_points(path)
    with pytest.raises(DataError, match=r"must be mm or pixels beyond doubt.*fix: pass --unit mm or --unit px"):
        read_points(path, mpp=5.0)
    assert places(read_points(path, mpp=5.0, unit="mm")) == [(6000.0, 4000.0)]
    assert places(read_points(path, unit="px")) == [(30.0, 20.0)]
    broken = wrote(tmp_path, {"type": "Multiple points", "points": [{"point": [1]}]}, "b.json")
    with pytest.raises(DataError, match=r"b.json, point 1: `point` must be two or three numbers, got \[1\]"):
        read_points(broken)


@pytest.mark.parametrize(
    "content",
    [
        [{"x": 10.5, "y": 20, "type": "mitosis", "prob": 0.9}, {"x": 30, "y": 40, "type": "mitosis", "prob": 0.5}],
        {"cell_records": [{"x": 10.5, "y": 20, "type": "mitosis", "prob": 0.9}, {"x": 30, "y": 40, "type": "mitosis", "prob": 0.5}]},
        {"x": [10.5, 30], "y": [20, 40], "classes": ["mitosis", "mitosis"], "probabilities": [0.9, 0.5]},
    ],
)  # fmt: skip
def test_cell_records(tmp_path: Path, content: Any) -> None:
    points = read_points(wrote(tmp_path, content, "a.json"))
    assert places(points) == [(10.5, 20.0), (30.0, 40.0)]
    assert points.classes == ["mitosis", "mitosis"]
    assert points.scores is not None and points.scores.tolist() == [0.9, 0.5]


def test_units_of_other_files(tmp_path: Path) -> None:
    path = wrote(tmp_path, [{"x": 100, "y": 200}, {"x": 5, "y": 7}], "a.json")
    assert places(read_points(path, mpp=0.25, unit="um")) == [(400.0, 800.0), (20.0, 28.0)]
    assert places(read_points(path, mpp=0.25, unit="0.5")) == [(200.0, 400.0), (10.0, 14.0)]
    table = wrote(tmp_path, "x,y\n100,200\n5,7\n", "a.csv")
    assert places(read_points(table, mpp=0.25, unit="um")) == [(400.0, 800.0), (20.0, 28.0)]
    named = wrote(tmp_path, "x_um,y_um\n100,200\n5,7\n", "b.csv")
    with pytest.raises(DataError, match=r"`--unit` must be auto or um, got mm, and `x_um` is in um; fix: leave it out"):
        read_points(named, mpp=0.25, unit="mm")
    with pytest.raises(
        InputError, match=r"`--unit` must be auto, px, um, mm, or the µm of one pixel \(0.5\), got 'inch'"
    ):
        read_points(table, unit="inch")


# Text ----------------------------------------------------------------------------------------


def test_yolo(slide: Path) -> None:
    text = "0 0.5 0.25 0.01 0.02 0.9\n1 0.1 0.2 0.01 0.02 0.4\n0 0.2 0.2 0.202 0.2 0.202 0.204 0.2 0.204\n"
    points = slide_points(slide, wrote(slide.parent, text, "case.txt"), classes=["0"])
    assert [(round(x, 6), round(y, 6)) for x, y in places(points)] == [(1000.0, 250.0), (402.0, 202.0)]
    assert points.sizes_px is not None and points.sizes_px.round(6).tolist() == [[20.0, 20.0], [4.0, 4.0]]
    assert points.notes[0] == "case.txt: shares of YOLO are of the whole image, 2000 × 1000 px"
    with pytest.raises(DataError, match=r"given with its image, whose size YOLO's shares are of, got points alone"):
        read_points(slide.parent / "case.txt")
    with pytest.raises(
        DataError, match=r"line 2: `numbers` must be shares of the image, 0 to 1.*fix: export normalised"
    ):
        slide_points(slide, wrote(slide.parent, "0 0.5 0.5 0.1 0.1\n0 500 0.5 0.1 0.1\n", "b.txt"))
    with pytest.raises(DataError, match=r"line 2: `line` must be class x y width height \[score\], got '0 0.5 0.5'"):
        slide_points(slide, wrote(slide.parent, "0 0.5 0.5 0.1 0.1\n0 0.5 0.5\n", "c.txt"))


# XML -----------------------------------------------------------------------------------------

ASAP = """<?xml version="1.0"?>
<ASAP_Annotations>
 <Annotations>
  <Annotation Name="Annotation 0" Type="Dot" PartOfGroup="mitosis" Color="#F4FA58"><Coordinates>
   <Coordinate Order="0" X="1173.36755" Y="766.442078" /></Coordinates></Annotation>
  <Annotation Name="Annotation 1" Type="PointSet" PartOfGroup="None" Color="#F4FA58"><Coordinates>
   <Coordinate Order="0" X="10" Y="20" /><Coordinate Order="1" X="30,5" Y="40" /></Coordinates></Annotation>
  <Annotation Name="Annotation 2" Type="Rectangle" PartOfGroup="mitosis" Color="#F4FA58"><Coordinates>
   <Coordinate Order="0" X="100" Y="100" /><Coordinate Order="1" X="140" Y="100" />
   <Coordinate Order="2" X="140" Y="120" /><Coordinate Order="3" X="100" Y="120" /></Coordinates></Annotation>
  <Annotation Name="Annotation 3" Type="Polygon" PartOfGroup="mitosis" Color="#F4FA58"><Coordinates>
   <Coordinate Order="2" X="6" Y="6" /><Coordinate Order="0" X="0" Y="0" /><Coordinate Order="1" X="6" Y="0" />
   <Coordinate Order="3" X="0" Y="6" /></Coordinates></Annotation>
 </Annotations>
 <AnnotationGroups><Group Name="mitosis" PartOfGroup="None" Color="#64FE2E"><Attributes /></Group></AnnotationGroups>
</ASAP_Annotations>
"""
IMAGESCOPE = """<Annotations MicronsPerPixel="0.499000">
 <Annotation Id="1" Name="" ReadOnly="0" Type="4"><Attributes><Attribute Name="Description" Id="0" Value="Mitosis" /></Attributes>
  <Regions><RegionAttributeHeaders></RegionAttributeHeaders>
   <Region Id="1" Type="2" NegativeROA="0" Text=""><Vertices><Vertex X="100" Y="200" Z="0" /><Vertex X="140" Y="240" Z="0" /></Vertices></Region>
   <Region Id="2" Type="3" NegativeROA="0" Text=""><Vertices><Vertex X="1" Y="2" Z="0" /><Vertex X="3" Y="4" Z="0" /></Vertices></Region>
   <Region Id="3" Type="0" NegativeROA="1" Text=""><Vertices><Vertex X="0" Y="0" /><Vertex X="9" Y="0" /><Vertex X="9" Y="9" /></Vertices></Region>
  </Regions><Plots /></Annotation>
 <Annotation Id="2" Name="Other"><Regions>
   <Region Id="1" Type="5"><Vertices><Vertex X="7" Y="8" Z="0" /></Vertices></Region>
   <Region Id="2" Type="0"><Vertices><Vertex X="0" Y="0" /><Vertex X="6" Y="0" /><Vertex X="6" Y="6" /><Vertex X="0" Y="6" /></Vertices></Region>
  </Regions></Annotation>
</Annotations>
"""
NDPA = """<?xml version="1.0" encoding="utf-8" standalone="yes"?>
<annotations>
 <ndpviewstate id="1"><title>mitosis</title><details /><coordformat>nanometers</coordformat><lens>40</lens><x>0</x><y>0</y><z>0</z>
  <annotation type="circle" displayname="AnnotateCircle" color="#000000"><measuretype>0</measuretype>
   <x>100000</x><y>-50000</y><radius>5000</radius></annotation></ndpviewstate>
 <ndpviewstate id="2"><title>mitosis</title><details /><coordformat>nanometers</coordformat><lens>40</lens>
  <annotation type="pin" displayname="AnnotatePin" color="#000000"><x>1000</x><y>2000</y></annotation></ndpviewstate>
 <ndpviewstate id="3"><title>mitosis</title><coordformat>nanometers</coordformat>
  <annotation type="freehand" displayname="AnnotateRectangle"><pointlist>
   <point><x>1000</x><y>2000</y></point><point><x>5000</x><y>2000</y></point><point><x>5000</x><y>4000</y></point>
   <point><x>1000</x><y>4000</y></point></pointlist><specialtype>rectangle</specialtype><closed>1</closed></annotation></ndpviewstate>
 <ndpviewstate id="4"><title>length</title><coordformat>nanometers</coordformat>
  <annotation type="linearmeasure"><x1>0</x1><y1>0</y1><x2>9</x2><y2>9</y2></annotation></ndpviewstate>
</annotations>
"""
HAMAMATSU = {
    "openslide.mpp-x": "0.25", "openslide.mpp-y": "0.5",
    "hamamatsu.XOffsetFromSlideCentre": "20000", "hamamatsu.YOffsetFromSlideCentre": "-10000",
}  # fmt: skip


def test_asap(tmp_path: Path) -> None:
    points = read_points(wrote(tmp_path, ASAP, "a.xml"))
    assert places(points) == [(1173.36755, 766.442078), (10.0, 20.0), (30.5, 40.0), (120.0, 110.0), (3.0, 3.0)]
    assert points.classes == ["mitosis", None, None, "mitosis", "mitosis"]
    assert points.origin == "canvas"


def test_imagescope(tmp_path: Path) -> None:
    points = read_points(wrote(tmp_path, IMAGESCOPE, "a.xml"))
    assert places(points) == [(120.0, 220.0), (7.0, 8.0), (3.0, 3.0)]
    assert points.ids == ["1-1", "2-1", "2-2"]
    assert points.classes == ["Mitosis", "Other", "Other"]
    assert points.notes == (
        "left out: 1 arrow, ruler or line, which is not at one place",
        "left out: 1 negative region",
    )


def test_ndpa_counts_from_the_middle_of_the_glass(tmp_path: Path) -> None:
    path = wrote(tmp_path, NDPA, "case.ndpi.ndpa")
    points = read_scaled(path, lambda: 0.25, about=lambda: AboutSlide(8000, 4000, HAMAMATSU))
    # (100000 - 20000) / 250 + 4000 and (-50000 + 10000) / 500 + 2000; by hand for the others too.
    assert places(points) == [(4320.0, 1920.0), (3924.0, 2024.0), (3932.0, 2026.0)]
    assert points.sizes_px is not None and points.sizes_px[0].tolist() == [40.0, 40.0]
    assert points.ids == ["1", "2", "3"] and set(points.classes or []) == {"mitosis"}
    assert points.notes == ("left out: 1 ruler, line or annotation without a position",)
    with pytest.raises(
        DataError, match=r"centre of the glass, which only the NDPI slide states; fix: give the .ndpi file"
    ):
        read_points(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation><object/></annotation>", r"got Pascal VOC's XML; fix: convert it to COCO"),
        ("<ASAP_Annotations><Annot", r"is damaged XML .*; fix: export it again"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><ASAP_Annotations>&b;</ASAP_Annotations>', r"XML without a document type"),
        (ASAP.replace("766.442078", "here"), r"annotation 1: `Y` must be a finite number, got 'here'"),
    ],
)
def test_bad_xml(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_points(wrote(tmp_path, text, "a.xml"))


# What is none of these -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (b"\x80\x04\x95", r"a pickle, which is not opened because it can run programs; fix: save the positions as CSV"),
        (b"\x93NUMPY\x01", r"a NumPy array; fix: save it as CSV with the columns x and y"),
        (b"\x89HDF\r\n", r"HDF5; fix:"),
        (b"\x89PNG\r\n", r"a PNG image, maybe a mask; fix: export the positions of its objects"),
        (b"<!DOCTYPE html><html>", r"a web page; fix: download the file itself"),
        (b'{"nuc": {"1": {"centroid": [1, 2]}}, "mag": null}', r"HoVer-Net's JSON, whose resolution it does not state"),
        (b'{"shapes": [], "imagePath": "a"}', r"LabelMe's JSON; fix: export the shapes as COCO"),
        (b'[{"a": 1, "b": 2}]', r"a list of JSON objects with `a`, `b`; fix: export it as GeoJSON"),
        (b"[1, 2]", r"JSON with a list of numbers or texts; fix:"),
    ],
)
def test_other_files_say_what_they_look_like(tmp_path: Path, head: bytes, message: str) -> None:
    path = tmp_path / "points.file"
    path.write_bytes(head)
    with pytest.raises(DataError, match=message):
        read_points(path)
