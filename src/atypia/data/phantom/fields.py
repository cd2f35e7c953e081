"""Random fields: the raw material of texture, cell outlines and fibres.

All fields are periodic, float32, of zero mean and unit variance, and cost one Fourier transform
for two. No linear-algebra library is called, so thread counts cannot change a bit of the result.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import fft

from atypia.base.records import Mpp, Px

SIDE_PX = Px(128)
"""Side of a phantom crop."""
CROP_MPP = Mpp(0.25)
"""Micrometres per pixel of a phantom crop, which is 32 µm wide."""

Field = npt.NDArray[np.float32]
"""A float32 image of shape (128, 128), row index y (down), column index x (right)."""


@lru_cache(maxsize=1)
def grid_px() -> tuple[Field, Field]:
    """Pixel centres (x, y) relative to the centre of the crop, each of shape (128, 128)."""
    axis = np.arange(SIDE_PX, dtype=np.float32) - (SIDE_PX - 1) / 2
    y, x = np.meshgrid(axis, axis, indexing="ij")
    x.setflags(write=False)
    y.setflags(write=False)
    return x, y


def _scaled(response: npt.NDArray[np.floating]) -> Field:
    response[0, 0] = 0.0
    return (response * (SIDE_PX**2 / np.sqrt((response**2).sum()))).astype(np.float32)


@lru_cache(maxsize=32)
def _isotropic(sigma_px: float) -> Field:
    f = fft.fftfreq(SIDE_PX)
    squared = f[:, None] ** 2 + f[None, :] ** 2
    return _scaled(np.exp(-2 * (np.pi * sigma_px) ** 2 * squared))


def _filtered(rng: np.random.Generator, response: Field) -> tuple[Field, Field]:
    white = rng.standard_normal((2, SIDE_PX, SIDE_PX), dtype=np.float32)
    both: npt.NDArray[np.complex64] = np.array(fft.ifft2((white[0] + 1j * white[1]) * response), dtype=np.complex64)
    return np.real(both).copy(), np.imag(both).copy()


def smooth_pair(rng: np.random.Generator, sigma_px: float) -> tuple[Field, Field]:
    """Two independent Gaussian random fields.

    Args:
        rng: Source of randomness.
        sigma_px: Standard deviation of the Gaussian kernel that smooths the white noise, in px.

    Returns:
        Two fields of zero mean and unit variance (over the ensemble).
    """
    return _filtered(rng, _isotropic(sigma_px))


def fibre_pair(rng: np.random.Generator, angle: float, along_px: float, across_px: float) -> tuple[Field, Field]:
    """Two independent Gaussian random fields that are stretched in one direction.

    Args:
        rng: Source of randomness.
        angle: Direction of the fibres in radians, from the x axis towards y (down).
        along_px: Smoothing along the fibres, standard deviation in px.
        across_px: Smoothing across them.
    """
    f = fft.fftfreq(SIDE_PX)
    fx, fy = f[None, :], f[:, None]
    along = fx * np.cos(angle) + fy * np.sin(angle)
    across = fy * np.cos(angle) - fx * np.sin(angle)
    response = np.exp(-2 * np.pi**2 * ((along_px * along) ** 2 + (across_px * across) ** 2))
    return _filtered(rng, _scaled(response))


def warped(field: Field, dx_px: Field, dy_px: Field) -> Field:
    """The periodic field read at displaced positions, nearest pixel."""
    x, y = grid_px()
    half = (SIDE_PX - 1) / 2
    column = np.rint(x + dx_px + half).astype(np.int32) % SIDE_PX
    row = np.rint(y + dy_px + half).astype(np.int32) % SIDE_PX
    return field[row, column]


def step(value: npt.NDArray[np.floating], width: float = 1.0) -> Field:
    """A soft step from 0 to 1 over about ``width`` around zero (cubic, exact at both ends)."""
    t = np.clip(value / width + 0.5, 0.0, 1.0)
    return (t * t * (3 - 2 * t)).astype(np.float32)
