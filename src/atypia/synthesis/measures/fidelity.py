"""Label fidelity: does a classifier trained on real crops recognise the intended class?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atypia.base import records as r
from atypia.base import runs
from atypia.base.errors import DataError, InputError, must
from atypia.base.process.progress import Progress, silent
from atypia.data.audit.findings import ERROR
from atypia.data.audit.pairs import pair_findings
from atypia.data.audit.provenance import seen_table
from atypia.data.manifest import Manifest
from atypia.inference.bundles.bundle import Bundle, load_bundle
from atypia.inference.predict import score
from atypia.splits.split import Split
from atypia.statistics import metrics


@dataclass(frozen=True, eq=False)
class Judgement:
    """Predictions of one classifier for generated crops.

    Attributes:
        name: Name of the classifier.
        ids: Figures whose crops could be read.
        p: Probability of the positive class, shape (n,).
        threshold: Its decision threshold.
        seen: The figures that it was trained on; None if unknown.
        shared: How many of them the generator also saw; None if unknown.
    """

    name: str
    ids: tuple[str, ...]
    p: npt.NDArray[np.float64]
    threshold: float
    seen: Manifest | None
    shared: int | None

    def as_dict(self, labels: npt.NDArray[np.int64]) -> dict[str, Any]:
        """Shares of crops that are recognised as their intended class.

        Args:
            labels: The intended class of each crop, shape (n,).
        """
        decided = (self.p >= self.threshold).astype(np.int8)
        found: dict[str, Any] = {
            "classifier": self.name,
            "figures": len(labels),
            "threshold": self.threshold,
            "independent": None if self.shared is None else self.shared == 0,
            "shared_training_figures": self.shared,
        }
        for label, name in ((1, "sensitivity"), (0, "specificity")):
            own = decided[labels == label] == label
            found[name] = float(own.mean()) if len(own) else None
        both = len(np.unique(labels)) == 2
        found["balanced_accuracy"] = metrics.balanced_accuracy(labels, decided) if both else None
        found["auroc"] = metrics.auroc(labels, self.p) if both else None
        return found


def score_with_classifiers(
    made: Manifest,
    folders: Sequence[Path],
    seen: Manifest | None,
    progress: Progress = silent,
    device: str = "auto",
) -> list[Judgement]:
    """Scores generated crops with classifiers.

    A classifier is independent of the generator if none of its training figures, cases and files were
    seen by the generator. A classifier from the fold's own training part only shows whether both learned the
    same; this is allowed and reported.

    Args:
        made: Generated crops.
        folders: Bundle folders, best inside a run folder, which records the training figures.
        seen: What the generator learned from; None if unknown.
        progress: Receives the number of crops decoded and scored.
        device: Device of the classifiers: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        DataError: A folder contains no bundle.
        AbsentError: A classifier's backbone is not on this machine.
        InputError: A classifier has another task.
    """
    found = []
    for folder in folders:
        bundle = load_bundle(folder)
        scored = score(bundle, made, progress=progress, device=device)
        trained = trained_on(folder, bundle)
        shared = None
        if trained is not None and seen is not None:
            findings = [one for one in pair_findings(seen, trained) if one.severity == ERROR]
            shared = len({figure for one in findings for figure in one.figures})
        found.append(
            Judgement(bundle.name, tuple(scored.manifest.ids), scored.probabilities, bundle.threshold, trained, shared)
        )
    return found


def trained_on(folder: Path, bundle: Bundle) -> Manifest | None:
    """The figures that a bundle was trained on, from the run folder around it; None if unknown.

    Validation figures are included: the epoch, and so the classifier's weights, was chosen on them.
    """
    run = folder.resolve().parent
    try:
        (fold,) = Split.load(run / runs.SPLIT).folds
        manifest = Manifest.load(run.parent / runs.MANIFEST)
        rows = manifest.rows_of([*fold.train, *fold.val])
    except (DataError, ValueError):
        return None
    if bundle.training.get("data_fingerprint") != manifest.fingerprint:
        return None
    return seen_table([manifest.take(rows)], f"seen by {bundle.name}")


def intended_classes(made: Manifest, ids: Sequence[str]) -> npt.NDArray[np.int64]:
    """The intended class of each of these crops, shape (n,)."""
    return made.take(made.rows_of(ids)).table[r.LABEL].to_numpy().astype(np.int64)


def intended_probability(judgements: Sequence[Judgement], made: Manifest) -> npt.NDArray[np.float64]:
    """Mean probability of the intended class over classifiers, shape (n,); 0 if no classifier could read the crop."""
    if not judgements:
        raise InputError(must("min_p", "asked for with a classifier", "none", "pass --bundle DIR"))
    sums, counts = np.zeros(len(made)), np.zeros(len(made))
    for one in judgements:
        rows = made.rows_of(one.ids)
        labels = intended_classes(made, one.ids)
        sums[rows] += np.where(labels == 1, one.p, 1 - one.p)
        counts[rows] += 1
    return sums / np.maximum(counts, 1)
