"""How crops look, in a few numbers: colour, brightness, sharpness, the scale of their grain, marks of compression.

Each measure of a crop is one number that follows from its pixels alone (:data:`MEASURES`). None knows what a mitosis is:
they tell whether a case was stained, scanned, scaled or stored otherwise than the figures that a classifier was trained on.

- *darkness*: mean optical density OD = −log₁₀((I + 1) / 256) over pixels and channels;
- *red_absorbed*, *blue_absorbed*: share of the red, and of the blue, channel in the sum of the three mean optical densities:
  haematoxylin absorbs red, eosin mostly green, brown or yellow colours blue (Ruifrok and Johnston, Analytical and
  Quantitative Cytology 23, 2001);
- *contrast*: standard deviation over pixels of the optical density's mean over channels;
- *sharpness*: log₂ of the mean squared difference of luminance at 1 pixel to that at 2: blur and enlargement lower it;
- *grain*: log₂ of that at 4 pixels to that at 16: it falls with the size of what is seen in pixels, so it tells another
  µm/px than was said;
- *blocks*: log₂ of the largest to the median of the mean absolute difference of luminance between neighbours, by column (or row) modulo 8:
  the 8-pixel grid of strong JPEG compression stands out, wherever it begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must

Floats = npt.NDArray[np.float64]
LUMINANCE: Final = (0.299, 0.587, 0.114)
"""Of red, green and blue (ITU-R BT.601)."""
LEAST_PX: Final = 17
"""Side of a crop from which its measures are defined."""
TINY: Final = 1e-3
"""Keeps logarithms of a blank crop finite: squared grey levels."""


def appearance(crops: npt.NDArray[np.uint8]) -> dict[str, Floats]:
    """Measures of crops.

    Args:
        crops: RGB, uint8, shape (n, height, width, 3), sides of at least :data:`LEAST_PX`.

    Returns:
        For each name in :data:`MEASURES` an array of shape (n,), float64, finite.

    Raises:
        InputError: The array has another shape or type.

    >>> import numpy as np
    >>> flat = appearance(np.full((1, 64, 64, 3), 255, np.uint8))
    >>> float(flat["darkness"][0]), float(flat["sharpness"][0])
    (0.0, 0.0)
    """
    shape = crops.shape
    if crops.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or min(shape[1:3]) < LEAST_PX:
        must_be = f"uint8 of shape (n, side, side, 3), sides of {LEAST_PX} px or more"
        raise InputError(must("crops", must_be, f"{crops.dtype} {shape}", "pass RGB crops"))
    rows = [[measure(crop) for measure in (_colours, _texture)] for crop in crops]
    values = [{**colours, **texture} for colours, texture in rows]
    return {name: np.array([value[name] for value in values], dtype=np.float64) for name in MEASURES}


def _colours(crop: npt.NDArray[np.uint8]) -> dict[str, float]:
    density = _DENSITY[crop]
    red, green, blue = (float(x) for x in density.mean((0, 1)))
    total = max(red + green + blue, TINY)
    return {
        "darkness": (red + green + blue) / 3,
        "red_absorbed": red / total,
        "blue_absorbed": blue / total,
        "contrast": float(density.mean(2).std()),
    }


def _texture(crop: npt.NDArray[np.uint8]) -> dict[str, float]:
    grey = (crop @ np.array(LUMINANCE, dtype=np.float32)).astype(np.float32)
    at = {d: _difference(grey, d) + TINY for d in (1, 2, 4, 16)}
    return {
        "sharpness": float(np.log2(at[1] / at[2])),
        "grain": float(np.log2(at[4] / at[16])),
        "blocks": max(_blocks(grey), _blocks(grey.T)),
    }


def _difference(grey: npt.NDArray[Any], distance: int) -> float:
    """Mean squared difference of pixels that lie so far apart, along rows and columns."""
    across, down = grey[:, distance:] - grey[:, :-distance], grey[distance:] - grey[:-distance]
    return float((np.mean(across**2) + np.mean(down**2)) / 2)


def _blocks(grey: npt.NDArray[Any]) -> float:
    columns = np.abs(np.diff(grey, axis=1)).mean(0)
    phases = np.array([columns[phase::8].mean() for phase in range(8)])
    return float(np.log2((phases.max() + TINY) / (np.median(phases) + TINY)))


_DENSITY: Final = -np.log10((np.arange(256) + 1) / 256).astype(np.float32)

MEASURES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "darkness": "optical density",
        "red_absorbed": "share of red in the light absorbed",
        "blue_absorbed": "share of blue in the light absorbed",
        "contrast": "spread of the optical density within a crop",
        "sharpness": "sharpness, log₂",
        "grain": "grain, log₂",
        "blocks": "8-pixel blocks, log₂",
    }
)
"""Names of the measures, and what a plot calls them."""
