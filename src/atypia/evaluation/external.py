"""Evaluation of trained classifiers on other data sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from atypia.base import records as r
from atypia.base import runs
from atypia.base.artifacts import lock
from atypia.base.errors import AbsentError, AtypiaError, InputError, count_noun, must
from atypia.base.process.progress import Progress, silent
from atypia.data.audit.findings import SAME_FIGURES, AuditFinding, raise_leakage
from atypia.data.audit.report import check_pair, check_pair_names
from atypia.data.crops.shifted import shifted_store
from atypia.data.crops.store import CropStore, open_store
from atypia.data.manifest import Manifest
from atypia.evaluation.fitted import fitted_findings, learned_beside
from atypia.inference.bundles.bundle import MODEL_FILE, PROBE, Bundle, load_bundle
from atypia.inference.classifier import named_model
from atypia.inference.predict import check_task, score
from atypia.inference.predictions import predictions_table, read_predictions, write_predictions
from atypia.splits.split import Split

SAME_FIELD: Final = 0.1
"""Fields that differ by no more than this share are one: published sets of 0.23 and 0.25 µm/px are trained on together, whole."""


@dataclass(frozen=True)
class Target:
    """What to evaluate: a training's folder, one run, or a bundle.

    Attributes:
        folder: The path that the user gave.
        out: Folder for ``evaluations/`` and ``results.parquet``.
        bundles: Name and bundle of each fold.
        manifest: The training figures, if they are recorded; of one run those that it learned or was chosen from.
        learned: Own figures to which a bundle was adapted afterwards, where their folder lies beside it.
    """

    folder: Path
    out: Path
    bundles: tuple[tuple[str, Bundle], ...]
    manifest: Manifest | None
    learned: Manifest | None = None


def open_target(given: str | Path, out: Path | None = None) -> Target:
    """Opens a training's folder, one run's folder, a bundle, or a shipped model.

    Args:
        given: Its path, or the shipped model's name.
        out: Folder for the evaluations. None: the folder of the training or run, whose table they extend; for a
        bundle, ``evaluations/NAME-FINGERPRINT`` in the current folder, as nothing is written into a bundle.

    Raises:
        InputError: The path is none of these, or ``out`` contains evaluations of another classifier.
        DataError: A bundle is damaged.
    """
    path = named_model(given)
    is_bundle = (path / MODEL_FILE).is_file()
    folders = [("bundle", path)] if is_bundle else [(run.name, run / runs.BUNDLE) for run in runs.run_folders(path)]
    if not folders:
        raise InputError(f"{path} holds no training, run or bundle; fix: give the --out folder of `atypia train`")
    # The path may be a training's folder, one of its runs, or the bundle in a run.
    around = (path, *path.resolve().parents[:2])
    training = next((folder for folder in around if (folder / runs.TRAINING).is_file()), None)
    manifest = Manifest.load(training / runs.MANIFEST) if training else None
    if manifest is not None and len(folders) == 1 and training != path:
        manifest = _taught(manifest, folders[0][1].resolve().parent)
    bundles = tuple((name, load_bundle(folder)) for name, folder in folders)
    if out is not None:
        _check_own(out, bundles)
    elif is_bundle:
        (_, bundle), *_ = bundles
        out = Path(runs.EVALUATIONS) / f"{_slug(bundle.name)}-{bundle.fingerprint[:8]}"
    else:
        out = path
    learned = learned_beside(bundles[0][1], path) if is_bundle else None
    return Target(path, out, bundles, manifest, learned)


def _taught(manifest: Manifest, run: Path) -> Manifest:
    """The figures of a run's training and validation part; all where it does not say which these are."""
    try:
        split = Split.load(run / runs.SPLIT)
        return manifest.take(manifest.rows_of([figure for f in split.folds for figure in (*f.train, *f.val)]))
    except (AtypiaError, KeyError):
        return manifest


@dataclass(frozen=True, eq=False)
class CheckedSet:
    """A data set that passed the checks for testing: its crops, and warnings for every table."""

    store: CropStore
    warnings: tuple[str, ...]

    @property
    def left_out(self) -> int:
        """Number of figures that are left out because their images cannot be read."""
        return len(self.store.quarantined)


