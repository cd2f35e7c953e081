"""The overview of a slide with area, figures and hotspots, as values for a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from atypia.data.tissue.areas import Area
    from atypia.reports.case.density import Hotspot
    from atypia.statistics.confusion import FloatArray

Flags = npt.NDArray[np.bool_]
LONGEST_PX: Final = 1000
JPEG_QUALITY: Final = 85
PALE: Final = 0.55
"""How much of what lies outside the area is left of its colour."""
MOST_SHOWN: Final = 3000
"""Figures that are drawn, atypical ones first."""
BARS_UM: Final = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)


def slide_map(
    pixels: npt.NDArray[np.uint8], down: float, mpp: float, area: Area, x_px: FloatArray, y_px: FloatArray, atypical: Flags,
    refused: Flags, spots: Sequence[Hotspot | None],
) -> dict[str, Any]:  # fmt: skip
    """A picture, and what is drawn over it in its pixels.

    Args:
        pixels: The overview, RGB, shape (h, w, 3).
        down: Pixels of full resolution per pixel of it.
        mpp: µm/px at full resolution.
        area: Where figures are counted; what lies outside is pale.
        x_px: Positions in the image, shape (n,).
        y_px: Positions, shape (n,).
        atypical: Which are atypical, shape (n,).
        refused: Which the classifier refused, shape (n,).
        spots: The fields with most figures, and with most atypical ones; in pixels of the image.
    """
    from PIL import Image

    height, width = pixels.shape[:2]
    rows, columns = np.mgrid[0:height, 0:width]
    inside = area.holds((columns.ravel() + 0.5) * down, (rows.ravel() + 0.5) * down).reshape(height, width)
    shown = np.where(inside[..., None], pixels, 255 - (PALE * (255 - pixels.astype(np.float32)))).astype(np.uint8)
    image = Image.fromarray(shown)
    factor = LONGEST_PX / max(width, height)
    if factor < 1 or factor > 2:  # a region of a few hundred pixels is shown larger
        sides = max(1, round(width * factor)), max(1, round(height * factor))
        image = image.resize(sides, Image.Resampling.BOX if factor < 1 else Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY)
    across = image.width / (width * down)
    order = np.argsort(np.where(atypical, 0, np.where(refused, 2, 1)), kind="stable")[:MOST_SHOWN]
    dots = [
        (f"{x_px[at] * across:.1f}", f"{y_px[at] * across:.1f}", _call(bool(atypical[at]), bool(refused[at])))
        for at in order[::-1].tolist()
    ]
    um = mpp / across
    bar = max((length for length in BARS_UM if length / um <= image.width / 4), default=BARS_UM[0])
    boxes = [
        {
            "kind": kind,
            "text": f"field with most {kind} figures: {spot.figures:,}, of them {spot.atypical:,} atypical",
            **{name: f"{value * across:.1f}" for name, value in (
                ("x", spot.left_px), ("y", spot.top_px), ("width", spot.width_px), ("height", spot.height_px))},
        }
        for kind, spot in zip(("", "atypical"), spots, strict=True) if spot is not None
    ]  # fmt: skip
    return {
        "source": f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}",
        "width": image.width,
        "height": image.height,
        "dots": dots,
        "radius": f"{max(image.width, image.height) / 160:.1f}",
        "boxes": boxes,
        "bar_px": f"{bar / um:.1f}",
        "bar": f"{bar} µm" if bar < 1000 else f"{bar // 1000} mm",
        "not_shown": max(0, len(x_px) - MOST_SHOWN),
    }


def _call(atypical: bool, refused: bool) -> str:
    return "atypical" if atypical else "refused" if refused else "normal"
