"""The labelled figures of a manifest in an order independent of the manifest's row order.

Protocols draw from this view, so that the same figures in another row order give the same split.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from atypia.base import records as r
from atypia.base.errors import InputError, count_noun, must
from atypia.data.manifest import Manifest

Rows = npt.NDArray[np.int64]
"""Positions in a :class:`LabelledFigures`, shape (m,)."""


@dataclass(frozen=True, eq=False)
class LabelledFigures:
    """Labelled figures, sorted by figure id.

    Attributes:
        manifest: Their rows.
        order: Row number of each in the given manifest, shape (n,) int64; only for published protocols
        that draw by row number.
        left_out: Figures without a label, which are in no part.
    """

    manifest: Manifest
    order: Rows
    left_out: int = 0

    @classmethod
    def of(cls, manifest: Manifest) -> LabelledFigures:
        """The labelled figures of a manifest.

        Raises:
            InputError: No figure is labelled, or only one class occurs.
        """
        known = manifest.table[r.LABEL].is_valid().to_numpy()
        labelled = np.flatnonzero(known)
        # Sorted by code point, not by locale: the order is the same on every machine.
        ids = manifest.ids
        order = np.array(sorted(labelled.tolist(), key=lambda row: ids[row]), dtype=np.int64)
        figures = cls(manifest.take(order), order, len(manifest) - len(order))
        zero, one = r.CLASS_NAMES[manifest.task]
        counts = np.bincount(figures.labels, minlength=2) if len(order) else np.zeros(2, int)
        if not counts.all():
            found = f"{counts[0]} {zero} and {counts[1]} {one}"
            raise InputError(
                must(
                    f"label of {manifest.name}",
                    f"both classes ({zero} and {one})",
                    f"{found} labelled figures",
                    "a set with one class cannot be divided; add labelled figures, or evaluate a model on it",
                )
            )
        return figures

    def __len__(self) -> int:
        return len(self.order)

    @cached_property
    def labels(self) -> npt.NDArray[np.int8]:
        """Labels, shape (n,), 1 = positive class."""
        return self.manifest.labels

    @cached_property
    def cases(self) -> npt.NDArray[np.int64]:
        """Number of each figure's case, shape (n,); cases are numbered by their sorted names."""
        return np.unique(self.manifest.cases, return_inverse=True)[1].astype(np.int64)

    @cached_property
    def without_case(self) -> int:
        """Number of figures without a known case or slide."""
        table = self.manifest.table
        return int((table[r.CASE_ID].is_null().to_numpy() & table[r.SLIDE_ID].is_null().to_numpy()).sum())

    @cached_property
    def domains(self) -> npt.NDArray[np.int64]:
        """Number of each figure's domain, shape (n,); unknown domains form one domain."""
        names = ["" if name is None else name for name in self.column(r.DOMAIN)]
        return np.unique(np.array(names, dtype=str), return_inverse=True)[1].astype(np.int64)

    def column(self, name: str) -> list[Any]:
        """A manifest column in the order of these figures; null becomes None."""
        return self.manifest.table[name].to_pylist()

    def rows_where(self, column: str, value: object) -> Rows:
        """Positions whose column has this value."""
        return np.flatnonzero([found == value for found in self.column(column)])

    def part_rows(self) -> tuple[Rows, Rows, int]:
        """Positions of the published training and test parts, and the number of figures in neither.

        Raises:
            InputError: One of the parts is empty.
        """
        train, test = self.rows_where(r.PART, "train"), self.rows_where(r.PART, "test")
        if not len(train) or not len(test):
            raise InputError(
                must(
                    "part",
                    "'train' and 'test', the publisher's own division",
                    f"{len(train)} and {len(test)} figures in these parts of {self.manifest.name}",
                    "choose a protocol that needs no published parts, for instance kfold",
                )
            )
        return train, test, len(self) - len(train) - len(test)


def outside_parts(neither: int) -> tuple[str, ...]:
    """The note on figures that are in none of the published parts; empty where all are in one."""
    words = "figure outside the published parts was", "figures outside the published parts were"
    return (f"{count_noun(neither, *words)} left out",) if neither else ()
