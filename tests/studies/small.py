"""A study of seconds: a probe and a network of one epoch, two folds each, on painted crops."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import yaml

from atypia.engines.tasks import Setup
from atypia.studies.files import load_study
from atypia.studies.ledger import Ledger
from atypia.studies.plan import Plan, make_plan
from atypia.studies.run import run_study
from atypia.studies.table import StudyResults, collect_study


def values(train: Path, tests: list[Path], epochs: int = 1, **changes: Any) -> dict[str, Any]:
    """The study file's values."""
    return {
        "name": "small",
        "summary": "a test",
        "data": {"train": str(train), "tests": [str(path) for path in tests]},
        "protocol": {"name": "kfold", "options": {"folds": 2}},
        "models": [
            {"recipe": "probe", "backbones": ["tiny-cnn"], "label": "probe"},
            {"recipe": "full", "backbones": ["tiny-cnn"], "label": "network",
             "set": {"epochs": epochs, "batch_size": 8, "view": 1.0, "augment": "none"}},
        ],
        "sizes": {"smoke": {"set": {"geometry.out_px": 32, "input_px": 32}}},
        **changes,
    }  # fmt: skip


def plan_of(given: dict[str, Any], folder: Path, name: str = "out") -> tuple[Plan, Path]:
    """Its plan at the smoke size, and its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "small.yaml"
    file.write_text(yaml.safe_dump(given), "utf-8")
    out = folder / name
    return make_plan(load_study(str(file)).sized("smoke"), out), out


def carried_out(plan: Plan, out: Path, engine: str = "inline", **how: Any) -> StudyResults:
    """Runs it and gives its tables."""
    plan.save(out)
    run_study(plan, out, engine, Setup(how.pop("workers", None)), **how)
    return collect_study(plan, out)


def counts(plan: Plan, out: Path) -> dict[str, tuple[int, int]]:
    """How often each run was begun and done."""
    found = {}
    for run in plan.to_do():
        events = [event["event"] for event in Ledger(out).events(run.id)]
        found[run.id] = (events.count("start"), events.count("done"))
    return found


def comparable(results: StudyResults) -> list[dict[str, Any]]:
    """Result rows in an order that does not depend on which run was done first; NaN as text."""
    rows = [{key: str(value) for key, value in row.items()} for row in results.rows.to_pylist()]
    return sorted(rows, key=lambda row: sorted(row.items()))


if __name__ == "__main__":  # one of several processes that share a study: FOLDER ENGINE
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    where = Path(sys.argv[1])
    ran = run_study(Plan.load(where), where, sys.argv[2], Setup(workers=1))
    print(len(ran.done), len(ran.kept), len(ran.failed))
