"""The decision that a bundle carries, fitted on the validation fold of its training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from atypia.data.store import CropStore
from atypia.errors import InputError, must
from atypia.inference.bundle import Bundle
from atypia.inference.decision import Decision, fit_decision
from atypia.training.fitted import Fitted, Training, stored_labels
from atypia.training.schema import DecisionConfig

CHUNK = 512


def decide(config: DecisionConfig, bundle: Bundle, fitted: Fitted, job: Training, store: CropStore) -> Decision:
    """Fits calibration, operating points, prediction sets and the novelty of one fold.

    Args:
        config: What is fitted.
        bundle: The fold's classifier, with its plain decision.
        fitted: Its logits and its fold.
        job: The training.
        store: The crops.

    Raises:
        InputError: The fold has no validation part.
    """
    fold = fitted.fold
    if not fold.val:
        raise InputError(must(fold.name, "with a validation part to fit a decision on", "none", "leave `decision` out"))
    labels, train, val = stored_labels(job.manifest), job.manifest.rows_of(fold.train), job.manifest.rows_of(fold.val)
    features = {}
    if config.novelty:
        known = features_of(bundle, store, np.concatenate([train, val]), job.weights_file)
        features = {
            "features_train": known[: len(train)], "labels_train": labels[train], "features_val": known[len(train) :],
        }  # fmt: skip
    return fit_decision(
        fitted.logits(val), labels[val], calibration=config.calibration, coverage=config.coverage, **features
    )


def features_of(
    bundle: Bundle, store: CropStore, rows: npt.NDArray[np.int64], weights_file: Path | None
) -> npt.NDArray[np.float32]:
    """Features of these rows as the exported network gives them, shape (n, d)."""
    from atypia.inference.torch_runtime import TorchRuntime

    runtime = TorchRuntime(bundle, weights_file)
    pieces = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
    return np.concatenate([runtime.run(np.ascontiguousarray(store.crops[piece]))[1] for piece in pieces])
