"""Record batches for the tests of outputs and case reports."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from atypia.data.slides.streams import CropBatch, Refusal
from atypia.inference.results import refusal_batch, result_batch

MODEL = "model-1"
THRESHOLD = 0.5


def crop_batch(ids: list[str], *, image: str | None = "slide.svs", pixels: npt.NDArray[Any] | None = None) -> CropBatch:
    """Crops on a slide, or without positions where ``image`` is None."""
    n = len(ids)
    return CropBatch(
        ids=ids,
        crops=np.zeros((n, 8, 8, 3), np.uint8) if pixels is None else pixels,
        images=[image or f"crops/{name}.png" for name in ids],
        x_px=np.full(n, np.nan) if image is None else 100.0 + np.arange(n),
        y_px=np.full(n, np.nan) if image is None else 200.0 + np.arange(n) / 4,
    )


def results(
    p: list[float],
    calls: list[str] | None = None,
    *,
    ids: list[str] | None = None,
    image: str | None = "slide.svs",
    novelty: float = math.nan,
) -> pa.RecordBatch:
    """Rows with these probabilities, called by the threshold unless told otherwise."""
    values = np.array(p, dtype=np.float64)
    decided = values >= THRESHOLD
    verdicts: Any = SimpleNamespace(
        p=values,
        decision=decided.astype(np.int8),
        call=calls or ["atypical" if one else "normal" for one in decided],
        novelty=np.full(len(p), novelty),
    )
    names = ids or [f"f{i}" for i in range(len(p))]
    return result_batch(crop_batch(names, image=image), verdicts, MODEL, THRESHOLD)


def refusals(reasons: list[str], *, image: str = "slide.svs", x_px: float = math.nan) -> pa.RecordBatch:
    """Refused rows, without positions unless told otherwise."""
    rows = [Refusal(f"r{i}", image, reason, x_px, x_px) for i, reason in enumerate(reasons)]
    return refusal_batch(rows, MODEL, THRESHOLD)


def stream(batches: int, size: int) -> Iterator[pa.RecordBatch]:
    """Many batches, made as they are asked for."""
    for i in range(batches):
        p = np.linspace(0, 1, size).tolist()
        yield results(p, ids=[f"f{i}-{j}" for j in range(size)])
