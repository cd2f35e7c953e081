"""Training: every fold of a split, into run folders that are skipped when they are complete.

The output folder of a training holds::

    training.json    the request; another request for the same folder is refused
    manifest.parquet the figures
    split.json       the folds
    fold-1/ …        one run folder per fold: config.yaml, split.json, metrics.jsonl, bundle/,
                     predictions.parquet, environment.json, log.txt, run.json (written last)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from atypia.backbones.weights import require
from atypia.base import runs
from atypia.base.artifacts import atomic_folder, environment, lock, read_json, write_json
from atypia.base.errors import AtypiaError, InputError, count_noun, must
from atypia.base.process.cores import DEVICES, peak_memory
from atypia.base.process.progress import Progress, silent
from atypia.data.audit.report import check_training, identical_groups
from atypia.data.crops.store import CropStore, open_store
from atypia.data.manifest import METADATA_KEY, Manifest
from atypia.inference.bundles.bundle import Bundle, load_bundle
from atypia.inference.bundles.decision import Decision
from atypia.inference.predictions import PREDICTIONS_SCHEMA, predictions_table, read_predictions, write_predictions
from atypia.splits.leakage import check_split
from atypia.splits.split import Fold, Split
from atypia.training.additions import check_generated
from atypia.training.decision import fit_run_decision
from atypia.training.identity import request, resumed_request, run_id
from atypia.training.origins import packages_of
from atypia.training.possible import check_field, check_options
from atypia.training.schema import ProbeRecipe, Recipe
from atypia.training.trainer import TrainedFold, Trainer, TrainingRequest, field_um

WAIT_S: Final = 7 * 24 * 3600.0
"""How long a training waits for another one of the same fold: as long as a training may take."""


@dataclass(frozen=True)
class TrainedRun:
    """Result of a training: the run folders of all folds, those trained now, and warnings for every table."""

    folds: tuple[Path, ...]
    fitted: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class CheckedData:
    """Data that may be trained on: crops, folds, and the warnings of the checks, for every table."""

    store: CropStore
    split: Split
    warnings: tuple[str, ...]


def check_data(job: TrainingRequest, progress: Progress = silent) -> CheckedData:
    """Opens the crops, divides them and checks for leakage; of the recipe only the geometry is used.

    Raises:
        LeakageError: Figures, cases or images leak between the parts of a fold.
    """
    reflected = check_field(job.recipe, job.manifest)
    store = open_store(job.manifest, job.recipe.geometry.build(), progress=progress)
    usable = job.manifest if store.usable.all() else job.manifest.take(store.usable)
    split = _split(job, usable, store)
    notes = [f"{job.manifest.name}: {text}" for text in job.manifest.notes]
    warnings = [
        *notes,
        *reflected,
        *_quarantine_note(store),
        *split.warnings,
        *check_training(job.manifest, store, job.allow),
    ]
    warnings += check_split(split, usable, job.allow, identical_groups(job.manifest, store))
    warnings += check_generated(split, usable, job.allow)
    return CheckedData(store, split, tuple(dict.fromkeys(warnings)))


def train(job: TrainingRequest, progress: Progress = silent, checked: CheckedData | None = None) -> TrainedRun:
    """Trains every fold that is not complete yet.

    Folds may be trained at the same time by several calls with the same output folder; a fold that another call
    is training is waited for.

    Args:
        job: What is asked for.
        progress: Told about crops, features and epochs.
        checked: Result of :func:`check_data` for the same data, geometry and exceptions, if several
            trainings share it; its split is used.

    Raises:
        AbsentError: The backbone's weights are not on this machine; raised before any work starts.
        LeakageError: Figures, cases or images leak between the parts of a fold.
        InputError: The output folder holds another training, or an option is not valid.
    """
    check_recipe(job.recipe, job.weights_file, job.device)
    checked = checked or check_data(job, progress)
    store, split, warnings = checked.store, checked.split, list(checked.warnings)
    wanted = split.named(job.folds)
    trainer = _trainer(job, store, progress)
    with lock(job.out / runs.TRAINING):
        data = {"name": job.manifest.name, "fingerprint": job.manifest.fingerprint, "task": job.manifest.task}
        asked = request(job.name, job.recipe, job.seed, data, split, job.allow)
        asked = resumed_request(job.out, asked, job.recipe, split)
        warnings += trainer.check(wanted)
        split.save(job.out / runs.SPLIT)
        if not _is_saved(job.manifest, job.out / runs.MANIFEST):
            job.manifest.save(job.out / runs.MANIFEST)
        write_json(job.out / runs.TRAINING, {**asked.values, runs.WARNINGS: warnings})
    seen: list[str] = []
    with ExitStack() as locks:  # locks folds only: other folds of this training may be trained at the same time
        for fold in sorted(wanted, key=lambda fold: fold.name):  # in one order, so that no two wait for each other
            locks.enter_context(lock(job.out / f"{fold.name}.training", WAIT_S))
        run_ids = {fold.name: run_id(job.recipe, job.seed, trainer.inputs(fold), fold, asked.recipe) for fold in wanted}
        todo = [fold for fold in wanted if not _complete(job.out / fold.name, run_ids[fold.name])]
        for fitted in trainer.fit(todo, run_ids, progress) if todo else ():
            _write_run(job, store, split, fitted, run_ids[fitted.fold.name], [*warnings, *fitted.warnings])
            seen += fitted.warnings
    folders = tuple(job.out / fold.name for fold in wanted)
    return TrainedRun(folders, tuple(fold.name for fold in todo), (*warnings, *seen))


def check_recipe(recipe: Recipe, weights_file: Path | None = None, device: str = "auto") -> None:
    """Raises, before any work starts, if a recipe cannot be trained on this machine.

    Raises:
        AbsentError: The backbone's weights are not on this machine.
        InputError: An option is not valid, a combination cannot work, or there is no such device.
    """
    if device not in DEVICES:
        raise InputError(must("device", f"one of {', '.join(DEVICES)}", device, "leave it out for the best there is"))
    if device == "cuda":
        from atypia.inference.networks import device_of

        device_of(device)
    check_options(recipe)
    if isinstance(recipe, ProbeRecipe) or (recipe.pretrained and recipe.init is None):
        require(recipe.backbone, weights_file)


def _trainer(job: TrainingRequest, store: CropStore, progress: Progress) -> Trainer:
    if isinstance(job.recipe, ProbeRecipe):
        from atypia.training.probes import ProbeTrainer

        return ProbeTrainer(job, job.recipe, store, progress)
    from atypia.training.networks import NetworkTrainer  # imports torch: not on a probe's warm path

    return NetworkTrainer(job, job.recipe, store, progress)


def _split(job: TrainingRequest, usable: Manifest, store: CropStore) -> Split:
    """The folds of the usable figures: made now, or the given ones without figures that cannot be read."""
    if not isinstance(job.split, Split):
        return job.split(usable)
    job.split.check_manifest(job.manifest)
    if not store.quarantined:
        return job.split
    kept = [
        Fold(fold.name, *(tuple(i for i in part if i not in store.quarantined) for part in fold.parts().values()))
        for fold in job.split.folds
    ]
    return replace(job.split, manifest=usable.fingerprint, folds=tuple(kept), positives={})


def _quarantine_note(store: CropStore) -> list[str]:
    if not store.quarantined:
        return []
    figure, reason = next(iter(store.quarantined.items()))
    return [
        f"{count_noun(len(store.quarantined), 'figure was', 'figures were')} left out: their images cannot be used (first {figure}: {reason})"
    ]


def _is_saved(manifest: Manifest, path: Path) -> bool:
    """Whether the file is this manifest, down to its notes: a study links one file into all of its runs."""
    try:
        there = json.loads((pq.read_schema(path).metadata or {})[METADATA_KEY])
    except (OSError, pa.ArrowException, KeyError, ValueError, RecursionError):
        return False
    facts = {
        "name": manifest.name,
        "notes": list(manifest.notes),
        "fingerprint": manifest.fingerprint,
        "root": str(manifest.root) if manifest.root else None,
    }
    return {key: there.get(key) for key in facts} == facts


def _complete(folder: Path, run_id: str) -> bool:
    """Whether a run folder belongs to that run, and the files that others read are complete."""
    try:
        facts = read_json(folder / runs.RUN)
        if facts["run_id"] != run_id:
            return False
        read_predictions(folder / runs.PREDICTIONS)
        return load_bundle(folder / runs.BUNDLE).fingerprint == facts["bundle_fingerprint"]
    except (AtypiaError, KeyError, TypeError):
        return False


def _write_run(
    job: TrainingRequest, store: CropStore, split: Split, fitted: TrainedFold, run_id: str, warnings: Sequence[str]
) -> None:
    recipe, fold = job.recipe, fitted.fold
    bundle = Bundle(
        name=f"{job.name}-{recipe.backbone}-{fold.name}",
        task=job.manifest.task,
        adaptation=recipe.adaptation,
        backbone=recipe.backbone,
        weights_sha256=fitted.weights_sha256,
        input_px=fitted.input_px,
        geometry=recipe.geometry.build(),
        tensors=fitted.tensors,
        decision=Decision(recipe.threshold),
        network=fitted.network,
        prepared=fitted.prepared,
        training={
            "recipe": job.name,
            "data": job.manifest.name,
            "data_fingerprint": job.manifest.fingerprint,
            "protocol": split.protocol,
            "split_fingerprint": split.fingerprint,
            "fold": fold.name,
            "figures": len(fold.train),
            "seed": job.seed,
            "run_id": run_id,
            "info": _plain(fitted.info),
            "warnings": list(warnings),
        },
        field_um=field_um(job.manifest.take(job.manifest.rows_of(fold.train)), recipe.geometry.build()),
    )
    if recipe.decision is not None:
        bundle = replace(bundle, decision=fit_run_decision(recipe.decision, bundle, fitted, job, store))
    with atomic_folder(job.out / fold.name) as part:
        config = {"recipe_name": job.name, "seed": job.seed, **recipe.model_dump(mode="json")}
        (part / runs.CONFIG).write_text(yaml.safe_dump(config, sort_keys=False), "utf-8")
        replace(split, folds=(fold,)).save(part / runs.SPLIT)
        bundle.save(part / runs.BUNDLE)
        facts = {"bundle": bundle.fingerprint, "manifest": job.manifest.fingerprint}
        write_predictions(part / runs.PREDICTIONS, _predictions(job.manifest, fitted, bundle.decision, run_id), facts)
        lines = "".join(json.dumps(_plain(line), sort_keys=True) + "\n" for line in fitted.history)
        (part / runs.METRICS).write_text(lines, "utf-8")
        write_json(part / runs.ENVIRONMENT, dict(environment(packages_of(job, split.protocol))))
        log = [
            f"{job.name} on {recipe.backbone}, {job.manifest.name}, {split.protocol}, {fold.name}, seed {job.seed}",
            f"{len(fold.train)} training, {len(fold.val)} validation and {len(fold.test)} test figures",
            f"fitted in {fitted.seconds:.2f} s",
            *warnings,
        ]
        (part / runs.LOG).write_text("\n".join(log) + "\n", "utf-8")
        write_json(part / runs.RUN, {"run_id": run_id, "bundle_fingerprint": bundle.fingerprint,
                                     "seconds": round(fitted.seconds, 3),
                                     "parameters_trained": fitted.parameters,
                                     **peak_memory()})  # fmt: skip


def _predictions(manifest: Manifest, fitted: TrainedFold, decision: Decision, run_id: str) -> pa.Table:
    fold, parts = fitted.fold, []
    for part, figures in ((runs.VALIDATION, fold.val), (runs.TEST, fold.test)):
        if figures:
            rows = manifest.rows_of(figures)
            p = decision.calibration.apply(fitted.logits(rows))
            figures = manifest.take(rows)
            parts.append(predictions_table(figures, p, decision.threshold, fold=fold.name, part=part, run_id=run_id))
    return pa.concat_tables(parts) if parts else PREDICTIONS_SCHEMA.empty_table()


def _plain(value: Any) -> Any:
    """The value in JSON's types: NumPy numbers as Python's, NaN and infinity as null, no arrays."""
    if isinstance(value, Mapping):
        return {str(key): _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
