"""From what is drawn to figures: classes, regions, the same cell twice; tables in every spelling."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atypia.base.errors import DataError, InputError
from atypia.data.points.base import Points
from atypia.data.points.classes import class_name, wanted_figures
from atypia.data.points.reading import read_points
from atypia.data.slides.slidecrops import slide_points


def feature(x: float, y: float, figure: str | None = None, side: float = 0, **properties: Any) -> dict[str, Any]:
    half = side / 2
    ring = [
        [x - half, y - half],
        [x + half, y - half],
        [x + half, y + half],
        [x - half, y + half],
        [x - half, y - half],
    ]
    geometry = {"type": "Polygon", "coordinates": [ring]} if side else {"type": "Point", "coordinates": [x, y]}
    if "plane" in properties:
        geometry["plane"] = properties.pop("plane")
    made = {"type": "Feature", "geometry": geometry, "properties": properties}
    return made if figure is None else made | {"id": figure}


def classed(name: str) -> dict[str, Any]:
    return {"name": name, "color": [200, 0, 0]}


def on_slide(folder: Path, content: Any, mpp: float | None = 0.25, **options: Any) -> Points:
    path = folder / ("points.csv" if isinstance(content, str) else "points.geojson")
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    slide = folder / "case.png"
    if not slide.exists():
        Image.new("RGB", (8, 8)).save(slide)
    return slide_points(slide, path, mpp=mpp, **options)


# Classes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        "Mitosis: Positive",
        classed("Mitosis: Positive"),
        {"names": ["Mitosis", "Positive"]},
        json.dumps(classed("Mitosis: Positive")),
        str(classed("Mitosis: Positive")),
    ],
)
def test_a_class_in_every_spelling(value: Any) -> None:
    assert class_name(value) == "Mitosis: Positive"


@pytest.mark.parametrize("value", [None, "", "NA", "null", {"name": None}, "{}", float("nan")])
def test_no_class(value: Any) -> None:
    assert class_name(value) is None


def test_several_classes_are_refused_with_the_counts(tmp_path: Path) -> None:
    features = [feature(100.0 * n, 50, classification=classed("Mitosis" if n % 3 else "Other")) for n in range(1, 10)]
    with pytest.raises(InputError, match=r"got 6 Mitosis, 3 Other; fix: pass --class Mitosis .* or --class all"):
        on_slide(tmp_path, features)
    assert set(on_slide(tmp_path, features, classes=("mitosis",)).classes or ()) == {"Mitosis"}
    everything = on_slide(tmp_path, features, classes=("all",))
    assert len(everything) == 9 and everything.notes == ("all 2 classes are taken: 6 Mitosis, 3 Other",)


def test_the_class_that_the_refusal_names_is_no_look_alike_where_there_is_another() -> None:
    with pytest.raises(InputError, match=r"got 2 Look-alike, 1 Mitotic figure; fix: pass --class 'Mitotic figure' "):
        wanted_figures(["Look-alike", "Mitotic figure", "Look-alike"], ())
    with pytest.raises(InputError, match=r"pass --class Look-alike "):
        wanted_figures(["Look-alike", "non-mitosis", None], ())


def test_no_class_is_a_class_of_its_own() -> None:
    classes = ["Mitosis", None, "Mitosis"]
    with pytest.raises(InputError, match=r"got 2 Mitosis, 1 without a class \(unclassified\)"):
        wanted_figures(classes, ())
    assert wanted_figures(classes, ("unclassified",))[0].tolist() == [False, True, False]
    assert wanted_figures([None, None], ())[0].all()


def test_derived_classes_are_taken_with_a_note_unless_the_very_one_is_asked_for() -> None:
    classes = ["Mitosis", "Mitosis: Positive", "Mitoses", "mitosis:positive"]
    mask, notes = wanted_figures(classes, ("Mitosis",))
    assert mask.tolist() == [True, True, False, True]
    assert notes == ["class Mitosis also takes 2 Mitosis: Positive"]
    assert wanted_figures(classes, ("=Mitosis",))[0].tolist() == [True, False, False, False]
    with pytest.raises(InputError, match="must be among those of the points, got tumour"):
        wanted_figures(classes, ("tumour",))


def test_a_class_that_is_called_all() -> None:
    classes = ["all", "Mitosis"]
    with pytest.raises(InputError, match="pass --class =all for that class"):
        wanted_figures(classes, ("all",))
    assert wanted_figures(classes, ("=all",))[0].tolist() == [True, False]
    assert wanted_figures(classes, ("all", "Mitosis"))[0].all()


def test_the_only_class_of_look_alikes_is_said() -> None:
    assert wanted_figures(["Hard negative"] * 2, ())[1] == [
        "all points have the class Hard negative, which by its name is not a mitotic figure"
    ]


# Regions --------------------------------------------------------------------------------------


def test_regions_are_told_by_their_size_in_um(tmp_path: Path) -> None:
    features = [feature(2000, 2000, "r", 900, classification=classed("Hotspot")), feature(10, 10), feature(90, 10)]
    points = on_slide(tmp_path, features)
    assert len(points) == 2
    assert points.notes == ("left out: `Hotspot`, a rectangle of 225 × 225 µm: a region, not a figure",)
    cell = [feature(100, 100, "c", 90), feature(10, 10)]
    assert len(on_slide(tmp_path, cell)) == 2 and len(on_slide(tmp_path, cell, mpp=2.0)) == 1
    unknown = on_slide(tmp_path, [feature(900, 900, "r", 500), feature(10, 10)], mpp=None)
    assert len(unknown) == 1 and "larger than 400 px are treated as regions" in unknown.notes[0]


def test_a_small_annotation_around_points_is_a_region_too(tmp_path: Path) -> None:
    drawn = {"objectType": "annotation"}
    box = feature(200, 200, "field", 240, **drawn, classification=classed("Mitosis"))
    two = [feature(x, 200, classification=classed("Mitosis"), objectType="detection") for x in (180.0, 240.0)]
    assert on_slide(tmp_path, [box, *two]).notes == (
        "left out: `Mitosis`, a rectangle of 60 × 60 µm: a region, not a figure",
    )
    one = on_slide(tmp_path, [feature(700, 700, "cell", 240, **drawn, classification=classed("Mitosis")), *two])
    assert len(one) == 3
    ignored = [feature(700, 700, "i", 30, **drawn, classification=classed("Ignore*")), feature(10, 10)]
    assert len(on_slide(tmp_path, ignored)) == 1


def test_regions_of_tables_are_told_by_qupaths_columns(tmp_path: Path) -> None:
    header = "Image\tObject ID\tObject type\tClassification\tROI\tCentroid X µm\tCentroid Y µm\tNum points\tArea µm^2\tPerimeter µm\n"
    lines = [
        "case.png\ta\tAnnotation\tMitosis\tPolygon\t25\t50\t\t60\t30",
        "case.png\tb\tDetection\tMitosis\tPoint\t30\t60\t1\t\t",
        "case.png\th\tAnnotation\tHotspot\tRectangle\t500\t500\t\t105000\t1300",
        "case.png\tt\tTile\t\tRectangle\t5\t5\t\t100\t40",
        "case.png\tl\tAnnotation\tMitosis\tPolyline\t5\t5\t\t\t",
        "case.png\tm\tAnnotation\tMitosis\tPoints\t5\t5\t26\t\t",
    ]
    points = on_slide(tmp_path, header + "\n".join(lines) + "\n")
    assert points.ids == ["a", "b"] and points.x_px.tolist() == [100.0, 120.0]
    assert any("`Hotspot`, a rectangle of 350 × 300 µm" in note for note in points.notes)
    assert sum(note.startswith("left out: 1 ") for note in points.notes) == 3


# One cell twice -------------------------------------------------------------------------------


def test_annotation_and_detection_of_a_cell_are_one_figure(tmp_path: Path) -> None:
    features = [
        feature(400, 300, "a", objectType="annotation"),
        feature(404, 303, "d", 40, objectType="detection", classification=classed("Mitosis")),
        feature(460, 300, "n", objectType="detection", classification=classed("Mitosis")),
    ]
    points = on_slide(tmp_path, features)
    assert points.ids == ["a", "n"] and points.classes == ["Mitosis", "Mitosis"]
    assert points.notes == ("1 figure is in the file twice and counted once (first: 'd' is 'a')",)


def test_focal_planes_are_one_figure_and_neighbours_are_two(tmp_path: Path) -> None:
    planes = [feature(400, 300, f"z{z}", plane={"c": -1, "z": z, "t": 0}) for z in range(5)]
    assert on_slide(tmp_path, planes).ids == ["z0"]
    assert len(on_slide(tmp_path, [feature(400, 300), feature(403, 300)])) == 2


def test_two_classes_at_one_place(tmp_path: Path) -> None:
    features = [feature(400, 300, name, classification=classed(name)) for name in ("Mitosis", "Other")]
    assert on_slide(tmp_path, features, classes=("Mitosis",)).ids == ["Mitosis"]
    both = on_slide(tmp_path, features, classes=("all",))
    assert both.classes == ["Mitosis | Other"]
    assert both.notes[-1] == "1 of these have two classes, and keep both (first: 'Mitosis', Mitosis | Other)"


def test_many_at_random_places_are_all_kept_and_their_copies_are_not(tmp_path: Path) -> None:
    places = np.random.default_rng(0).uniform(0, 20_000, (5000, 2))
    text = "x,y\n" + "".join(f"{x:.4f},{y:.4f}\n" for x, y in places)
    assert len(on_slide(tmp_path, text)) == 5000
    points = on_slide(tmp_path, text + "".join(text.splitlines(keepends=True)[1:101]))
    assert points.ids == [str(n) for n in range(1, 5001)]


def test_repeated_ids_get_one_of_their_own(tmp_path: Path) -> None:
    points = on_slide(tmp_path, "figure_id,x,y\na,100,1\na,200,2\nb,300,3\n")
    assert points.ids == ["a", "a~2", "b"]
    assert points.notes == ("1 figure has the id of another and got a new one (first: 'a', now 'a~2')",)
    by_slide = "figure_id,image,x,y\n1,case.png,5,5\n1,other.png,9,9\n"
    assert on_slide(tmp_path, by_slide).ids == ["1"]


# Tables ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "line"),
    [
        ("cx,cy", "100,200"),
        ("centroid_x,centroid_y", "100,200"),
        ("Centroid X,Centroid Y", "100,200"),
        ("x (px),y (px)", "100,200"),
        ("X [µm],Y [µm]", "25,50"),
        ("x_mm,y_mm", "0.025,0.05"),
        ("x,y,unit", "25,50,µm"),
        ("centroid", '"(100, 200)"'),
        ("centroid", "POINT (100 200)"),
        ("centroid-0,centroid-1", "200,100"),
        ("left,top,width,height", "80,170,40,60"),
        ("xmin,ymin,width,height", "80,170,40,60"),
        ("x1,y1,x2,y2", "80,170,120,230"),
        ("cx,cy,w,h", "100,200,40,60"),
        ("x,y,width,height", "-20,170,240,60"),
    ],
)
def test_columns_of_positions(tmp_path: Path, header: str, line: str) -> None:
    points = on_slide(tmp_path, f"{header}\n{line}\n")
    assert (points.x_px.tolist(), points.y_px.tolist()) == ([100.0], [200.0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y,width,height\n400,300,64,48\n", r"upper left corner or the centre of a box; fix: pass --box-format xywh"),
        ("left,top\n1,2\n", r"`left` and `top` are a corner of a box and its size is not there; fix: add"),
        ("10,20\n30,40\n", r"has no header line, it begins with numbers; fix: write one .*`x,y`"),
        ("10.5;20;a\n30;40;b\n", "has no header line"),
        (
            "x,y\n0.1,0.2\n0.5,0.6\n",
            "must be in pixels, got between 0 and 1, which are shares of the image; fix: multiply",
        ),
        ("x_norm,y_norm\n10,20\n", "must be in pixels, µm or mm, got shares of the image"),
        ("cx,cy,w,h\n0.1,0.2,0.01,0.01\n", "shares of the image"),
        ("x;y\n1,720;2,500\n", "with thousands or with decimals; fix: write decimals with a point"),
        ("x,y,unit\n1,2,mm\n3,4,px\n", "must be one unit, got mm and px"),
    ],
)
def test_what_may_be_meant_in_two_ways_is_refused_with_the_remedy(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        on_slide(tmp_path, text)


def test_the_option_settles_corner_or_centre(tmp_path: Path) -> None:
    text = "x,y,width,height\n400,300,64,48\n"
    for box_format, centre in (("xywh", (432.0, 324.0)), ("cxcywh", (400.0, 300.0))):
        points = on_slide(tmp_path, text, box_format=box_format)
        assert (points.x_px[0], points.y_px[0]) == centre
    with pytest.raises(DataError, match="`box_format` must be xywh or cxcywh, got xyxy"):
        on_slide(tmp_path, text, box_format="xyxy")


@pytest.mark.parametrize("delimiter", [";", "\t"])
@pytest.mark.parametrize("cell", ["1720,5", "1.720,5", "1,720.5"])
def test_decimal_commas(tmp_path: Path, delimiter: str, cell: str) -> None:
    points = on_slide(tmp_path, f"x{delimiter}y\n{cell}{delimiter}12,25\n")
    assert (points.x_px[0], points.y_px[0]) == (1720.5, 12.25)


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "p.csv"
    path.write_bytes("Image,Class,Centroid X µm,Centroid Y µm\nGröße.svs,Mitose,25,50\n".encode(encoding))
    points = read_points(path, mpp=0.25)
    assert (points.x_px[0], points.images, points.classes) == (100.0, ["Größe.svs"], ["Mitose"])
    assert bool(points.notes) == (encoding != "utf-8-sig")
    content = {"type": "FeatureCollection", "features": [feature(1, 2, classification=classed("Größe"))]}
    path.write_bytes(json.dumps(content, ensure_ascii=False).encode(encoding))
    assert read_points(path).classes == ["Größe"]


def test_words_for_not_known_are_null(tmp_path: Path) -> None:
    words = ["NA", "n/a", "NaN", "null", "None", "unknown", "-", "?", ""]
    with (tmp_path / "p.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("figure_id", "x", "y", "class"), *((w, 9 * n, 9, w) for n, w in enumerate(words))])
    points = read_points(tmp_path / "p.csv")
    assert points.classes is None and points.numbered


def test_geopandas_json_in_texts(tmp_path: Path) -> None:
    child = [feature(50, 60, classification=json.dumps(classed("Mitosis")))]
    parent = feature(1000, 1000, "r", 1900, classification=json.dumps(classed("Area")), childObjects=json.dumps(child))
    points = on_slide(tmp_path, [parent])
    assert points.classes == ["Mitosis"] and points.x_px.tolist() == [50.0]
