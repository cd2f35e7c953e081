"""``atypia predict``, as a user types it."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from tests.fixtures.slides import gradient, write_scn

from atypia.base.errors import InputError
from atypia.base.extras import installed
from atypia.data.slides.streams import CropBatch
from atypia.inference.bundles.bundle import load_bundle
from atypia.inference.bundles.decision import Verdicts
from atypia.inference.results import result_batch
from atypia.workflows.case.overlays import FiguresToExplain

Run = Callable[..., Any]
SIDE = 32


@pytest.fixture
def model(trained_folder: Path, tmp_path: Path) -> Path:
    """A probe on random features, whose field is 8 µm."""
    bundle = load_bundle(trained_folder / "fold-1" / "bundle")
    return replace(bundle, field_um=8.0).save(tmp_path / "model")


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    folder = tmp_path / "crops"
    (folder / "deep").mkdir(parents=True)
    for i, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(folder / ("deep" if i else ".") / f"{i}.png")
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture
def slide(crops: Path, tmp_path: Path) -> Path:
    """The four crops side by side."""
    files = sorted(crops.rglob("*.png"), key=lambda file: file.name)
    path = tmp_path / "case.png"
    Image.fromarray(np.concatenate([np.array(Image.open(file)) for file in files], axis=1)).save(path)
    return path


@pytest.fixture
def points(tmp_path: Path) -> Path:
    path = tmp_path / "points.csv"
    path.write_text("x,y\n" + "".join(f"{SIDE * i + SIDE / 2},{SIDE / 2}\n" for i in range(4)) + "9999,3\n")
    return path


def test_a_folder_becomes_a_table_and_a_summary(atypia: Run, model: Path, crops: Path, tmp_path: Path) -> None:
    ended = atypia(
        "predict", crops, "--model", model, "--out", tmp_path / "calls.csv", "--page", tmp_path / "case.html"
    )

    assert ended.code == 0, ended.err
    rows = list(csv.DictReader((tmp_path / "calls.csv").open(encoding="utf-8")))
    assert [row["figure_id"] for row in rows] == ["0.png", "deep/1.png", "deep/2.png", "deep/3.png"]
    for row in rows:
        assert (float(row["p_atypical"]) >= float(row["threshold"])) == (row["decision"] == "1")
    assert "1 file in a folder is no image" in ended.err and "calls.csv" in ended.err
    assert "4" in ended.out and "not a medical device" in ended.out
    assert (tmp_path / "case.html").read_text("utf-8").count("data:image/") == 4


def test_crops_and_slide_agree_and_a_point_outside_is_a_row(
    atypia: Run, model: Path, crops: Path, slide: Path, points: Path, tmp_path: Path
) -> None:
    assert atypia("predict", crops, "--model", model, "--out", tmp_path / "a.json").code == 0
    ended = atypia("predict", slide, "--points", points, "--mpp", 0.25, "--model", model, "--out", tmp_path / "b.json")
    assert ended.code == 0, ended.err
    plain, cut = (json.loads((tmp_path / name).read_text("utf-8")) for name in ("a.json", "b.json"))
    inside = {row["figure_id"]: row for row in cut if row["call"] != "refused"}
    assert [inside[f"case.png#{i}"]["p_atypical"] for i in range(1, 5)] == [row["p_atypical"] for row in plain]
    (outside,) = [row for row in cut if row["call"] == "refused"]
    assert outside["p_atypical"] is None and "inside" in outside["reason"]


def test_points_that_name_no_slide_are_not_taken_for_several(
    atypia: Run, model: Path, slide: Path, points: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.png"
    shutil.copy(slide, other)
    out = tmp_path / "calls.csv"
    ended = atypia("predict", slide, other, "--points", points, "--mpp", 0.25, "--model", model, "--out", out)
    assert ended.code == 2 and not out.exists()
    assert f"{points.name}` must be a file that names the slide of each figure" in ended.err


def test_geojson_of_one_slide_with_fields(atypia: Run, model: Path, slide: Path, points: Path, tmp_path: Path) -> None:
    out = tmp_path / "calls.geojson"
    ended = atypia("predict", slide, "--points", points, "--mpp", 0.25, "--model", model, "--out", out, "--fields")
    assert ended.code == 0, ended.err
    features = json.loads(out.read_text("utf-8"))["features"]
    ring = features[0]["geometry"]["coordinates"][0]
    assert max(x for x, _ in ring) - min(x for x, _ in ring) == SIDE


def test_several_models_cost_is_said_and_the_threshold_decides(
    atypia: Run, model: Path, crops: Path, tmp_path: Path
) -> None:
    arguments = ["--model", model, "--model", model, "--tta", "--threshold", 0.99]
    ended = atypia("predict", crops, *arguments, "--out", tmp_path / "c.jsonl", "--json")
    assert ended.code == 0, ended.err
    assert "16 forward passes a crop (2 networks, 8 views)" in ended.err
    assert json.loads(ended.out)["atypical"] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "x.xlsx"], "must be a name ending in .csv"),
        (["--out", "x.geojson"], "`inputs` must be one slide with points for GeoJSON"),
        (["--at", "sensitivity-0.90"], "`operating point` must be one of the model's"),
        (["--coverage", "0.9"], "`coverage` must be left out"),
        (["--runtime", "tensorrt"], "unknown runtime 'tensorrt'"),
        pytest.param(
            ["--engine", "ray"],
            "go with --slides",
            marks=pytest.mark.skipif(not installed("ray"), reason="needs atypia[scale]"),
        ),
        (["--slides", "list.csv"], "give --out FOLDER"),
        (["--threshold", "2"], "threshold"),
    ],
)
def test_bad_requests_are_two(atypia: Run, model: Path, crops: Path, arguments: list[str], words: str) -> None:
    ended = atypia("predict", crops, "--model", model, *arguments)
    assert ended.code == 2 and words in ended.err, ended.err


def test_inputs_that_are_not_there(atypia: Run, model: Path, tmp_path: Path) -> None:
    assert atypia("predict", "--model", model).code == 2
    ended = atypia("predict", tmp_path / "nothing", "--model", model, "--out", tmp_path / "x.csv")
    assert ended.code == 2 and not (tmp_path / "x.csv").exists()


def test_a_list_of_slides_with_one_that_fails(
    atypia: Run, model: Path, slide: Path, points: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others finish, the failure is said, and the exit code is 1."""
    from atypia.workflows.slides import predict as slides
    from atypia.workflows.slides.tasks import SlideOutcome

    listed = tmp_path / "slides.csv"
    listed.write_text(f"slide,points,mpp\n{slide},{points},0.25\n{tmp_path}/gone.svs,{points},\n")
    asked: list[Any] = []

    def predicted(jobs: Any, out: Path, settings: Any, work: Any, **how: Any) -> list[SlideOutcome]:
        asked.append((len(jobs), out, settings.forms, how["engine"]))
        return [SlideOutcome("case", str(slide), "done", 4, 1, 0.25, 0.1, ""),
                SlideOutcome("gone", "gone.svs", "failed", 0, 0, None, 0.1, "cannot be read")]  # fmt: skip

    monkeypatch.setattr(slides, "run_slides", predicted)
    ended = atypia("predict", "--slides", listed, "--model", model, "--out", tmp_path / "cases", "--form", "csv")
    assert asked == [(2, tmp_path / "cases", ("csv",), "local")]
    assert ended.code == 1 and "gone: cannot be read" in ended.err and "slides: 1 done, 0 kept, 1 failed" in ended.err