def check_set(
    target: Target,
    manifest: Manifest,
    allow: Iterable[str] = (),
    progress: Progress = silent,
    own_crops: bool = False,
) -> CheckedSet:
    """Opens a data set's crops and checks what it shares with a target's training data.

    Args:
        target: What is to be tested.
        manifest: The data set.
        allow: Codes of leakage findings that the user allows.
        progress: Told about crops.
        own_crops: Whether the caller cuts crops of its own and tells of them; the crops that are opened here are then
            compared alone, and nothing is said of their field or of images that cannot be read.

    Raises:
        LeakageError, InputError: As :func:`evaluate`.
    """
    first = target.bundles[0][1]
    check_task(first, manifest)
    _ = manifest.labels  # an evaluation needs a label for every figure
    geometry = first.geometry
    if own_crops and first.field_um is not None and manifest.table[r.X_PX].null_count < len(manifest):
        geometry = geometry.with_field(first.field_um)  # on a slide there is no whole crop
    store = open_store(manifest, geometry, progress=progress)
    allowed = tuple(allow)
    if target.manifest is not None:
        warnings = check_pair(target.manifest, manifest, allowed, _stores(target.manifest, store, first, progress))
    else:
        warnings = [*_check_same_data(first, manifest, allowed),
                    *check_pair_names(str(first.training.get("data", "")), manifest, allow=allowed)]  # fmt: skip
    for _, bundle in target.bundles:
        found = fitted_findings(bundle, manifest, store)
        warnings += raise_leakage(found, allowed, f"testing {bundle.name} on {manifest.name}")
    if target.learned is not None:
        warnings += check_pair(target.learned, manifest, allowed, _stores(target.learned, store, first, progress))
    told = [] if own_crops else other_fields(first, manifest)
    warnings = [*(f"{manifest.name}: {text}" for text in manifest.notes), *told, *dict.fromkeys(warnings)]
    if store.quarantined and not own_crops:
        warnings.append(
            f"{manifest.name}: {count_noun(len(store.quarantined), 'figure')} left out because their images cannot be read"
        )
    return CheckedSet(store, tuple(warnings))


def other_fields(bundle: Bundle, manifest: Manifest) -> list[str]:
    """A warning where crops, which are scored whole, show by their µm/px another field than the model was trained on."""
    table = manifest.table
    mpp, width, height = (table[name].to_numpy().astype(np.float64) for name in (r.MPP, r.WIDTH_PX, r.HEIGHT_PX))
    shown = mpp * np.minimum(width, height)
    shown = shown[np.isfinite(shown) & ~table[r.X_PX].is_valid().to_numpy()]
    if not bundle.geometry.is_whole or bundle.field_um is None or not len(shown):
        return []
    apart = shown[np.abs(shown / bundle.field_um - 1) > SAME_FIELD]
    if not len(apart):
        return []
    crops = count_noun(len(apart), "crop shows", "crops show")
    return [
        f"{manifest.name}: by their µm/px {crops} a field of {np.median(apart):.3g} µm, and {bundle.name} was trained on "
        f"{bundle.field_um:g} µm; they are scored whole, as in training (`atypia calibrate` measures the model on its own field)"
    ]


def evaluate(
    target: Target,
    manifest: Manifest,
    allow: Iterable[str] = (),
    weights_file: Path | None = None,
    progress: Progress = silent,
    checked: CheckedSet | None = None,
    device: str = "auto",
) -> tuple[list[Path], list[str]]:
    """Writes the predictions of every fold's bundle on a data set, unless valid ones exist.

    Args:
        target: What to evaluate.
        manifest: The data set.
        allow: Codes of leakage findings that the user allows.
        weights_file: A local file with the backbone's weights.
        progress: Receives the numbers of crops, features and figures done.
        checked: Result of :func:`check_set` for a target with the same training data and geometry.
        device: Device of networks: ``auto``, ``cpu`` or ``cuda``.

    Returns:
        The prediction files, one per fold, and warnings (quarantined figures, allowed leakage).

    Raises:
        LeakageError: The data set shares figures, images or cases with the training data and
        ``allow`` does not permit it.
        InputError: The data set has no labels, or belongs to another task.
    """
    check_task(target.bundles[0][1], manifest)
    checked = checked or check_set(target, manifest, allow, progress)
    store, warnings = checked.store, list(checked.warnings)
    folder = target.out / runs.EVALUATIONS / f"{_slug(manifest.name)}-{manifest.fingerprint[:8]}"
    files: list[Path] = []
    with lock(folder):
        for name, bundle in target.bundles:
            path = folder / f"{name}.parquet"
            facts = _expected(bundle, manifest, warnings)
            if _facts(path) != facts:
                scored = score(bundle, manifest, store, weights_file, progress, device)
                table = predictions_table(
                    scored.manifest,
                    scored.probabilities,
                    bundle.threshold,
                    fold=name,
                    part=runs.EXTERNAL,
                    run_id=str(bundle.training.get("run_id", bundle.fingerprint)),
                )
                write_predictions(path, table, facts)
            files.append(path)
    return files, warnings


