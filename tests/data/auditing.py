"""Sets that an audit has something to say about."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from atypia.base import records as r
from atypia.base.artifacts import file_sha256
from atypia.data.audit.findings import AuditReport
from atypia.data.manifest import Manifest


def picture(seed: int, px: int = 128) -> np.ndarray:
    """A crop of its own: soft random structure, so that no two are alike."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(60, 240, (px // 8, px // 8, 3), np.uint8))
    return np.asarray(small.resize((px, px), Image.Resampling.BICUBIC))


@dataclass
class Built:
    """A set under construction: pixels by figure id, and what its table says beside the image."""

    folder: Path
    name: str
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, figure: str, pixels: np.ndarray, label: int | None = 0, case: str | None = None, **more: Any) -> None:
        path = self.folder / f"{figure}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        self.rows.append(
            {
                r.FIGURE_ID: figure,
                r.DATASET: self.name,
                r.IMAGE: path.name,
                r.LABEL: label,
                r.CASE_ID: case,
                r.WIDTH_PX: pixels.shape[1],
                r.HEIGHT_PX: pixels.shape[0],
                r.SHA256: file_sha256(path),
                **more,
            }
        )

    def manifest(self) -> Manifest:
        return Manifest.from_rows(self.rows, self.name, root=self.folder)


def clean(built: Built, n: int = 4, first: int = 0) -> Built:
    for k in range(first, first + n):
        built.add(f"{built.name}-{k}", picture(k), label=k % 2, case=f"{built.name}-case-{k // 2}")
    return built


def codes(report: AuditReport) -> list[str]:
    return [finding.code for finding in report.findings]
