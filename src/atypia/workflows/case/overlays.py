"""Saliency overlays of the figures of a prediction: named ones, or those of the highest probability."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from atypia.base.errors import InputError, must

if TYPE_CHECKING:
    import pyarrow as pa

    from atypia.data.slides.streams import CropBatch

MOST: Final = 12
"""Number of figures that are explained if none was named."""


@dataclass
class FiguresToExplain:
    """Named figures, or those with the highest probability, collected while a prediction runs.

    Give :meth:`add` to :func:`atypia.workflows.predict.predict_request` as ``also``, then call :meth:`write_overlays`.

    Attributes:
        names: Figure ids; empty for the most probable.
    """

    names: tuple[str, ...] = ()
    _held: list[tuple[float, str, Any]] = field(default_factory=list)

    def add(self, crops: CropBatch, results: pa.RecordBatch) -> None:
        """Collects figures from a batch and its results; a named figure without a probability comes last."""
        probabilities = results.column("p_atypical").to_pylist()
        for figure, p, pixels in zip(crops.ids, probabilities, crops.crops, strict=True):
            if self.names:
                if figure in self.names:
                    self._held.append((-1.0 if p is None else p, figure, pixels.copy()))
            elif p is None:  # refused before it was scored: not among the most probable
                continue
            elif len(self._held) < MOST or p > self._held[0][0]:
                push = heapq.heappush if len(self._held) < MOST else heapq.heapreplace
                push(self._held, (p, figure, pixels.copy()))

    def write_overlays(self, model: str, folder: Path) -> list[Path]:
        """Writes the overlays of one model, a file per figure.

        Raises:
            InputError: A requested figure was not found, or none was scored.
        """
        import numpy as np

        from atypia.inference.explain import explain

        absent = set(self.names) - {figure for _, figure, _ in self._held}
        if absent or not self._held:
            known = "a figure of the inputs that was scored"
            raise InputError(must("figure", known, ", ".join(sorted(absent)) or "none", "see the column figure_id"))
        chosen = sorted(self._held, key=lambda one: (-one[0], one[1]))
        return explain(model, np.stack([pixels for *_, pixels in chosen]), [figure for _, figure, _ in chosen], folder)
