"""Files that released versions wrote are opened by the code of today, and say what they said then.

A folder of ``tests/golden/`` is what one version wrote (``make.py`` made it), its ``expected.json.xz`` what was read from
it then. Numbers that networks compute agree to 1e-5 on every processor; keys that a newer version adds are allowed.
"""

from __future__ import annotations

import csv
import json
import lzma
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atypia.studies.plan import Plan
from atypia.synthesis.generator import load_generator
from atypia.synthesis.model.diffusion import SamplingConfig
from atypia.synthesis.sampling import SamplingRequest, sample_set

from .reading import CROPS, ELSEWHERE, EXPECTED, READERS, as_json

HERE = Path(__file__).parent
VERSIONS = sorted(path.name for path in HERE.glob("v*"))
TOLERANCE = 1e-5


def expected_of(version: str) -> dict[str, Any]:
    return json.loads(lzma.decompress((HERE / version / f"{EXPECTED}.xz").read_bytes()))


every_version = pytest.mark.parametrize("golden", VERSIONS, indirect=True)


def differences(expected: Any, got: Any, where: str = "") -> Iterator[str]:
    """Where values differ; keys that only ``got`` has are not looked at."""
    if isinstance(expected, dict) and isinstance(got, dict):
        for key, value in expected.items():
            if key in got:
                yield from differences(value, got[key], f"{where}.{key}")
            else:
                yield f"{where}.{key}: absent"
    elif isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        for index, (one, other) in enumerate(zip(expected, got, strict=True)):
            yield from differences(one, other, f"{where}[{index}]")
    elif isinstance(expected, float) and isinstance(got, int | float):
        if abs(expected - got) > TOLERANCE * max(1, abs(expected)):
            yield f"{where}: {got}, once {expected}"
    elif expected != got or isinstance(expected, bool) != isinstance(got, bool):
        yield f"{where}: {got!r}, once {expected!r}"


def test_every_folder_of_every_version_has_a_reader_and_values() -> None:
    assert VERSIONS
    for version in VERSIONS:
        folders = {path.name for path in (HERE / version).iterdir() if path.is_dir()}
        assert folders <= set(READERS), f"{version}: no reader for {sorted(folders - set(READERS))}"
        assert folders == set(expected_of(version)), version
    newest = {path.name for path in (HERE / VERSIONS[-1]).iterdir() if path.is_dir()}
    assert newest == set(READERS), "a reader without a golden file"


@pytest.mark.parametrize("name", READERS)
@every_version
def test_what_a_release_wrote_is_read_as_it_was_then(golden: Path, name: str, version: str) -> None:
    if name not in expected_of(version):
        assert not (HERE / version / name).exists()  # this version had no such format
        return
    found = list(differences(expected_of(version)[name], as_json(READERS[name]())))
    assert not found, "\n".join(found[:20])


def test_the_comparison_sees_what_differs() -> None:
    then = {"p": [0.5, None], "n": 3, "name": "a"}
    assert not list(differences(then, {"p": [0.5 + 1e-6, None], "n": 3, "name": "a", "new": 1}))
    for got in ({"p": [0.501, None]}, {"p": [0.5, 0.0]}, {"p": [0.5]}, {"n": 4}, {"name": "b"}):
        assert len(list(differences(then, {**then, **got}))) == 1
    assert list(differences(then, {"p": [0.5, None], "n": 3})) == [".name: absent"]


# Commands on what lies there ------------------------------------------------------------------


@every_version
def test_predict_with_an_old_model_gives_the_old_probabilities(golden: Path, atypia: Callable[..., str]) -> None:
    old = {row["figure_id"]: row for row in as_json(READERS["predictions"]())["slide.csv"]}
    for model in ("bundle", "bundle/model.onnx", "openvino"):
        atypia("predict", "data/slide.png", "--points", "data/points.csv", "--mpp", "0.5", "--model", model,
               "--out", "new/slide.json")  # fmt: skip
        answer = json.loads((golden / "new/slide.json").read_text("utf-8"))
        rows = answer if isinstance(answer, list) else next(v for v in answer.values() if isinstance(v, list))
        assert len(rows) == len(old)
        for row in rows:
            then = old[row["figure_id"]]
            assert row["p_atypical"] == pytest.approx(then["p_atypical"], abs=TOLERANCE), (model, row)
            assert row["call"] == then["call"]


