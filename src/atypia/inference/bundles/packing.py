"""Weights in 8-bit integers with one scale per output: a quarter of the bytes, for networks that ship.

A matrix W, shape (outputs, inputs), is stored as ``NAME.int8`` and ``NAME.scale`` with

    W ≈ int8 · scale,    scale = max |row| / 63.

Seven of the eight bits are used. Processors without VNNI instructions add two products with unsigned bytes in
16 bits; this cannot overflow, because 2 · 255 · 63 < 2¹⁵. A network gives the same result on all processors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must

LEVELS: Final = 63
"""Largest magnitude of a stored integer."""
PACKED_FROM: Final = 4_096
"""Matrices with fewer values are not packed: they need little space."""
INTEGERS, SCALE = ".int8", ".scale"

Array = npt.NDArray[Any]


def quantise_matrix(weights: Array, axis: int) -> tuple[Array, Array]:
    """A matrix in integers of −63 to 63, and its scales.

    Args:
        weights: Shape (n, m), floating.
        axis: Along which the inputs of an output lie.

    Returns:
        Integers, shape (n, m), int8; scales, float32, one an output.
    """
    scale = (np.abs(weights).max(axis=axis) / LEVELS).astype(np.float32)
    scale[scale == 0] = 1.0
    return np.rint(weights / np.expand_dims(scale, axis)).astype(np.int8), scale


def pack(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Tensors with every large matrix in integers; the others as they are."""
    packed: dict[str, Array] = {}
    for name, value in tensors.items():
        if value.ndim == 2 and value.size >= PACKED_FROM and np.issubdtype(value.dtype, np.floating):
            packed[name + INTEGERS], packed[name + SCALE] = quantise_matrix(value.astype(np.float32), axis=1)
        else:
            packed[name] = value
    return packed


def unpack(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Tensors with every packed matrix in single precision again; others as they are.

    Raises:
        InputError: A packed matrix has no scales, or not one an output.
    """
    found: dict[str, Array] = {}
    for name, value in tensors.items():
        if name.endswith(INTEGERS):
            plain = name.removesuffix(INTEGERS)
            scale = tensors.get(plain + SCALE)
            if value.ndim != 2 or scale is None or scale.shape != value.shape[:1]:
                raise InputError(must(name, "a matrix with one scale an output", "another form", "train it again"))
            found[plain] = value.astype(np.float32) * scale.astype(np.float32)[:, None]
        elif not (name.endswith(SCALE) and name.removesuffix(SCALE) + INTEGERS in tensors):
            found[name] = value
    return found
