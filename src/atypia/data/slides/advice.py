"""A hint if many figures lie outside a slide or on glass: how the positions may be meant instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from atypia.base.errors import DataError
from atypia.data.points.base import BOUNDS, CANVAS, Points
from atypia.data.slides.origins import Zero
from atypia.data.slides.regions import Slide

MANY_OUTSIDE: Final = 0.2
"""From this share of figures outside the slide, a hint is given."""
MANY_GLASS: Final = 0.5
"""From this share of figures on glass, a hint is given, if there are at least :data:`FEW`."""
FEW: Final = 3
_TRIED = 24
"""Number of figures checked under another reading of the positions."""
_STEP = 8
_BRIGHT, _DARK, _COLOURLESS = 215.0, 10.0, 15.0
_GAIN, _ENOUGH = 0.3, 0.7


def is_glass(crop: npt.NDArray[np.uint8]) -> bool:
    """Whether a crop shows no tissue: bright or black all over, and without colour.

    Args:
        crop: RGB, shape (side, side, 3), 0 to 255. A sample of its pixels is used.
    """
    few = crop[::_STEP, ::_STEP].astype(np.float32)
    mean = float(few.mean())
    if mean <= _DARK:
        return True
    return mean >= _BRIGHT and float((few.max(axis=2) - few.min(axis=2)).mean()) <= _COLOURLESS


def advice(
    slide: Slide, points: Points, zero: Zero, mpp: float | None, side_px: int, outside: int, glass: int
) -> list[str]:
    """Notes on figures at impossible positions; empty if there are few.

    Args:
        slide: The slide, open.
        points: Its figures.
        zero: The origin used for their positions.
        mpp: The slide's µm/px; None if unknown.
        side_px: Side of the field, in pixels of the slide.
        outside: Number of figures outside it.
        glass: Number of figures without tissue.
    """
    n = len(points)
    found = []
    for what, count, least in (
        (f"outside {slide.name} ({slide.width_px} × {slide.height_px} px)", outside, max(1.0, MANY_OUTSIDE * n)),
        (f"on glass of {slide.name}", glass, max(float(FEW), MANY_GLASS * n)),
    ):
        if count >= least:
            found.append(f"{count:,} of {n:,} figures lie {what}")
    if not found:
        return []
    better = _better(slide, points, zero, mpp, side_px, (outside + glass) / n)
    check = (
        "check the order of x and y, their origin (--origin, --offset), "
        "and whether they are pixels of full resolution (µm/px)"
    )
    return [f"{' and '.join(found)}; {check}{better}"]


def _better(slide: Slide, points: Points, zero: Zero, mpp: float | None, side_px: int, wrong: float) -> str:
    """Description of the other reading that puts most figures on tissue; empty if none is clearly better."""
    rows = np.unique(np.linspace(0, len(points) - 1, min(_TRIED, len(points))).round().astype(int))
    x, y = points.x_px[rows], points.y_px[rows]
    ways: dict[str, Callable[[], tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]] = {
        "with x and y swapped": lambda: (y + zero.x_px, x + zero.y_px)
    }
    bounds = slide.facts.bounds
    if bounds is not None:
        sign = 1 if zero.origin == CANVAS else -1
        other = BOUNDS if zero.origin == CANVAS else CANVAS
        ways[f"with --origin {other}"] = lambda: (
            x + zero.x_px + sign * bounds.x_px,
            y + zero.y_px + sign * bounds.y_px,
        )
    if mpp is not None:
        ways["as µm (name the columns x_um, y_um)"] = lambda: (x / mpp + zero.x_px, y / mpp + zero.y_px)
    for factor in (2, 4, 16):
        ways[f"as pixels of a level {factor} times smaller"] = lambda f=factor: (x * f + zero.x_px, y * f + zero.y_px)
    for factor in (2, 4):
        ways[f"as pixels of an image {factor} times larger"] = lambda f=factor: (x / f + zero.x_px, y / f + zero.y_px)
    best, words = max(_ENOUGH, 1 - wrong + _GAIN), None
    for name, place in ways.items():
        share = _on_tissue(slide, *place(), side_px)
        if share >= best:
            best, words = share + 1e-9, name
    if words is None:
        return ""
    return f"; {words}, {min(best, 1.0):.0%} of {len(rows)} sampled figures lie on tissue"


def _on_tissue(slide: Slide, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], side_px: int) -> float:
    hits = 0
    for across, down in zip(x.tolist(), y.tolist(), strict=True):
        if 0 <= across < slide.width_px and 0 <= down < slide.height_px:
            try:
                hits += not is_glass(slide.read(across, down, side_px))
            except DataError:
                return 0.0  # damaged here: OpenSlide then reads nothing else from the same handle
    return hits / len(x)
