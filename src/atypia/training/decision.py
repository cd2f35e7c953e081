"""The decision of a bundle, fitted on figures that its network, or those of a cross-validation, never saw."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from atypia.base import records as r
from atypia.base import runs
from atypia.base.errors import DataError, InputError, count_noun, must
from atypia.data.crops.store import CropStore
from atypia.data.images.appearance import LEAST_PX
from atypia.evaluation.laboratories import left_out, left_out_records, prior_of
from atypia.inference.bundles.bundle import Bundle, load_bundle
from atypia.inference.bundles.decision import Decision, fit_decision
from atypia.inference.bundles.laboratory import LABORATORIES_KEY, prior_as_dict
from atypia.inference.bundles.left_out import LEFT_OUT_KEY, recorded
from atypia.inference.bundles.operating import risk_point
from atypia.inference.bundles.training_look import LOOK_KEY, look_at
from atypia.splits.split import Split
from atypia.training.sections import DecisionConfig, RiskConfig
from atypia.training.trainer import TrainedFold, TrainingRequest, stored_labels

if TYPE_CHECKING:
    from atypia.inference.runtimes.torch_runtime import TorchRuntime

CHUNK = 512


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """Outputs of the classifiers of a cross-validation for figures that they were not trained on.

    Attributes:
        rows: Of the figures in the store, shape (n,).
        logits: Shape (n,), float64.
        novelty: Shape (n,), each by its own classifier; empty if the classifiers have none.
        laboratories: Domain of each, length n; None if its classifier was trained on figures of it, or if it is unknown.
    """

    rows: npt.NDArray[np.int64]
    logits: npt.NDArray[np.float64]
    novelty: npt.NDArray[np.float64]
    laboratories: tuple[str | None, ...] = ()


def fit_run_decision(
    config: DecisionConfig, bundle: Bundle, fitted: TrainedFold, job: TrainingRequest, store: CropStore
) -> Decision:
    """Fits calibration, operating points, prediction sets and the novelty of one fold.

    Args:
        config: What is fitted.
        bundle: The fold's classifier, with its plain decision.
        fitted: Its logits and its fold.
        job: The training.
        store: The crops.

    Raises:
        InputError: The fold has no validation part, and no cross-validation is named.
        DataError: The cross-validation is damaged, or of other figures.
    """
    fold = fitted.fold
    labels, train = stored_labels(job.manifest), job.manifest.rows_of(fold.train)
    if config.out_of_fold is not None:
        found = out_of_fold(Path(config.out_of_fold), bundle, job, store, config.of)
        strangers = set(found.rows.tolist()) - set(train.tolist())
        if strangers:
            said = f"{count_noun(len(strangers), 'figure')} beside the training part of {fold.name}"
            raise InputError(must("decision.out_of_fold", "a cross-validation of that part", said, "name another"))
        val, logits, held_out = found.rows, found.logits, found.novelty
        unseen = found.laboratories if config.of == "test" else ()
    elif fold.val:
        val = job.manifest.rows_of(fold.val)
        logits, held_out, unseen = fitted.logits(val), None, ()
    else:
        remedy = "leave `decision` out, or name a cross-validation with decision.out_of_fold"
        raise InputError(must(fold.name, "with a validation part to fit a decision on", "none", remedy))
    known: dict[str, Any] = {}
    if config.novelty:
        known = {
            "features_train": features_of(bundle, store, train, job),
            "labels_train": labels[train],
            "features_val": None if held_out is not None else features_of(bundle, store, val, job),
            "novelty_held_out": held_out,
        }
    decision = fit_decision(logits, labels[val], calibration=config.calibration, coverage=config.coverage, **known)
    if config.risk is not None:
        decision = at_risk(decision, config.risk, labels[val], logits)
    decision = replace(decision, fitted={**decision.fitted, **own_look(decision, bundle, store, train, job)})
    if unseen:
        # `atypia predict` uses these to correct a case's rate for the classifier's errors.
        p = decision.calibration.apply(logits)
        records = recorded(unseen, labels[val], p, decision.threshold)
        if records:
            facts = {**decision.fitted, LEFT_OUT_KEY: [one.as_dict() for one in records]}
            decision = replace(decision, fitted=facts)
    if config.laboratories is None:
        return decision
    others = left_out([Path(config.laboratories)])
    known_from = f"{len({one.laboratory for one in others})} laboratories that {job.name} left out"
    facts = {**decision.fitted, LABORATORIES_KEY: prior_as_dict(prior_of(others), known_from)}
    if LEFT_OUT_KEY not in facts:
        facts[LEFT_OUT_KEY] = [one.as_dict() for one in left_out_records(others, decision.threshold)]
    return replace(decision, fitted=facts)


def at_risk(
    decision: Decision, risk: RiskConfig, labels: npt.NDArray[np.int8], logits: npt.NDArray[np.floating[Any]]
) -> Decision:
    """The decision at the threshold of conformal risk control, which is one of its points then.

    Args:
        decision: Fitted on the same figures.
        risk: The error and its limit.
        labels: Shape (n,), 1 = atypical.
        logits: Shape (n,).

    Raises:
        InputError: There are too few figures for the limit.
    """
    point = risk_point(labels, decision.calibration.apply(logits), risk.at_most, risk.of)
    facts = {**decision.fitted, "points": {**decision.fitted["points"], point.name: point.as_dict()}}
    points = {**decision.points, point.name: point.threshold}
    return replace(decision, threshold=point.threshold, points=points, fitted=facts)


def own_look(
    decision: Decision, bundle: Bundle, store: CropStore, rows: npt.NDArray[np.int64], job: TrainingRequest
) -> dict[str, Any]:
    """How the figures of a training look by laboratory, as a fact of its decision, for drift reports.

    Nothing where no laboratory is known, or where the crops are too small to be measured.
    """
    part = job.manifest.take(rows)
    if part.table[r.DOMAIN].null_count == len(part) or store.crops.shape[1] < LEAST_PX:
        return {}
    runtime = _runtime(bundle, job)
    crops = (np.ascontiguousarray(store.crops[rows[start : start + CHUNK]]) for start in range(0, len(rows), CHUNK))
    judged = ((piece, decision.apply(*runtime.run(piece))) for piece in crops)
    return {LOOK_KEY: look_at(part, judged, f"{len(rows):,} figures that {job.name} was trained on").as_dict()}


def out_of_fold(
    folder: Path, bundle: Bundle, job: TrainingRequest, store: CropStore, of: str = "validation"
) -> OutOfFold:
    """Outputs of the classifiers of a cross-validation of the same figures for figures that they were not trained on.

    Folds that are not complete are left out.

    Args:
        folder: Output folder of the cross-validation.
        bundle: The classifier that the decision is for; the others must have the same network and crops.
        job: The training.
        store: The crops.
        of: ``validation`` or ``test``: which of their parts. Their epoch was chosen on the validation part; with
            protocol ``lodo`` the test part is a laboratory that they never saw.

    Raises:
        InputError: The cross-validation is of other figures or another network, or its classifiers have no novelty.
        DataError: No fold is complete, one is damaged, or a figure is validated twice.
    """
    split = Split.load(folder / runs.SPLIT)
    complete = [fold for fold in split.folds if (folder / fold.name / runs.RUN).exists()]
    if not complete:
        raise DataError(f"{folder} has no complete fold; fix: train the cross-validation first")
    if split.manifest != job.manifest.fingerprint:
        raise InputError(must("decision.out_of_fold", "a cross-validation of the same figures", "another", "name it"))
    rows, logits, novelty = [], [], []
    domains: list[str | None] = job.manifest.table[r.DOMAIN].to_pylist()
    laboratories: list[str | None] = []
    for fold in complete:
        fellow = load_bundle(folder / fold.name / runs.BUNDLE)
        if _architecture(fellow) != _architecture(bundle):
            said = f"another in {fold.name}"
            raise InputError(must("decision.out_of_fold", "of the same network and crops", said, "name another"))
        if fellow.decision.novelty is None:
            raise InputError(must(f"{fold.name}", "with a novelty", "none", "train it with a `decision` section"))
        mine = job.manifest.rows_of(fold.test if of == "test" else fold.val)
        z, features = _run(fellow, store, mine, job)
        rows.append(mine)
        logits.append(z)
        novelty.append(fellow.decision.novelty.apply(features))
        seen = {domains[row] for row in job.manifest.rows_of((*fold.train, *fold.val)).tolist()}
        laboratories += [None if domains[row] in seen else domains[row] for row in mine.tolist()]
    scores = np.concatenate(logits).astype(np.float64)
    found = OutOfFold(np.concatenate(rows), scores, np.concatenate(novelty), tuple(laboratories))
    if len(np.unique(found.rows)) != len(found.rows):
        raise DataError(
            f"{folder} has a figure in the {of} part of two folds; fix: name a cross-validation, not repeated draws"
        )
    return found


def _architecture(bundle: Bundle) -> tuple[object, ...]:
    from atypia.methods.network import NetworkSpec  # torch: not on a probe's path

    spec = None if bundle.network is None else NetworkSpec.from_dict(bundle.network)
    return spec, bundle.backbone, bundle.input_px, bundle.geometry


def features_of(
    bundle: Bundle, store: CropStore, rows: npt.NDArray[np.int64], job: TrainingRequest
) -> npt.NDArray[np.float32]:
    """Features of these rows, as computed by the exported network, shape (n, d)."""
    return _run(bundle, store, rows, job)[1]


def _run(
    bundle: Bundle, store: CropStore, rows: npt.NDArray[np.int64], job: TrainingRequest
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Logits (n,) and features (n, d) of these rows."""
    return _runtime(bundle, job).run_rows(store.crops, rows)


def _runtime(bundle: Bundle, job: TrainingRequest) -> TorchRuntime:
    from atypia.inference.networks import device_of
    from atypia.inference.runtimes.torch_runtime import TorchRuntime

    return TorchRuntime(bundle, job.weights_file, device_of(job.device))
