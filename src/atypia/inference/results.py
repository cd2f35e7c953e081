"""Results: one row per figure, written by `atypia predict` and read by every report of a case.

Rows are passed on as record batches with :data:`RESULTS_SCHEMA`, a bounded number at a time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from atypia.base import records as r
from atypia.base.errors import InputError, must
from atypia.data.slides.readas import UNKNOWN, ReadAs
from atypia.inference.bundles.decision import CALLS

if TYPE_CHECKING:
    from atypia.data.slides.streams import CropBatch, Refusal
    from atypia.inference.bundles.decision import Verdicts

CLASS: Final = "class"
CALL: Final = "call"
NOVELTY: Final = "novelty"
REASON: Final = "reason"
MODEL: Final = "model"
MPP_SOURCE: Final = "mpp_source"
ORIGIN: Final = "origin"
"""What positions on a slide count from. (In a manifest the column of this name is the laboratory.)"""
ORIGIN_X_PX: Final = "origin_x_px"
ORIGIN_Y_PX: Final = "origin_y_px"
CALLED_NORMAL, CALLED_ATYPICAL, CALLED_UNCERTAIN, CALLED_REFUSED = CALLS
UNLIKE_TRAINING: Final = "unlike the training data"
"""Reason of a figure that was scored and then refused for its novelty."""

RESULTS_SCHEMA: Final = pa.schema(
    [
        pa.field(r.FIGURE_ID, pa.string(), nullable=False),
        pa.field(r.IMAGE, pa.string(), nullable=False),
        pa.field(r.X_PX, pa.float64()),
        pa.field(r.Y_PX, pa.float64()),
        pa.field(CLASS, pa.string()),
        pa.field(r.P_ATYPICAL, pa.float64()),
        pa.field(r.DECISION, pa.int8()),
        pa.field(CALL, pa.string(), nullable=False),
        pa.field(NOVELTY, pa.float64()),
        pa.field(r.THRESHOLD, pa.float64(), nullable=False),
        pa.field(REASON, pa.string()),
        pa.field(MODEL, pa.string(), nullable=False),
        pa.field(r.MPP, pa.float64()),
        pa.field(MPP_SOURCE, pa.string()),
        pa.field(ORIGIN, pa.string()),
        pa.field(ORIGIN_X_PX, pa.float64()),
        pa.field(ORIGIN_Y_PX, pa.float64()),
    ]
)
"""Columns, in order. ``image`` is the file or slide, as the user named it; ``x_px, y_px`` the
figure's centre in pixels of the slide's level 0, as the user's points have it, null for plain crops; ``class`` what
the file of points calls the figure, null if it does not. ``p_atypical`` is the
calibrated probability of *atypical*, in [0, 1], and ``decision`` 1 where it reaches ``threshold``;
both are null for a figure that was refused before it was scored. ``call`` is one of
:data:`atypia.inference.bundles.decision.CALLS`, ``reason`` says why a figure was refused, and ``novelty``
how far it lies from the training data (null if the model does not tell). ``mpp`` is the µm/px that
was used and ``mpp_source`` where it comes from. ``origin`` is ``canvas`` or ``bounds`` where a slide's
scanned area is smaller than its canvas, and ``origin_x_px, origin_y_px`` the place of the positions' zero in
the image that was read (null for its corner): added to the position they give its place there."""

LATER_COLUMNS: Final = (CLASS, r.MPP, MPP_SOURCE, ORIGIN, ORIGIN_X_PX, ORIGIN_Y_PX)
"""Nullable columns that results of earlier versions do not have."""


def result_batch(batch: CropBatch, verdicts: Verdicts, model: str, threshold: float) -> pa.RecordBatch:
    """The rows of a batch of crops and what was decided on them.

    Args:
        batch: The crops, of which only the names and positions are used.
        verdicts: One a crop, in the same order.
        model: Name of the classifier.
        threshold: Its decision threshold on the probability of *atypical*, in [0, 1].

    Returns:
        With :data:`RESULTS_SCHEMA`, in the order of the crops.

    Raises:
        InputError: Lengths differ, a probability is outside [0, 1], or a call is unknown.
    """
    n = len(batch.ids)
    p = np.asarray(verdicts.p, dtype=np.float64)
    novelty = np.asarray(verdicts.novelty, dtype=np.float64)
    decision = np.asarray(verdicts.decision)
    calls = list(verdicts.call)
    lengths = {len(p), len(novelty), len(decision), len(calls)}
    if lengths != {n}:
        raise InputError(must("verdicts", f"one for each of {n} crops", f"lengths {sorted(lengths)}", "decide again"))
    if bool(np.any((p < 0) | (p > 1))):
        raise InputError(must("p", "between 0 and 1", "a value outside", "pass probabilities, no logits"))
    unknown = sorted(set(calls) - set(CALLS))
    if unknown:
        raise InputError(must("call", " or ".join(CALLS), unknown[0], "take it from the decision"))
    scored = np.isfinite(p)
    reasons = [
        None if call != CALLED_REFUSED else UNLIKE_TRAINING if known else "no probability"
        for call, known in zip(calls, scored, strict=True)
    ]
    return _batch(
        {
            r.FIGURE_ID: _texts(batch.ids),
            r.IMAGE: _texts(batch.images),
            r.X_PX: _numbers(batch.x_px),
            r.Y_PX: _numbers(batch.y_px),
            CLASS: _texts(batch.classes or [None] * n),
            r.P_ATYPICAL: _numbers(p),
            r.DECISION: _primitive(pa.int8(), decision.astype(np.int8), scored),
            CALL: _texts(calls),
            NOVELTY: _numbers(novelty),
            REASON: _texts(reasons),
            **_read_as(batch.read_as or [UNKNOWN] * n),
        },
        model,
        threshold,
    )


def refusal_batch(refusals: Sequence[Refusal], model: str, threshold: float) -> pa.RecordBatch:
    """The rows of figures that could not be read or cut, and so were never scored.

    Args:
        refusals: Which figures, and why.
        model: Name of the classifier that would have scored them.
        threshold: Its decision threshold, in [0, 1].

    Returns:
        With :data:`RESULTS_SCHEMA`, in the order of the refusals; probability, decision and
        novelty are null.
    """
    n = len(refusals)
    return _batch(
        {
            r.FIGURE_ID: _texts([refusal.figure_id for refusal in refusals]),
            r.IMAGE: _texts([refusal.image for refusal in refusals]),
            r.X_PX: _numbers([refusal.x_px for refusal in refusals]),
            r.Y_PX: _numbers([refusal.y_px for refusal in refusals]),
            CLASS: _texts([refusal.named for refusal in refusals]),
            r.P_ATYPICAL: pa.nulls(n, pa.float64()),
            r.DECISION: pa.nulls(n, pa.int8()),
            CALL: _texts([CALLED_REFUSED] * n),
            NOVELTY: pa.nulls(n, pa.float64()),
            REASON: _texts([refusal.reason for refusal in refusals]),
            **_read_as([refusal.read_as for refusal in refusals]),
        },
        model,
        threshold,
    )


def uncertainty(p: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Binary entropy of a probability, in bits: 0 where it is 0 or 1, 1 where it is one half.

    ``-p log2(p) - (1 - p) log2(1 - p)`` (Shannon 1948).

    Args:
        p: Probabilities of any shape, in [0, 1] or NaN.

    Returns:
        Same shape, in [0, 1]; NaN if ``p`` is NaN.
    """
    values = np.asarray(p, dtype=np.float64)
    # The smallest positive number in place of 0 makes 0 · log 0 the limit, 0.
    logs = [np.log2(np.maximum(share, np.finfo(np.float64).tiny)) for share in (values, 1 - values)]
    return np.abs(values * logs[0] + (1 - values) * logs[1])


