"""``atypia evaluate``, ``recipes`` and ``demo``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from atypia.base import records as r
from atypia.base import runs
from atypia.data.sources.opening import open_data
from atypia.training.recipe import parse_recipe, shipped_recipes

Run = Callable[..., Any]
TINY = ("--backbone", "tiny-cnn", "--set", "geometry.out_px=32", "--set", "input_px=32")
TWO = ("--protocol", "kfold", "--protocol-set", "folds=2")


def strict(text: str) -> Any:
    """JSON that every reader takes: without NaN and infinity."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def training(trained_folder: Path, tmp_path: Path) -> Path:
    """A copy of the trained folder that a test may change."""
    return Path(shutil.copytree(trained_folder, tmp_path / "probe"))


def test_the_training_data_is_refused_and_the_exception_is_in_the_table(
    atypia: Run, training: Path, small_csv: Path
) -> None:
    ended = atypia("evaluate", training, "--on", small_csv)
    assert ended.code == 2 and ended.out == "" and "--allow figure-across-sets" in ended.err

    allowed = atypia("evaluate", training, "--on", small_csv, "--allow", "figure-across-sets", "--json")
    assert allowed.code == 0
    assert "figure-across-sets" in allowed.out and "figure-across-sets" in allowed.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--on", "nowhere.csv"], "nowhere.csv does not exist; fix: check the path"),
        (["--on", "ami-br"], "fix: `atypia data get ami-br`"),
        (["--write", "table.docx"], "a name ending in"),
    ],
)
def test_evaluate_refuses_before_any_work(
    arguments: list[str], words: str, atypia: Run, training: Path, other_csv: Path, own_home: Path
) -> None:
    ended = atypia("evaluate", training, "--on", other_csv, *arguments)

    assert ended.code == 2 and words in ended.err
    assert not (training / runs.EVALUATIONS).exists() and not (own_home / "cache" / "crops").exists()


def test_evaluate_of_nothing(atypia: Run, other_csv: Path, tmp_path: Path) -> None:
    ended = atypia("evaluate", tmp_path, "--on", other_csv)

    assert ended.code == 2 and "holds no training, run or bundle; fix: give the --out folder" in ended.err


def test_figures_without_labels_cannot_be_evaluated(
    atypia: Run, training: Path, paint: Callable[..., Path], tmp_path: Path
) -> None:
    table = paint(tmp_path / "new", cases=2, seed=9)
    table.write_text("image\n" + "".join(f"s9-{i:03d}.png\n" for i in range(20)), "utf-8")
    ended = atypia("evaluate", training, "--on", table)

    assert ended.code == 2 and "20 of 20 figures have no label; fix: label or drop them" in ended.err


@pytest.fixture
def unreadable(paint: Callable[..., Path], tmp_path: Path) -> Path:
    """A set of 40 figures of which one cannot be read."""
    table = paint(tmp_path / "new", cases=4, seed=9)
    path = table.with_name("s9-003.png")
    path.write_bytes(path.read_bytes()[:-300])
    return table


def test_images_that_cannot_be_read_are_no_success(atypia: Run, training: Path, unreadable: Path) -> None:
    ended = atypia("evaluate", training, "--on", unreadable)
    assert ended.code == 1 and "BA" in ended.out
    assert "1 of 40 figures of figures cannot be read and are left out of the results above; fix: repair" in ended.err

    accepted = atypia("evaluate", training, "--on", unreadable, "--skip-unreadable")
    assert accepted.code == 0 and "1 figure left out" in accepted.err


