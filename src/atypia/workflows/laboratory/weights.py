"""Weights between those of two networks, and means of several: what fine-tuning writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from atypia.inference.bundles.bundle import Bundle
from atypia.inference.bundles.packing import unpack


def between(first: Bundle, tuned: Bundle, share: float) -> Bundle:
    """The initial bundle with weights ``(1 − share) · initial + share · tuned``."""
    if share == 0:
        return first
    old, new = unpack(first.tensors), unpack(tuned.tensors)
    return replace(first, tensors={name: _mixed(np.asarray(old[name]), np.asarray(new[name]), share) for name in old})


def _mixed(old: npt.NDArray[Any], new: npt.NDArray[Any], share: float) -> npt.NDArray[Any]:
    if old.dtype.kind != "f":
        return old  # a count of batches
    return ((1 - share) * old.astype(np.float64) + share * new.astype(np.float64)).astype(np.float32)


def mean_of(bundles: Sequence[Bundle]) -> Bundle:
    """The first bundle with the mean of the weights of all."""
    every = [unpack(bundle.tensors) for bundle in bundles]
    means = {
        name: np.mean([np.asarray(one[name], np.float64) for one in every], axis=0).astype(np.asarray(value).dtype)
        for name, value in every[0].items()
    }
    return replace(bundles[0], tensors=means)


def drift(first: Bundle, other: Bundle) -> float:
    """Euclidean distance of the weights over the length of the first ones, ≥ 0."""
    old, new = unpack(first.tensors), unpack(other.tensors)
    pairs = [(np.asarray(old[n], np.float64), np.asarray(new[n], np.float64)) for n in old]
    moved = sum(float(((b - a) ** 2).sum()) for a, b in pairs)
    return float(np.sqrt(moved / sum(float((a**2).sum()) for a, _ in pairs)))
