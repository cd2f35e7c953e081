"""What the folds of a training say together: the mean of their probabilities on figures that all of them scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from atypia.base import records as r
from atypia.base import runs
from atypia.base.artifacts import fingerprint

ENSEMBLE: Final = "ensemble"
"""Stands in the column of folds."""


@dataclass(frozen=True, eq=False)
class FoldEnsemble:
    """The predictions of several runs as one classifier's.

    Attributes:
        members: Number of runs.
        predictions: With :data:`atypia.inference.predictions.PREDICTIONS_SCHEMA`, one row a figure.
    """

    members: int
    predictions: pa.Table


def ensembles(tables: Sequence[pa.Table]) -> list[FoldEnsemble]:
    """Averages the runs that scored the very same figures as the same part: another set, or a test part they share.

    The probability is the mean of the runs' and the threshold the mean of their thresholds, as where
    :class:`atypia.inference.classifier.Classifier` is given several models, and as a container of all folds decides.

    Args:
        tables: Predictions, one run a table or several.

    Returns:
        One ensemble for each set of figures that two runs or more scored, in order of first appearance. Validation parts
        are in none: a fold's model is chosen on its own.
    """
    found: dict[tuple[Any, ...], list[pa.Table]] = {}
    for one in _runs(tables):
        part = one[r.PART][0].as_py()
        if part != runs.VALIDATION:
            figures = fingerprint(part, *sorted(map(str, one[r.FIGURE_ID].to_pylist())))
            found.setdefault((part, figures), []).append(one.sort_by(r.FIGURE_ID))
    return [FoldEnsemble(len(several), _mean(several)) for several in found.values() if len(several) > 1]


def _runs(tables: Sequence[pa.Table]) -> Iterator[pa.Table]:
    """The rows of each run, fold and part."""
    keys = [r.RUN_ID, r.FOLD, r.PART]
    for table in tables:
        rows: dict[tuple[Any, ...], list[int]] = {}
        for place, key in enumerate(zip(*(table[name].to_pylist() for name in keys), strict=True)):
            rows.setdefault(key, []).append(place)
        for picked in rows.values():
            yield table.take(pa.array(picked, pa.int64()))


def _mean(several: Sequence[pa.Table]) -> pa.Table:
    first = several[0]
    p = np.mean([one[r.P_ATYPICAL].to_numpy().astype(np.float64) for one in several], axis=0)
    threshold = float(np.mean([one[r.THRESHOLD][0].as_py() for one in several]))
    together = fingerprint(ENSEMBLE, *(str(one[r.RUN_ID][0].as_py()) for one in several))
    values = {
        r.P_ATYPICAL: p, r.DECISION: (p >= threshold).astype(np.int8), r.THRESHOLD: np.full(len(p), threshold),
        r.FOLD: [ENSEMBLE] * len(p), r.RUN_ID: [together] * len(p),
    }  # fmt: skip
    for name, column in values.items():
        place = first.schema.get_field_index(name)
        first = first.set_column(place, first.schema.field(place), pa.array(column, first.schema.field(place).type))
    return first
