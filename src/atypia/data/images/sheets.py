"""Contact sheets: many crops in one picture, for the documentation and for viewing data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from atypia.base.errors import InputError, must
from atypia.base.records import ATYPICAL, ATYPICAL_TASK, CLASS_NAMES, NORMAL

COLOURS: dict[int | None, str] = {NORMAL: "#0072B2", ATYPICAL: "#D55E00", None: "#8C8C8C"}
"""Border of class 0, of class 1 (the positive class) and of an unknown class: distinguishable by
readers with any colour vision (Okabe and Ito's blue, vermilion and grey)."""

MAX_SHEET_PX = 20_000
_INK, _PAPER = "#202020", "#FFFFFF"
_GAP, _BORDER, _PAD = 8, 3, 4
_CAPTION_PT, _TITLE_PT = 12, 18


def contact_sheet(
    crops: npt.NDArray[np.uint8],
    captions: Sequence[str] | None = None,
    columns: int = 8,
    scale: float = 1.0,
    title: str = "",
    *,
    labels: Sequence[int | None] | npt.NDArray[np.integer] | None = None,
    task: str = ATYPICAL_TASK,
) -> Image.Image:
    """Lays crops out in a grid.

    Args:
        crops: RGB, shape (n, height, width, 3), 0 to 255, n ≥ 1.
        captions: One short line per crop, truncated if too long; None omits the lines.
        columns: Crops per row.
        scale: Magnification; 1 shows source pixels one to one.
        title: A line at the top; omitted if empty.
        labels: Class of each crop (0, 1 or None), shown as the border's colour with a legend;
            None draws no legend and grey borders.
        task: Key of :data:`atypia.base.records.CLASS_NAMES`: the class names of the legend.

    Returns:
        An RGB picture.

    Raises:
        InputError: The arrays do not fit each other, a number is out of range, or the sheet
            would be larger than 20,000 px.
    """
    count = _check(crops, captions, columns, labels)
    if not scale > 0:
        raise InputError(must("scale", "positive", scale, "for instance 2"))
    high, wide = (max(1, round(side * scale)) for side in crops.shape[1:3])
    caption_font, title_font = ImageFont.load_default(_CAPTION_PT), ImageFont.load_default(_TITLE_PT)
    line = _line_height(caption_font) + _PAD if captions is not None else 0
    cell = (wide + 2 * _BORDER, high + 2 * _BORDER + line)
    columns = min(columns, count)
    lines = -(-count // columns)
    head = (_line_height(title_font) + _GAP if title else 0) + (
        _line_height(caption_font) + _GAP if labels is not None else 0
    )
    size = (_GAP + columns * (cell[0] + _GAP), _GAP + head + lines * (cell[1] + _GAP))
    legend = [(COLOURS[code], CLASS_NAMES[task][code]) for code in (NORMAL, ATYPICAL)] if labels is not None else []
    if labels is not None and any(label is None for label in labels):
        legend.append((COLOURS[None], "unknown"))
    size = (max(size[0], _head_width(title, title_font, legend, caption_font)), size[1])
    if max(size) > MAX_SHEET_PX:
        got = f"{size[0]} × {size[1]} px"
        raise InputError(
            must("sheet", f"at most {MAX_SHEET_PX} px per side", got, "show fewer crops or a smaller scale")
        )

    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    _draw_head(draw, title, title_font, legend, caption_font)
    for position in range(count):
        row, column = divmod(position, columns)
        left, top = _GAP + column * (cell[0] + _GAP), _GAP + head + row * (cell[1] + _GAP)
        label = None if labels is None or labels[position] is None else int(labels[position])  # pyright: ignore[reportArgumentType]
        draw.rectangle((left, top, left + cell[0] - 1, top + high + 2 * _BORDER - 1), fill=COLOURS[label])
        picture = Image.fromarray(np.ascontiguousarray(crops[position]))
        if picture.size != (wide, high):
            picture = picture.resize((wide, high), Image.Resampling.BICUBIC)
        sheet.paste(picture, (left + _BORDER, top + _BORDER))
        if captions is not None:
            text = _fitted(captions[position], cell[0], caption_font)
            draw.text((left, top + high + 2 * _BORDER + _PAD // 2), text, fill=_INK, font=caption_font)
    return sheet


def _check(
    crops: npt.NDArray[np.uint8],
    captions: Sequence[str] | None,
    columns: int,
    labels: Sequence[int | None] | npt.NDArray[np.integer] | None,
) -> int:
    if crops.ndim != 4 or crops.shape[-1] != 3 or crops.dtype != np.uint8 or len(crops) == 0:
        got = f"shape {crops.shape}, {crops.dtype}"
        raise InputError(must("crops", "RGB of shape (n, height, width, 3), uint8, n ≥ 1", got, "stack the crops"))
    if columns < 1:
        raise InputError(must("columns", "at least 1", columns, "for instance 8"))
    for name, given in (("captions", captions), ("labels", labels)):
        if given is not None and len(given) != len(crops):
            raise InputError(must(name, f"one per crop ({len(crops)})", len(given), "give as many"))
    unknown = {label for label in labels if label not in COLOURS} if labels is not None else set()
    if unknown:
        raise InputError(must("labels", "0, 1 or None", sorted(map(str, unknown)), "give class codes"))
    return len(crops)


def _line_height(font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> int:
    box = font.getbbox("Ågµ|")
    return round(box[3])


def _fitted(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The text, or as much of it as fits with « … » at its end."""
    if font.getlength(text) <= width:
        return text
    kept = len(text)
    while kept and font.getlength(text[:kept] + "…") > width:
        kept -= 1
    return text[:kept] + "…"


def _head_width(
    title: str,
    title_font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    legend: Sequence[tuple[str, str]],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> int:
    entries = sum(round(font.getlength(word)) + 4 * _GAP for _, word in legend)
    return 2 * _GAP + max(round(title_font.getlength(title)), entries)


def _draw_head(
    draw: ImageDraw.ImageDraw,
    title: str,
    title_font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    legend: Sequence[tuple[str, str]],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    top = _GAP
    if title:
        draw.text((_GAP, top - 2), title, fill=_INK, font=title_font)
        top += _line_height(title_font) + _GAP
    left = _GAP
    square = _line_height(font)
    for colour, word in legend:
        draw.rectangle((left, top, left + square - 3, top + square - 3), fill=colour)
        draw.text((left + square + 3, top - 1), word, fill=_INK, font=font)
        left += round(font.getlength(word)) + 4 * _GAP
