"""Where tissue is on a slide, told by colour on its overview.

Tissue stained with haematoxylin and eosin takes away green light most. A pixel is tissue where, against the slide's own glass,
the optical density of green is at least :data:`LEAST_DENSITY`, the colour is no grey, and green is the darkest channel;
so glass, black borders, dust, and green or blue marker are not. Gaps up to :data:`GAP_UM` are closed; holes and pieces smaller
than :data:`SMALL_MM2` belong to what is around them: small lumina count as tissue, fat and large lumina do not. Red marker
cannot be told from eosin.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from atypia.data.tissue.overviews import Overview

TISSUE_UM: Final = 8.0
"""Size of a pixel of the overview that tissue is told on."""
LEAST_DENSITY: Final = 0.05
LEAST_COLOUR: Final = 10.0
"""Difference of the brightest and the darkest channel, 0 to 255."""
GREEN_TOLERANCE: Final = 4.0
DARKEST_GLASS: Final = 210.0
"""Glass is never taken to be darker: a slide that is tissue all over has none."""
GAP_UM: Final = 24.0
SMALL_MM2: Final = 0.02


def tissue_mask(overview: Overview, mpp: float) -> npt.NDArray[np.bool_]:
    """Which pixels of an overview show tissue, shape (h, w).

    Args:
        overview: At about :data:`TISSUE_UM` a pixel.
        mpp: µm/px of the slide at full resolution.
    """
    from scipy.ndimage import binary_closing, gaussian_filter

    um = overview.down * mpp
    colours = gaussian_filter(overview.pixels.astype(np.float32), sigma=(1, 1, 0))
    glass = np.maximum(np.percentile(colours.reshape(-1, 3), 99, axis=0), DARKEST_GLASS)
    density = np.log10((glass[1] + 1) / (colours[..., 1] + 1))
    darkest, brightest = colours.min(axis=2), colours.max(axis=2)
    found = np.asarray((density >= LEAST_DENSITY) & (brightest - darkest >= LEAST_COLOUR), bool)
    found &= np.asarray(colours[..., 1] <= darkest + GREEN_TOLERANCE, bool)
    reach = max(1, round(GAP_UM / um / 2))
    across = np.arange(-reach, reach + 1)
    disk = across[:, None] ** 2 + across[None, :] ** 2 <= reach**2
    padded = np.pad(found, reach, mode="edge")
    found = np.asarray(binary_closing(padded, disk), dtype=bool)[reach:-reach, reach:-reach]
    least = SMALL_MM2 * 1e6 / um**2
    return ~_without_small(~_without_small(found, least), least)


def _without_small(mask: npt.NDArray[np.bool_], least: float) -> npt.NDArray[np.bool_]:
    """A mask without its pieces of fewer pixels."""
    from scipy.ndimage import label

    numbers = np.empty(mask.shape, np.int32)
    label(mask, output=numbers)
    large = np.bincount(numbers.ravel()) >= least
    large[0] = False
    return large[numbers]
