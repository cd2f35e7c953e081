"""Scores of a data set's figures: the predictions of many runs, averaged to one probability per figure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from atypia.base import records as r
from atypia.base import runs
from atypia.base.artifacts import read_json
from atypia.base.errors import DataError, InputError, WorkError
from atypia.data.manifest import Manifest
from atypia.inference.predictions import read_predictions
from atypia.review.figures.figures import coded, positions_of
from atypia.studies.ledger import DONE_FILE

STUDY_RUNS: Final = "runs"
STUDY_MANIFESTS: Final = "manifests"
_HELD_OUT_PARTS: Final = (runs.VALIDATION, runs.TEST, runs.EXTERNAL)


@dataclass(frozen=True, eq=False)
class Scores:
    """One probability per figure of a data set.

    Attributes:
        p: Mean over models, shape (n,), in [0, 1]; NaN if no model scored the figure. If some models
        had the figure in their test part, models that had it in their validation part do not count: their
        epochs and thresholds may have been chosen on it.
        thresholds: Mean of the decision thresholds of the same models, shape (n,); NaN likewise.
        threshold: Mean of the models' thresholds.
        held_out: Whether it is known that no model scored its own training figures.
        unknown: Predictions of figures that are not in the data set.
    """

    p: npt.NDArray[np.float64]
    thresholds: npt.NDArray[np.float64]
    threshold: float
    held_out: bool
    unknown: int


def pooled_scores(manifest: Manifest, tables: Iterable[pa.Table]) -> Scores:
    """Mean predictions for the figures of a data set.

    Args:
        manifest: The data set.
        tables: Predictions, with :data:`atypia.inference.predictions.PREDICTIONS_SCHEMA`.

    Raises:
        DataError: No prediction belongs to a figure of the data set.
    """
    n = len(manifest)
    sums, limits, counts = np.zeros((2, n)), np.zeros((2, n)), np.zeros((2, n), dtype=np.int64)
    thresholds: list[float] = []
    held_out, unknown = True, 0
    ids = manifest.table[r.FIGURE_ID].combine_chunks()
    for table in tables:
        rows = positions(table[r.FIGURE_ID], ids)
        known = rows >= 0
        unknown += int(np.count_nonzero(~known))
        if not known.any():
            continue
        threshold = table[r.THRESHOLD].to_numpy()
        thresholds.append(float(np.mean(threshold[known])))
        parts = table[r.PART]
        in_validation = coded(parts).mask([runs.VALIDATION])
        held_out &= set(parts.unique().to_pylist()) <= set(_HELD_OUT_PARTS)
        p = table[r.P_ATYPICAL].to_numpy()
        for group, chosen in enumerate((known & ~in_validation, known & in_validation)):
            np.add.at(sums[group], rows[chosen], p[chosen])
            np.add.at(limits[group], rows[chosen], threshold[chosen])
            np.add.at(counts[group], rows[chosen], 1)
    if not thresholds:
        raise DataError(
            f"no prediction belongs to a figure of {manifest.name}; fix: give the right data set with --data"
        )
    group = np.where(counts[0] > 0, 0, 1)
    columns = np.arange(n)
    number = counts[group, columns]
    p, limit = (
        np.divide(total[group, columns], number, out=np.full(n, np.nan), where=number > 0) for total in (sums, limits)
    )
    return Scores(p, limit, float(np.mean(thresholds)), held_out, unknown)


def positions(wanted: pa.ChunkedArray | pa.Array, among: pa.Array) -> npt.NDArray[np.int64]:
    """Position of each text among others, shape (n,); -1 for missing ones."""
    found = pc.index_in(wanted, value_set=among)  # pyright: ignore[reportAttributeAccessIssue]
    return positions_of(found)


@dataclass(frozen=True)
class FoundPredictions:
    """Predictions on disk, and their data sets.

    Attributes:
        files: Prediction files.
        manifests: Manifests beside them; empty if there are none.
        runs: Folders of trainings.
    """

    files: tuple[Path, ...]
    manifests: tuple[Path, ...]
    runs: tuple[Path, ...]

    def tables(self) -> Iterable[pa.Table]:
        """The tables of predictions, one at a time.

        Raises:
            DataError: A file is damaged.
        """
        return (read_predictions(path)[0] for path in self.files)


def found_file(path: Path) -> FoundPredictions:
    """One file of predictions; for a file in a run's folder, the manifest is in the training's folder."""
    run = path.parent
    training = run if (run / runs.TRAINING).is_file() else run.parent
    manifest = training / runs.MANIFEST
    is_own = (run / runs.RUN).is_file() and manifest.is_file()
    return FoundPredictions((path,), (manifest,) if is_own else (), (run,) if is_own else ())


def found_training(folder: Path) -> FoundPredictions:
    """The predictions of a training, or of one of its runs, on its own data.

    Raises:
        InputError: No run of it is complete.
    """
    complete = runs.run_folders(folder)
    if not complete:
        raise InputError(f"{folder} holds no complete run; fix: run the same `atypia train` again")
    training = folder if (folder / runs.MANIFEST).is_file() else folder.parent
    manifest = training / runs.MANIFEST
    return FoundPredictions(
        tuple(run / runs.PREDICTIONS for run in complete),
        (manifest,) if manifest.is_file() else (),
        tuple(complete),
    )


def found_study(folder: Path) -> FoundPredictions:
    """The predictions of all complete runs of a study, on its training and its test sets.

    Raises:
        InputError: No run of it is complete.
    """
    complete = [run for run in sorted((folder / STUDY_RUNS).glob("*")) if _is_done(run)]
    files = [file for run in complete for file in runs.prediction_files(run)]
    if not files:
        raise InputError(f"{folder} holds no complete run; fix: `atypia study run`")
    manifests = sorted((folder / STUDY_MANIFESTS).glob("*.parquet"))
    trainings = [run for outer in complete for run in runs.run_folders(outer)]
    return FoundPredictions(tuple(files), tuple(manifests), tuple(trainings))


def _is_done(run: Path) -> bool:
    try:
        return bool(read_json(run / DONE_FILE).get("run") == run.name)
    except (WorkError, AttributeError):
        return False


def join_manifests(manifests: Sequence[Path]) -> Manifest:
    """Several manifests as one; a figure in two of them is taken from the first.

    Raises:
        DataError: A file is damaged, or no figure is left.
    """
    loaded = [manifest for path in manifests if (manifest := Manifest.load(path)).task == r.ATYPICAL_TASK]
    if not loaded:
        raise DataError("no run has a data set for the task `atypical`; fix: open runs of the task `atypical`")
    seen: set[str] = set()
    parts: list[Manifest] = []
    for manifest in sorted(loaded, key=len, reverse=True):
        fresh = [row for row, figure in enumerate(manifest.ids) if figure not in seen]
        seen.update(manifest.ids)
        if fresh:
            parts.append(manifest if len(fresh) == len(manifest) else manifest.take(fresh))
    return Manifest.concat(parts)