def rows_of(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """The rows as mappings from column to value; what is not finite is None, so that JSON can say it."""
    columns = [_finite(column.to_pylist()) for column in batch.columns]
    names = batch.schema.names
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def uncertainty_of(rows: Sequence[Mapping[str, Any]]) -> list[float | None]:
    """:func:`uncertainty` of each row of :func:`rows_of`; None without a probability."""
    bits = uncertainty(np.array([row[r.P_ATYPICAL] for row in rows], dtype=np.float64)).tolist()
    return [None if row[r.P_ATYPICAL] is None else value for row, value in zip(rows, bits, strict=True)]


def check_results(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch itself.

    Raises:
        InputError: It has other columns than :data:`RESULTS_SCHEMA`.
    """
    if not batch.schema.equals(RESULTS_SCHEMA):
        got = ", ".join(f"{field.name} {field.type}" for field in batch.schema)
        raise InputError(must("results", "a record batch with RESULTS_SCHEMA", got, "build it with result_batch"))
    return batch


def is_results(columns: Sequence[str]) -> bool:
    """Whether these are the columns of results, of this version or an earlier one."""
    return [name for name in RESULTS_SCHEMA.names if name in columns or name not in LATER_COLUMNS] == list(columns)


def with_all_columns(table: pa.Table) -> pa.Table:
    """Results of any version with :data:`RESULTS_SCHEMA`; what an earlier one did not have is null.

    Raises:
        pyarrow.ArrowInvalid: The columns are not those of results.
    """
    for name in LATER_COLUMNS:
        if name not in table.column_names:
            field = RESULTS_SCHEMA.field(name)
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table.select(RESULTS_SCHEMA.names).cast(RESULTS_SCHEMA)


def _read_as(ways: Sequence[ReadAs]) -> dict[str, pa.Array]:
    return {
        r.MPP: _numbers([way.mpp for way in ways]),
        MPP_SOURCE: _texts([way.mpp_source for way in ways]),
        ORIGIN: _texts([way.origin for way in ways]),
        ORIGIN_X_PX: _numbers([way.origin_x_px for way in ways]),
        ORIGIN_Y_PX: _numbers([way.origin_y_px for way in ways]),
    }


def _batch(columns: dict[str, pa.Array], model: str, threshold: float) -> pa.RecordBatch:
    n = len(columns[r.FIGURE_ID])
    columns[r.THRESHOLD] = _numbers(np.full(n, float(threshold)))
    columns[MODEL] = _texts([model] * n)
    return pa.RecordBatch.from_arrays([columns[name] for name in RESULTS_SCHEMA.names], schema=RESULTS_SCHEMA)


def _finite(values: list[Any]) -> list[Any]:
    return [None if isinstance(value, float) and not math.isfinite(value) else value for value in values]


# Arrays are made from buffers: `pa.array` loads pandas wherever that is installed, which takes
# longer than a first prediction should.


def _primitive(kind: pa.DataType, values: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> pa.Array:
    return pa.Array.from_buffers(kind, len(values), [_bitmap(valid), pa.py_buffer(np.ascontiguousarray(values))])


def _bitmap(valid: npt.NDArray[np.bool_]) -> pa.Buffer | None:
    return None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))


def _numbers(values: npt.ArrayLike) -> pa.Array:
    """Floats; what is not finite is unknown, and so null."""
    numbers = np.asarray(values, dtype=np.float64)
    return _primitive(pa.float64(), numbers, np.isfinite(numbers))


def _texts(values: Sequence[str | None]) -> pa.Array:
    """Strings; a file name that is no valid text is written with escapes rather than refused."""
    encoded = [b"" if value is None else value.encode("utf-8", "backslashreplace") for value in values]
    ends = np.zeros(len(encoded) + 1, dtype=np.int32)
    np.cumsum([len(text) for text in encoded], out=ends[1:])
    valid = np.array([value is not None for value in values], dtype=bool)
    buffers = [_bitmap(valid), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(encoded), buffers)
