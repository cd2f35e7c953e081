"""The challenge's entry point, and the folder of its container."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import atypia
from atypia.base.errors import InputError
from atypia.challenge import ANSWER_FILE, DEFAULT_FOLDER, SLUG, find_stack, main, run
from atypia.inference.classifier import MODELS, SHIPPED
from atypia.inference.export import challenge as container
from atypia.inference.export import forms
from atypia.inference.export.challenge import PACKAGES, wheel_name, write_challenge

from .inference.graphs import SIDE, brightness, brightness_logits, random_crops, write_brightness

THRESHOLD = 0.6


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network whose logit is 4 · red − 4 · blue, deciding at 0.6."""
    folder = tmp_path_factory.mktemp("model")
    write_brightness(folder / "model.onnx", decision={"threshold": THRESHOLD})
    return folder


def write_stack(path: Path, crops: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *rest = [Image.fromarray(crop) for crop in crops]
    first.save(path, save_all=True, append_images=rest, compression="tiff_deflate")
    return path


def listed(slug: str = SLUG, relative_path: str = DEFAULT_FOLDER) -> list[dict[str, Any]]:
    return [{"file": None, "value": None, "interface": {"slug": slug, "relative_path": relative_path}}]


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    """An input folder as the challenge mounts it, with a stack of 70 pages."""
    folder = tmp_path / "input"
    write_stack(folder / DEFAULT_FOLDER / "uuid.tiff", random_crops(70))
    (folder / "inputs.json").write_text(json.dumps(listed()), "utf-8")
    return folder


def answer(source: Path, target: Path, model: Path) -> Any:
    code = main(["--input", str(source), "--output", str(target), "--model", str(model)])
    assert code == 0
    return json.loads((target / ANSWER_FILE).read_text("utf-8"))


def test_every_page_is_answered_in_order(mounted: Path, model: Path, tmp_path: Path) -> None:
    said = answer(mounted, tmp_path / "output", model)
    p = 1 / (1 + np.exp(-brightness_logits(random_crops(70))))

    assert [path.name for path in (tmp_path / "output").iterdir()] == ["multiple-mitotic-figure-classification.json"]
    assert all(set(entry) == {"class", "confidence"} for entry in said)
    np.testing.assert_allclose([entry["confidence"] for entry in said], p, atol=1e-5)
    want = np.where(p >= THRESHOLD, "atypical", "normal")
    assert [entry["class"] for entry in said] == want.tolist()
    assert set(want) == {"atypical", "normal"} and np.any((p > 0.5) & (p < THRESHOLD)), "the threshold must matter"


def test_a_stack_of_one_page_and_of_other_sides(model: Path, tmp_path: Path) -> None:
    crops = random_crops(2, 4 * SIDE)
    said = answer(write_stack(tmp_path / "in" / "one.tif", crops[:1]).parent, tmp_path / "out", model)

    assert len(said) == 1
    assert said[0]["confidence"] == pytest.approx(1 / (1 + np.exp(-brightness_logits(crops[:1])[0])), abs=0.01)


def test_several_models_are_averaged(mounted: Path, model: Path, tmp_path: Path) -> None:
    other = write_brightness(tmp_path / "other.onnx", decision={"threshold": 0.2})
    arguments = ["--input", str(mounted), "--output", str(tmp_path), "--model", str(model), "--model", str(other)]
    assert main(arguments) == 0
    said = json.loads((tmp_path / ANSWER_FILE).read_text("utf-8"))

    assert all((entry["class"] == "atypical") == (entry["confidence"] >= 0.4) for entry in said)


@pytest.mark.real
def test_the_sample_of_the_challenge(real_root: Path, tmp_path: Path) -> None:
    said = answer(real_root / "challenge", tmp_path, write_brightness(tmp_path / "model.onnx"))

    assert len(said) == 16
    with Image.open(real_root / "challenge" / "stack_5.tiff") as stack:
        for page in (0, 15):
            stack.seek(page)
            crop = stack.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            p = 1 / (1 + np.exp(-brightness_logits(np.asarray(crop)[None])[0]))
            assert said[page]["confidence"] == pytest.approx(p, abs=0.01)


# Where the stack is ---------------------------------------------------------------------------


@pytest.mark.parametrize("place", [DEFAULT_FOLDER, "images/elsewhere", "."])
def test_the_stack_is_found_where_the_inputs_say(place: str, tmp_path: Path) -> None:
    stack = write_stack(tmp_path / place / "A.TIF", random_crops(2))
    assert find_stack(tmp_path) == stack if place in (DEFAULT_FOLDER, ".") else True
    (tmp_path / "inputs.json").write_text(json.dumps(listed(relative_path=place)), "utf-8")
    (stack.parent / ".hidden.tif").write_bytes(b"")
    (stack.parent / "notes.txt").write_bytes(b"")

    assert find_stack(tmp_path) == stack


def test_the_inputs_may_name_the_file(tmp_path: Path) -> None:
    file = write_stack(tmp_path / "images" / "stack.tif", random_crops(2))
    (tmp_path / "inputs.json").write_text(json.dumps(listed(relative_path="images/stack.tif")), "utf-8")

    assert find_stack(tmp_path) == file


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ("{", r"inputs\.json is damaged \(.*fix: mount the challenge's own file"),
        ('{"a": 1}', r"must be a list of inputs, each with interface\.slug and interface\.relative_path"),
        ("[3]", r"must be a list of inputs"),
        ("7", r"must be a list of inputs"),
        (
            json.dumps(listed(slug="histopathology-roi")),
            r"a list with the input stacked-.*got histopathology-roi; fix:",
        ),
        ("[]", r"got no input"),
        (json.dumps(listed(relative_path="../../etc")), r"must be below the input folder, got \.\./\.\./etc"),
        (json.dumps(listed(relative_path="/etc")), r"must be below the input folder, got /etc"),
    ],
)
def test_odd_inputs_are_refused(inputs: str, words: str, mounted: Path) -> None:
    (mounted / "inputs.json").write_text(inputs, "utf-8")
    with pytest.raises(InputError, match=words):
        find_stack(mounted)


