"""Studies whose runs are complete without any training: a plan, manifests and predictions that a test decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from atypia.base import records as r
from atypia.base import runs
from atypia.base.artifacts import write_json
from atypia.data.manifest import Manifest
from atypia.inference.predictions import predictions_table, write_predictions
from atypia.studies import files
from atypia.studies.ledger import Ledger
from atypia.studies.plan import Plan, PlannedTraining, Run

Scores = Callable[[str, int, Manifest], npt.NDArray[np.float64]]
"""Row, fold and figures to probabilities."""


def figures(name: str, n: int, seed: int, root: Path | None = None, cases: int | None = 20) -> Manifest:
    """Figures of some cases in two domains, every third positive, with votes; painted where there is a root."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        label = int(i % 3 == 0)
        votes = [label, label, int(rng.random() < 0.8) * label + int(rng.random() < 0.2) * (1 - label)]
        rows.append(
            {
                r.FIGURE_ID: f"{name}-{i:05d}", r.DATASET: name, r.IMAGE: f"{name}-{i:05d}.png", r.LABEL: label,
                r.CASE_ID: None if cases is None else f"case-{i % cases}", r.SCANNER: f"scanner {i % 2}", r.VOTES: votes,
            }
        )  # fmt: skip
        if root is not None:
            root.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 255, (24, 24, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(root / f"{name}-{i:05d}.png")
    return Manifest.from_rows(rows, name, root=root)


def noisy(row: str, fold: int, manifest: Manifest) -> npt.NDArray[np.float64]:
    """Probabilities that follow the label; the first rows follow it more closely."""
    rng = np.random.default_rng([sum(map(ord, row)), fold, len(manifest)])
    noise = {"good": 0.25, "fair": 0.45}.get(row, 0.8)
    return np.clip(0.5 + (manifest.labels - 0.5) * 0.4 + rng.normal(0, noise, len(manifest)), 0.001, 0.999)


def held_out(n: int, common: int, folds: int, fold: int) -> npt.NDArray[np.int64]:
    """Rows of a fold's validation part: every fold has both classes."""
    rest = np.arange(common, n)
    return rest[rest // 5 % folds == fold]


def complete_study(
    out: Path,
    train: Manifest,
    tests: Sequence[Manifest] = (),
    rows: Sequence[str] = ("good", "fair", "poor"),
    folds: int = 3,
    scores: Scores = noisy,
    common: int = 30,
    adaptations: Mapping[str, str] | None = None,
    factors: Mapping[str, Mapping[str, str]] | None = None,
    **changes: Any,
) -> Plan:
    """Writes a study whose runs are done: the first figures are every fold's test part, the rest are divided.

    Args:
        out: Its folder.
        train: The training set.
        tests: Other data sets.
        rows: Labels.
        folds: Number of folds.
        scores: What each fold's model says.
        common: Figures of the test part.
        adaptations: Label to adaptation; else probes.
        factors: Label to the row's levels; else none.
        changes: Values of the plan.
    """
    for one in (train, *tests):
        one.save(out / files.MANIFESTS / f"{one.fingerprint}.parquet")
    trainings, planned = [], []
    ledger = Ledger(out)
    rest = np.arange(common, len(train))
    for number, label in enumerate(rows):
        recipe = {"backbone": f"tiny-{label.rpartition(' ')[2]}", "adaptation": (adaptations or {}).get(label, "probe")}
        own = dict((factors or {}).get(label, {}))
        trainings.append(PlannedTraining(label, label, own, "probe", recipe, train.fingerprint, train.name, "split", 0))
        for fold in range(folds):
            held = held_out(len(train), common, folds, fold)
            run = Run(
                f"{number:016x}{fold:016x}", number, f"fold-{fold + 1}", (len(rest) - len(held), len(held), common)
            )
            planned.append(run)
            folder = ledger.folder(run.id)
            (folder / run.fold).mkdir(parents=True)
            parts = []
            for part, where in ((runs.VALIDATION, held), (runs.TEST, np.arange(common))):
                picked = train.take(where)
                if len(where):
                    p = scores(label, fold, picked)
                    parts.append(predictions_table(picked, p, 0.5, fold=run.fold, part=part, run_id=run.id))
            write_predictions(folder / run.fold / runs.PREDICTIONS, _joined(parts))
            for test in tests:
                p = scores(label, fold, test)
                table = predictions_table(test, p, 0.5, fold=run.fold, part=runs.EXTERNAL, run_id=run.id)
                name = f"{test.name}-{test.fingerprint[:8]}"
                write_predictions(folder / runs.EVALUATIONS / name / f"{run.fold}.parquet", table)
            write_json(folder / runs.TRAINING, {"warnings": []})
            write_json(folder / run.fold / runs.ENVIRONMENT, {"python": "3.11"})
            ledger.finish(run.id, 2.0, [test.fingerprint for test in tests], {"fold": run.fold})
    given: dict[str, Any] = {
        "name": "mine", "size": "smoke", "study": {"name": "mine", "summary": "a test"}, "protocol": ("kfold", {}),
        "trainings": tuple(trainings), "runs": tuple(planned), "tests": {one.fingerprint: one.name for one in tests},
        "absent_tests": {}, "allow": (), "decisions": ("fixed",), "baseline": None, "weights": {},
    }  # fmt: skip
    plan = Plan(**{**given, **changes})
    plan.save(out)
    return plan


def _joined(parts: Sequence[Any]) -> Any:
    import pyarrow as pa

    return pa.concat_tables(parts)