def test_a_bundle_is_only_read(
    atypia: Run, training: Path, other_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bundle = training / "fold-1" / runs.BUNDLE
    before = {path: path.stat().st_mtime_ns for path in training.rglob("*")}
    ended = atypia("evaluate", bundle, "--on", other_csv)
    assert ended.code == 0, ended.err
    (folder,) = (tmp_path / "evaluations").iterdir()
    assert (folder / runs.RESULTS).is_file() and f"files: evaluations/{folder.name}/" in ended.err

    assert atypia("evaluate", bundle, "--on", other_csv, "--out", tmp_path / "sent").code == 0
    assert (tmp_path / "sent" / runs.RESULTS).is_file()
    assert {path: path.stat().st_mtime_ns for path in training.rglob("*")} == before


def test_the_model_that_ships_is_known_by_its_name_and_only_read(
    atypia: Run, other_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from atypia.inference.classifier import MODELS

    monkeypatch.chdir(tmp_path)
    shipped = MODELS / "atypia"
    before = {path.name: path.stat().st_mtime_ns for path in shipped.iterdir()}
    for out in (shipped / "model.onnx", shipped / "new.onnx"):
        ended = atypia("export", "atypia", "--to", "onnx", "--out", out)
        assert ended.code == 2 and "`out` must be outside the model that is exported" in ended.err
    ended = atypia("evaluate", "atypia", "--on", "nothing.csv")
    assert ended.code == 2 and "nothing.csv does not exist" in ended.err  # the model was found
    ended = atypia("evaluate", "atypie", "--on", other_csv)
    assert ended.code == 2 and "atypie holds no training, run or bundle" in ended.err
    assert {path.name: path.stat().st_mtime_ns for path in shipped.iterdir()} == before


# Recipes and demo -----------------------------------------------------------------------------


def test_recipes_are_listed_and_shown(atypia: Run) -> None:
    listed = strict(atypia("recipes", "--json").out)
    assert [recipe["name"] for recipe in listed] == list(shipped_recipes())
    text = atypia("recipes").out
    assert all(name in text for name in shipped_recipes())

    shown = atypia("recipes", "probe").out
    as_json = strict(atypia("recipes", "probe", "--json").out)
    assert parse_recipe(yaml.safe_load(shown), "test").model_dump(mode="json") == as_json


def test_an_own_recipe_can_be_made_from_a_shipped_one(atypia: Run, small_csv: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(atypia("recipes", "probe-banerjee").out, "utf-8")
    ended = atypia("train", tmp_path / "mine.yaml", "--data", small_csv, *TWO, *TINY, "--out", tmp_path / "out")

    assert ended.code == 0, ended.err
    assert "mine · tiny-cnn" in ended.out


def test_the_demo_ends_with_a_table_and_says_where_the_files_are(
    atypia: Run, paint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = paint(tmp_path / "sets" / "a", cases=24, per_case=5)
    other = paint(tmp_path / "sets" / "b", cases=4, seed=1)
    shutil.copy(other, other.parent / "elsewhere.csv")
    sets = open_data(str(table)), open_data(str(other.parent / "elsewhere.csv"))
    monkeypatch.setattr("atypia.workflows.demo.phantom_sets", lambda *_: sets)
    out = tmp_path / "demo"
    ended = atypia("demo", "--phantom", "--backbone", "tiny-cnn", "--out", out)

    assert ended.code == 0, ended.err
    assert all(word in ended.out for word in ("validation", "test", "elsewhere", "BA"))
    assert f"files: {out}/probe-phantom/" in " ".join(ended.err.split())
    for suffix in ("md", "csv", "tex", "json"):
        assert (out / "probe-phantom" / f"table.{suffix}").stat().st_size > 100


def test_the_demo_s_phantom_sets_share_no_domain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from atypia.workflows import demo

    monkeypatch.setattr(demo, "PHANTOM_CROPS", 40)
    training, other = demo.phantom_sets(tmp_path)

    assert (len(training), len(other)) == (40, 10)
    assert not set(training.column(r.DOMAIN)) & set(other.column(r.DOMAIN))
    assert not set(training.cases) & set(other.cases)


def test_the_demo_tells_absent_weights_before_any_work(atypia: Run, tmp_path: Path) -> None:
    ended = atypia("demo", "--phantom", "--backbone", "virchow2", "--out", tmp_path / "demo")

    assert ended.code == 2 and "weights of virchow2 are not on this machine" in ended.err
    assert not (tmp_path / "demo").exists()