def batch(ids: list[str]) -> CropBatch:
    nowhere = np.full(len(ids), np.nan)
    return CropBatch(ids, np.zeros((len(ids), 4, 4, 3), np.uint8), ids, nowhere, nowhere)


def test_the_most_probable_or_the_named_are_picked(tmp_path: Path) -> None:
    p = np.linspace(0.01, 0.99, 40)
    ids = [f"f{i}" for i in range(40)]
    verdicts = Verdicts(p, (p > 0.5).astype(np.int8), ["normal" if x < 0.5 else "atypical" for x in p], p * np.nan)
    crops = batch(ids)
    results = result_batch(crops, verdicts, "m", 0.5)
    top, named = FiguresToExplain(), FiguresToExplain(("f3", "f7"))
    top.add(crops, results)
    named.add(crops, results)
    assert sorted(figure for _, figure, _ in top._held) == sorted(f"f{i}" for i in range(28, 40))
    assert sorted(figure for _, figure, _ in named._held) == ["f3", "f7"]
    # A figure without a probability was refused: it is never among the most probable, and shown where it is named.
    column = results.schema.get_field_index("p_atypical")
    refused = results.set_column(column, "p_atypical", pa.array([None, *p[1:]], pa.float64()))
    for one in (FiguresToExplain(), FiguresToExplain(("f0", "f39"))):
        one.add(crops, refused)
        assert ("f0" in {figure for _, figure, _ in one._held}) == bool(one.names)
        assert max(one._held)[1] == "f39"
    with pytest.raises(InputError, match="`figure` must be a figure of the inputs that was scored, got nothing"):
        FiguresToExplain(("nothing",)).write_overlays("m", tmp_path)


