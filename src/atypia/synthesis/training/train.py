"""Training of generators: unlabelled pretraining, then one class-conditional generator per fold.

The output folder contains::

    synthesis.json   the request; a different request for the same folder is refused
    split.json       the folds
    pretrain/        the unlabelled generator, if crops for it were given
    fold-1/ …        one generator per fold (see :mod:`atypia.synthesis.generator`)

A fold's generator learns only from that fold's training part. Everything that its pretrained generator
saw counts as seen by it, and may contain nothing that the fold is validated or tested on.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from atypia.base import records as r
from atypia.base import runs
from atypia.base.artifacts import fingerprint, lock, write_json
from atypia.base.config import parse
from atypia.base.errors import InputError, WorkError, must
from atypia.base.process.cores import DEVICES
from atypia.base.process.progress import Progress, silent
from atypia.data.audit.findings import ERROR, AuditFinding, raise_leakage
from atypia.data.audit.pairs import pair_findings
from atypia.data.audit.provenance import seen_table
from atypia.data.audit.report import check_training, identical_groups
from atypia.data.crops.store import CropStore, open_store
from atypia.data.manifest import Manifest
from atypia.splits.leakage import check_split
from atypia.splits.split import Fold, Split
from atypia.synthesis.generator import Generator, is_complete, load_generator
from atypia.synthesis.schema import GeneratorRecipe
from atypia.synthesis.training.stages import GeneratorTraining, train_stages
from atypia.training.identity import (
    IDENTITY,
    SCHEME,
    SavedRequest,
    asked_before,
    identity_values,
    is_same_request,
    refuse_other,
    same_folds,
    without_wording,
)

ASKED: Final = "synthesis.json"
PRETRAINED: Final = "pretrain"
SYNTHESIS_VERSION: Final = 1
"""Increased when a change gives different trainings from the same inputs, or a default of a recipe changes."""
FIRST_VERSION: Final = 1
"""Version of all trainings in the identities of Atypia 0.1 (:mod:`atypia.training.identity`)."""
WORDING: Final = frozenset({"summary", "sheet_every"})
"""Keys of a recipe that do not affect the generator."""
FEWEST: Final = 16
"""Fewest figures for training: with fewer, a model can only copy them."""
FREE_BYTES: Final = 200 << 20
"""Free space, in bytes, required to start: checkpoints exist twice while they are written."""


@dataclass(frozen=True)
class Synthesis:
    """A request for generators.

    Attributes:
        name: The recipe's name.
        recipe: The recipe.
        out: Output folder.
        manifest: Labelled figures; None trains only the unlabelled generator.
        split: Their folds.
        pretrain: Crops for the unlabelled stage; None: each fold's own training part.
        start: A trained generator to start from, instead of ``pretrain``.
        folds: Names of the folds to train; empty for all.
        seed: Master seed.
        allow: Codes of leakage findings that the user allows.
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    name: str
    recipe: GeneratorRecipe
    out: Path
    manifest: Manifest | None = None
    split: Split | None = None
    pretrain: Manifest | None = None
    start: Path | None = None
    folds: tuple[str, ...] = ()
    seed: int = 0
    allow: tuple[str, ...] = ()
    device: str = "auto"


@dataclass(frozen=True)
class TrainedGenerators:
    """Results: the generators, the names of those trained now, and warnings."""

    generators: tuple[Generator, ...]
    trained: tuple[str, ...]
    warnings: tuple[str, ...]


def train_generators(job: Synthesis, progress: Progress = silent) -> TrainedGenerators:
    """Trains every generator that is not complete.

    Raises:
        InputError: Nothing to train on, too few figures, one class only, crops of mixed sizes, or the
            folder holds another training.
        LeakageError: The split leaks, or a fold's generator would see the fold's validation or test figures.
        WorkError: The disk is full, or the loss is not finite.
    """
    if job.device not in DEVICES:
        raise InputError(must("device", f"one of {', '.join(DEVICES)}", job.device, "leave it out"))
    if job.manifest is None and job.pretrain is None:
        raise InputError(must("data", "given", "nothing to train on", "pass --data, --pretrain or both"))
    if job.pretrain is not None and job.start is not None:
        raise InputError("`--pretrain` does not go with `--from`, which is pretrained; fix: leave one out")
    if (job.manifest is None) != (job.split is None):
        raise InputError(must("split", "given with labelled figures", "only one of them", "pass both"))
    check_space(job.out, FREE_BYTES)
    parent = load_generator(job.start) if job.start else None
    warnings: list[str] = []
    made: list[Generator] = []
    fresh: list[str] = []
    with lock(job.out / ASKED):
        asked = _claim(job, parent)
        if job.pretrain is not None:
            store = _store(job.recipe, job.pretrain, progress)
            usable = job.pretrain.take(store.usable)
            warnings += _look_alikes(usable)
            training = _training(job, asked, PRETRAINED, usable, store, None)
            parent, new = _one(training, job.out / PRETRAINED, progress)
            made.append(parent)
            fresh += [PRETRAINED] * new
        if job.manifest is not None and job.split is not None:
            store = _store(job.recipe, job.manifest, progress)
            warnings += _checked(job, job.manifest, job.split, store, parent)
            job.split.save(job.out / runs.SPLIT)
            for fold in job.split.named(job.folds):
                rows = job.manifest.rows_of(fold.train)
                rows = rows[np.asarray(store.usable)[rows]]
                labelled = job.manifest.take(rows)
                _check_labelled(labelled, fold.name)
                training = _training(job, asked, fold.name, labelled, store, parent, rows)
                generator, new = _one(training, job.out / fold.name, progress)
                made.append(generator)
                fresh += [fold.name] * new
    return TrainedGenerators(tuple(made), tuple(fresh), tuple(dict.fromkeys(warnings)))


