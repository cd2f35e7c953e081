"""A package of another laboratory, from its entry points to a study's table and to the files of `atypia predict`."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from atypia.base.errors import InputError
from atypia.base.plugins import KINDS
from atypia.training.recipe import load_recipe
from atypia.training.train import check_recipe

from .conftest import PACKAGE
from .installing import atypia, python

ADDED = {
    "augmentations": ["mylab-lamp"],
    "augmentation-steps": ["mylab-lamp"],
    "backbones": ["mylab-cnn"],
    "detectors": ["mylab-blots"],
    "outputs": ["tsv"],
    "points": ["mylab"],
    "probes": ["mylab-centroid"],
    "protocols": ["mylab-every-nth"],
    "sources": ["mylab"],
    "terms": ["mylab-shrink"],
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, paint: Callable[..., Path]) -> Path:
    """A data root with the laboratory's folder."""
    folder = tmp_path_factory.mktemp("root")
    table = paint(folder / "mylab", cases=4)
    with open(table, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    lines = [
        f"{n['image']},{'atypical' if n['label'] == '1' else 'normal'},{n['case_id']},{n['scanner']}" for n in rows
    ]
    (folder / "mylab" / "mylab.csv").write_text("\n".join(["crop,class,patient,scanner", *lines]) + "\n", "utf-8")
    table.unlink()
    return folder


def study(folder: Path) -> Path:
    """A study that uses everything that the package adds to trainings."""
    values = {
        "name": "guests",
        "summary": "a laboratory's own parts",
        "data": {"train": "mylab"},
        "protocol": {"name": "mylab-every-nth", "options": {"n": 2}},
        "models": [
            {"recipe": str(recipe(folder)), "backbones": ["mylab-cnn"], "label": "probe"},
            {"recipe": "full", "backbones": ["mylab-cnn"], "label": "network",
             "set": {"epochs": 1, "batch_size": 16, "view": 1.0, "augment": "mylab-lamp",
                     "terms.mylab-shrink.weight": 0.1}},
        ],
        "sizes": {"smoke": {"set": {"geometry.out_px": 32, "input_px": 32}}},
    }  # fmt: skip
    (folder / "guests.yaml").write_text(yaml.safe_dump(values), "utf-8")
    return folder / "guests.yaml"


def recipe(folder: Path) -> Path:
    """A recipe of the package's probe."""
    values = {"summary": "ours", "adaptation": "probe", "backbone": "mylab-cnn", "probe": "mylab-centroid",
              "options": {"scale": 0.5}}  # fmt: skip
    (folder / "centroid.yaml").write_text(yaml.safe_dump(values), "utf-8")
    return folder / "centroid.yaml"


def test_all_of_it_is_found_by_kind(mylab: Path) -> None:
    code = "import json; from atypia.base.plugins import added; print(json.dumps(added()))"
    done = python(code, mylab)
    assert json.loads(done.stdout) == {"atypia-mylab": ADDED}, done.stderr
    assert set(ADDED) <= set(KINDS)


def test_doctor_lists_what_it_adds_and_what_is_wrong(mylab: Path, tmp_path: Path) -> None:
    shutil.copytree(mylab, tmp_path / "site")
    ended = atypia("doctor", "--json", folders=(tmp_path / "site",))
    (line,) = [check for check in json.loads(ended.stdout) if check["area"] == "plug-ins"]
    assert ended.returncode == 0 and (line["name"], line["state"]) == ("atypia-mylab", "ok")
    assert "1.2.0 adds backbones mylab-cnn; sources mylab;" in line["detail"] and "outputs tsv" in line["detail"]

    (tmp_path / "site" / "atypia_mylab" / "probes.py").write_text("import nothing_like_it\n", "utf-8")
    ended = atypia("doctor", "--json", folders=(tmp_path / "site",))
    assert ended.returncode == 1
    said = [" ".join(map(str, check.values())) for check in json.loads(ended.stdout) if check["area"] == "plug-ins"]
    told = "1.2.0, probes: ModuleNotFoundError: No module named 'nothing_like_it', probes.py:1"
    assert any(told in line and "pip uninstall atypia-mylab" in line for line in said)
    assert any("outputs tsv" in line for line in said)
    assert ended.stderr == ""


def run_study(mylab: Path, root: Path, folder: Path, engine: str) -> Path:
    """The study, from its plan to its tables, with two workers."""
    out = folder / "out"
    where = ("--root", root, "--size", "smoke", "--out", out)
    ran = atypia("study", "run", study(folder), *where, "--engine", engine, "--workers", "2", folders=(mylab,))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "probe" in ran.stdout and "network" in ran.stdout
    return out


def check_runs(out: Path) -> None:
    """Every run was done with the package's parts, and says so."""
    environments = [json.loads(path.read_text("utf-8")) for path in sorted(out.rglob("environment.json"))]
    assert len(environments) == 4  # two models, two folds
    assert all(found["atypia-mylab"] == "1.2.0" for found in environments)
    configs = [yaml.safe_load(path.read_text("utf-8")) for path in sorted(out.rglob("config.yaml"))]
    assert {config["backbone"] for config in configs} == {"mylab-cnn"}
    assert {config.get("probe") for config in configs} == {"mylab-centroid", None}
    terms = [{"name": "mylab-shrink", "weight": 0.1, "power": 2.0}]
    assert [config.get("terms") for config in configs].count(terms) == 2
    assert {config.get("augment") for config in configs} == {"mylab-lamp", None}


def test_a_study_with_two_workers_uses_it(mylab: Path, root: Path, tmp_path: Path) -> None:
    check_runs(run_study(mylab, root, tmp_path, "local"))
    with pytest.raises(InputError, match="mylab"):  # in this process, which has no plug-ins
        check_recipe(load_recipe(str(recipe(tmp_path)))[1])


@pytest.mark.slow
def test_a_study_on_ray_uses_it(mylab: Path, root: Path, tmp_path: Path) -> None:
    check_runs(run_study(mylab, root, tmp_path, "ray"))


def test_predict_writes_its_format_and_reads_its_points(mylab: Path, phantom_folder: Path, tmp_path: Path) -> None:
    crops = sorted(phantom_folder.rglob("*.png"))[:3]
    ended = atypia("predict", *crops, "--out", tmp_path / "calls.tsv", folders=(mylab,))
    assert ended.returncode == 0, ended.stderr
    lines = [line.split("\t") for line in (tmp_path / "calls.tsv").read_text("utf-8").splitlines()]
    assert lines[0] == ["figure", "p_atypical", "call"]
    assert len(lines) == 4 and all(0 <= float(line[1]) <= 1 for line in lines[1:])

    refused = atypia("predict", *crops, "--out", tmp_path / "calls.tsv", folders=())
    assert refused.returncode == 2 and "must be a name ending in .csv, .geojson" in refused.stderr

    (tmp_path / "points.json").write_text(json.dumps({"mylab_points": [[40, 50], [60.5, 70]]}), "utf-8")
    code = "from atypia.data.points.reading import read_points; print(read_points('points.json').x_px.tolist())"
    read = python(f"import os; os.chdir({str(tmp_path)!r}); {code}", mylab)
    assert read.stdout == "[40.0, 60.5]\n", read.stderr


def test_detect_runs_its_detector(mylab: Path, tmp_path: Path) -> None:
    grey = np.full((60, 90, 3), 200, np.uint8)
    grey[[10, 40], [20, 70]] = 30
    Image.fromarray(grey).save(tmp_path / "case.png")
    asked = (
        "detect",
        tmp_path / "case.png",
        "--detector",
        "mylab-blots",
        "--set",
        "below=60",
        "--out",
        tmp_path / "f.csv",
    )
    ended = atypia(*asked, folders=(mylab,))
    assert ended.returncode == 0 and "mylab-blots is experimental" in ended.stderr, ended.stderr
    with open(tmp_path / "f.csv", encoding="utf-8") as file:
        rows = [(float(row["x_px"]), float(row["y_px"]), float(row["score"])) for row in csv.DictReader(file)]
    assert rows == [
        (20.5, 10.5, pytest.approx(1 - 30 / 255, abs=1e-5)),
        (70.5, 40.5, pytest.approx(1 - 30 / 255, abs=1e-5)),
    ]
    refused = atypia("detect", tmp_path / "case.png", "--detector", "mylab-blots", folders=())
    assert refused.returncode == 2 and "unknown detector 'mylab-blots'" in refused.stderr


CONTENT = """
import atypia_mylab.{module}
from atypia.training.identity import recipe_identity
from atypia.training.recipe import load_recipe
print(recipe_identity(load_recipe({recipe!r})[1])["plugins"])
"""


def test_the_version_of_an_entry_is_part_of_a_trainings_identity(mylab: Path, tmp_path: Path) -> None:
    def plugins_of(site: Path) -> Any:
        done = python(CONTENT.format(module="backbones", recipe=str(recipe(tmp_path))), site)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    first = "{'backbones mylab-cnn': ['atypia-mylab', '1'], 'probes mylab-centroid': ['atypia-mylab', '1']}"
    assert plugins_of(mylab) == first
    shutil.copytree(mylab, tmp_path / "site")
    probes = tmp_path / "site" / "atypia_mylab" / "probes.py"
    probes.write_text(probes.read_text("utf-8").replace("version=1", "version=2"), "utf-8")
    assert plugins_of(tmp_path / "site") == first.replace(
        "centroid': ['atypia-mylab', '1']", "centroid': ['atypia-mylab', '2']"
    )


PAGE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text("utf-8")


@pytest.mark.parametrize("file", [path for path in sorted(PACKAGE.rglob("*")) if path.suffix in (".py", ".toml")])
def test_the_page_shows_the_package_as_it_is(file: Path) -> None:
    name = file.relative_to(PACKAGE).as_posix()
    shown = re.findall(rf"^`{re.escape(name)}`:\n\n```\w+\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
    assert shown == [file.read_text("utf-8")], f"copy {name} into docs/plugins.md"


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_names_every_kind_and_its_registry(kind: str) -> None:
    module, _, attribute = KINDS[kind].partition(":")
    assert f"| `{kind}` | `{module}.{attribute}` |" in PAGE
