"""Crops as PNG files that a set is made of, told from those that an interrupted run left half-written."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, UnidentifiedImageError


def whole_png(path: Path, side_px: int) -> bytes | None:
    """The bytes of a file that is a whole RGB crop of a side; None else."""
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            return data if image.size == (side_px, side_px) and image.mode == "RGB" else None
    except (OSError, UnidentifiedImageError, SyntaxError):
        return None
