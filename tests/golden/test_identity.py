"""Complete runs of released versions are kept by the code of today: not trained again, not refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from atypia.studies.files import load_study
from atypia.studies.plan import Plan, make_plan
from atypia.training import recipe as recipes
from atypia.training.schema import NetworkRecipe, ProbeRecipe

from .reading import CROPS

REQUEST = ("--data", CROPS, "--protocol", "official", "--protocol-set", "folds=2")
VERSIONS = sorted(path.name for path in Path(__file__).parent.glob("v*"))
every_version = pytest.mark.parametrize("golden", VERSIONS, indirect=True)


class LaterProbe(ProbeRecipe):
    """The recipe of a version that has one key more."""

    later: int = 3


class LaterNetwork(NetworkRecipe):
    """The same of a network."""

    later: int = 3


@pytest.fixture(params=["as it is", "with a key that came later"])
def schemas(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param != "as it is":
        later = {"probe": LaterProbe, **dict.fromkeys(("full", "lora", "partial"), LaterNetwork)}
        for adaptation, schema in later.items():
            monkeypatch.setitem(recipes.SCHEMAS, adaptation, schema)
    return request.param


def stamps(folder: Path) -> dict[str, int]:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))  # no locks
    return {str(path): path.stat().st_mtime_ns for path in files}


def reworded(path: Path) -> None:
    values = yaml.safe_load(path.read_text("utf-8"))
    path.write_text(yaml.safe_dump({**values, "summary": "other words"}), "utf-8")


@every_version
@pytest.mark.usefixtures("schemas")
def test_the_folds_of_an_old_training_are_kept(golden: Path, atypia: Callable[..., str]) -> None:
    reworded(golden / "recipe/probe.yaml")
    folds = [golden / f"training/probe/fold-{k}" for k in (1, 2)]
    before = [stamps(fold) for fold in folds]
    asked = json.loads((golden / "training/probe/training.json").read_text("utf-8"))
    said = atypia("train", "recipe/probe.yaml", *REQUEST, "--out", "training/probe")
    assert "0 folds trained, 2 kept" in said
    assert [stamps(fold) for fold in folds] == before
    now = json.loads((golden / "training/probe/training.json").read_text("utf-8"))
    assert {**now, "warnings": []} == {**asked, "warnings": []}  # begun then, and known by that for ever


@every_version
@pytest.mark.usefixtures("schemas")
def test_an_old_training_that_is_not_complete_continues(golden: Path, atypia: Callable[..., str]) -> None:
    before = stamps(golden / "training/lora/fold-1")
    said = atypia("train", "recipe/lora.yaml", *REQUEST, "--out", "training/lora")
    assert "1 fold trained, 1 kept" in said
    assert stamps(golden / "training/lora/fold-1") == before
    assert "0 folds trained, 2 kept" in atypia("train", "recipe/lora.yaml", *REQUEST, "--out", "training/lora")


@every_version
@pytest.mark.parametrize(
    ("change", "differs"),
    [
        (("--set", "threshold=0.4"), "recipe"),
        (("--seed", "1"), "seed, split"),
        (("--protocol-set", "folds=3"), "split"),
    ],
)
def test_an_old_folder_is_not_for_another_training(
    golden: Path, change: tuple[str, ...], differs: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    from atypia.cli.main import main

    words = ["atypia", "train", "recipe/probe.yaml", *REQUEST, "--out", "training/probe", *change]
    monkeypatch.setattr("sys.argv", words)
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert f"holds another training (it differs in: {differs}); fix: choose another --out" in capsys.readouterr().err


@every_version
@pytest.mark.usefixtures("schemas")
def test_the_runs_of_an_old_study_are_kept(golden: Path, atypia: Callable[..., str]) -> None:
    old = Plan.load(golden / "study")
    done = [golden / "study/runs" / run.id for run in old.runs[:2]]
    before = [stamps(folder) for folder in done]
    for claim in golden.rglob("claim.json"):
        claim.unlink()
    reworded(golden / "recipe/probe.yaml")
    reworded(golden / "recipe/lora.yaml")
    said = atypia("study", "run", "study-file/golden.yaml", "--out", "study", "--engine", "inline", "--retry")
    assert "2 runs done, 2 kept, 0 failed" in said
    assert [stamps(folder) for folder in done] == before
    assert [run.id for run in Plan.load(golden / "study").runs] == [run.id for run in old.runs]
    again = atypia("study", "run", "study-file/golden.yaml", "--out", "study", "--engine", "inline")
    assert "0 runs done, 4 kept, 0 failed" in again


@every_version
def test_the_ids_of_old_runs_outlive_a_plan_that_has_other_keys(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan that is written anew holds the recipes of its own day; which runs are known is carried on."""
    old = [run.id for run in Plan.load(golden / "study").runs]
    sized = load_study("study-file/golden.yaml").sized("full")
    for schema in (None, LaterProbe, None):
        monkeypatch.setitem(recipes.SCHEMAS, "probe", schema or ProbeRecipe)
        plan = make_plan(sized, golden / "study")
        plan.save(golden / "study")
        assert [run.id for run in plan.runs] == old
    changed = load_study("study-file/golden.yaml", ["seeds=[1]"]).sized("full")
    other = make_plan(changed, golden / "study")
    assert not {run.id for run in other.runs} & set(old)
    other.save(golden / "study")
    assert [run.id for run in make_plan(sized, golden / "study").runs] == old


