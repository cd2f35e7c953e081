"""Executes one run of a study in any process: claims it, trains its fold, tests it, and records the result."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from atypia.base import runs
from atypia.base.errors import AtypiaError, WorkError
from atypia.base.process.progress import Progress, silent
from atypia.data.manifest import Manifest
from atypia.engines.tasks import Work
from atypia.evaluation.external import CheckedSet, check_set, evaluate, evaluate_shifted, open_target
from atypia.splits.split import Split
from atypia.studies import files
from atypia.studies.ledger import DONE, FAILED, Ledger
from atypia.studies.plan import PlannedTraining, Run
from atypia.training.recipe import parse_recipe
from atypia.training.schema import Recipe
from atypia.training.train import CheckedData, check_data, train
from atypia.training.trainer import TrainingRequest

KEPT: Final = "kept"
BUSY: Final = "busy"
"""Outcomes other than done and failed: already complete; or another process works on it."""


@dataclass(frozen=True)
class RunTask:
    """A run, with everything that a worker needs.

    Attributes:
        out: The study's folder; the same path for all workers.
        run: The run.
        cell: Its cell.
        tests: Fingerprint and name of its test sets.
        allow: Named leakage exceptions.
        weights: The user's file with the backbone's weights.
        device: ``auto``, ``cpu`` or ``cuda``.
        shifts: Fingerprint and change of those of ``tests`` that are its own test figures with changed crops.
    """

    out: Path
    run: Run
    training: PlannedTraining
    tests: Mapping[str, str] = field(default_factory=dict)
    allow: tuple[str, ...] = ()
    weights: Path | None = None
    device: str = "auto"
    shifts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunOutcome:
    """Result of a task.

    Attributes:
        run: Id of the run.
        status: :data:`~atypia.studies.ledger.DONE`, :data:`~atypia.studies.ledger.FAILED`, :data:`KEPT`
            or :data:`BUSY`.
        seconds: Its duration.
        reason: Why it failed.
    """

    run: str
    status: str
    seconds: float = 0.0
    reason: str = ""


def execute(task: RunTask, progress: Progress = silent) -> RunOutcome:
    """Executes a run unless it is complete or another process has it; a failure becomes the outcome's reason.

    A run interrupted by a kill resumes from its last checkpoint.
    """
    ledger, run = Ledger(task.out), task.run.id
    with ledger.claim(run) as mine:
        if not mine:
            return RunOutcome(run, BUSY)
        if ledger.done(run, task.tests) is not None:
            return RunOutcome(run, KEPT)  # by another process in the meantime
        if (failure := ledger.failure(run)) is not None:
            return RunOutcome(run, FAILED, reason=str(failure.get("reason", "")))
        ledger.record(run, "start", label=task.training.label, fold=task.run.fold)
        started = time.perf_counter()
        try:
            facts = _do(task, progress)
            seconds = time.perf_counter() - started
            ledger.finish(run, seconds, task.tests, facts)
        # Any error becomes the run's failure, so that others continue; Ctrl-C and process exit are not Exceptions.
        except Exception as error:  # noqa: BLE001
            text = " ".join(str(error).split())
            reason = text if isinstance(error, AtypiaError) else f"{type(error).__name__}: {text}"
            ledger.fail(run, reason, "".join(traceback.format_exception(error)))
            return RunOutcome(run, FAILED, time.perf_counter() - started, reason)
        return RunOutcome(run, DONE, seconds)


def lost_run(task: RunTask, reason: str) -> RunOutcome:
    """The outcome of a run that gave none, recorded like other failures."""
    Ledger(task.out).fail(task.run.id, reason)
    return RunOutcome(task.run.id, FAILED, reason=reason)


RUNS: Final[Work[RunTask, RunOutcome]] = Work(
    execute, lost_run, cores=2, attempts=3, on_gpu=True, repeat="run again with --retry"
)
"""The work for engines: small networks gain little from more than two cores."""


def _do(task: RunTask, progress: Progress) -> dict[str, Any]:
    training, folder = task.training, Ledger(task.out).folder(task.run.id)
    recipe = parse_recipe(training.recipe, f"recipe {training.recipe_name} of «{training.label}»")
    manifest_file = task.out / files.MANIFESTS / f"{training.manifest}.parquet"
    manifest = _manifest(manifest_file)
    split_file = task.out / files.SPLITS / f"{training.split}.json"
    geometry = recipe.geometry.model_dump_json()
    own = _only(_checked(manifest_file, split_file, geometry, recipe, task.allow), task.run.fold)
    split, ready = own.split, own
    if training.synthetic is not None:
        from atypia.studies.synthetic import add_generated

        pretrain = training.synthetic["pretrain"]
        other = _manifest(task.out / files.MANIFESTS / f"{pretrain}.parquet") if pretrain else None
        manifest, split = add_generated(
            training.synthetic, manifest, own.split, training.seed, other, task.allow, task.device, progress
        )
        manifest_file, ready = (
            folder / runs.MANIFEST,
            None,
        )  # pooled data: specific to this run, checked when it is trained
    else:
        _share(manifest_file, folder / runs.MANIFEST)
    job = TrainingRequest(
        name=training.recipe_name,
        recipe=recipe,
        manifest=manifest,
        split=split,
        out=folder,
        seed=training.seed,
        allow=task.allow,
        weights_file=task.weights,
        folds=(task.run.fold,),
        device=task.device,
    )
    train(job, progress, ready)
    target = open_target(folder)
    for fingerprint in task.tests:
        test_file = task.out / files.MANIFESTS / f"{fingerprint}.parquet"
        if (shift := task.shifts.get(fingerprint)) is not None:
            places = _manifest(task.out / files.MANIFESTS / f"{training.manifest}.parquet")
            rows = {fold.name: places.rows_of(fold.test) for fold in own.split.folds}
            evaluate_shifted(target, _manifest(test_file), shift, rows, task.weights, progress, task.device)
            continue
        ready = _checked_set(folder, manifest_file, test_file, geometry, task.allow)
        evaluate(target, _manifest(test_file), task.allow, task.weights, progress, ready, task.device)
    return {"fold": task.run.fold, "label": training.label}


def _only(checked: CheckedData, fold: str) -> CheckedData:
    """The same data with one fold."""
    kept = tuple(f for f in checked.split.folds if f.name == fold)
    if not kept:
        names = ", ".join(f.name for f in checked.split.folds)
        raise WorkError(f"the split has no {fold}, only {names}; fix: plan the study again")
    positives = {fold: checked.split.positives[fold]} if fold in checked.split.positives else {}
    return replace(checked, split=replace(checked.split, folds=kept, positives=positives))


def _share(source: Path, target: Path) -> None:
    """Hard-links a run's manifest to the study's file if the file system supports it; else copies it."""
    if not target.exists():
        try:
            os.link(source, target)
        except OSError:
            return


# Inputs shared by many runs of a process are opened and checked once; they are identified by content.


@lru_cache(maxsize=16)
def _manifest(path: Path) -> Manifest:
    return Manifest.load(path)


_geometries: dict[tuple[Path, Path, str, tuple[str, ...]], CheckedData] = {}


def _checked(manifest: Path, split: Path, geometry: str, recipe: Recipe, allow: tuple[str, ...]) -> CheckedData:
    """What :func:`atypia.training.train.check_data` says; it depends on the recipe by its geometry alone."""
    key = (manifest, split, geometry, allow)
    if key not in _geometries:
        job = TrainingRequest("check", recipe, _manifest(manifest), Split.load(split), split.parent, allow=allow)
        while len(_geometries) >= 8:
            _geometries.pop(next(iter(_geometries)))
        _geometries[key] = check_data(job)
    return _geometries[key]


_sets: dict[tuple[Path, Path, str, tuple[str, ...]], CheckedSet] = {}


def _checked_set(folder: Path, train_file: Path, test: Path, geometry: str, allow: tuple[str, ...]) -> CheckedSet:
    """What :func:`atypia.evaluation.external.check_set` says of any run that was trained on this set."""
    key = (train_file, test, geometry, allow)
    if key not in _sets:
        while len(_sets) >= 16:
            _sets.pop(next(iter(_sets)))
        _sets[key] = check_set(open_target(folder), _manifest(test), allow)
    return _sets[key]
