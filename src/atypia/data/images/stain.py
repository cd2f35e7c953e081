"""Stain normalisation: a crop's colours moved to those of a fixed reference, estimated on the crop alone.

Macenko et al. (ISBI 2009) separate haematoxylin and eosin in optical density and give them the reference's colours and
amounts; Reinhard et al. (IEEE CG&A 21, 2001) give each channel of Ruderman's lαβ the reference's mean and spread. Both
references are fixed numbers, so that a crop is normalised the same in training and prediction, alone or among others.
numpy alone: the challenge's container normalises too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

LIGHT: Final = 240.0
"""Grey value of light that passed no tissue (Macenko et al., as in their published code)."""
LEAST_DENSITY: Final = 0.15
"""Pixels with less optical density in any channel are background (β of Macenko et al.)."""
EXTREME_PERCENT: Final = 1.0
"""The stains' directions are this and its complement's percentile of all directions (α of Macenko et al.)."""
AMOUNT_PERCENT: Final = 99.0
"""Percentile of a stain's amounts that is taken for its largest."""
MACENKO_STAINS: Final = np.array([[0.5626, 0.2159], [0.7201, 0.8012], [0.4062, 0.5581]])
"""Optical densities of red, green and blue of haematoxylin and eosin: the reference of Macenko's published code."""
MACENKO_AMOUNTS: Final = np.array([1.9705, 1.0308])
"""Largest amounts of both in that reference."""
REINHARD_MEAN: Final = np.array([8.74108109, -0.12440419, 0.0444982])
REINHARD_SD: Final = np.array([0.6135447, 0.10989545, 0.0286032])
"""Of l, α, β (natural logarithm) of the slide TCGA-A2-A3XS-DX1, the reference that HistomicsTK documents."""
RGB_TO_LMS: Final = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])
LMS_TO_LAB: Final = np.diag([1 / 3**0.5, 1 / 6**0.5, 1 / 2**0.5]) @ np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]])
"""Reinhard et al., equations 4 and 6."""
FEWEST_STAINED: Final = 32
"""With fewer stained pixels no stain can be told, and a crop stays as it is."""
FLAT: Final = 1e-6


def macenko(crop: Pixels) -> Pixels:
    """A crop with the reference's colours and amounts of haematoxylin and eosin.

    With the optical density D = −ln((I + 1) / 240) of the stained pixels, the stains are the extreme directions in the
    plane of D's first two principal components, the amounts of each pixel the least-squares solution of D = S C.

    Args:
        crop: RGB, shape (height, width, 3).

    Returns:
        The same shape; the crop itself where too little is stained to tell two stains.
    """
    amounts = _amounts(crop)
    if amounts is None:
        return crop
    largest = np.percentile(amounts, AMOUNT_PERCENT, axis=1)
    if not (largest > FLAT).all():
        return crop
    made = LIGHT * np.exp(-MACENKO_STAINS @ (amounts * (MACENKO_AMOUNTS / largest)[:, None]))
    return _pixels(made.T, crop.shape)


def restained(crop: Pixels, stains: Floats) -> Pixels:
    """A crop with other stain vectors and its own amounts of haematoxylin and eosin.

    Args:
        crop: RGB, shape (height, width, 3).
        stains: Optical densities of red, green and blue of haematoxylin and eosin, shape (3, 2).

    Returns:
        The same shape; the crop itself where too little is stained to tell two stains.
    """
    amounts = _amounts(crop)
    return crop if amounts is None else _pixels((LIGHT * np.exp(-stains @ amounts)).T, crop.shape)


def _amounts(crop: Pixels) -> Floats | None:
    """Amounts of haematoxylin and eosin in each pixel, shape (2, n); None where two stains cannot be told."""
    density = -np.log((crop.reshape(-1, 3).astype(np.float64) + 1) / LIGHT)
    stained = density[(density >= LEAST_DENSITY).all(axis=1)]
    stains = _stains(stained) if len(stained) >= FEWEST_STAINED else None
    return None if stains is None else np.asarray(np.linalg.lstsq(stains, density.T, rcond=None)[0], dtype=np.float64)


def _stains(stained: Floats) -> Floats | None:
    """Directions of haematoxylin and eosin in optical density, shape (3, 2); None where the pixels show one colour."""
    _, vectors = np.linalg.eigh(np.cov(stained.T))
    plane = vectors[:, 1:]
    plane = plane * np.where(plane.sum(axis=0) < 0, -1, 1)  # densities are positive: no angle wraps around
    across = stained @ plane
    angles = np.arctan2(across[:, 1], across[:, 0])
    ends = np.percentile(angles, [EXTREME_PERCENT, 100 - EXTREME_PERCENT])
    stains = plane @ np.stack([np.cos(ends), np.sin(ends)])
    if np.ptp(ends) < FLAT:
        return None
    return stains if stains[0, 0] > stains[0, 1] else stains[:, ::-1]  # haematoxylin absorbs more red


def reinhard(crop: Pixels) -> Pixels:
    """A crop with the reference's mean and standard deviation of each channel of lαβ.

    Args:
        crop: RGB, shape (height, width, 3).

    Returns:
        The same shape; the crop itself where a channel does not vary.
    """
    light = RGB_TO_LMS @ crop.reshape(-1, 3).T.astype(np.float64)
    found = LMS_TO_LAB @ np.log(np.maximum(light, np.spacing(1)))
    spread = found.std(axis=1)
    if not (spread > FLAT).all():
        return crop
    moved = (found - found.mean(axis=1)[:, None]) * (REINHARD_SD / spread)[:, None] + REINHARD_MEAN[:, None]
    made = np.linalg.inv(RGB_TO_LMS) @ np.exp(np.linalg.inv(LMS_TO_LAB) @ moved)
    return _pixels(made.T, crop.shape)


def _pixels(values: Floats, shape: tuple[int, ...]) -> Pixels:
    return np.clip(values, 0, 255).astype(np.uint8).reshape(shape)


STAINS: Final[dict[str, Callable[[Pixels], Pixels]]] = {"macenko": macenko, "reinhard": reinhard}
"""Every normalisation, by name."""


def normalised(crop: Pixels, stain: str | None) -> Pixels:
    """A crop after the normalisation of this name; the crop itself for None.

    Raises:
        InputError: There is no normalisation of this name.
    """
    return crop if stain is None else STAINS[check_stain(stain)](crop)


def check_stain(stain: str) -> str:
    """The name, if there is such a normalisation.

    Raises:
        InputError: There is none.
    """
    if stain not in STAINS:
        raise InputError(must("stain", f"one of {', '.join(STAINS)}", stain, "leave it out for none"))
    return stain
