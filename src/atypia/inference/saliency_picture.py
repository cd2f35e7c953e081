"""A saliency map as a picture: the crop, the map over its grey version, and the scale of colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

AGAINST: Final = (0, 114, 178)
FOR: Final = (213, 94, 0)
"""Blue and vermilion of Okabe and Ito, which remain distinct with the common colour-vision deficiencies. The grey
below keeps the colours of the stain apart from those of the map."""
PANEL_PX: Final = 256
STRONGEST: Final = 0.99
"""The colours are full where a map reaches this quantile of its absolute values."""
STRENGTH: Final = 0.8
"""Opacity of the strongest places."""
_GAP, _LINE, _BAR, _LABEL = 10, 18, 18, 96
_TEXT_PX = 13
_PAPER, _INK, _FAINT = (255, 255, 255), (34, 34, 34), (138, 138, 138)
_UNSEEN = 0.5
LONGEST: Final = 200
"""Characters of a line that are looked at: more than fit in any case."""


def picture(
    crop: npt.NDArray[np.uint8],
    values: npt.NDArray[np.floating],
    lines: Sequence[str],
    classes: tuple[str, str],
) -> Image.Image:
    """Draws a crop and its map side by side, under a caption.

    Args:
        crop: RGB, shape (s, s, 3), uint8.
        values: Shape (s, s): positive for the positive class; NaN if the network does not look.
        lines: Of the caption; what is too long is cut.
        classes: Names of class 0 and class 1.

    Returns:
        RGB; the colours are relative to the strongest places of this map.
    """
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(_TEXT_PX)
    width = 2 * PANEL_PX + 4 * _GAP + _BAR + _LABEL
    top = _GAP + len(lines) * _LINE + _GAP // 2
    page = Image.new("RGB", (width, top + PANEL_PX + _GAP), _PAPER)
    draw = ImageDraw.Draw(page)
    for i, line in enumerate(lines):
        draw.text((_GAP, _GAP + i * _LINE), _fitting(line, width - 2 * _GAP, draw, font), _INK, font)
    panels = (crop, blended(crop, values))
    places = [(_GAP + i * (PANEL_PX + _GAP), top) for i in range(2)]
    for pixels, place in zip(panels, places, strict=True):
        page.paste(Image.fromarray(pixels).resize((PANEL_PX, PANEL_PX), Image.Resampling.BICUBIC), place)
        if np.isnan(values).any():
            box = _seen_box(values)
            draw.rectangle([(place[0] + x, place[1] + y) for x, y in box], outline=_INK)
    left = places[1][0] + PANEL_PX + _GAP
    scale = np.linspace(1, -1, PANEL_PX, dtype=np.float32)[:, None].repeat(_BAR, 1)
    grey = np.full((PANEL_PX, _BAR, 3), 190, np.uint8)
    page.paste(Image.fromarray(blended(grey, scale)), (left, top))
    for share, text in ((0.0, f"for {classes[1]}"), (0.5, "0"), (1.0, f"for {classes[0]}")):
        y = top + share * (PANEL_PX - 1)
        draw.line([(left + _BAR, y), (left + _BAR + 3, y)], _FAINT)
        anchor = ("la", "lm", "ld")[round(2 * share)]
        draw.text((left + _BAR + 6, y), text, _INK, font, anchor=anchor)
    return page


def blended(crop: npt.NDArray[np.uint8], values: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """The crop in grey under the colours of a map; what the network does not see is darkened.

    Args:
        crop: RGB, shape (h, w, 3), uint8.
        values: Shape (h, w); NaN if the network does not look, which is not everywhere.

    Returns:
        RGB, shape (h, w, 3), uint8.
    """
    grey = (crop @ np.array([0.299, 0.587, 0.114]))[..., None]
    unseen = np.isnan(values)
    known = np.where(unseen, 0.0, values)
    # A single pixel of integrated gradients would otherwise take all the colour.
    strongest = np.quantile(np.abs(known[~unseen]), STRONGEST, method="higher") or np.abs(known).max() or 1.0
    share = np.clip(known / strongest, -1, 1)[..., None]
    colour = np.where(share > 0, np.array(FOR), np.array(AGAINST))
    opacity = STRENGTH * np.abs(share)
    mixed = (1 - opacity) * grey + opacity * colour
    mixed[unseen] *= _UNSEEN
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def _seen_box(values: npt.NDArray[np.floating]) -> list[tuple[float, float]]:
    """Corners of what the network sees, in pixels of a panel."""
    rows, columns = np.nonzero(~np.isnan(values))
    scale = PANEL_PX / len(values)
    low, high = (columns.min(), rows.min()), (columns.max() + 1, rows.max() + 1)
    return [(float(x * scale), float(y * scale)) for x, y in (low, high)]


def _fitting(
    text: str, width: int, draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> str:
    """The text, cut where it would leave the page."""
    line = " ".join(text.split())[:LONGEST]
    measure = draw.textlength
    if measure(line, font) <= width:
        return line
    while line and measure(f"{line}...", font) > width:
        line = line[:-1]
    return f"{line}..."
