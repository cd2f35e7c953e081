"""Rows of the leaderboard that ship: the model for rows beside published results, and the raters."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from atypia.base import records as r
from atypia.base.artifacts import environment
from atypia.data.manifest import Manifest
from atypia.evaluation.board.rows import CASES, RATER, SEED, BoardRow, add_row, shipped_file
from atypia.inference.predictions import predictions_table, write_predictions
from atypia.statistics.agreement import majority_of_others, vote_matrix
from atypia.statistics.intervals import Bootstrap, metric_intervals
from atypia.statistics.resampling import PredictedLabels
from atypia.workflows.leaderboard import add_to_leaderboard

_METRICS: Final = ("balanced_accuracy", "sensitivity", "specificity")


def add_model(
    manifest: Manifest, p: npt.NDArray[np.floating], threshold: float, bundle: str, name: str, command: str
) -> None:
    """The row of a shipped model on a test set, by the checks that all rows pass."""
    with TemporaryDirectory() as folder:
        table = predictions_table(manifest, p, threshold)
        file = write_predictions(Path(folder) / f"{name}.parquet", table, {"bundle": bundle})
        on = str(manifest.column(r.DATASET)[0])
        add_to_leaderboard([file], on, name, replace=True, file=shipped_file(), command=command)


def add_raters(manifest: Manifest, command: str) -> None:
    """A row a rater: votes against the majority of the others, on the figures where the others have one."""
    votes = vote_matrix(manifest.column(r.VOTES))
    versions = environment()
    for rater in range(votes.shape[1]):
        others = majority_of_others(votes, rater)
        rows = ~np.isnan(others) & ~np.isnan(votes[:, rater])
        labels, said = others[rows].astype(np.int8), votes[rows, rater]
        predicted = PredictedLabels(said, said.astype(np.int8))
        found = metric_intervals(labels, predicted, manifest.cases[rows], _METRICS, Bootstrap(draws=2000, seed=SEED))
        values: dict[str, Any] = {
            f"{metric}{end}": round(value, 6)
            for metric in _METRICS
            for end, value in (("", found[metric].estimate), ("_low", found[metric].low), ("_high", found[metric].high))
        }
        row = BoardRow(
            test_set=str(manifest.column(r.DATASET)[0]),
            name=f"rater {rater + 1}",
            kind=RATER,
            figures=len(labels),
            atypical=int(labels.sum()),
            cases=len(set(manifest.cases[rows].tolist())),
            intervals_over=CASES,
            models=1,
            threshold=np.nan,
            auroc=np.nan,
            auroc_low=np.nan,
            auroc_high=np.nan,
            **values,
            trained_on="",
            leakage="",
            predictions_sha256="",
            command=command,
            versions=f"python {versions['python']}, numpy {versions['numpy']}",
            date=datetime.now(UTC).date().isoformat(),
        )
        add_row(shipped_file(), row, replace=True)
