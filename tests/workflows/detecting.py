"""A slide with dark discs, and a classifier that calls dark what is dark: what a detector must find is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atypia.data.images.geometry import CropGeometry
from atypia.workflows.detection import sliding

MPP, WIDTH, HEIGHT = 0.5, 1300, 900
TISSUE = (150, 100, 1200, 800)
DISCS = [(200.0, 150.0), (640.3, 420.7), (680.0, 424.0), (1023.5, 500.0), (1190.0, 790.0)]
"""Centres, px; the second and third are 20 µm apart, the fourth lies on the border of two tiles, the last on the tissue's edge."""
RADIUS_PX = 8.0


def pixels(discs: list[tuple[float, float]], off_tissue: bool = True) -> np.ndarray:
    """Tissue on glass with discs; one more disc lies on the glass."""
    rng = np.random.default_rng(0)
    image = np.full((HEIGHT, WIDTH, 3), 242.0)
    left, top, right, bottom = TISSUE
    image[top:bottom, left:right] = rng.uniform((200, 140, 180), (240, 180, 220), (bottom - top, right - left, 3))
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    for across, down in [*discs, *([(60.0, 60.0)] if off_tissue else [])]:
        image[(x - across) ** 2 + (y - down) ** 2 < RADIUS_PX**2] = 40
    return image.astype(np.uint8)


def write_slide(folder: Path, name: str = "case", discs: list[tuple[float, float]] | None = None) -> Path:
    """As PNG, which does not state its µm/px."""
    path = folder / f"{name}.png"
    Image.fromarray(pixels(DISCS if discs is None else discs)).save(path)
    return path


class Dark:
    """In place of :class:`sliding.WindowScorer`: the share of dark pixels of a window's middle 10 µm."""

    seen = 0
    """Windows that were scored."""
    fails_at: int | None = None

    def __init__(self, model: str) -> None:
        self.geometry = CropGeometry(40, side_um=20.0)
        self.threshold, self.name, self.model = 0.6, "dark", model

    def identity(self) -> list[object]:
        return [self.model]

    def scores(self, windows: np.ndarray) -> np.ndarray:
        assert windows.shape[1:] == (40, 40, 3) and windows.dtype == np.uint8
        type(self).seen += len(windows)
        if self.fails_at is not None and self.seen > self.fails_at:
            raise KeyboardInterrupt
        return (windows[:, 10:30, 10:30].mean(axis=3) < 90).mean(axis=(1, 2)) * 1.9


@pytest.fixture
def dark(monkeypatch: pytest.MonkeyPatch) -> type[Dark]:
    """Lets every model be the one that calls dark what is dark."""
    Dark.seen, Dark.fails_at = 0, None
    monkeypatch.setattr(sliding, "WindowScorer", Dark)
    return Dark


def nearest_px(x: np.ndarray, y: np.ndarray) -> Callable[[float, float], float]:
    """How far the nearest detection is."""
    return lambda across, down: float(np.hypot(x - across, y - down).min())