def _look_alikes(crops: Manifest) -> list[str]:
    """A warning where crops of the unlabelled stage, whose labels are not learned, show no mitosis."""
    labels = crops.table[r.LABEL].to_pylist() if crops.task == r.MITOSIS_TASK else []
    if not labels.count(0):
        return []
    return [
        f"{labels.count(0):,} of {len(labels):,} crops of the unlabelled stage are look-alikes, no mitoses; "
        "leave them out by --pretrain-where label=mitotic (studies: where: {label: [mitotic]})"
    ]


def check_space(folder: Path, needed: int) -> None:
    """Refuses to start if the disk is nearly full.

    Raises:
        WorkError: Less space is free than needed.
    """
    nearest = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(nearest).free
    if free < needed:
        raise WorkError(
            f"cannot write {folder}: {needed / 2**20:,.0f} MiB are needed, {free / 2**20:,.0f} MiB are free; "
            "fix: free some space, or choose another --out"
        )


def _one(training: GeneratorTraining, folder: Path, progress: Progress) -> tuple[Generator, bool]:
    """A generator, trained unless it exists; and whether it was trained now."""
    if is_complete(folder, training.run_id):
        return load_generator(folder), False
    return train_stages(training, folder, progress), True


def _training(
    job: Synthesis,
    asked: SavedRequest,
    name: str,
    figures: Manifest,
    store: CropStore,
    parent: Generator | None,
    rows: Any = None,
) -> GeneratorTraining:
    """The inputs of one generator's training."""
    labelled = name != PRETRAINED
    seen = seen_table([*([parent.seen()] if parent else []), figures], f"seen by {job.name}, {name}")
    made_from = [name, job.seed, store.fingerprint, figures.ids, parent.fingerprint if parent else None]
    if asked.recipe is not None:
        run_id = fingerprint(FIRST_VERSION, without_wording(asked.recipe, WORDING), *made_from)
    else:
        run_id = fingerprint("generator", SYNTHESIS_VERSION, generator_recipe_content(job.recipe), *made_from)
    return GeneratorTraining(
        name=job.name,
        recipe=job.recipe,
        figures=figures,
        store=store,
        rows=np.flatnonzero(store.usable) if rows is None else rows,
        labelled=labelled,
        fold=name if labelled else None,
        split=job.split.fingerprint if labelled and job.split else None,
        parent=parent,
        seen=seen,
        seed=job.seed,
        run_id=run_id,
        device=job.device,
        mpp=_mpp(figures, job.recipe),
    )


def _store(recipe: GeneratorRecipe, manifest: Manifest, progress: Progress) -> CropStore:
    geometry = recipe.geometry.build()
    if geometry.is_whole:
        _check_sizes(manifest)
    store = open_store(manifest, geometry, progress=progress)
    usable = int(np.asarray(store.usable).sum())
    if usable < FEWEST:
        raise InputError(
            must(manifest.name, f"of at least {FEWEST} crops that can be read", usable, "give more crops: from so few "
                 "a generator only makes copies")
        )  # fmt: skip
    return store


def _check_sizes(manifest: Manifest) -> None:
    """Refuses whole crops of several sizes: scaled to one size they would show different fields."""
    sizes = sorted(set(zip(*(manifest.table[name].to_pylist() for name in (r.WIDTH_PX, r.HEIGHT_PX)), strict=True)),
                   key=str)  # fmt: skip
    if len(sizes) > 1:
        shown = ", ".join(f"{width}×{height}" for width, height in sizes[:4])
        raise InputError(
            must(f"crops of {manifest.name}", "of one size", f"{len(sizes)} sizes ({shown})",
                 "cut one field from all: --set geometry.side_um=32, or geometry.side_px")
        )  # fmt: skip


