"""Which figures to label first for ``atypia calibrate``: what its option ``--propose`` does."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Final

import numpy as np

from atypia.base import records as r
from atypia.base.artifacts import atomic_file
from atypia.base.errors import DataError, InputError, count_noun, must
from atypia.base.files.spreadsheet import CsvLines
from atypia.base.process.progress import Progress, silent
from atypia.data.manifest import Manifest
from atypia.data.sources.opening import open_data
from atypia.inference.bundles.reference import log_odds
from atypia.inference.classifier import Classifier
from atypia.statistics.labelling import spread_over_scores
from atypia.workflows.laboratory.own_figures import scored, without_copies

PROPOSAL: Final = (r.FIGURE_ID, r.IMAGE, r.X_PX, r.Y_PX, r.CASE_ID, r.SLIDE_ID, r.MPP, r.LABEL)
"""Columns; where a case is not known its slide stands for it (:attr:`Manifest.cases`)."""


@dataclass(frozen=True)
class Proposal:
    """Figures to label, and what was left out.

    Attributes:
        data: What the figures are called that these are of.
        figures: How many were written.
        out: The table.
        notes: What was left out or must be known, in words.
    """

    data: str
    figures: int
    out: Path
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"data": self.data, "figures": self.figures, "out": str(self.out), "notes": list(self.notes)}


def propose(
    model: str | Path, on: str | PathLike[str] | Manifest, count: int, out: str | Path, *, runtime: str | None = None,
    root: Path | None = None, progress: Progress = silent,
) -> Proposal:  # fmt: skip
    """Writes a CSV of the figures whose labels tell most of how a model's scores lie in a laboratory.

    They are spread over the model's scores (:mod:`atypia.statistics.labelling`). Figures that have a label count as
    labelled; copies of one image are one figure. The table does not say what the model thinks of them, as that would
    influence who labels.

    Args:
        model: As for :func:`atypia.calibrate`; its decision need not be fitted.
        on: Figures with or without labels.
        count: How many.
        out: The CSV; with its column ``label`` filled in it is what :func:`atypia.calibrate` takes.
        runtime: What runs the network.
        root: Data root.
        progress: Told how many figures are scored.

    Raises:
        InputError: The count is not positive, or the name does not end in .csv.
        DataError: Every figure has a label, or none gives a crop.
    """
    path = Path(out)
    if count < 1:
        raise InputError(must("count", "at least 1", count, "for instance 50"))
    if path.suffix.lower() != ".csv":
        raise InputError(must("out", "a name ending in .csv", str(out), "rename it"))
    classifier = Classifier.load(model, runtime=runtime)
    manifest = on if isinstance(on, Manifest) else open_data(on, root)
    notes = tuple(f"{manifest.name}: {text}" for text in manifest.notes)
    manifest, copies = without_copies(manifest, progress)
    found = scored(manifest, classifier, progress)
    decision = classifier.members[0].decision
    scores = log_odds(decision.calibration.apply(found.logits))
    labelled = np.array([label is not None for label in found.manifest.table[r.LABEL].to_pylist()])
    rows = spread_over_scores(scores, count, float(log_odds([decision.threshold])[0]), labelled)
    if not len(rows):
        raise DataError(f"{found.manifest.name}: every figure has a label; fix: name figures without, or calibrate")
    notes += (*copies, *found.notes)
    if len(rows) < count:
        notes += (f"{count_noun(len(rows), 'figure')}, not {count:,}: there are no more without a label",)
    root_of = found.manifest.root or Path()
    with atomic_file(path, "w") as file:
        lines = CsvLines(file)
        lines.write(PROPOSAL)
        for one in found.manifest.take(rows).table.to_pylist():
            # Links are not followed: the folder of the link, which may name the case, is where the user put the figure.
            values = {**one, r.IMAGE: str((root_of / one[r.IMAGE]).absolute()), r.LABEL: None}
            lines.write(values[key] for key in PROPOSAL)
    return Proposal(manifest.name, len(rows), path, notes)
