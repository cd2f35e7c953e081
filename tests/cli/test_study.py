"""``atypia study``: list, plan, run, status and report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.studies.small import values

Run = Callable[..., Any]


@pytest.fixture
def file(small_csv: Path, other_csv: Path, tmp_path: Path) -> Path:
    """A study of one probe in two folds."""
    given = values(small_csv, [other_csv])
    given["models"] = given["models"][:1]
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(given), "utf-8")
    return path


def test_a_missing_extra_is_named_before_any_work(
    atypia: Run, small_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_work(*_: object, **__: object) -> None:
        pytest.fail("work was begun")

    monkeypatch.setattr("atypia.base.extras.installed", lambda module: module not in ("ray", "matplotlib"))
    monkeypatch.setattr("atypia.workflows.studies.study.plan_study", no_work)
    monkeypatch.setattr("atypia.workflows.data.describe_data", no_work)
    ended = atypia("study", "run", "giedziun-lodo", "--size", "smoke", "--out", tmp_path / "out", "--engine", "ray")
    assert ended.code == 2 and "`atypia study run` needs Ray" in ended.err and "atypia[scale]" in ended.err
    ended = atypia("data", "info", small_csv, "--figure", tmp_path / "plot.svg")
    assert ended.code == 2 and "`atypia data info --figure` needs matplotlib" in ended.err


def test_from_plan_to_report(atypia: Run, file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    where = ("--size", "smoke", "--out", out)
    planned = atypia("study", "plan", file, *where)
    assert planned.code == 0, planned.err
    assert "small, smoke: 2 runs, 2 different, 2 can be done here" in planned.out

    ran = atypia("study", "run", file, *where, "--engine", "inline", "--json")
    assert ran.code == 0, ran.err
    assert "2 runs done, 0 kept, 0 failed" in ran.err
    table = json.loads(ran.out)
    assert {row["part"] for row in table["rows"]} == {"validation", "external"}
    text = (out / "report" / "report.md").read_text("utf-8")
    assert "mean ± population sd (ddof 0) over 2 runs" in text
    for name in ("results.csv", "results.tex", "domains.md"):
        assert (out / "report" / name).is_file()

    status = atypia("study", "status", file, *where, "--json")
    assert json.loads(status.out)["counts"] == {"done": 2, "running": 0, "failed": 0, "pending": 0, "lacking": 0}

    (out / "results.parquet").unlink()
    again = atypia("study", "report", file, *where, "--json")
    assert (again.code, json.loads(again.out)) == (0, table)
    assert (out / "results.parquet").is_file()

    kept = atypia("study", "run", file, *where, "--engine", "inline")
    assert "0 runs done, 2 kept" in kept.err


def test_shipped_studies_are_listed(atypia: Run) -> None:
    listed = atypia("study", "list")
    assert listed.code == 0
    for name in ("banerjee-table3", "what-matters", "giedziun-lodo"):
        assert name in listed.out


def test_bad_use(atypia: Run, file: Path, tmp_path: Path) -> None:
    unknown = atypia("study", "run", "banerjee")
    assert (unknown.code, "unknown study 'banerjee'; choices:" in unknown.err) == (2, True)
    engine = atypia("study", "run", file, "--engine", "slurm", "--out", tmp_path / "x")
    assert (engine.code, "unknown engine 'slurm'" in engine.err) == (2, True)
    assert not (tmp_path / "x").exists()
    nothing = atypia("study", "status", file, "--size", "smoke", "--out", tmp_path / "x")
    assert (nothing.code, "holds no study" in nothing.err) == (2, True)
    size = atypia("study", "plan", file, "--size", "huge", "--out", tmp_path / "x")
    assert (size.code, "`size` must be one of full, smoke, got huge" in size.err) == (2, True)
