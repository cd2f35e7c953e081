"""The adapter of TIAToolbox, run with a stand-in for its environment.

The stand-in has the interface of TIAToolbox 2.1.3, read in its source: ``tiatoolbox.models.NucleusDetector`` with the same
names of arguments, which refuses a folder that exists, returns ``{slide: store}``, and writes the table of its
annotation store. TIAToolbox itself, its network and its weights were not run.
"""

from __future__ import annotations

import shlex
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atypia.base.errors import AbsentError, InputError, WorkError
from atypia.data.slides.slidecrops import SlideReading
from atypia.workflows.detection.run import detect

MODELS = """
import json, os, sqlite3, sys
from pathlib import Path

class Store:
    def __init__(self):
        raise AttributeError("'sqlite3.Connection' object has no attribute 'enable_load_extension'")

    def __del__(self):
        self.auto_commit

class NucleusDetector:
    def __init__(self, model, batch_size=8, num_workers=0, weights=None, *, device="cpu", verbose=True):
        self.model, self.weights = model, weights

    def run(self, images, masks=None, input_resolutions=None, patch_input_shape=None, ioconfig=None, *, patch_mode=True,
            save_dir=None, overwrite=False, output_type="dict", device="cpu", auto_get_mask=True, threshold_abs=None,
            wsireader_kwargs=None):
        if self.model == "broken":
            raise RuntimeError("CUDA out of memory")
        if self.model == "no extensions":  # as TIAToolbox's store fails there, and complains once more when it is deleted
            self.store = Store()
        print("a bar of progress", file=sys.stderr)
        print("something that it prints")
        assert not patch_mode and output_type == "annotationstore" and not Path(save_dir).exists()
        Path(save_dir).mkdir(parents=True)
        path = Path(save_dir) / (images[0].stem + ".db")
        database = sqlite3.connect(path)
        database.execute("CREATE TABLE annotations(id INTEGER PRIMARY KEY, key TEXT UNIQUE, objtype TEXT, cx FLOAT NOT NULL,"
                         " cy FLOAT NOT NULL, min_x FLOAT, min_y FLOAT, max_x FLOAT, max_y FLOAT, geometry BLOB, properties TEXT)")
        found = [(100, 120, 0.995), (400, 300, 0.999), (200, 250, 0.4)]
        least = 0.99 if threshold_abs is None else threshold_abs
        for number, (x, y, score) in enumerate(found if self.model != "blind" else []):
            if score >= least:
                said = {"type": "Mitotic_Figure", "probability": score}
                database.execute("INSERT INTO annotations VALUES(NULL,?,?,?,?,?,?,?,?,NULL,?)",
                                 (f"k{number}", "Point", x, y, x, y, x, y, json.dumps(said)))
        database.commit()
        database.close()
        with open(os.environ["STAND_IN_LOG"], "a") as file:
            print(json.dumps({"model": self.model, "weights": self.weights, "device": device, "mpp": wsireader_kwargs,
                              "threshold": threshold_abs}), file=file)
        return {images[0]: path}
"""


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that stands for Python of an environment with TIAToolbox."""
    package = tmp_path / "environment" / "tiatoolbox"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('__version__ = "2.1.3"\n')
    (package / "models.py").write_text(MODELS)
    python = tmp_path / "environment" / "python"
    python.write_text(
        f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(package.parent))} exec {shlex.quote(sys.executable)} "$@"\n'
    )
    python.chmod(0o755)
    monkeypatch.setenv("STAND_IN_LOG", str(tmp_path / "log"))
    return python


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    path = tmp_path / "case.png"
    Image.fromarray(np.full((400, 600, 3), 200, np.uint8)).save(path)
    return path


def run(slide: Path, python: Path, *settings: str, **how: Any) -> Any:
    asked = {"reading": SlideReading(0.25), "settings": [f"python={python}", *settings], **how}
    return detect([slide], "tiatoolbox", **asked)


def asked_of(tmp_path: Path) -> list[str]:
    return (tmp_path / "log").read_text().splitlines()


def test_what_it_finds_is_read_and_kept(slide: Path, environment: Path, tmp_path: Path) -> None:
    done = run(slide, environment, out=[tmp_path / "found.csv"])
    found = done.slides[0].found
    assert found.x_px.tolist() == [400, 100] and found.scores.tolist() == [0.999, 0.995]
    assert found.by == "TIAToolbox 2.1.3, KongNet_Det_MIDOG_1" and found.min_score == 0.99
    assert any("TIAToolbox's terms" in note for note in done.notes) and "experimental" in done.notes[0]
    assert '"mpp": [0.25, 0.25]' in asked_of(tmp_path)[0] and '"threshold": null' in asked_of(tmp_path)[0]
    assert run(slide, environment).slides[0].found.scores.tolist() == [0.999, 0.995]
    assert len(asked_of(tmp_path)) == 1  # the store was used again
    lower = run(slide, environment, min_score=0.3)
    assert len(lower.slides[0].found) == 3 and '"threshold": 0.3' in asked_of(tmp_path)[1]


def test_options_reach_it(slide: Path, environment: Path, tmp_path: Path) -> None:
    run(slide, environment, "device=cuda", "weights=w.pt", model="KongNet_CoNIC_1", reading=SlideReading())
    (line,) = asked_of(tmp_path)
    assert '"device": "cuda"' in line and '"model": "KongNet_CoNIC_1"' in line and "w.pt" in line
    assert '"mpp": null' in line  # it reads the slide's own


def test_nothing_found_is_no_error(slide: Path, environment: Path, tmp_path: Path) -> None:
    done = run(slide, environment, model="blind", out=[tmp_path / "found.geojson"])
    assert len(done.slides[0].found) == 0 and '"features": [' in (tmp_path / "found.geojson").read_text()


def test_what_goes_wrong_is_said(slide: Path, environment: Path, tmp_path: Path) -> None:
    with pytest.raises(
        WorkError, match=r"TIAToolbox failed: RuntimeError: CUDA out of memory; fix: see .*tiatoolbox\.log"
    ):
        run(slide, environment, model="broken")
    with pytest.raises(
        AbsentError, match=r"`python` must be one with SQLite extensions, .*fix: make the environment with"
    ):
        run(slide, environment, model="no extensions")
    with pytest.raises(
        AbsentError, match=r"`tiatoolbox` must be installed in the environment of .*got absent; fix: python -m venv"
    ):
        run(slide, Path(sys.executable))
    with pytest.raises(AbsentError, match=r"`python` must be an existing program, got .*nowhere"):
        run(slide, tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"`python` must be that of an environment with TIAToolbox, got nothing"):
        detect([slide], "tiatoolbox", reading=SlideReading(0.25))
    with pytest.raises(InputError, match=r"`--min-score` must be between 0 and 1, got 3"):
        run(slide, environment, min_score=3)


def test_a_damaged_store_is_said(slide: Path, environment: Path) -> None:
    run(slide, environment)
    from atypia.workflows.detection.detector import DetectRequest

    (store,) = DetectRequest(slide).kept.rglob("*.db")
    with closing(sqlite3.connect(store)) as database:
        database.execute("DROP TABLE annotations")
    with pytest.raises(WorkError, match="is no annotation store"):
        run(slide, environment)