def test_rows_come_in_the_order_of_the_points_with_class_and_refused_ones_in_place(
    atypia: Run, model: Path, slide: Path, tmp_path: Path
) -> None:
    points = tmp_path / "far.csv"
    places = [(112, 16), (9999, 3), (16, 16), (80, 16), (48, 16)]
    points.write_text("figure_id,x,y,class\n" + "".join(f"f{i},{x},{y},Mitosis\n" for i, (x, y) in enumerate(places)))
    arguments = ("--points", points, "--mpp", 0.25, "--model", model)
    for suffix in (".csv", ".json", ".parquet", ".geojson"):
        out = tmp_path / f"calls{suffix}"
        ended = atypia("predict", slide, *arguments, "--out", out, "--page", tmp_path / "case.html", "--batch-size", 2)
        assert ended.code == 0, ended.err
    rows = list(csv.DictReader((tmp_path / "calls.csv").open(encoding="utf-8")))
    assert [row["figure_id"] for row in rows] == [f"f{i}" for i in range(5)]
    assert {row["class"] for row in rows} == {"Mitosis"} and rows[1]["call"] == "refused"
    assert [row["class"] for row in json.loads((tmp_path / "calls.json").read_text("utf-8"))] == ["Mitosis"] * 5
    features = json.loads((tmp_path / "calls.geojson").read_text("utf-8"))["features"]
    assert [feature["properties"]["name"] for feature in features] == [f"f{i}" for i in range(5)]
    assert features[0]["properties"]["metadata"]["class"] == "Mitosis"
    assert "Mitosis" in (tmp_path / "case.html").read_text("utf-8")


def test_a_uuid_of_a_feature_comes_back_and_several_classes_are_two(
    atypia: Run, model: Path, slide: Path, tmp_path: Path
) -> None:
    own = "cd44e1ba-0a43-4d9e-b334-7ce900a709c6"
    features = [
        {
            "type": "Feature",
            "id": own if i == 0 else f"x{i}",
            "geometry": {"type": "Point", "coordinates": [16 + 32 * i, 16]},
            "properties": {"classification": {"name": name}},
        }
        for i, name in enumerate(("Mitosis", "Other"))
    ]
    points, out = tmp_path / "p.geojson", tmp_path / "calls.geojson"
    points.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    arguments = ("predict", slide, "--points", points, "--mpp", 0.25, "--model", model, "--out", out)
    ended = atypia(*arguments)
    assert ended.code == 2 and "1 Mitosis, 1 Other" in ended.err and not out.exists()
    assert atypia(*arguments, "--class", "all").code == 0
    written = json.loads(out.read_text("utf-8"))["features"]
    assert [feature["properties"]["name"] for feature in written] == [own, "x1"]
    assert written[0]["id"] == own and written[1]["id"] != "x1"


def test_a_slide_with_a_scanned_area_from_points_to_geojson_and_back(atypia: Run, model: Path, tmp_path: Path) -> None:
    """QuPath's position is read on the scanned area, stays what it was, and is written where QuPath expects it."""
    pytest.importorskip("openslide")
    slide = write_scn(tmp_path / "case.scn", gradient(), (200, 120), (1000, 900))
    table = tmp_path / "points.csv"
    table.write_text("x,y\n300,250\n320,260\n")
    out = tmp_path / "calls.csv"
    asked = ("predict", slide, "--points", table, "--model", model, "--out")
    ended = atypia(*asked, out)
    assert ended.code == 2 and "--origin bounds" in ended.err and not out.exists()
    ended = atypia(
        *asked, out, "--origin", "canvas", "--page", tmp_path / "page.html", "--summary", tmp_path / "s.json"
    )
    assert ended.code == 0, ended.err
    assert "begins at (200, 120) of the canvas" in ended.err
    (row, _) = csv.DictReader(out.open(encoding="utf-8"))
    assert (row["x_px"], row["origin"], row["origin_x_px"]) == ("300.0", "canvas", "0.0")
    assert (row["mpp"], row["mpp_source"]) == ("0.25", "file: SCN XML")
    assert "0.25, file: SCN XML" in (tmp_path / "page.html").read_text("utf-8")
    (image,) = json.loads((tmp_path / "s.json").read_text("utf-8"))["images"]
    assert (image["mpp"], image["mpp_source"], image["origin"]) == (0.25, "file: SCN XML", "canvas")
    assert atypia(*asked, tmp_path / "calls.geojson", "--origin", "canvas").code == 0
    first = json.loads((tmp_path / "calls.geojson").read_text("utf-8"))["features"][0]
    assert first["geometry"]["coordinates"] == [100, 130]
    # What was written for QuPath is read again, and now QuPath's marks tell what it counts from.
    ended = atypia("predict", slide, "--points", tmp_path / "calls.geojson", "--model", model, "--out", out)
    assert ended.code == 0, ended.err
    again = next(csv.DictReader(out.open(encoding="utf-8")))
    assert (again["x_px"], again["origin"], again["p_atypical"]) == ("100.0", "bounds", row["p_atypical"])


