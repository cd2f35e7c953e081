"""Crops of a store under one of the fixed changes of :mod:`atypia.data.images.shifts`, made when they are read."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from atypia.base.artifacts import fingerprint
from atypia.data.crops.store import CropStore
from atypia.data.images.shifts import SHIFTS, VERSION, check_shift


class ShiftedCrops:
    """An array of crops that changes what is read from it: :attr:`shape`, ``len``, and indexing by rows.

    Args:
        crops: Shape (n, side, side, 3) uint8.
        shift: Name of the change.
    """

    dtype = np.dtype(np.uint8)
    nbytes = sys.maxsize
    """Never small enough to be copied to a GPU as a whole: each crop is changed when it is read."""

    def __init__(self, crops: npt.NDArray[np.uint8], shift: str) -> None:
        self._crops, self._change = crops, SHIFTS[check_shift(shift)]
        self.shape = crops.shape

    def __len__(self) -> int:
        return len(self._crops)

    def __getitem__(self, rows: Any) -> npt.NDArray[np.uint8]:
        found = np.asarray(self._crops[rows])
        if found.ndim == 3:
            return self._change(found)
        return np.stack([self._change(crop) for crop in found]) if len(found) else found


def shifted_store(store: CropStore, shift: str) -> CropStore:
    """The same store with changed crops, and a fingerprint of its own.

    Raises:
        InputError: There is no such change.
    """
    crops = cast("npt.NDArray[np.uint8]", ShiftedCrops(store.crops, shift))
    return replace(store, crops=crops, fingerprint=fingerprint("shifted", VERSION, shift, store.fingerprint))
