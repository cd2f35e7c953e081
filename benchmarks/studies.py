"""Planning, status and report of large studies.

- *plan*: 10,000 runs (2,000 trainings of five folds) from a study whose data is open and divided;
- *load and status*: of that plan, with a tenth of the runs complete, as `atypia study status` does it;
- *report*: result rows from predictions, per million figures;
- *large report*: the whole of `atypia study report` over 5 million predictions, in a process of its own: seconds of
  wall and processor time, and its peak memory.

Predicted before the first run: plan 1 s, load and status 0.5 s, report 12 s a million; the large one 50 s and 0.6 GiB.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from atypia.base import records as r
from atypia.base import runs
from atypia.base.artifacts import write_json
from atypia.data.manifest import Manifest
from atypia.inference.predictions import predictions_table, write_predictions
from atypia.studies.ledger import Ledger
from atypia.studies.plan import Plan, make_plan
from atypia.studies.run import study_status
from atypia.studies.schema import DataConfig, StudyConfig
from atypia.studies.table import collect_study

TRAININGS, FIGURES, REPORTED = 2000, 2000, 40
LARGE = {"rows": 50, "folds": 5, "figures": 20_000, "cases": 400}
REPORT = """
import sys, time
from pathlib import Path
from atypia.workflows.studies.study import open_study, report_study
from benchmarks.measuring.memory import status_kib
out = Path(sys.argv[1])
sys.stdout.write(report_study(open_study("", out=out)).table.to_text())
sys.stderr.write(f"measured {time.process_time()} {status_kib('VmHWM')}")
"""


def manifest(data: DataConfig) -> Manifest:
    """Figures of 40 cases in four domains, without images."""
    rows = [
        {r.FIGURE_ID: f"f{i:06d}", r.DATASET: "set", r.IMAGE: f"{i}.png", r.CASE_ID: f"case-{i % 40}",
         r.LABEL: int(i % 5 == 0), r.SCANNER: f"scanner {i % 4}", r.SHA256: f"{i:064x}"}
        for i in range(FIGURES)
    ]  # fmt: skip
    return Manifest.from_rows(rows, "set", root=Path("/nowhere"))


def study() -> StudyConfig:
    """2,000 trainings: one probe, a factor of 20 levels, 100 seeds; a published protocol keeps one split for all."""
    levels = [{"label": f"level {i}", "probes": {"threshold": 0.3 + i / 100}} for i in range(20)]
    return StudyConfig.model_validate(
        {
            "name": "large",
            "summary": "a benchmark",
            "data": {"train": "set"},
            "protocol": {"name": "kfold", "options": {"folds": 5}},
            "models": [{"recipe": "probe", "backbones": ["tiny-cnn"], "label": f"model {i}",
                        "set": {"geometry.out_px": 64 + i}} for i in range(TRAININGS // 20)],
            "factors": [{"name": "level", "levels": levels}],
        }
    )  # fmt: skip


def complete(plan: Plan, out: Path, count: int) -> None:
    """Writes what runs leave behind, with random predictions of their validation and test figures."""
    ledger, rng = Ledger(out), np.random.default_rng(0)
    whole = manifest(DataConfig(open="set"))
    table = predictions_table(whole, rng.uniform(0, 1, len(whole)), 0.5, fold="fold-1", part="test", run_id="x")
    for run in plan.runs[:count]:
        folder = ledger.folder(run.id)
        (folder / run.fold).mkdir(parents=True)
        named = table.set_column(table.schema.get_field_index(r.RUN_ID), r.RUN_ID, [[run.id] * len(table)]).set_column(
            table.schema.get_field_index(r.FOLD), r.FOLD, [[run.fold] * len(table)]
        )
        write_predictions(folder / run.fold / runs.PREDICTIONS, named)
        write_json(folder / runs.TRAINING, {"warnings": []})
        ledger.finish(run.id, 1.0, (), {"fold": run.fold})


def large_report() -> dict[str, float]:
    """Seconds and memory of the report over a large study's predictions, which are made first."""
    from tests.studies.predicted import complete_study, figures

    def drawn(row: str, fold: int, made: Manifest) -> npt.NDArray[np.float64]:
        rng = np.random.default_rng([sum(map(ord, row)), fold, len(made)])
        return np.clip(0.5 + (made.labels - 0.5) * 0.2 + rng.normal(0, 0.3, len(made)), 0.001, 0.999)

    with TemporaryDirectory() as folder:
        out = Path(folder)
        test = figures("large", LARGE["figures"], 1, cases=LARGE["cases"])
        names = [f"row {i}" for i in range(LARGE["rows"])]
        complete_study(out, figures("own", 300, 0), [test], names, LARGE["folds"], drawn).save(out)
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", REPORT, folder], capture_output=True, text=True, check=True)
        wall = time.perf_counter() - start
        seconds, kib = done.stderr.rsplit("measured ", 1)[1].split()
    return {
        "large_report_predictions": LARGE["rows"] * LARGE["folds"] * LARGE["figures"],
        "large_report_s": round(wall, 1),
        "large_report_processor_s": round(float(seconds), 1),
        "large_report_peak_mib": round(int(kib) / 1024),
    }


def measure() -> dict[str, Any]:
    """Seconds of each, and the number of runs."""
    with TemporaryDirectory() as folder:
        out = Path(folder)
        sized = study().sized("full")
        make_plan(sized, out, opener=manifest)  # opens and divides the data
        start = time.perf_counter()
        plan = make_plan(sized, out, opener=manifest)
        planned = time.perf_counter() - start
        plan.save(out)
        complete(plan, out, len(plan.runs) // 10)
        start = time.perf_counter()
        status = study_status(Plan.load(out), out)
        asked = time.perf_counter() - start
        small = Plan.load(out)
        shortened = Plan(**{**vars(small), "runs": small.runs[:REPORTED]})
        start = time.perf_counter()
        collect_study(shortened, out)
        reported = time.perf_counter() - start
        return {
            "runs": len(plan.runs),
            "done": status.counts["done"],
            "plan_s": round(planned, 2),
            "load_and_status_s": round(asked, 2),
            "report_s_per_million": round(reported / (REPORTED * FIGURES) * 1e6, 1),
            **large_report(),
        }
