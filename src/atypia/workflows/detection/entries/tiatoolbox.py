"""``tiatoolbox``: TIAToolbox's nucleus detector, run by Python of the environment in which the user installed it.

Its default network is KongNet as trained for MIDOG 2025 (``KongNet_Det_MIDOG_1``). Network and weights are TIAToolbox's and
come under its terms; TIAToolbox fetches them itself where they are not on the machine.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import Field

from atypia.base.artifacts import disk_errors, fingerprint, lock, private_folder, read_json, write_json
from atypia.base.errors import AbsentError, DataError, InputError, WorkError, must
from atypia.data.points.base import Points
from atypia.data.points.reading import read_points
from atypia.data.slides.evidence import slide_evidence
from atypia.data.slides.readers import slide_file
from atypia.workflows.detection import detector as d

MODEL: Final = "KongNet_Det_MIDOG_1"
OWN_THRESHOLD: Final = 0.99
"""What TIAToolbox takes for this network where nothing is given."""
SCRIPT: Final = Path(__file__).parents[1] / "tiatoolbox_script.py"
DONE: Final = "done.json"
LOG: Final = "tiatoolbox.log"
INSTALL: Final = "python -m venv tia && tia/bin/pip install tiatoolbox, and pass --set python=tia/bin/python"


class TiatoolboxOptions(d.DetectorOptions):
    """Options of the detector.

    Attributes:
        python: Python of the environment in which TIAToolbox is installed.
        weights: File of the network's weights; None: TIAToolbox fetches its own.
        device: Of the network: cpu, cuda.
        batch_size: Patches at once.
        class_name: Class that is wanted, where the network gives several.
    """

    python: str | None = None
    weights: str | None = None
    device: str = "cpu"
    batch_size: int = Field(default=8, ge=1, le=4096)
    class_name: str | None = None


def find(request: d.DetectRequest, options: TiatoolboxOptions) -> d.Detections:
    """Runs TIAToolbox as a child process; what it wrote for the same question is used again.

    Raises:
        InputError: No Python is named, or a score is out of range.
        AbsentError: It does not exist, or TIAToolbox is not installed there.
        WorkError: TIAToolbox failed; names its log.
    """
    if options.python is None:
        raise InputError(must("python", "that of an environment with TIAToolbox", "nothing", INSTALL))
    python = shutil.which(options.python)
    if python is None:
        raise AbsentError(must("python", "an existing program", options.python, INSTALL))
    if request.min_score is not None and not 0 <= request.min_score <= 1:
        raise InputError(
            must("--min-score", "between 0 and 1", request.min_score, "TIAToolbox's scores are probabilities")
        )
    slide = slide_file(request.slide).absolute()
    asked = {
        "slide": str(slide), "model": request.model or MODEL, "weights": options.weights and str(Path(options.weights).absolute()),
        "device": options.device, "batch_size": options.batch_size, "mpp": request.reading.mpp,
        "threshold": request.min_score,
    }  # fmt: skip
    told = {name: asked[name] for name in asked if name not in ("device", "batch_size")}
    folder = request.kept / f"tiatoolbox-{fingerprint('tiatoolbox', slide_evidence(slide), python, told)}"
    with lock(folder):
        done = _kept(folder) or _run(python, folder, asked)
    # TIAToolbox writes a file without points where nothing was found.
    points = _points(folder / done["store"])
    if points is not None and points.classes is not None:
        points = points.of_classes([] if options.class_name is None else [options.class_name])
    by = f"TIAToolbox {done['version']}, {asked['model']}"
    if points is None:
        points = Points.at([], [])
    scores = np.zeros(0) if points.scores is None else points.scores
    if len(scores) != len(points) or np.isnan(scores).any():
        fix = "name a detector of figures"
        raise DataError(must(f"scores of {asked['model']}", "given for every figure", "some without", fix))
    # Where no score is asked for, what the network's own threshold let through counts.
    own = min(OWN_THRESHOLD, float(scores.min(initial=1.0)))
    least = own if request.min_score is None else request.min_score
    notes = (f"network and weights of {asked['model']} come under TIAToolbox's terms",)
    return d.Detections(points.x_px, points.y_px, scores, least, by, None, (*notes, *points.notes))


def _kept(folder: Path) -> dict[str, Any] | None:
    try:
        done = read_json(folder / DONE)
        return done if (folder / done["store"]).is_file() else None
    except (WorkError, OSError, KeyError, TypeError):
        return None


def _run(python: str, folder: Path, asked: dict[str, Any]) -> dict[str, Any]:
    with disk_errors(folder):
        shutil.rmtree(folder, ignore_errors=True)
    private_folder(folder)
    question, log = folder / "asked.json", folder / LOG
    # TIAToolbox makes this folder itself, and refuses one that exists.
    write_json(question, {**asked, "folder": str(folder / "found")}, private=True)
    with log.open("wb") as errors:
        child = subprocess.run(
            [python, str(SCRIPT), str(question)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, check=False
        )  # fmt: skip
    if child.returncode:
        _explain(log, python, child.returncode)
    try:
        said = json.loads(child.stdout.decode("utf-8", "replace").strip().rsplit("\n", 1)[-1])
        store = Path(said["store"]).relative_to(folder.absolute())
        done = {"store": str(store), "version": str(said["version"])}
    except (ValueError, KeyError, TypeError) as error:
        raise WorkError(f"TIAToolbox said nothing about its result; fix: see {log}") from error
    write_json(folder / DONE, done, private=True)
    return done


def _explain(log: Path, python: str, code: int) -> None:
    # What Python says of objects that it could not clean up afterwards is not the cause.
    text = log.read_text("utf-8", "replace").split("Exception ignored in")[0]
    lines = [line for line in text.splitlines() if line.strip()]
    last = lines[-1].strip() if lines else f"exit code {code}"
    if "No module named 'tiatoolbox'" in last:
        raise AbsentError(must("tiatoolbox", f"installed in the environment of {python}", "absent", INSTALL))
    if "enable_load_extension" in last:
        found = "one whose SQLite loads no extensions, so that TIAToolbox cannot write its annotation store"
        fix = "make the environment with another Python, for instance that of the system or of conda"
        raise AbsentError(must("python", "one with SQLite extensions", found, fix))
    raise WorkError(f"TIAToolbox failed: {last[:300]}; fix: see {log}")


def _points(store: Path) -> Points | None:
    import sqlite3
    from contextlib import closing

    from atypia.data.points.databases import open_database

    with closing(open_database(store)) as database:
        try:
            (count,) = database.execute("SELECT count(*) FROM annotations").fetchone()
        except sqlite3.Error as error:
            raise WorkError(f"{store} is no annotation store ({error}); fix: delete {store.parent}") from error
    return read_points(store) if count else None


d.DETECTORS.add(
    "tiatoolbox",
    d.Detector(
        "tiatoolbox",
        "TIAToolbox's nucleus detector (KongNet), from an environment that you name",
        TiatoolboxOptions,
        find,
    ),
)
