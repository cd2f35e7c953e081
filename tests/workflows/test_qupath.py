"""Scripts for QuPath: what they say, and what they do to the objects of an open image.

QuPath itself is not here. Its scripts are Groovy, which is run where it is installed, with stand-ins for the few
classes of QuPath that the scripts use (``tests/fixtures/qupath``).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.fixtures.slides import write_scn

from atypia.base.errors import InputError
from atypia.data.images.geometry import CropGeometry
from atypia.data.phantom.dataset import write_phantom
from atypia.inference.bundles.bundle import Bundle
from atypia.inference.export.onnx import export_onnx
from atypia.inference.runtimes.catalogue import ONNX_FILE
from atypia.reports.case.geojson import CALL_COLOURS
from atypia.workflows.predict import predict_slide
from atypia.workflows.qupath.scripts import SCRIPTS, own_command, qupath_script, write_scripts

STAND_INS = Path(__file__).parents[1] / "fixtures" / "qupath"
CORNER = (300, 200)
"""Of the scanned area, on the canvas from which OpenSlide counts."""
IDS = ("5b0c1c1e-7d2a-4c7e-9a55-000000000001", "5b0c1c1e-7d2a-4c7e-9a55-000000000002")
PLACES = ((64.0, 64.0), (192.0, 64.0))
"""In pixels of the scanned area, as QuPath counts."""


def groovy_works() -> bool:
    groovy = shutil.which("groovy")
    return (
        groovy is not None and subprocess.run([groovy, "--version"], capture_output=True, check=False).returncode == 0
    )


needs_groovy = pytest.mark.skipif(
    not groovy_works(), reason="Groovy, in which QuPath's scripts are written, is not here"
)


def test_scripts_are_complete_and_name_this_installation(tmp_path: Path) -> None:
    for name in SCRIPTS:
        text = qupath_script(name)
        assert "@" not in text and "exportObjectsToGeoJson(" in text
        assert "def figures = getSelectedObjects()" in text  # the part that both share
    assert repr(own_command()[0]) in qupath_script("classify")
    strange = qupath_script("classify", [r"C:\Users\o'neil\atypia.exe"])
    assert r"def ATYPIA = ['C:\\Users\\o\'neil\\atypia.exe']" in strange
    assert [path.name for path in write_scripts(tmp_path)] == ["atypia-export.groovy", "atypia-classify.groovy"]
    with pytest.raises(InputError, match="one of export, classify, got predict"):
        qupath_script("predict")
    with pytest.raises(InputError, match="`command` must be what starts Atypia"):
        qupath_script("export", [])


def test_the_colours_of_calls_are_those_of_the_files() -> None:
    text = qupath_script("classify")
    for call, (red, green, blue) in CALL_COLOURS.items():
        assert f"{call}: [{red}, {green}, {blue}]" in text


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two figures on a slide whose scanned area begins away from the corner of its canvas."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("slide")
    data = write_phantom(folder / "set", 2, workers=1)
    assert data.root is not None
    pixels = np.full((256, 256, 3), 235, np.uint8)
    for name, (x, y) in zip(data.table["image"].to_pylist(), PLACES, strict=True):
        crop = np.asarray(Image.open(data.root / name).convert("RGB"))[:128, :128]
        left, top = int(x) - 64, int(y) - 64
        pixels[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
    return write_scn(folder / "case 1.scn", pixels, CORNER, (1024, 1024))


@pytest.fixture
def model(bundle: Bundle, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    sees = replace(bundle, geometry=CropGeometry(out_px=32), field_um=8.0)
    export_onnx(sees, sees.save(folder) / ONNX_FILE)
    return folder


def in_qupath(folder: Path, script: str, case: dict[str, Any], **settings: str) -> tuple[str, dict[str, Any]]:
    """Runs a script on an open image; what it printed, and the objects afterwards."""
    text = qupath_script(script, [sys.executable, "-m", "atypia"])
    for name, value in {"FOLDER": str(folder / "out"), **settings}.items():
        assert text.count(f"def {name} = null ") <= 1
        text = text.replace(f"def {name} = null ", f"def {name} = '{value}' ")
    (folder / "script.groovy").write_text(text)
    (folder / "case.json").write_text(json.dumps({"selected": [], "name": "case 1.scn", **case}))
    command = ["groovy", "-cp", str(STAND_INS), str(STAND_INS / "run.groovy")]
    done = subprocess.run(
        [*command, str(folder / "script.groovy"), str(folder / "case.json")],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    said, _, state = done.stdout.rstrip().rpartition("\n")
    return said, json.loads(state)


@needs_groovy
@pytest.mark.slow
def test_calls_come_back_to_the_objects_that_were_sent(slide: Path, model: Path, tmp_path: Path) -> None:
    objects = [{"id": one, "class": "Mitosis", "positions": [place]} for one, place in zip(IDS, PLACES, strict=True)]
    case = {"slide": str(slide), "kind": "detection", "objects": objects}
    said, after = in_qupath(tmp_path, "classify", case, MODEL=str(model))
    assert after["updated"] and "Atypia: 2 figures:" in said

    on_canvas = [(x + CORNER[0], y + CORNER[1]) for x, y in PLACES]
    expected = predict_slide(slide, np.array(on_canvas), model, origin="canvas")
    for found, place, one in zip(after["objects"], PLACES, expected, strict=True):
        assert found["positions"] == [list(place)]  # nothing moves
        assert found["class"] == f"Mitosis: {one.call}"
        assert found["measurements"]["Atypia p_atypical"] == pytest.approx(one.p_atypical, rel=1e-6)
    assert [found["id"] for found in after["objects"]] == list(IDS)

    again = {
        **case,
        "objects": [{**one, "class": found["class"]} for one, found in zip(objects, after["objects"], strict=True)],
    }
    _, second = in_qupath(tmp_path, "classify", again, MODEL=str(model))
    assert [one["class"] for one in second["objects"]] == [one["class"] for one in after["objects"]]


@needs_groovy
@pytest.mark.slow
def test_positions_of_one_annotation_become_detections(slide: Path, model: Path, tmp_path: Path) -> None:
    case = {"slide": str(slide), "kind": "annotation",
            "objects": [{"id": IDS[0], "class": None, "positions": [list(place) for place in PLACES]}]}  # fmt: skip
    said, after = in_qupath(tmp_path, "classify", case, MODEL=str(model))
    assert "2 of them are new detections" in said
    annotation, *added = after["objects"]
    assert annotation["class"] is None and [one["positions"] for one in added] == [[list(place)] for place in PLACES]


@needs_groovy
@pytest.mark.slow
def test_selected_objects_are_exported_alone(slide: Path, tmp_path: Path) -> None:
    objects = [{"id": one, "class": None, "positions": [place]} for one, place in zip(IDS, PLACES, strict=True)]
    case = {"slide": str(slide), "kind": "detection", "selected": [IDS[1]], "objects": objects}
    said, _ = in_qupath(tmp_path, "export", case)
    assert "1 object written" in said
    (feature,) = json.loads((tmp_path / "out" / "case 1.scn.geojson").read_text())["features"]
    assert feature["id"] == IDS[1]