def _check_labelled(figures: Manifest, fold: str) -> None:
    labels = figures.table[r.LABEL].to_pylist()
    counts = [labels.count(0), labels.count(1)]
    words = r.CLASS_NAMES[figures.task]
    if min(counts) < 2:
        got = f"{counts[0]} {words[0]} and {counts[1]} {words[1]}"
        fix = "give both classes; without labels, pass the crops as --pretrain"
        raise InputError(must(f"training part of {fold}", "of both classes, two figures each", got, fix))
    if sum(counts) < FEWEST:
        got = f"{sum(counts)}"
        raise InputError(must(f"training part of {fold}", f"of at least {FEWEST} figures", got, "give more crops"))


def _checked(job: Synthesis, manifest: Manifest, split: Split, store: CropStore, parent: Generator | None) -> list[str]:
    """Warnings from the checks of a split, and of the figures that the pretrained generator saw."""
    split.check_manifest(manifest)
    if manifest.synthetic.any():
        found = AuditFinding(
            "synthetic-measured", f"{manifest.name} holds generated figures: a generator learns from real ones"
        )
        return raise_leakage([found], job.allow, f"training a generator on {manifest.name}")
    warnings = [*split.warnings, *check_training(manifest, store, job.allow)]
    warnings += check_split(split, manifest, job.allow, identical_groups(manifest, store))
    if parent is not None:
        seen, findings = parent.seen(), []
        for fold in split.named(job.folds):
            findings += _seen_by_parent(parent, seen, fold, manifest)
        warnings += raise_leakage(findings, job.allow, f"training a generator on {manifest.name}")
    return warnings


def _seen_by_parent(parent: Generator, seen: Manifest, fold: Fold, manifest: Manifest) -> list[AuditFinding]:
    ids = [*fold.val, *fold.test]
    if not ids:
        return []
    measured = replace(manifest.take(manifest.rows_of(ids)), name=f"the validation and test part of {fold.name}")
    shared = [found for found in pair_findings(seen, measured) if found.severity == ERROR]
    if not shared:
        return []
    message = f"the pretrained generator {parent.fingerprint[:8]} saw what is in {measured.name}: " + "; ".join(
        found.message for found in shared
    )
    return [AuditFinding("generator-across-parts", message, shared[0].figures)]


def _claim(job: Synthesis, parent: Generator | None) -> SavedRequest:
    """The request that the folder was started with; written if the folder is new.

    Raises:
        InputError: It contains another training.
    """
    asked = SavedRequest(
        {
            IDENTITY: SCHEME,
            "version": SYNTHESIS_VERSION,
            "name": job.name,
            "recipe": job.recipe.model_dump(mode="json"),
            "seed": job.seed,
            "data": job.manifest.fingerprint if job.manifest else None,
            "split": job.split.fingerprint if job.split else None,
            "pretrain": job.pretrain.fingerprint if job.pretrain else None,
            "start": parent.fingerprint if parent else None,
            "allow": sorted(job.allow),
        }
    )
    path = job.out / ASKED
    if not path.exists():
        write_json(path, asked.values)
        return asked
    there = asked_before(path)
    differs = [key for key in ("version", "seed", "data", "pretrain", "start", "allow")
               if there.get(key) != asked.values[key]]  # fmt: skip
    if not is_same_request(
        there.get("recipe"), generator_recipe_content(job.recipe),
        lambda values: generator_recipe_content(parse(GeneratorRecipe, values, "recipe")),
    ):  # fmt: skip
        differs.append("recipe")
    if there.get("split") != asked.values["split"] and not (job.split and same_folds(job.out, job.split)):
        differs.append("split")
    refuse_other(job.out, differs)
    return SavedRequest(there)


def generator_recipe_content(recipe: GeneratorRecipe) -> dict[str, Any]:
    """The values of a generator's recipe that can affect the generator."""
    return identity_values(recipe, WORDING)


def _mpp(figures: Manifest, recipe: GeneratorRecipe) -> float | None:
    """µm/px of generated crops, if all real crops have the same; else None."""
    geometry = recipe.geometry.build()
    if geometry.side_um is not None:
        return geometry.side_um / geometry.out_px
    known = set(zip(*(figures.table[name].to_pylist() for name in (r.MPP, r.WIDTH_PX)), strict=True))
    fields = {None if mpp is None else mpp * (geometry.side_px or width or 0) for mpp, width in known}
    (field,) = fields if len(fields) == 1 else (None,)
    return field / geometry.out_px if field else None