@every_version
def test_predict_with_the_bundle_of_an_old_run(golden: Path, version: str, atypia: Callable[..., str]) -> None:
    known = expected_of(version)
    for kind in ("probe", "lora"):
        atypia("predict", "data/elsewhere", "--model", f"training/{kind}/fold-1/bundle", "--out", f"{kind}.csv")
        rows = list(csv.DictReader((golden / f"{kind}.csv").read_text("utf-8").splitlines()))
        found = {Path(row["image"]).stem: float(row["p_atypical"]) for row in rows}
        ids = [Path(name).stem for name in known["data"]["elsewhere"]["ids"]]
        then = dict(zip(ids, known["training"][kind]["again"]["fold-1"]["p"], strict=True))
        assert found == pytest.approx(then, abs=TOLERANCE)


@every_version
def test_old_trainings_are_evaluated_on_a_set_and_tabulated(golden: Path, atypia: Callable[..., str]) -> None:
    # The crops have moved since: the same training tells the folder where they are, and trains nothing.
    said = atypia("train", "recipe/probe.yaml", "--data", CROPS, "--protocol-set", "folds=2", "--out", "training/probe")
    assert "0 folds trained, 2 kept" in said
    said = atypia("evaluate", "training/probe", "--on", ELSEWHERE)
    assert "probe · tiny-cnn" in said and "elsewhere" in said and "trained on crops" in said


@every_version
def test_status_and_report_of_an_old_study(golden: Path, atypia: Callable[..., str]) -> None:
    for claim in golden.rglob("claim.json"):
        os.utime(claim, (0, 0))
    found = json.loads(atypia("study", "status", "study-file/golden.yaml", "--out", "study", "--json"))
    assert found["counts"] == {"done": 2, "running": 0, "failed": 1, "pending": 1, "lacking": 0}
    said = atypia("study", "report", "study-file/golden.yaml", "--out", "study")
    assert "adapters" in said and (golden / "study/report/index.html").is_file()


@every_version
def test_a_run_that_another_machine_holds_is_running(golden: Path, atypia: Callable[..., str]) -> None:
    for claim in golden.rglob("claim.json"):
        os.utime(claim)
    found = json.loads(atypia("study", "status", "study-file/golden.yaml", "--out", "study", "--json"))
    assert found["counts"]["running"] == 1


@every_version
def test_an_old_generator_draws_what_it_drew(golden: Path, tmp_path: Path) -> None:
    wanted = SamplingRequest(2, 3, settings=SamplingConfig(steps=4))
    made = sample_set(load_generator(golden / "generator/fold-1"), tmp_path / "again", wanted, "cpu")
    files = sorted(path.relative_to(golden / "samples") for path in (golden / "samples").rglob("*.png"))
    assert len(made) == len(files) == 5
    for name in files:
        then, now = (np.asarray(Image.open(folder / name), int) for folder in (golden / "samples", tmp_path / "again"))
        assert np.abs(then - now).max() <= 2, name  # rounding of levels


@every_version
def test_old_generated_crops_are_added_to_a_training(golden: Path, atypia: Callable[..., str]) -> None:
    said = atypia("train", "recipe/probe.yaml", "--data", CROPS, "--protocol", "kfold", "--protocol-set", "folds=2",
                  "--fold", "fold-1", "--add-data", "samples", "--out", "new/added")  # fmt: skip
    assert "1 fold trained" in said


@every_version
def test_a_damaged_copy_is_refused(golden: Path) -> None:
    """The checks are those of any file: what was written once is not trusted blindly."""
    from atypia.base.errors import AtypiaError
    from atypia.inference.bundles.bundle import load_bundle

    config = golden / "bundle/config.json"
    config.write_text(config.read_text("utf-8").replace('"threshold": 0.', '"threshold": 0.1'), "utf-8")
    with pytest.raises(AtypiaError):
        load_bundle(golden / "bundle")
    plan = golden / "study/plan.json"
    plan.write_text(plan.read_text("utf-8")[:-40], "utf-8")
    with pytest.raises(AtypiaError):
        Plan.load(golden / "study")
