"""Figures on a region that is drawn for a test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from atypia.inference.results import RESULTS_SCHEMA
from atypia.review.figures.figures import ReviewFigures
from atypia.review.figures.opening import Opening, open_figures

SEED = 7
REGION_PX = (1200, 900)


def region_of(tmp_path: Path, name: str = "region") -> ReviewFigures:
    """24 figures on a pyramidal TIFF of 0.25 µm/px, in rows from the upper left."""
    tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed (extra slides)")
    width, height = REGION_PX
    pixels = np.random.default_rng(SEED).integers(150, 240, (height, width, 3), dtype=np.uint8)
    folder = tmp_path / "slides"
    folder.mkdir()
    per_cm = 40_000  # pixels a centimetre at 0.25 µm/px
    with tifffile.TiffWriter(folder / "region.tiff") as writer:
        for level in range(3):
            options = {"subfiletype": 1} if level else {}
            writer.write(
                pixels[:: 2**level, :: 2**level], tile=(256, 256), photometric="rgb", compression="adobe_deflate",
                resolution=(per_cm / 2**level, per_cm / 2**level), resolutionunit="CENTIMETER", **options,
            )  # fmt: skip
    rows = [
        {
            "figure_id": f"{name}:{i:02d}", "image": "region.tiff", "x_px": 100.0 + 200 * (i % 6),
            "y_px": 120.0 + 200 * (i // 6), "p_atypical": i / 24, "decision": int(i >= 12),
            "call": "atypical" if i >= 12 else "normal", "novelty": None, "threshold": 0.5, "reason": None,
            "model": "probe",
        }
        for i in range(24)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, RESULTS_SCHEMA), tmp_path / "calls.parquet")
    return open_figures(Opening((str(tmp_path / "calls.parquet"),), slides=folder))