def test_sizes_that_contradict_each_other_are_refused_until_it_is_said_which(
    atypia: Run, model: Path, tmp_path: Path
) -> None:
    slide = write_scn(tmp_path / "case.scn", gradient(), (0, 0), (600, 512))
    table = tmp_path / "points.csv"
    table.write_text("x,y\n300,250\n")
    asked = ("predict", slide, "--points", table, "--model", model, "--out", tmp_path / "calls.csv", "--mpp", 0.5)
    ended = atypia(*asked)
    assert (
        ended.code == 2
        and "0.5 (given by --mpp) and 0.25 (file: SCN XML); fix: --mpp-from given or --mpp-from scn" in ended.err
    )
    for choice, expected in (("given", "0.5"), ("scn", "0.25")):
        assert atypia(*asked, "--mpp-from", choice).code == 0
        assert next(csv.DictReader((tmp_path / "calls.csv").open(encoding="utf-8")))["mpp"] == expected


@pytest.mark.real
def test_a_folder_of_dicom_files_is_a_slide(atypia: Run, model: Path, real_root: Path, tmp_path: Path) -> None:
    pytest.importorskip("openslide")
    file = real_root / "slides" / "camelyon-multiframe.dcm"
    if not file.is_file():
        pytest.skip(f"{file.name} is not in the data folder")
    (tmp_path / "series").mkdir()
    shutil.copy(file, tmp_path / "series" / "1.dcm")
    table = tmp_path / "points.csv"
    table.write_text("x,y\n500,300\n")
    rows = []
    for slide in (file, tmp_path / "series"):
        out = tmp_path / "calls.csv"
        ended = atypia("predict", slide, "--points", table, "--mpp", 0.25, "--model", model, "--out", out)
        assert ended.code == 0, ended.err
        rows.append(next(csv.DictReader(out.open(encoding="utf-8"))))
    assert rows[0]["p_atypical"] == rows[1]["p_atypical"] and rows[1]["image"] == str(tmp_path / "series")


# What is refused ------------------------------------------------------------------------------


def test_where_every_figure_is_refused_the_exit_code_is_one(atypia: Run, model: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    os.mkfifo(bad / "b.png")
    ended = atypia("predict", bad, "--model", model, "--out", tmp_path / "r.csv")

    assert ended.code == 1
    assert "warning: every figure (2) was refused; see the column `reason`" in ended.err
    rows = list(csv.DictReader((tmp_path / "r.csv").open(encoding="utf-8")))
    assert [row["call"] for row in rows] == ["refused", "refused"]
    assert "is a named pipe, not a regular file" in rows[1]["reason"]


def test_a_slide_whose_figures_are_all_refused_is_told_and_the_exit_code_is_one(
    atypia: Run, model: Path, slide: Path, tmp_path: Path
) -> None:
    (tmp_path / "out.csv").write_text("x,y\n90000,90000\n80000,5\n")
    table = tmp_path / "slides.csv"
    table.write_text(f"slide,points,mpp\n{slide},{tmp_path / 'out.csv'},0.25\n")
    ended = atypia("predict", "--slides", table, "--model", model, "--out", tmp_path / "many", "--workers", "1")

    assert ended.code == 1
    assert "case: every figure (2) was refused; see `reason` in its results" in ended.err
    assert (tmp_path / "many" / "case" / "results.parquet").is_file()


def test_a_pipe_is_refused_before_it_is_opened(atypia: Run, model: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.png")
    ended = atypia("predict", tmp_path / "p.png", "--model", model)

    assert ended.code == 2
    assert "p.png is a named pipe, not a regular file; fix: " in ended.err


def test_a_batch_beyond_the_memory_is_refused(atypia: Run, model: Path, crops: Path) -> None:
    ended = atypia("predict", crops, "--model", model, "--batch-size", "100000000")

    assert ended.code == 2
    assert "`batch_size` must be at most 349,525 for crops of 32 px (1 GiB), got 100,000,000; fix: " in ended.err
