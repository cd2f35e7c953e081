"""Predictions: one row per figure, as Parquet; what every metric is computed from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from atypia.base import records as r
from atypia.base.artifacts import atomic_file
from atypia.base.errors import DataError, InputError, must
from atypia.base.files.parquet import read_parquet
from atypia.base.files.structured import parse_json
from atypia.data.manifest import Manifest

PREDICTIONS_SCHEMA = pa.schema(
    [
        pa.field(r.FIGURE_ID, pa.string(), nullable=False),
        pa.field(r.P_ATYPICAL, pa.float64(), nullable=False),
        pa.field(r.DECISION, pa.int8(), nullable=False),
        pa.field(r.THRESHOLD, pa.float64(), nullable=False),
        pa.field(r.LABEL, pa.int8()),
        pa.field(r.CASE_ID, pa.string()),
        pa.field(r.DOMAIN, pa.string()),
        pa.field(r.DATASET, pa.string()),
        pa.field(r.FOLD, pa.string()),
        pa.field(r.PART, pa.string()),
        pa.field(r.RUN_ID, pa.string()),
    ]
)
"""Columns, in order. ``p_atypical`` is the probability of the positive class (for the task
``mitosis``: of a mitotic figure), in [0, 1]; ``decision`` is 1 where it reaches ``threshold``.
``part`` is ``val`` or ``test`` of the fold, or ``external`` for another data set."""

METADATA_KEY = b"atypia"


def predictions_table(
    manifest: Manifest,
    probabilities: npt.NDArray[np.floating[Any]],
    threshold: float,
    *,
    fold: str | None = None,
    part: str | None = None,
    run_id: str | None = None,
) -> pa.Table:
    """Builds the predictions of a manifest's figures.

    Args:
        manifest: The figures, in the order of ``probabilities``.
        probabilities: Probability of the positive class, shape (n,), in [0, 1].
        threshold: Decision threshold, in (0, 1).
        fold: Name of the fold whose model predicted.
        part: Role of the figures for that model: ``val``, ``test`` or ``external``.
        run_id: Identity of the run whose model predicted.

    Raises:
        InputError: Shapes differ, or a value is not a probability.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if p.shape != (len(manifest),):
        raise InputError(must("probabilities", f"of shape ({len(manifest)},)", p.shape, "score every figure once"))
    if not bool(np.all((p >= 0) & (p <= 1))):
        raise InputError(must("probabilities", "between 0 and 1", "values outside, or NaN", "pass no logits"))
    n, t = len(p), manifest.table
    columns = {
        r.FIGURE_ID: t[r.FIGURE_ID],
        r.P_ATYPICAL: pa.array(p),
        r.DECISION: pa.array((p >= threshold).astype(np.int8)),
        r.THRESHOLD: pa.array(np.full(n, threshold)),
        r.LABEL: t[r.LABEL],
        r.CASE_ID: t[r.CASE_ID],
        r.DOMAIN: t[r.DOMAIN],
        r.DATASET: t[r.DATASET],
        r.FOLD: pa.array([fold] * n, pa.string()),
        r.PART: pa.array([part] * n, pa.string()),
        r.RUN_ID: pa.array([run_id] * n, pa.string()),
    }
    return pa.table(columns, schema=PREDICTIONS_SCHEMA)


def write_predictions(path: Path, table: pa.Table, facts: dict[str, Any] | None = None) -> Path:
    """Writes predictions atomically, with JSON-like ``facts`` (fingerprints) in the file's metadata."""
    meta = {METADATA_KEY: json.dumps(facts or {}, sort_keys=True).encode()}
    with atomic_file(path) as file:
        pq.write_table(table.replace_schema_metadata(meta), file, compression="zstd")
    return path


def read_predictions(path: Path) -> tuple[pa.Table, dict[str, Any]]:
    """Reads what :func:`write_predictions` wrote: the table and its facts.

    Raises:
        DataError: The file is absent, no regular file, damaged, or holds no predictions.
    """
    table = read_parquet(path, "predict again")
    raw = (table.schema.metadata or {}).get(METADATA_KEY)
    table = table.replace_schema_metadata(None)
    if raw is None or not table.schema.equals(PREDICTIONS_SCHEMA):
        raise DataError(f"{path} holds no predictions of this version; fix: predict again")
    facts = parse_json(raw, f"the metadata of {path}", fix="predict again")
    if not isinstance(facts, dict):
        raise DataError(f"{path} is damaged (its metadata are no mapping); fix: predict again")
    return table, facts
