"""Small stores: crops of noise, their manifest, and whether something was built."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from atypia.base.artifacts import file_sha256
from atypia.data.images.geometry import CropGeometry
from atypia.data.manifest import Manifest

SMALL = CropGeometry(out_px=32)


def write_crops(root: Path, count: int, side: int = 32) -> np.ndarray:
    """Noise PNGs named by their row; returns their pixels."""
    root.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    for row, crop in enumerate(pixels):
        Image.fromarray(crop).save(root / f"{row}.png")
    return pixels


def manifest_of(root: Path, count: int, hashed: bool = True, **columns: object) -> Manifest:
    rows = [
        {
            "figure_id": f"f{row}",
            "dataset": "test",
            "image": f"{row}.png",
            "label": row % 2,
            "sha256": file_sha256(root / f"{row}.png") if hashed else None,
            **columns,
        }
        for row in range(count)
    ]
    return Manifest.from_rows(rows, "test", root=root)


class Calls:
    """A progress that counts, so that a test sees whether a store was built."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, str]] = []

    def __call__(self, done: int, total: int, what: str) -> None:
        self.seen.append((done, total, what))
