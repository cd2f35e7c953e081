"""Pools the predictions of a study by row and place, run by run: 12 bytes per prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from atypia.base import records as r
from atypia.base import runs
from atypia.base.errors import DataError
from atypia.data.manifest import Manifest
from atypia.studies import files
from atypia.studies.findings.keys import PlaceKey, RowKey, group_of
from atypia.studies.findings.schema import COMMON, HELD_OUT, Place, Series
from atypia.studies.plan import Plan, PlannedTraining
from atypia.studies.schema import FIXED
from atypia.studies.shift import CROSS_DOMAINS
from atypia.studies.table import RunPredictions, model_label, set_names

PART_ORDER: Final = (runs.TEST, runs.EXTERNAL, runs.VALIDATION)
"""Parts in display order: validation parts come last, because epochs and regularisation were chosen on them."""

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ManifestFigures:
    """Columns of a manifest as arrays, in its row order.

    Attributes:
        manifest: The manifest.
        labels: Shape (n,) int8; −1 without a label.
        cases: Shape (n,) int64, the code of each figure's case, in the order of their names; a figure without case and
            slide is its own.
        known: Shape (n,) bool, whether the case or the slide is known.
        domains: Shape (n,) int64, positions in ``domain_names``; −1 where unknown.
        domain_names: Names of the domains.
    """

    manifest: Manifest
    labels: npt.NDArray[np.int8]
    cases: IntArray
    known: npt.NDArray[np.bool_]
    domains: IntArray
    domain_names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class ModelScores:
    """Predictions of one model.

    Attributes:
        rows: Positions in the manifest, shape (n,) int32.
        p: Probability of the positive class, shape (n,).
        threshold: Its threshold.
    """

    rows: npt.NDArray[np.int32]
    p: FloatArray
    threshold: float


@dataclass(frozen=True, eq=False)
class RowPredictions:
    """A row's predictions on a place, one probability per labelled figure.

    Attributes:
        rows: Positions in the manifest, ascending, shape (n,).
        labels: Shape (n,) bool.
        p: Mean probability of the models that scored the figure, shape (n,).
        decisions: Whether the mean of probability − threshold over these models is at least 0, shape (n,) bool.
        each: If every model scored the same figures, their probabilities, shape (models, n); else None.
        thresholds: Each model's threshold, shape (models,).
    """

    rows: IntArray
    labels: npt.NDArray[np.bool_]
    p: FloatArray
    decisions: npt.NDArray[np.bool_]
    each: FloatArray | None
    thresholds: FloatArray


class Pool:
    """Collects predictions by row of the study and place.

    Args:
        plan: The study's plan.
        out: Its folder.
        groups: Domain to its group (:func:`atypia.studies.shift.domain_groups`).
    """

    def __init__(self, plan: Plan, out: Path, groups: Mapping[str, str] | None = None) -> None:
        self.plan, self.out = plan, out
        self._groups = dict(groups or {})
        self._names = set_names(plan, out)
        self._chunks: dict[tuple[RowKey, PlaceKey], list[ModelScores]] = {}
        self._about: dict[RowKey, PlannedTraining] = {}
        self._datasets: dict[PlaceKey, str] = {}
        self._last: dict[str, tuple[pa.ChunkedArray, IntArray]] = {}
        self._figures = lru_cache(maxsize=16)(self._read)

    def add(self, run: RunPredictions, thresholds: Mapping[str, float | None]) -> None:
        """Adds the predictions of one run.

        Args:
            run: Its predictions.
            thresholds: Threshold of the run by decision; None: the one in the predictions.

        Raises:
            DataError: A figure is in no manifest of the study.
        """
        training = run.training
        group = group_of(self.plan, training, run.run.fold)
        for fingerprint, table in zip(run.sets, run.parts, strict=True):
            rows = self._rows(fingerprint, table[r.FIGURE_ID])
            p = table[r.P_ATYPICAL].to_numpy().astype(np.float64)
            given = table[r.THRESHOLD].to_numpy()
            for part in table[r.PART].unique().to_pylist():
                mask = pc.equal(table[r.PART], part).to_numpy(zero_copy_only=False)  # pyright: ignore[reportAttributeAccessIssue]
                key = PlaceKey(fingerprint, str(part))
                named = sorted(set(table.filter(pa.array(mask))[r.DATASET].drop_null().unique().to_pylist()))
                natural = "+".join(named)
                self._datasets.setdefault(
                    key, self._names.get(fingerprint, natural) if part == runs.EXTERNAL else natural
                )
                picked, values = rows[mask].astype(np.int32), p[mask]
                for decision, threshold in thresholds.items():
                    row = RowKey(training.label, group, decision)
                    self._about.setdefault(row, training)
                    used = float(given[mask][0]) if threshold is None else threshold
                    self._chunks.setdefault((row, key), []).append(ModelScores(picked, values, used))

    def _rows(self, fingerprint: str, ids: pa.ChunkedArray) -> IntArray:
        """Positions of figures; computed once for runs that scored the same figures."""
        known = self._last.get(fingerprint)
        if known is not None and known[0].equals(ids):
            return known[1]
        of_set = self.figures(fingerprint).manifest.table[r.FIGURE_ID]
        found = pc.index_in(ids, value_set=of_set.combine_chunks())  # pyright: ignore[reportAttributeAccessIssue]
        if found.null_count:
            raise DataError(
                f"{found.null_count} predicted figures are not in the study's manifest {fingerprint[:8]}; "
                f"fix: run the study again"
            )
        rows = found.to_numpy().astype(np.int64)
        self._last[fingerprint] = (ids, rows)
        return rows

    def figures(self, fingerprint: str) -> ManifestFigures:
        """The figures of a manifest of the study."""
        return self._figures(fingerprint)

    def _read(self, fingerprint: str) -> ManifestFigures:
        manifest = Manifest.load(self.out / files.MANIFESTS / f"{fingerprint}.parquet")
        table = manifest.table
        labels = table[r.LABEL].fill_null(-1).to_numpy().astype(np.int8)
        case, slide = table[r.CASE_ID], table[r.SLIDE_ID]
        join = pc.binary_join_element_wise  # pyright: ignore[reportAttributeAccessIssue]
        whole = pc.coalesce(case, join("slide:", slide, ""), join("figure:", table[r.FIGURE_ID], ""))  # pyright: ignore[reportAttributeAccessIssue]
        known = np.asarray(case.is_valid().to_numpy() | slide.is_valid().to_numpy(), dtype=bool)
        domain = table[r.DOMAIN].combine_chunks().dictionary_encode()
        names = [self._groups.get(name, name) for name in domain.dictionary.to_pylist()]
        distinct = tuple(sorted({str(name) for name in names}))
        position = np.array([distinct.index(name) for name in names] + [-1], dtype=np.int64)
        codes = domain.indices.fill_null(len(names)).to_numpy().astype(np.int64)
        encoded = whole.combine_chunks().dictionary_encode()
        # In the order of their names, so that draws do not depend on row order.
        rank = np.unique(np.array(encoded.dictionary.to_pylist(), dtype=str), return_inverse=True)[1]
        cases = rank[encoded.indices.to_numpy()].astype(np.int64)
        return ManifestFigures(manifest, labels, cases, known, position[codes], distinct)

    def series(self) -> dict[RowKey, Series]:
        """The rows of the study that have predictions, in the order of the plan."""
        titles = self._titles()
        several = len(self.plan.decisions) > 1
        found = {}
        for key, training in self._about.items():
            model, group = model_label(key.row, key.decision, self.plan), key.group.words(titles)
            found[key] = Series(
                f"{model}, {group}" if group else model,
                model,
                group,
                training.backbone,
                training.adaptation,
                dict(training.factors),
                key.decision if several else FIXED,
                key.row,
                key.group.fraction,
                key.group.words(titles, fraction=False),
            )
        return found

    def _titles(self) -> dict[str, str]:
        """Domains by their names in folds, for protocols that train on single domains."""
        from atypia.splits.protocols.domains import fold_names

        if self.plan.protocol[0] not in CROSS_DOMAINS:
            return {}
        domains = sorted({name for key in self._datasets for name in self.figures(key.manifest).domain_names})
        return dict(zip(fold_names(domains), domains, strict=True))

    def places(self) -> dict[PlaceKey, Place]:
        """The scored places: tests, other data sets, validation; each in order of first appearance."""
        found = {}
        for key in sorted(self._datasets, key=lambda k: PART_ORDER.index(k.part) if k.part in PART_ORDER else 9):
            chunks = [chunks for (_, place), chunks in self._chunks.items() if place == key]
            figures = self.figures(key.manifest)
            rows = np.unique(np.concatenate([chunk.rows for some in chunks for chunk in _distinct(some)]))
            rows = rows[figures.labels[rows] >= 0]
            if not len(rows):
                continue
            shared = all(_same_figures(some) for some in chunks)
            found[key] = Place(
                self._datasets[key],
                key.part,
                COMMON if shared else HELD_OUT,
                len(rows),
                int(figures.labels[rows].sum()),
                len(np.unique(figures.cases[rows])),
                int(figures.known[rows].sum()),
                r.CLASS_NAMES[figures.manifest.task],
            )
        return found

    def sample(self, row: RowKey, key: PlaceKey) -> RowPredictions | None:
        """A row's predictions on a place; None if it has none for labelled figures."""
        chunks = self._chunks.get((row, key))
        return self._sample(chunks, key) if chunks else None

    def parts(self, row: RowKey, key: PlaceKey) -> list[RowPredictions]:
        """The same, divided by jointly scored figures: one sample per fold, with the models of all its seeds."""
        groups: dict[bytes, list[ModelScores]] = {}
        for chunk in self._chunks.get((row, key), ()):
            groups.setdefault(chunk.rows.tobytes(), []).append(chunk)
        found = [self._sample(chunks, key) for chunks in groups.values()]
        return [sample for sample in found if sample is not None]

    def _sample(self, chunks: Sequence[ModelScores], key: PlaceKey) -> RowPredictions | None:
        labels = self.figures(key.manifest).labels
        thresholds = np.array([chunk.threshold for chunk in chunks])
        if _same_figures(chunks):
            order = np.argsort(chunks[0].rows, kind="stable")
            order = order[labels[chunks[0].rows[order]] >= 0]
            rows = chunks[0].rows[order].astype(np.int64)
            each = np.stack([chunk.p[order] for chunk in chunks])
            p = each.mean(axis=0)
            margin = (each - thresholds[:, None]).mean(axis=0)
        else:
            every = np.concatenate([chunk.rows for chunk in chunks]).astype(np.int64)
            values = np.concatenate([chunk.p for chunk in chunks])
            margins = np.concatenate([chunk.p - chunk.threshold for chunk in chunks])
            rows, where, counts = np.unique(every, return_inverse=True, return_counts=True)
            p = np.bincount(where, values, len(rows)) / counts
            margin = np.bincount(where, margins, len(rows)) / counts
            kept = labels[rows] >= 0
            rows, p, margin, each = rows[kept], p[kept], margin[kept], None
        if not len(rows):
            return None
        return RowPredictions(rows, labels[rows] == 1, p, margin >= 0, each, thresholds)


def _distinct(chunks: Sequence[ModelScores]) -> list[ModelScores]:
    return list({id(chunk.rows): chunk for chunk in chunks}.values())


def _same_figures(chunks: Sequence[ModelScores]) -> bool:
    """Whether every model scored the same figures, in the same order."""
    first = chunks[0].rows
    return all(chunk.rows is first or np.array_equal(chunk.rows, first) for chunk in chunks[1:])
