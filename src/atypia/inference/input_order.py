"""Results in the order of the input, although crops of a slide are read in the order of its tiles.

Crops are never kept. Rows of results are kept until the rows before them are there; at most those of one slide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from atypia.base.process.progress import Progress, silent

if TYPE_CHECKING:
    from atypia.data.slides.expected import FiguresToCome
    from atypia.data.slides.streams import CropBatch, Refusal

TakesRows = Callable[[pa.RecordBatch], None]
TakesCrops = Callable[["CropBatch", pa.RecordBatch], None]


class Judge(Protocol):
    """What a stream is passed through: a :class:`atypia.inference.classifier.Classifier`."""

    def judged(self, items: Iterable[CropBatch | Refusal]) -> Iterator[tuple[CropBatch | Refusal, pa.RecordBatch]]:
        """Each item with its rows of results."""
        ...


class InOrder:
    """Passes rows on in the order of their places, each place from 0 once.

    Args:
        takers: Called with every record batch that is next.
    """

    def __init__(self, takers: Sequence[TakesRows]) -> None:
        self._takers = takers
        self._next = 0
        self._held: list[pa.RecordBatch] = []
        self._at: list[npt.NDArray[np.int64]] = []
        self._waiting = 0
        self._lowest, self._highest = np.inf, -1.0

    def add(self, at: npt.NDArray[np.int64] | None, rows: pa.RecordBatch) -> None:
        """Takes rows and their places in the input; None: they are next."""
        if rows.num_rows == 0:
            return
        places = np.arange(self._next, self._next + rows.num_rows) if at is None else at
        self._held.append(rows)
        self._at.append(places)
        self._waiting += rows.num_rows
        self._lowest = min(self._lowest, float(places.min()))
        self._highest = max(self._highest, float(places.max()))
        # Rows are passed on only if no earlier row is missing, so that they are sorted once and not with every batch.
        if self._lowest == self._next and self._highest - self._next + 1 == self._waiting:
            self._pass()

    def finish(self) -> None:
        """Passes on the remaining rows, even if places are missing."""
        if self._waiting:
            self._pass()

    def _pass(self) -> None:
        places = np.concatenate(self._at)
        held = self._held
        self._next += self._waiting
        self._held, self._at, self._waiting = [], [], 0
        self._lowest, self._highest = np.inf, -1.0
        if bool((np.diff(places) > 0).all()):
            for rows in held:
                self._give(rows)
            return
        order = np.argsort(places, kind="stable").astype(np.int64)
        # From a buffer: `pa.array` would load pandas.
        indices = pa.Array.from_buffers(pa.int64(), len(order), [None, pa.py_buffer(order)])
        for rows in pa.Table.from_batches(held).combine_chunks().take(indices).to_batches():
            self._give(rows)

    def _give(self, rows: pa.RecordBatch) -> None:
        for take in self._takers:
            take(rows)


def classify_stream(
    classifier: Judge,
    items: Iterable[CropBatch | Refusal],
    *,
    rows: Sequence[TakesRows] = (),
    crops: Sequence[TakesCrops] = (),
    progress: Progress = silent,
    expected: FiguresToCome | None = None,
) -> None:
    """Judges a stream once, in memory for one batch of crops and the rows of one slide.

    Args:
        classifier: What judges.
        items: Batches of crops, and refusals of figures that gave none.
        rows: Receive every row of the results, in the order of the input, refused ones in their place.
        crops: Receive crops with their results as soon as they are judged, in whatever order.
        progress: Told how many figures are done.
        expected: How many are to come, as far as the stream knows.
    """
    from atypia.data.slides.streams import CropBatch

    ordered = InOrder(rows)
    done = 0
    for item, results in classifier.judged(items):
        if isinstance(item, CropBatch):
            for take in crops:
                take(item, results)
            ordered.add(item.at, results)
        else:
            ordered.add(None if item.at is None else np.array([item.at], np.int64), results)
        done += results.num_rows
        total = 0 if expected is None else expected.total
        progress(done, max(done, total) if total else 0, "figures")
    ordered.finish()
