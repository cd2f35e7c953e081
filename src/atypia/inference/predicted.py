"""Predictions of a classifier for figures: indexed, counted, scored, compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from atypia.base import records as r
from atypia.base.errors import InputError, count_noun, must
from atypia.inference.bundles.conformal import CLASSES
from atypia.inference.bundles.decision import CALLS, REFUSED, UNCERTAIN
from atypia.inference.results import CALL, NOVELTY, REASON

if TYPE_CHECKING:
    from atypia.data.manifest import Manifest
    from atypia.statistics.differences.comparison import Comparison, ScoredFigures
    from atypia.statistics.intervals import Bootstrap, Interval

UNKNOWN_LABEL: Final = -1
"""Label, or decision, of a figure that has none."""


@dataclass(frozen=True)
class Prediction:
    """The prediction for one figure.

    Attributes:
        figure_id: Its id.
        p_atypical: Calibrated probability of the positive class (*atypical*), in [0, 1]; NaN if it was not scored.
        decision: 1 where ``p_atypical`` reaches the threshold, else 0; −1 where it was not scored.
        call: ``normal``, ``atypical``, ``uncertain`` or ``refused``.
        classes: The prediction set behind the call: the classes that it leaves open; empty if it was refused.
        novelty: Distance from the training data, at least 0; NaN if the model does not tell.
        reason: Why it was refused; None if it was not.
        label: 0 or 1; −1 where it is not known.
        case_id: Its case; None if it is not known.
    """

    figure_id: str
    p_atypical: float
    decision: int
    call: str
    classes: tuple[str, ...]
    novelty: float = float("nan")
    reason: str | None = None
    label: int = UNKNOWN_LABEL
    case_id: str | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Predictions:
    """Predictions of some figures, one row per figure (a row a model and figure where several models scored it).

    Iterates over :class:`Prediction`; an integer index gives one, a slice, a list of positions or a boolean mask gives
    :class:`Predictions`.

    Attributes:
        rows: The table: results of ``atypia predict`` (:data:`atypia.inference.results.RESULTS_SCHEMA`) or predictions
            of a training (:data:`atypia.inference.predictions.PREDICTIONS_SCHEMA`), with label and case where known.
        name: Name of the classifier in messages and tables.
        path: The file or folder that they were read from; None if they were made in memory.
        class_names: Names of class 0 and class 1, the positive one.
        notes: What was left out or decided while they were made.

    >>> import numpy as np
    >>> said = Predictions.of([0.9, 0.2, 0.6], ids=["a", "b", "c"], labels=[1, 0, 0])
    >>> said
    <Predictions of 3 figures: 2 atypical, 1 normal; 3 labelled>
    >>> said[0].call, said.p_atypical[said.decisions == 1].tolist()
    ('atypical', [0.9, 0.6])
    >>> said.metrics(["balanced_accuracy"])
    {'balanced_accuracy': 0.75}
    """

    rows: pa.Table
    name: str = ""
    path: Path | None = None
    class_names: tuple[str, str] = CLASSES
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        probabilities: npt.ArrayLike,
        figures: Manifest | None = None,
        *,
        ids: Sequence[str] | None = None,
        labels: Sequence[int | None] | npt.NDArray[Any] | None = None,
        cases: Sequence[str | None] | npt.NDArray[Any] | None = None,
        domains: Sequence[str | None] | npt.NDArray[Any] | None = None,
        threshold: float = r.DEFAULT_THRESHOLD,
        name: str = "",
    ) -> Predictions:
        """Predictions of any model of yours, so that Atypia's statistics score and compare it.

        Args:
            probabilities: Probability of *atypical*, shape (n,), in [0, 1].
            figures: The figures in the same order: their ids, labels, cases and domains are taken over.
            ids: Their ids, in place of a manifest; None: their positions.
            labels: 1 = atypical, 0 = normal, None or −1 where unknown.
            cases: The case of each; None if unknown: it then counts as a case of its own.
            domains: The domain of each.
            threshold: Decided atypical where the probability reaches it; in (0, 1).
            name: What tables call the model.

        Raises:
            InputError: Lengths differ, a value is not a probability or not a label, the threshold is not in (0, 1), or both
                a manifest and arrays are given.
        """
        p = np.asarray(probabilities, dtype=np.float64)
        if p.ndim != 1 or not bool(np.all((p >= 0) & (p <= 1))):
            got = f"shape {p.shape}" if p.ndim != 1 else "values outside, or NaN"
            raise InputError(must("probabilities", "of shape (n,), between 0 and 1", got, "pass no logits"))
        if not 0 < threshold < 1:
            raise InputError(must("threshold", "between 0 and 1", threshold, f"use {r.DEFAULT_THRESHOLD}"))
        if figures is not None:
            from atypia.inference.predictions import predictions_table

            if any(given is not None for given in (ids, labels, cases, domains)):
                raise InputError(must("figures", "given alone", "figures and arrays", "leave the arrays out"))
            return cls(predictions_table(figures, p, threshold), name, class_names=r.CLASS_NAMES[figures.task])
        said = cls(
            pa.table(
                {
                    r.FIGURE_ID: _texts(range(len(p)) if ids is None else ids, "ids", len(p)),
                    r.P_ATYPICAL: pa.array(p),
                    r.DECISION: pa.array((p >= threshold).astype(np.int8)),
                    r.THRESHOLD: pa.array(np.full(len(p), threshold)),
                }
            ),
            name,
        )
        return said if labels is None else said.with_labels(labels, cases, domains)

    def with_labels(
        self,
        labels: Sequence[int | None] | npt.NDArray[Any],
        cases: Sequence[str | None] | npt.NDArray[Any] | None = None,
        domains: Sequence[str | None] | npt.NDArray[Any] | None = None,
    ) -> Predictions:
        """The same with labels, and cases and domains where given, in the order of the rows; see :meth:`of`."""
        given = [UNKNOWN_LABEL if label is None or label != label else int(label) for label in labels]
        if len(given) != len(self) or not set(given) <= {0, 1, UNKNOWN_LABEL}:
            got = f"{len(given)} with the values {sorted(set(given))[:5]}"
            raise InputError(must("labels", f"{len(self)} of 0, 1 and None", got, "give one a figure, in their order"))
        columns: dict[str, pa.Array] = {
            r.LABEL: pa.array([None if label == UNKNOWN_LABEL else label for label in given], pa.int8())
        }
        for column, values in ((r.CASE_ID, cases), (r.DOMAIN, domains)):
            if values is not None:
                columns[column] = _texts(values, column, len(self))
        table = self.rows.drop_columns([column for column in columns if column in self.rows.column_names])
        for column, values in columns.items():
            table = table.append_column(column, values)
        return replace(self, rows=table)

    # Columns ----------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self.rows.num_rows

    @property
    def ids(self) -> list[str]:
        """Figure ids."""
        return self.rows[r.FIGURE_ID].to_pylist()

    @cached_property
    def p_atypical(self) -> npt.NDArray[np.float64]:
        """Probability of the positive class (*atypical*), shape (n,), in [0, 1]; NaN if it was not scored."""
        return np.array([np.nan if p is None else p for p in self.rows[r.P_ATYPICAL].to_pylist()], dtype=np.float64)

    @cached_property
    def decisions(self) -> npt.NDArray[np.int8]:
        """1 where the probability reaches the threshold, else 0, shape (n,); −1 where it was not scored."""
        return self._whole_numbers(r.DECISION)

    @cached_property
    def labels(self) -> npt.NDArray[np.int8]:
        """0 or 1, shape (n,); −1 where it is not known."""
        return self._whole_numbers(r.LABEL)

    @cached_property
    def calls(self) -> list[str]:
        """``normal``, ``atypical``, ``uncertain`` or ``refused``; the decided class where there is no call."""
        if CALL in self.rows.column_names:
            return self.rows[CALL].to_pylist()
        return [REFUSED if decided < 0 else self.class_names[decided] for decided in self.decisions.tolist()]

    @property
    def prediction_sets(self) -> list[tuple[str, ...]]:
        """The classes that each call leaves open: both where it is uncertain, none where it was refused."""
        both = {UNCERTAIN: self.class_names, REFUSED: ()}
        return [both.get(call, (call,)) for call in self.calls]

    @property
    def refused(self) -> npt.NDArray[np.bool_]:
        """Which figures were refused, shape (n,)."""
        return np.array([call == REFUSED for call in self.calls], dtype=bool)

    @property
    def uncertain(self) -> npt.NDArray[np.bool_]:
        """Which figures are called uncertain, shape (n,)."""
        return np.array([call == UNCERTAIN for call in self.calls], dtype=bool)

    @property
    def novelty(self) -> npt.NDArray[np.float64]:
        """Distance from the training data, shape (n,); NaN if it is not known."""
        return np.array([np.nan if far is None else far for far in self._values(NOVELTY)], dtype=np.float64)

    @property
    def reasons(self) -> list[str | None]:
        """Why each was refused; None if it was not."""
        return self._values(REASON)

    @property
    def cases(self) -> list[str]:
        """The case of each; a figure of unknown case is one of its own."""
        return [f"figure:{figure}" if case is None else case
                for case, figure in zip(self._values(r.CASE_ID), self.ids, strict=True)]  # fmt: skip

    @property
    def domains(self) -> list[str | None]:
        """The domain of each; None if it is not known."""
        return self._values(r.DOMAIN)

    def _values(self, column: str) -> list[Any]:
        return self.rows[column].to_pylist() if column in self.rows.column_names else [None] * len(self)

    def _whole_numbers(self, column: str) -> npt.NDArray[np.int8]:
        return np.array([UNKNOWN_LABEL if value is None else value for value in self._values(column)], dtype=np.int8)

    # Rows -------------------------------------------------------------------------------------

    @overload
    def __getitem__(self, at: int) -> Prediction: ...
    @overload
    def __getitem__(self, at: slice | Sequence[int] | npt.NDArray[Any]) -> Predictions: ...
    def __getitem__(self, at: int | slice | Sequence[int] | npt.NDArray[Any]) -> Prediction | Predictions:
        if isinstance(at, int | np.integer):
            row = int(at) + len(self) if at < 0 else int(at)
            if not 0 <= row < len(self):
                raise IndexError(f"figure {at} of {len(self)}")
            return self._one(row)
        if isinstance(at, str):
            raise InputError(must("index", "a position, slice, list or mask", at, "look it up: said.ids.index(…)"))
        rows = np.arange(len(self))[at if isinstance(at, slice) else np.asarray(at)]
        return replace(self, rows=self.rows.take(pa.array(rows.astype(np.int64))))

    def __iter__(self) -> Iterator[Prediction]:
        return (self._one(row) for row in range(len(self)))

    @cached_property
    def _columns(self) -> tuple[list[Any], ...]:
        return (self.ids, self.prediction_sets, self.novelty.tolist(), self.reasons, self._values(r.CASE_ID))

    def _one(self, row: int) -> Prediction:
        ids, sets, novelty, reasons, cases = self._columns
        return Prediction(
            ids[row],
            float(self.p_atypical[row]),
            int(self.decisions[row]),
            self.calls[row],
            sets[row],
            novelty[row],
            reasons[row],
            int(self.labels[row]),
            cases[row],
        )

    def groups(self, column: str = r.DOMAIN) -> dict[str, Predictions]:
        """The predictions by the values of a column, for instance ``domain``, ``case_id`` or ``image``.

        Raises:
            InputError: There is no such column.
        """
        if column not in self.rows.column_names:
            known = ", ".join(self.rows.column_names)
            raise InputError(
                must("column", f"one of {known}", column, "give labels, cases and domains with with_labels")
            )
        values = np.array([str(value) for value in self.rows[column].to_pylist()])
        return {str(value): self[values == value] for value in dict.fromkeys(values.tolist())}

    # Scores -----------------------------------------------------------------------------------

    def scored(self) -> ScoredFigures:
        """Labelled figures and their predictions, each once, for :mod:`atypia.statistics`.

        Raises:
            InputError: No scored figure has a label.
        """
        from atypia.statistics.differences.comparison import pool_models

        kept = self[(self.labels >= 0) & (self.decisions >= 0)]
        if not len(kept):
            raise InputError(must("predictions", "of figures with labels", "none", "give them: said.with_labels(…)"))
        sets, figures = kept._values(r.DATASET), kept.ids
        models = list(zip(kept._values(r.RUN_ID), kept._values(r.FOLD), strict=True))
        return pool_models(
            list(zip(sets, figures, strict=True)),
            models,
            kept.labels,
            kept.cases,
            kept.p_atypical,
            kept.rows[r.THRESHOLD].to_numpy(),
        )

    def metrics(self, names: Iterable[str] | None = None) -> dict[str, float]:
        """Metric name to value on the labelled figures; the mean of the models' own where several scored all of them.

        Args:
            names: Names in :data:`atypia.statistics.metrics.METRICS`; None: all.

        Raises:
            InputError: No scored figure has a label, or a metric is unknown.
        """
        from atypia.statistics.metrics import METRICS, compute

        found = self.scored()
        chosen = list(METRICS if names is None else names)
        p, d = (np.atleast_2d(np.asarray(v)) for v in (found.predicted.probabilities, found.predicted.decisions))
        each = [compute(found.labels, one, decided, chosen) for one, decided in zip(p, d, strict=True)]
        return {name: float(np.mean([values[name] for values in each])) for name in chosen}

    def intervals(self, names: Iterable[str] | None = None, options: Bootstrap | None = None) -> dict[str, Interval]:
        """Metric name to its value and interval over cases; see :func:`atypia.statistics.intervals.metric_intervals`."""
        from atypia.statistics.differences.comparison import COMPARED_METRICS
        from atypia.statistics.intervals import metric_intervals

        found = self.scored()
        chosen = COMPARED_METRICS if names is None else names
        return metric_intervals(found.labels, found.predicted, found.cases, chosen, options)

    def compare(
        self, other: Predictions, metrics: Iterable[str] | None = None, options: Bootstrap | None = None
    ) -> Comparison:
        """Differences «this − other» on the figures that both scored, with intervals over cases and p-values.

        Raises:
            InputError, DataError: As :func:`atypia.statistics.differences.comparison.compare_scored`.
        """
        from atypia.statistics.differences.comparison import COMPARED_METRICS, compare_scored

        names = (self.name or "this", other.name or "other")
        if names[0] == names[1] and self.path is not None and other.path is not None:
            names = (f"{names[0]} ({self.path.name})", f"{names[1]} ({other.path.name})")
        return compare_scored(self.scored(), other.scored(), names, metrics or COMPARED_METRICS, options)

    # Tables -----------------------------------------------------------------------------------

    def table(self) -> pa.Table:
        """The rows as a ``pyarrow.Table``."""
        return self.rows

    def to_pandas(self) -> Any:
        """The rows as a ``pandas.DataFrame``.

        Raises:
            AbsentError: pandas is not installed.
        """
        from atypia.base.frames import data_frame

        return data_frame(self.rows)

    @property
    def counts(self) -> Mapping[str, int]:
        """How often each call was made."""
        calls = self.calls
        known = dict.fromkeys((*reversed(self.class_names), *CALLS[2:]))
        return {call: count for call in known if (count := calls.count(call))}

    def __repr__(self) -> str:
        n = len(set(self.ids))
        models = len({*zip(self._values(r.RUN_ID), self._values(r.FOLD), strict=True)})
        by = (f" by {self.name}" if self.name else "") + (f", {models} models" if models > 1 else "")
        rows = f"{len(self):,} rows, " if len(self) != n else ""
        said = rows + ", ".join(f"{count:,} {call}" for call, count in self.counts.items())
        labelled = int((self.labels >= 0).sum())
        known = f"; {labelled:,} labelled" if labelled else ""
        figures = count_noun(n, "figure")
        return f"<Predictions of {figures}{by}{': ' + said if said else ''}{known}>"


def _texts(values: Iterable[Any], what: str, n: int) -> pa.Array:
    texts = [None if value is None or value != value else str(value) for value in values]
    if len(texts) != n:
        raise InputError(must(what, f"one for each of {n} figures", f"{len(texts)}", "give them in the figures' order"))
    return pa.array(texts, pa.string())
