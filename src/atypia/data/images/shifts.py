"""Fixed changes of crops that laboratories and scanners cause: stains, blur, compression, light, resolution.

With them a classifier is tested on figures whose truth is known, in looks that its training did not have; and figures
can be copied with them for a training on frozen features. Nothing is random: a crop gives the same crop on every machine
(JPEG: with the same libjpeg). numpy and Pillow alone.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must
from atypia.data.images.stain import MACENKO_STAINS, Pixels, restained

VERSION: Final = 1
"""Raised when a change gives other pixels."""
RUIFROK_STAINS: Final = np.array([[0.650, 0.072], [0.704, 0.990], [0.286, 0.105]])
"""Haematoxylin and eosin of Ruifrok and Johnston, Analytical and Quantitative Cytology and Histology 23, 2001."""
PURPLE_STAINS: Final = np.array([[0.490, 0.270], [0.769, 0.860], [0.411, 0.433]])
"""A reddish haematoxylin beside a bluish eosin, as after long storage; between the other two and their mirror image."""
BANK: Final = {"stain-macenko": MACENKO_STAINS, "stain-ruifrok": RUIFROK_STAINS, "stain-purple": PURPLE_STAINS}
"""Stain vectors that crops are given: optical densities of red, green and blue of haematoxylin and eosin."""
BLUR_PX: Final = 1.2
QUALITY: Final = 25
COARSE: Final = 2.0
FINE: Final = 0.8


def blurred(crop: Pixels) -> Pixels:
    """Out of focus: a Gaussian of :data:`BLUR_PX` standard deviation; the border is mirrored."""
    radius = int(np.ceil(3 * BLUR_PX))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / BLUR_PX) ** 2)
    kernel /= kernel.sum()
    wide = np.pad(crop.astype(np.float64), ((radius, radius), (radius, radius), (0, 0)), mode="reflect")
    height, width = crop.shape[:2]
    rows = np.sum([k * wide[i : i + height] for i, k in enumerate(kernel)], axis=0)
    made = np.sum([k * rows[:, i : i + width] for i, k in enumerate(kernel)], axis=0)
    return np.clip(np.rint(made), 0, 255).astype(np.uint8)


def compressed(crop: Pixels) -> Pixels:
    """Saved as JPEG of quality :data:`QUALITY`."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(crop).save(file, "JPEG", quality=QUALITY)
    return np.asarray(Image.open(file).convert("RGB"))


def lit(crop: Pixels, factor: float) -> Pixels:
    """With so many times the light."""
    return np.clip(np.rint(crop.astype(np.float64) * factor), 0, 255).astype(np.uint8)


def coarse(crop: Pixels) -> Pixels:
    """Scanned at :data:`COARSE` times the µm/px (0.5 for 0.25) and brought back to its size."""
    side = crop.shape[0]
    return _resized(_resized(crop, round(side / COARSE)), side)


def zoomed(crop: Pixels) -> Pixels:
    """Scanned at :data:`FINE` of the µm/px (0.2 for 0.25), which nobody noticed: the middle of the crop, enlarged."""
    side = crop.shape[0]
    part = round(FINE * side)
    first = (side - part) // 2
    return _resized(crop[first : first + part, first : first + part], side)


def _resized(crop: npt.NDArray[np.uint8], side: int) -> Pixels:
    from PIL import Image

    return np.asarray(Image.fromarray(crop).resize((side, side), Image.Resampling.BICUBIC))


SHIFTS: Final[dict[str, Callable[[Pixels], Pixels]]] = {
    **{name: (lambda crop, stains=stains: restained(crop, stains)) for name, stains in BANK.items()},
    "blur": blurred,
    "jpeg": compressed,
    "dark": lambda crop: lit(crop, 0.8),
    "bright": lambda crop: lit(crop, 1.15),
    "coarse": coarse,
    "zoomed": zoomed,
}
"""Every change, by name: a square RGB crop, shape (side, side, 3), to another of its size."""


def check_shift(name: str) -> str:
    """The name, if there is such a change.

    Raises:
        InputError: There is none.
    """
    if name not in SHIFTS:
        raise InputError(must("shift", f"one of {', '.join(SHIFTS)}", name, "check the name"))
    return name
