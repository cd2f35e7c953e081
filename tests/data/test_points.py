"""Points in tables, and what all formats have in common."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atypia.base.errors import DataError, InputError
from atypia.data.points.base import POINT_FORMATS, PointLimits, Points, ScaleError
from atypia.data.points.reading import read_points
from atypia.data.points.shapes import polygons


def wrote(folder: Path, text: str, name: str = "points.csv", encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


# Tables ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header", ["x_px,y_px", "x,y", "X,Y", "Centroid X px,Centroid Y px", "coordinateX,coordinateY"]
)
def test_position_columns(tmp_path: Path, header: str) -> None:
    points = read_points(wrote(tmp_path, f"{header}\n10.5,20\n-1,2e3\n"))
    assert points.x_px.tolist() == [10.5, -1.0]
    assert points.y_px.tolist() == [20.0, 2000.0]
    assert points.x_px.dtype == np.float64
    assert points.ids == ["1", "2"] and points.numbered
    assert points.images is None and points.sizes_px is None and points.classes is None


@pytest.mark.parametrize("sign", ["µm", "μm", "um", "Âµm"])
def test_positions_in_um_need_the_scale(tmp_path: Path, sign: str) -> None:
    path = wrote(tmp_path, f"Object ID\tClassification\tCentroid X {sign}\tCentroid Y {sign}\na\tMitosis\t25.0\t50.0\n")
    with pytest.raises(ScaleError, match=r"in µm.*not known; fix: give mpp"):
        read_points(path)
    points = read_points(path, mpp=0.25)
    assert (points.x_px[0], points.y_px[0]) == (100.0, 200.0)
    assert points.ids == ["a"] and not points.numbered
    assert points.classes == ["Mitosis"]


def test_boxes_give_centre_and_size(tmp_path: Path) -> None:
    points = read_points(wrote(tmp_path, "xmin,ymin,xmax,ymax,label\n10,20,30,60,atypical\n0,0,5,5,\n"))
    assert points.x_px.tolist() == [20.0, 2.5]
    assert points.y_px.tolist() == [40.0, 2.5]
    assert points.sizes_px is not None and points.sizes_px.tolist() == [[20.0, 40.0], [5.0, 5.0]]
    assert points.classes == ["atypical", None]


def test_centre_goes_before_box_whose_size_is_kept(tmp_path: Path) -> None:
    points = read_points(wrote(tmp_path, "x,y,xmin,ymin,xmax,ymax\n11,42,10,20,30,60\n"))
    assert (points.x_px[0], points.y_px[0]) == (11.0, 42.0)
    assert points.sizes_px is not None and points.sizes_px.tolist() == [[20.0, 40.0]]
    with pytest.raises(DataError, match=r"`x` and `y` must be inside the box, got \(1, 2\), and the box is around"):
        read_points(wrote(tmp_path, "x,y,xmin,ymin,xmax,ymax\n1,2,10,20,30,60\n"))


@pytest.mark.parametrize(
    "text", ["\ufefffigure_id;x;y;image\r\na;1.5;2;s.svs\r\n", "figure_id\tx\ty\timage\na\t1.5\t2\ts.svs\n"]
)
def test_byte_order_mark_and_delimiters(tmp_path: Path, text: str) -> None:
    points = read_points(wrote(tmp_path, text))
    assert (points.ids, points.images, points.x_px.tolist()) == (["a"], ["s.svs"], [1.5])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y\n", r"points\.csv holds no points; fix: "),
        ("a,b\n1,2\n", r"no columns of positions; there are: a, b; fix: name them `x_px`"),
        ("x;y\n1,720;2\n", r"line 2: `x` must be a number, got '1,720', which is .*; fix: write decimals with a point"),
        ("x,y\n1,2\nnan,3\n", r"line 3: `x` must be a finite number, got 'nan'"),
        ("x,y\n1,inf\n", r"line 2: `y` must be a finite number, got 'inf'"),
        ("x,y\n1,\n", r"line 2: `y` must be a number, got ''"),
        ("x,X,y\n1,2,3\n", r"the columns `x` and `X` have one meaning"),
        (
            "xmin,ymin,xmax,ymax\n100,100,50,50\n",
            r"`xmax` and `ymax` must be at least the other corner, .*fix: give corners",
        ),
        ("x,y,image\n1,2,a.svs\n3,4,\n", r"1 points name no slide and others do"),
        ("", r"is empty \(0 bytes\)"),
        ("\n\n", r"is empty"),
        ("<xml/>", r"must be one of .*, got XML with the root <xml>; fix: export it as GeoJSON"),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_points(wrote(tmp_path, text))


def test_other_bad_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_points(tmp_path / "absent.csv")
    with pytest.raises(DataError, match="not a regular file"):
        read_points(tmp_path)
    with pytest.raises(DataError, match="not UTF-8 text"):
        read_points(wrote(tmp_path, "x,y,µ\x01\n1,2,3\n", encoding="latin-1"))
    (tmp_path / "p.csv.gz").write_bytes(b"\x1f\x8b\x08rest")
    with pytest.raises(DataError, match="got a gzip archive; fix: unpack it first"):
        read_points(tmp_path / "p.csv.gz")
    with pytest.raises(DataError, match="no valid JSON"):
        read_points(wrote(tmp_path, '{"type": ', "broken.json"))
    with pytest.raises(DataError, match="no valid JSON"):
        read_points(wrote(tmp_path, "[" * 200_000, "deep.json"))
    with pytest.raises(DataError, match=r"must be one of .*coco.*geojson.*, got a JSON object with `a`"):
        read_points(wrote(tmp_path, '{"a": 1}', "other.json"))


def test_limits(tmp_path: Path) -> None:
    path = wrote(tmp_path, "x,y\n1,2\n3,4\n")
    assert len(read_points(path, limits=PointLimits(max_points=2))) == 2
    with pytest.raises(DataError, match="at most 1 points"):
        read_points(path, limits=PointLimits(max_points=1))
    with pytest.raises(DataError, match="at most 5 bytes"):
        read_points(path, limits=PointLimits(max_bytes=5))


def test_bad_arguments(tmp_path: Path) -> None:
    path = wrote(tmp_path, "x,y\n1,2\n")
    for mpp in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="`mpp` must be a positive number"):
            read_points(path, mpp=mpp)
    with pytest.raises(InputError, match="unknown format of points 'geojsn'; did you mean 'geojson'"):
        read_points(path, format="geojsn")
    with pytest.raises(DataError, match="must be of the format coco, got csv"):
        read_points(path, format="coco")
    with pytest.raises(InputError, match="`box_format` must be auto or xywh or xyxy or cxcywh"):
        read_points(path, box_format="voc")  # pyright: ignore[reportArgumentType]
    assert {"csv", "exact", "geojson", "coco", "sliderunner", "annotation-store", "ndpa"} <= set(POINT_FORMATS)


# EXACT ----------------------------------------------------------------------------------------


def test_exact_table(tmp_path: Path) -> None:
    vectors = [
        {"x1": 30, "y1": 60, "x2": 10, "y2": 20},
        {"x1": 5, "y1": 6},
        {"x1": 0, "y1": 0, "x2": 6, "y2": 0, "x3": 0, "y3": 6},
    ]
    cells = [json.dumps(vector).replace('"', '""') for vector in vectors]
    quoted = str(vectors[1])
    text = "id,unique_identifier,image_name,vector,annotation_type__name,deleted\n"
    text += "".join(f'{n},u,s.tiff,"{cell}",AMF,False\n' for n, cell in enumerate(cells))
    text += f'7,u,s.tiff,"{quoted}",NMF,False\n8,u,s.tiff,"{cells[0]}",NMF,True\n9,u,s.tiff,,NMF,False\n'
    points = read_points(wrote(tmp_path, text))
    assert points.ids == ["0", "1", "2", "7"]
    assert points.x_px.tolist() == [20.0, 5.0, 2.0, 5.0]
    assert points.y_px.tolist() == [40.0, 6.0, 2.0, 6.0]
    assert points.images == ["s.tiff"] * 4
    assert points.classes == ["AMF", "AMF", "AMF", "NMF"]
    assert points.sizes_px is not None and points.sizes_px[0].tolist() == [20.0, 40.0]
    assert points.notes == ("left out: 1 deleted line", "left out: 1 line without a shape")


@pytest.mark.parametrize("vector", ["[1, 2]", "box", '{""a1"": 1, ""b1"": 2}', '{""x1"": ""a"", ""y1"": 2}'])
def test_exact_bad_vector(tmp_path: Path, vector: str) -> None:
    with pytest.raises(DataError, match=r"line 2: `vector` must be JSON like"):
        read_points(wrote(tmp_path, f'vector\n"{vector}"\n'))


# Points ---------------------------------------------------------------------------------------


def test_points_of_one_slide(tmp_path: Path) -> None:
    text = "figure_id,x,y,image\na,1,1,dir/one.svs\nb,2,2,two.svs\nc,3,3,one.svs - Series 0\nd,4,4,three\n"
    points = read_points(wrote(tmp_path, text))
    assert points.on_image("/else/one.svs").ids == ["a"]
    assert points.on_image("/else/one.svs").notes == ("points of 'dir/one.svs' are used for one.svs",)
    assert points.on_image("two.tiff").ids == ["b"]
    assert points.on_image(Path("three.ndpi")).ids == ["d"]
    with pytest.raises(DataError, match=r"no point is on 'four\.svs'; the points are on 4 others: "):
        points.on_image("four.svs")
    unnamed = read_points(wrote(tmp_path, "x,y\n1,2\n"))
    assert unnamed.on_image("any.svs") is unnamed


def test_points_of_classes(tmp_path: Path) -> None:
    points = read_points(wrote(tmp_path, "x,y,class\n1,1,Mitosis\n2,2,other\n3,3,\n"))
    assert points.of_classes(["mitosis"]).ids == ["1"]
    with pytest.raises(InputError, match="name one of: 1 Mitosis, 1 other, 1 without a class"):
        points.of_classes(["tumour"])


def test_points_from_arrays() -> None:
    points = Points.at([1, 2], [3, 4])
    assert points.ids == ["1", "2"] and points.numbered
    assert not Points.at([1], [3], ["a"]).numbered
    assert points.take(np.array([False, True])).x_px.tolist() == [2.0]
    with pytest.raises(InputError, match="two arrays of the same shape"):
        Points.at([1, 2], [3])
    with pytest.raises(InputError, match="finite"):
        Points.at([math.nan], [3])
    with pytest.raises(InputError, match="'a' twice"):
        Points.at([1, 2], [3, 4], ["a", "a"])
    with pytest.raises(InputError, match="`x_px` must be of 1 figures"):
        Points.at([1, 2], [3, 4], ["a"])


@settings(max_examples=50, deadline=None)
@given(
    st.integers(3, 12),
    st.floats(1, 400),
    st.tuples(st.floats(-1e5, 1e5), st.floats(-1e5, 1e5)),
    st.booleans(),
    st.booleans(),
)
def test_regular_polygons_have_their_centre(
    corners: int, radius: float, centre: tuple[float, float], closed: bool, turned: bool
) -> None:
    angle = np.arange(corners) * 2 * np.pi / corners
    ring = np.stack([centre[0] + radius * np.cos(angle), centre[1] + radius * np.sin(angle)], axis=1)
    ring = np.concatenate([ring, ring[:1]]) if closed else ring
    x, y, width, height = polygons([[ring[::-1] if turned else ring]])
    assert (x, y) == pytest.approx(centre, abs=1e-6)
    assert width == pytest.approx(np.ptp(ring[:, 0])) and height == pytest.approx(np.ptp(ring[:, 1]))


# Real tables ----------------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "count", "first"),
    [
        ("MIDOGpp.csv", 26_286, (4361, 371, "001.tiff")),
        ("MIDOG2022_training_tiff.csv", 20_552, (4361, 371, "001.tiff")),
        ("MIDOG25.csv", 11_937, (5047, 459, "201.tiff")),
        ("AMI-BR.csv", 3_720, (4422, 216, "002.tiff")),
    ],
)
def test_published_tables(real_root: Path, name: str, count: int, first: tuple[float, float, str]) -> None:
    points = read_points(real_root / "tables" / name)
    assert points.images is not None
    assert len(points) == count
    assert (points.x_px[0], points.y_px[0], points.images[0]) == first


def test_documentation_lists_every_format() -> None:
    page = (Path(__file__).parents[2] / "docs" / "inputs.md").read_text(encoding="utf-8")
    listed = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    assert sorted(listed) == sorted(POINT_FORMATS)
    for entry in POINT_FORMATS.values():
        assert entry.summary and entry.name in listed
