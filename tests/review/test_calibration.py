"""From decisions on the page to a calibrated model: the command that the page names, run as it stands there."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from atypia.base.errors import InputError
from atypia.cli.main import app
from atypia.data.manifest import Manifest
from atypia.data.phantom.dataset import write_phantom
from atypia.inference.bundles.bundle import load_bundle
from atypia.inference.classifier import find_model
from atypia.inference.export.derived import save_derived
from atypia.review.figures.figures import ReviewFigures
from atypia.review.figures.opening import Opening, open_figures
from atypia.review.report.calibration import next_command
from atypia.workflows.laboratory.calibrate import CALIBRATED, calibrate
from atypia.workflows.laboratory.own_cases import with_cases
from atypia.workflows.predict import predict_crops

from .conftest import Client

CASES = 4
"""Of so few phantom figures."""


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """Crops of the phantom set as a laboratory has them: a folder for each case, without labels; and their truth."""
    folder = tmp_path_factory.mktemp("laboratory")
    truth = write_phantom(folder / "phantom", 72, 5)
    assert truth.root is not None
    cases = {case: f"case-{number % CASES}" for number, case in enumerate(sorted(set(truth.cases.tolist())))}
    for row in truth.table.to_pylist():
        place = folder / "crops" / cases[row["case_id"]]
        place.mkdir(parents=True, exist_ok=True)
        Image.open(truth.root / row["image"]).save(place / Path(row["image"]).name)
    predict_crops(folder / "crops", mpp=0.25, out=folder / "calls.parquet")
    return folder, truth


def test_from_decisions_to_a_calibration(
    laboratory: tuple[Path, Manifest], reviewing: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, truth = laboratory
    monkeypatch.chdir(folder)
    run = CliRunner().invoke
    client = reviewing(open_figures(Opening(("calls.parquet",))), "first")
    assert client.get("/calibration")["notes"][0] == "at least 5 atypical figures are needed, 5 more"
    label_of = {Path(row["image"]).name: row["label"] for row in truth.table.to_pylist()}
    queue = client.get("/queue", params={"kind": "calibration", "limit": 60, "rater": "first"})["figures"]
    assert len(queue) == 60
    for one in queue:
        word = "atypical" if label_of[Path(one["figure_id"]).name] else "normal"
        client.decide("first", one["index"], word)
    told = client.get("/calibration")
    assert told["atypical"] + told["normal"] == 60 and told["file"] == "calls-decided.parquet"
    assert told["command"] == "atypia calibrate atypia --on calls-decided.parquet --out my-lab"
    assert told["notes"] == [
        "the cases of these figures are not known; add --cases folder where the crops of each case have a folder"
    ]
    answer = client.http.get("/exports/manifest.parquet", params={"decided": True})
    Path(told["file"]).write_bytes(answer.content)
    words = shlex.split(told["command"])[1:]
    plain = run(app, words[:4])
    assert plain.exit_code == 0 and "60 figures" in plain.stdout, plain.output
    assert "no case is known" in plain.stderr and "training figures are not stored" in plain.stderr
    by_folder = run(app, [*words, "--cases", "folder"])
    assert by_folder.exit_code == 0, by_folder.output
    assert f"60 figures ({told['atypical']} atypical), {CASES} cases" in by_folder.stdout
    assert "balanced accuracy" in by_folder.stdout and f"are the {CASES} folders of their crops" in by_folder.stderr
    assert Path("my-lab").is_dir() == ("the threshold moves" in by_folder.stdout or "limits of" in by_folder.stdout)


def test_of_a_calibrated_model_the_first_one_is_named(
    laboratory: tuple[Path, Manifest], reviewing: Callable[..., Client]
) -> None:
    folder = laboratory[0]
    first = load_bundle(find_model("atypia"))
    facts = {"from": "atypia", "data": "old", "data_fingerprint": "0"}
    mine = replace(first, name="my-lab", training={**first.training, CALIBRATED: facts})
    place = save_derived(find_model("atypia"), mine, folder / "calibrated")
    predict_crops(folder / "crops", place, mpp=0.25, out=folder / "again.parquet")
    figures = open_figures(Opening((str(folder / "again.parquet"),)))
    told = next_command(figures, reviewing(figures, "first").review.intake.decision_state, place)
    assert told.command == "atypia calibrate atypia --on again-decided.parquet --out my-lab"
    assert told.notes[0].startswith(
        "my-lab is calibrated already; calibrate atypia, which it was made from, on all figures"
    )


def test_files_that_are_no_labelled_figures_name_the_way(
    laboratory: tuple[Path, Manifest], figures: ReviewFigures, reviewing: Callable[..., Client], tmp_path: Path
) -> None:
    client = reviewing(figures, "Ada")
    client.decide("Ada", 0, "atypical")
    path = tmp_path / "decisions.csv"
    path.write_bytes(client.http.get("/exports/decisions.csv").content)
    with pytest.raises(InputError, match=r"`on` must be .*the decisions of a review; fix: export «Decided figures»"):
        calibrate("atypia", path)
    with pytest.raises(InputError, match=r"got .*results of `atypia predict`; fix: decide figures with `atypia serve"):
        calibrate("atypia", laboratory[0] / "calls.parquet")


def test_one_folder_is_no_cases(figures: ReviewFigures) -> None:
    assert figures.manifest is not None
    rows = [{**row, "case_id": None, "image": f"a/{i}.png"} for i, row in enumerate(figures.manifest.table.to_pylist())]
    manifest = Manifest.from_rows(rows, "mine")
    with pytest.raises(InputError, match=r"`cases` must be folders of two cases or more, got crops in one folder"):
        with_cases(manifest, "folder")
    assert "no case is known" in with_cases(manifest, "given")[1][0]


def test_a_model_that_is_not_at_hand_is_named(scored: ReviewFigures, reviewing: Callable[..., Client]) -> None:
    theirs = replace(scored, models=("theirs",), case=replace(scored.case, codes=np.zeros(80, np.int32)))
    told = reviewing(theirs, "Ada").get("/calibration")
    assert told["command"].startswith("atypia calibrate MODEL --on ")
    assert told["notes"][0] == "MODEL: the model theirs is not at hand; name its folder with --model"
    several = reviewing(replace(scored, models=()), decisions="other.sqlite").get("/calibration")
    assert "not those of one named model" in several["notes"][0]