# Exit codes -----------------------------------------------------------------------------------


def break_page(folder: Path) -> None:
    """Cuts the file inside its pixels, so that the last page's are missing."""
    file = next((folder / DEFAULT_FOLDER).iterdir())
    rng = np.random.default_rng(0)
    pages = [Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)) for _ in range(3)]
    pages[0].save(file, save_all=True, append_images=pages[1:])
    with Image.open(file) as image:
        image.seek(2)
        (offset,) = image.tag_v2[273]
    data = bytearray(file.read_bytes())
    with Image.open(file) as image:
        image.seek(1)
        entry = image.tag_v2[273][0]
    where = data.find(int(entry).to_bytes(4, "little"))
    data[where : where + 4] = (len(data) + offset).to_bytes(4, "little")
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: shutil.rmtree(folder), r"`--input` must be a folder, got .*, which is none"),
        (
            lambda folder: shutil.rmtree(folder / "images"),
            r"must be a folder with a TIFF stack, got none; fix: put the",
        ),
        (
            lambda folder: write_stack(folder / DEFAULT_FOLDER / "second.tif", random_crops(1)),
            r"must be a folder with one stack, got 2 \(second\.tif, uuid\.tiff\); fix: run once a stack",
        ),
        (lambda folder: (folder / DEFAULT_FOLDER / "uuid.tiff").write_bytes(b"no image"), r"must be a TIFF, got"),
        (lambda folder: (folder / DEFAULT_FOLDER / "uuid.tiff").write_bytes(b""), r"uuid\.tiff"),
        (break_page, r"1 of 3 pages cannot be read, and the answer has no place for a page without a class: .*#2"),
    ],
    ids=["no folder", "no stack", "two stacks", "no TIFF", "empty", "damaged page"],
)
def test_input_that_cannot_be_used_is_two_and_nothing_is_written(
    change: Callable[[Path], object], words: str, mounted: Path, model: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    change(mounted)
    target = tmp_path / "output"
    assert main(["--input", str(mounted), "--output", str(target), "--model", str(model)]) == 2

    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("error: ") and said.err.count("\n") == 1
    assert re.search(words, said.err)
    assert not (target / ANSWER_FILE).exists()


def test_no_model_and_one_of_another_task(mounted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--input", str(mounted), "--output", str(tmp_path)]
    assert main([*common, "--model", str(tmp_path / "none")]) == 2
    assert "model" in capsys.readouterr().err
    other = write_brightness(tmp_path / "mitosis.onnx", task="mitosis")
    assert main([*common, "--model", str(other)]) == 2
    assert "must be 'atypical', got 'mitosis'" in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_one(
    mounted: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert main(["--input", str(mounted), "--output", str(tmp_path / "file"), "--model", str(model)]) == 1
    assert "cannot write" in capsys.readouterr().err


def test_bad_usage_is_two() -> None:
    with pytest.raises(SystemExit) as end:
        main(["--input", "x"])
    assert end.value.code == 2


# The container --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = brightness(decision={"threshold": THRESHOLD}).SerializeToString()
    return write_challenge(network, "My model 1", THRESHOLD, tmp_path_factory.mktemp("container") / "folder")


def test_the_folder_holds_all_that_the_image_needs(folder: Path) -> None:
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    example = {"example/inputs.json", f"example/{DEFAULT_FOLDER}/rendered.tiff"}
    code = {"Dockerfile", "README.md", "requirements.txt", "inference.py", "model/model.onnx", wheel_name()}
    assert files == code | example

    docker = (folder / "Dockerfile").read_text("utf-8")
    for source in re.findall(r"^COPY (.+) \S+$", docker, re.MULTILINE):
        for name in source.split():
            assert (folder / name).exists(), f"{name} is copied and not there"
    assert re.search(r"^ENV .*\bORT_DISABLE_TELEMETRY=1\b", docker, re.MULTILINE)  # nothing is reported
    lines = docker.splitlines()
    assert lines.index("USER user") < next(i for i, line in enumerate(lines) if line.startswith("ENTRYPOINT"))
    assert f"FROM --platform=linux/amd64 python:{sys.version_info[0]}.{sys.version_info[1]}-slim" in lines
    assert "{" not in docker.replace('{"', ""), "every placeholder is filled"
    assert (folder / "requirements.txt").read_text("utf-8").splitlines() == [f"{p}=={version(p)}" for p in PACKAGES]
    readme = (folder / "README.md").read_text("utf-8")
    assert "atypia-my-model-1" in readme and "0.6" in readme and "not a medical device" in readme


def test_the_readme_s_command_answers_the_example(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(shutil.copytree(folder, tmp_path / "container"))
    (command,) = re.findall(
        r"^\$ python -m atypia\.challenge (.+)$", Path("README.md").read_text("utf-8"), re.MULTILINE
    )
    assert main(command.split()) == 0
    said = json.loads((tmp_path / "answer" / ANSWER_FILE).read_text("utf-8"))
    assert len(said) == 8 and len({entry["confidence"] for entry in said}) == 8


def test_the_entry_point_runs_from_the_wheel_with_the_pinned_packages_alone(
    folder: Path, mounted: Path, tmp_path: Path
) -> None:
    """As in the container: the package from its wheel, the model beside the script, nothing heavy imported."""
    code = (
        "import runpy, sys\n"
        f"wheel, script = {str(folder / wheel_name())!r}, {str(folder / 'inference.py')!r}\n"
        "sys.path.insert(0, wheel)\n"
        "sys.argv[0] = script\n"
        "try:\n    runpy.run_path(script, run_name='__main__')\n"
        "finally:\n"
        "    import atypia\n"
        "    places = {n.partition('.')[0]: getattr(m, '__file__', None) or '' for n, m in sys.modules.items()}\n"
        "    print(atypia.__file__)\n"
        "    print(*sorted(n for n, place in places.items() if 'site-packages' in place))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, "--input", str(mounted), "--output", str(tmp_path / "out")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert ended.returncode == 0, ended.stderr
    place, imported = ended.stdout.splitlines()
    assert wheel_name() in place
    names = {"PIL": "pillow"}
    third = {names.get(name, name) for name in imported.split() if not name.startswith("_")}
    assert third == set(PACKAGES)
    assert len(json.loads((tmp_path / "out" / ANSWER_FILE).read_text("utf-8"))) == 70


def test_a_model_that_is_stored_in_integers_is_in_the_container_as_it_is(mounted: Path, tmp_path: Path) -> None:
    """The answers are those of `atypia predict`, in the container too: from the wheel, without torch or onnx."""
    out = tmp_path / "container"
    report = forms.export(MODELS / SHIPPED, "challenge", out)
    assert report.stored and report.as_dict()["stored"] and 0 < report.exported.logit_difference < 0.5
    kept = {path.name: path.read_bytes() for path in (out / "model").iterdir()}
    assert kept == {path.name: path.read_bytes() for path in (MODELS / SHIPPED).iterdir() if path.is_file()}
    here = run(mounted, tmp_path / "here", [MODELS / SHIPPED])
    ended = subprocess.run(
        [sys.executable, str(out / "inference.py"), "--input", str(mounted), "--output", str(tmp_path / "out")],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(out / wheel_name())},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert json.loads((tmp_path / "out" / ANSWER_FILE).read_text("utf-8")) == json.loads(here.read_text("utf-8"))


def test_folds_of_a_training_are_averaged_by_the_entry_point(mounted: Path, tmp_path: Path) -> None:
    thresholds = {"fold-1": 0.6, "fold-2": 0.2}
    for name, threshold in thresholds.items():
        (tmp_path / "networks" / name).mkdir(parents=True)
        write_brightness(tmp_path / "networks" / name / "model.onnx", decision={"threshold": threshold})
    out = write_challenge(tmp_path / "networks", "Run, 2 folds", 0.4, tmp_path / "container", list(thresholds))

    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.onnx")) == [
        "model/fold-1/model.onnx", "model/fold-2/model.onnx"
    ]  # fmt: skip
    readme = (out / "README.md").read_text("utf-8")
    assert "the mean of 2 networks" in readme and "that reaches 0.4" in readme
    assert "--model model/fold-1 --model model/fold-2" in readme
    ended = subprocess.run(
        [sys.executable, str(out / "inference.py"), "--input", str(mounted), "--output", str(tmp_path / "out")],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(out / wheel_name())},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    said = json.loads((tmp_path / "out" / ANSWER_FILE).read_text("utf-8"))
    assert len(said) == 70
    assert all((entry["class"] == "atypical") == (entry["confidence"] >= 0.4) for entry in said)


def test_the_wheel_is_whole_and_the_same_every_time(folder: Path, tmp_path: Path) -> None:
    wheel = folder / wheel_name()
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        record = archive.read(f"atypia-{atypia.__version__}.dist-info/RECORD").decode().splitlines()
        for line in record[:-1]:
            name, digest, size = line.split(",")
            data = archive.read(name)
            assert (int(size), digest) == (len(data), f"sha256={container._digest(data)}")
    assert [line.split(",")[0] for line in record] == names
    assert {"atypia/challenge.py", "atypia/__init__.py", "atypia/inference/runtimes/catalogue.py"} <= set(names)
    assert not [name for name in names if "__pycache__" in name]
    again = container.write_wheel(tmp_path / wheel_name())
    assert again.read_bytes() == wheel.read_bytes()


def test_pip_takes_the_wheel(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    ended = subprocess.run(
        [*command, "--target", str(target), str(folder / wheel_name())], capture_output=True, text=True, check=False
    )

    assert ended.returncode == 0, ended.stderr
    assert (target / "atypia" / "challenge.py").is_file()


def test_an_earlier_export_is_replaced_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / wheel_name()).rename(copy / "atypia-0.0.1-py3-none-any.whl")
    write_challenge(b"new", "other", 0.5, copy)
    assert (copy / "model" / "model.onnx").read_bytes() == b"new"
    assert not (copy / "atypia-0.0.1-py3-none-any.whl").exists()

    (copy / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"which holds notes\.txt; fix: choose another folder"):
        write_challenge(b"newer", "other", 0.5, copy)
    assert (copy / "notes.txt").read_text() == "mine"
