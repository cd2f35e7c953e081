"""Training: every fold of a split, into run folders that are skipped when they are complete.

The output folder of a training holds::

    training.json    what was asked for; another request for the same folder is refused
    manifest.parquet the figures
    split.json       the folds
    fold-1/ …        one run folder a fold: config.yaml, split.json, metrics.jsonl, bundle/,
                     predictions.parquet, environment.json, log.txt, run.json (written last)
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from atypia import runs
from atypia.artifacts import atomic_folder, environment, fingerprint, lock, read_json, write_json
from atypia.backbones.catalogue import BACKBONES
from atypia.backbones.features import Features, open_features
from atypia.backbones.weights import require
from atypia.data.audit import check_training
from atypia.data.manifest import Manifest
from atypia.data.store import CropStore, open_store
from atypia.errors import InputError, WorkError
from atypia.inference.bundle import Bundle
from atypia.inference.predictions import predictions_table, write_predictions
from atypia.methods.catalogue import PROBES
from atypia.methods.head import FoldRows, LinearHead
from atypia.progress import Progress, silent
from atypia.splits.leakage import check_split
from atypia.splits.split import Fold, Split
from atypia.training.recipe import Recipe

FIT_VERSION = 1
"""Raised when a change makes trainings come out differently from the same inputs."""


@dataclass(frozen=True)
class Training:
    """What is asked for.

    Attributes:
        name: The recipe's name.
        recipe: The recipe.
        manifest: The figures.
        make_split: From the usable figures to the folds; called once they are known.
        out: Output folder.
        seed: Master seed of the methods.
        allow: Leakage findings that the user has named as exceptions.
        weights_file: The backbone's weights, where they are in a file of the user's.
    """

    name: str
    recipe: Recipe
    manifest: Manifest
    make_split: Callable[[Manifest], Split]
    out: Path
    seed: int = 0
    allow: tuple[str, ...] = ()
    weights_file: Path | None = None


@dataclass(frozen=True)
class Trained:
    """What came out: the run folders of all folds, those fitted now, and warnings for every table."""

    folds: tuple[Path, ...]
    fitted: tuple[str, ...]
    warnings: tuple[str, ...]


def train(job: Training, progress: Progress = silent) -> Trained:
    """Trains every fold that is not complete yet.

    Raises:
        AbsentError: The backbone's weights are not here; raised before any work starts.
        LeakageError: Figures, cases or images leak between the parts of a fold.
        InputError: The output folder holds another training, or an option is not valid.
    """
    require(job.recipe.backbone, job.weights_file)
    probe = PROBES[job.recipe.probe]
    options = probe.parse_options(job.recipe.options)
    store = open_store(job.manifest, job.recipe.geometry.build(), progress=progress)
    usable = job.manifest if store.usable.all() else job.manifest.take(store.usable)
    split = job.make_split(usable)
    warnings = [*_quarantine_note(store), *check_training(usable, store, job.allow)]
    warnings += check_split(split, usable, allow=job.allow)
    with lock(job.out / runs.TRAINING):
        asked = _identity(job, split)
        _claim(job.out, asked)
        features = open_features(
            store, job.recipe.backbone, job.recipe.input_px, weights_file=job.weights_file, progress=progress
        )
        identity = _fold_identities(job, features, split)
        todo = [fold for fold in split.folds if not _complete(job.out / fold.name, identity[fold.name])]
        split.save(job.out / runs.SPLIT)
        job.manifest.save(job.out / runs.MANIFEST)
        if todo:
            started = time.perf_counter()
            rows = [FoldRows(job.manifest.rows_of(f.train), job.manifest.rows_of(f.val)) for f in todo]
            labels = _labels(job.manifest, store)
            values = np.asarray(features.values)
            heads = probe.fit_folds(values, labels, job.manifest.cases, rows, job.seed, options, progress)
            seconds = time.perf_counter() - started
            for fold, head in zip(todo, heads, strict=True):
                _write_run(job, split, fold, head, features, identity[fold.name], (seconds, len(todo), warnings))
        write_json(job.out / runs.TRAINING, {**asked, "warnings": warnings})
    folders = tuple(job.out / fold.name for fold in split.folds)
    return Trained(folders, tuple(fold.name for fold in todo), tuple(warnings))


def _labels(manifest: Manifest, store: CropStore) -> np.ndarray[Any, np.dtype[np.int8]]:
    """Labels of all rows; rows that no fold uses may lack one, those are 0 and never read."""
    return np.array([label or 0 for label in manifest.table["label"].to_pylist()], dtype=np.int8)


def _quarantine_note(store: CropStore) -> list[str]:
    if not store.quarantined:
        return []
    figure, reason = next(iter(store.quarantined.items()))
    return [f"{len(store.quarantined)} figures were left out: their images cannot be used (first {figure}: {reason})"]


def _identity(job: Training, split: Split) -> dict[str, Any]:
    """What makes this training this one; compared when the folder is used again."""
    return {
        "version": FIT_VERSION,
        "name": job.name,
        "recipe": job.recipe.model_dump(mode="json"),
        "seed": job.seed,
        "data": {"name": job.manifest.name, "fingerprint": job.manifest.fingerprint, "task": job.manifest.task},
        "split": {"protocol": split.protocol, "fingerprint": split.fingerprint},
        "allow": sorted(job.allow),
    }


def _claim(out: Path, asked: Mapping[str, Any]) -> None:
    path = out / runs.TRAINING
    if not path.exists():
        write_json(path, {**asked, "warnings": []})
        return
    there = read_json(path)
    there.pop("warnings", None)
    if there != asked:
        differs = ", ".join(sorted(key for key in {*there, *asked} if there.get(key) != asked.get(key)))
        raise InputError(
            f"{out} holds another training (it differs in: {differs}); fix: choose another --out, or delete it"
        )


def _fold_identities(job: Training, features: Features, split: Split) -> dict[str, str]:
    recipe = job.recipe.model_dump(mode="json", exclude={"summary"})
    return {
        fold.name: fingerprint(
            FIT_VERSION, recipe, job.seed, features.fingerprint, [fold.train, fold.val, fold.test], fold.name
        )
        for fold in split.folds
    }


def _complete(folder: Path, run_id: str) -> bool:
    try:
        return read_json(folder / runs.RUN)["run_id"] == run_id
    except (WorkError, KeyError, TypeError):
        return False


def _write_run(
    job: Training,
    split: Split,
    fold: Fold,
    head: LinearHead,
    features: Features,
    run_id: str,
    how: tuple[float, int, Sequence[str]],
) -> None:
    seconds, together, warnings = how
    recipe = job.recipe
    training = {
        "recipe": job.name,
        "data": job.manifest.name,
        "data_fingerprint": job.manifest.fingerprint,
        "protocol": split.protocol,
        "split_fingerprint": split.fingerprint,
        "fold": fold.name,
        "figures": len(fold.train),
        "seed": job.seed,
        "run_id": run_id,
        "features_fingerprint": features.fingerprint,
        "info": _plain(head.info),
        "warnings": list(warnings),
    }
    bundle = Bundle(
        name=f"{job.name}-{recipe.backbone}-{fold.name}",
        task=job.manifest.task,
        backbone=recipe.backbone,
        weights_sha256=features.weights_sha256,
        input_px=features.input_px,
        geometry=recipe.geometry.build(),
        weight=head.weight,
        bias=head.bias,
        threshold=recipe.threshold,
        training=training,
    )
    with atomic_folder(job.out / fold.name) as part:
        config = {"recipe_name": job.name, "seed": job.seed, **recipe.model_dump(mode="json")}
        (part / runs.CONFIG).write_text(yaml.safe_dump(config, sort_keys=False), "utf-8")
        replace(split, folds=(fold,)).save(part / runs.SPLIT)
        bundle.save(part / runs.BUNDLE)
        _write_predictions(part / runs.PREDICTIONS, job, fold, bundle, features, run_id)
        history = head.info.get("history") or [{key: v for key, v in head.info.items() if key != "history"}]
        lines = (json.dumps(_plain(line), sort_keys=True) for line in history)
        (part / runs.METRICS).write_text("".join(f"{line}\n" for line in lines), "utf-8")
        write_json(part / runs.ENVIRONMENT, dict(environment()))
        log = [
            f"{job.name} on {recipe.backbone}, {job.manifest.name}, {split.protocol}, {fold.name}, seed {job.seed}",
            f"{len(fold.train)} training, {len(fold.val)} validation and {len(fold.test)} test figures",
            f"{together} folds fitted together in {seconds:.2f} s",
            *warnings,
        ]
        (part / runs.LOG).write_text("\n".join(log) + "\n", "utf-8")
        write_json(part / runs.RUN, {"run_id": run_id, "bundle_fingerprint": bundle.fingerprint})


def _write_predictions(
    path: Path, job: Training, fold: Fold, bundle: Bundle, features: Features, run_id: str
) -> None:
    import pyarrow as pa

    parts = []
    for part, figures in ((runs.VALIDATION, fold.val), (runs.TEST, fold.test)):
        if figures:
            rows = job.manifest.rows_of(figures)
            p = bundle.probabilities(features.values[rows])
            parts.append(
                predictions_table(
                    job.manifest.take(rows), p, bundle.threshold, fold=fold.name, part=part, run_id=run_id
                )
            )
    facts = {
        "bundle": bundle.fingerprint,
        "features": features.fingerprint,
        "manifest": job.manifest.fingerprint,
        "backbone": BACKBONES[bundle.backbone].title,
    }
    write_predictions(path, pa.concat_tables(parts), facts)


def _plain(value: Any) -> Any:
    """The value as JSON can say it: NumPy numbers as Python's, NaN as null, no arrays."""
    if isinstance(value, Mapping):
        return {str(key): _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