def evaluate_shifted(
    target: Target,
    manifest: Manifest,
    shift: str,
    rows: Mapping[str, npt.NDArray[np.int64]],
    weights_file: Path | None = None,
    progress: Progress = silent,
    device: str = "auto",
) -> list[Path]:
    """Writes the predictions of each fold's bundle on its own test figures under a fixed change of their crops.

    Args:
        target: What to evaluate; its training set are these figures.
        manifest: All figures of the training set, with ids of their own (:func:`atypia.studies.shifted.shifted_set`).
        shift: One of :data:`atypia.data.images.shifts.SHIFTS`.
        rows: For each fold the rows of its test figures.
        weights_file: A local file with the backbone's weights.
        progress: Told of figures done.
        device: Where networks run.

    Returns:
        One file a fold, where :func:`evaluate` writes too; their part is ``test``.
    """
    folder = target.out / runs.EVALUATIONS / f"{_slug(manifest.name)}-{manifest.fingerprint[:8]}"
    files: list[Path] = []
    with lock(folder):
        for name, bundle in target.bundles:
            path, facts = folder / f"{name}.parquet", _expected(bundle, manifest, [])
            if _facts(path) != facts:
                store = shifted_store(open_store(manifest, bundle.geometry, progress=progress), shift)
                if bundle.adaptation != PROBE:  # features are kept for all figures: other folds and seeds need theirs
                    own = np.zeros(len(manifest), np.bool_)
                    own[rows[name]] = True
                    store = replace(store, usable=store.usable & own)
                scored = score(bundle, manifest, store, weights_file, progress, device)
                mine = set(manifest.take(rows[name]).ids)
                kept = np.array([row for row, figure in enumerate(scored.manifest.ids) if figure in mine], np.int64)
                table = predictions_table(
                    scored.manifest.take(kept), scored.probabilities[kept], bundle.threshold, fold=name, part=runs.TEST,
                    run_id=str(bundle.training.get("run_id", bundle.fingerprint)),
                )  # fmt: skip
                write_predictions(path, table, facts)
            files.append(path)
    return files


def _stores(
    manifest: Manifest, other: CropStore, bundle: Bundle, progress: Progress
) -> tuple[CropStore, CropStore] | None:
    """Crops of the training data and of the other set, to compare pixels; None if the former no longer exist.

    None, too, where either set cannot be cut as the other is: on slides and as crops.
    """
    if other.geometry != bundle.geometry:
        return None
    on_slides = manifest.table[r.X_PX].null_count < len(manifest)
    if on_slides and bundle.geometry.is_whole:
        return None
    try:
        return open_store(manifest, bundle.geometry, progress=progress), other
    except AbsentError:
        return None


def _check_same_data(bundle: Bundle, manifest: Manifest, allow: Iterable[str]) -> list[str]:
    """Refuses to test a lone bundle on the figures that it was trained on, even under another name."""
    if bundle.training.get("data_fingerprint") != manifest.fingerprint:
        return []
    found = AuditFinding(SAME_FIGURES, f"{bundle.name} was trained on the figures of {manifest.name}")
    return raise_leakage([found], allow, f"testing {bundle.name} on {manifest.name}")


def _check_own(out: Path, bundles: tuple[tuple[str, Bundle], ...]) -> None:
    """Refuses to mix evaluations of several classifiers, which one table could not tell apart."""
    own = {bundle.fingerprint for _, bundle in bundles}
    for path in runs.prediction_files(out):
        facts = _facts(path)
        if path.parent.parent.name == runs.EVALUATIONS and facts is not None and facts.get("bundle") not in own:
            fix = "choose another folder"
            raise InputError(
                must("out", "new, or of the same classifier", f"{out}, which holds evaluations of another one", fix)
            )


def _expected(bundle: Bundle, manifest: Manifest, warnings: list[str]) -> dict[str, Any]:
    return {"bundle": bundle.fingerprint, "manifest": manifest.fingerprint, runs.WARNINGS: warnings}


def _facts(path: Path) -> dict[str, Any] | None:
    try:
        return read_predictions(path)[1]
    except AtypiaError:
        return None  # absent or damaged: predict again


def _slug(name: str) -> str:
    text = "".join(c if c.isalnum() or c in "-_" else "-" for c in name)[:60]
    return text.encode()[:120].decode(errors="ignore")  # file systems count bytes