@every_version
def test_a_raised_fit_version_knows_no_old_run(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from atypia.training import identity

    monkeypatch.setitem(identity.FIT_VERSIONS, "probe", identity.FIT_VERSIONS["probe"] + 1)
    old = Plan.load(golden / "study")
    plan = make_plan(load_study("study-file/golden.yaml").sized("full"), golden / "study")
    same = [one.id == other.id for one, other in zip(plan.runs, old.runs, strict=True)]
    assert same == [False, False, True, True]  # two of a probe, two of a network


@every_version
def test_old_runs_are_taken_over_by_another_study(golden: Path, atypia: Callable[..., str]) -> None:
    said = atypia("study", "run", "study-file/golden.yaml", "--out", "new", "--engine", "inline", "--reuse", "study")
    assert "2 runs done, 2 kept, 0 failed" in said
    old = {run.id for run in Plan.load(golden / "study").runs}
    plan = Plan.load(golden / "new")
    assert not old & {run.id for run in plan.runs}
    for run in plan.runs:
        assert json.loads((golden / "new/runs" / run.id / "done.json").read_text("utf-8"))["run"] == run.id
    # The other study's own files are what they were.
    assert all((json.loads(path.read_text("utf-8"))["run"]) in old for path in golden.glob("study/runs/*/done.json"))


@every_version
def test_an_old_generator_is_kept(golden: Path, atypia: Callable[..., str]) -> None:
    reworded(golden / "generator-recipe/smallest.yaml")
    words = ("--data", CROPS, "--protocol", "kfold", "--protocol-set", "folds=2", "--fold", "fold-1", "--out",
             "generator", "--device", "cpu")  # fmt: skip
    before = stamps(golden / "generator/fold-1")
    assert "0 generators trained, 1 kept" in atypia("synth", "train", "generator-recipe/smallest.yaml", *words)
    assert stamps(golden / "generator/fold-1") == before
    with pytest.raises(AssertionError, match=r"holds another training \(it differs in: recipe\)"):
        atypia("synth", "train", "generator-recipe/smallest.yaml", *words, "--set", "turns=true")


@every_version
def test_old_samples_are_kept(golden: Path, atypia: Callable[..., str]) -> None:
    before = stamps(golden / "samples")
    atypia("synth", "sample", "generator/fold-1", "--out", "samples", "--atypical", "3", "--normal", "2", "--steps", "4",
           "--device", "cpu")  # fmt: skip
    assert stamps(golden / "samples") == before
