"""Fixed changes of crops: what each does, that nothing is random, and a store under one of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from atypia.base.errors import InputError
from atypia.data.crops.shifted import shifted_store
from atypia.data.crops.store import open_store
from atypia.data.images.geometry import CropGeometry
from atypia.data.images.shifts import BANK, SHIFTS, lit
from atypia.data.images.stain import LIGHT, restained
from atypia.data.phantom.dataset import write_phantom


@pytest.fixture(scope="module")
def crop() -> np.ndarray:
    """Two stains of varying amounts, and paper."""
    rng = np.random.default_rng(0)
    amounts = rng.uniform(0.2, 1.2, (2, 48 * 48)) * (rng.random((2, 48 * 48)) < 0.8)
    return np.clip(LIGHT * np.exp(-BANK["stain-macenko"] @ amounts), 0, 255).T.reshape(48, 48, 3).astype(np.uint8)


@pytest.mark.parametrize("name", SHIFTS)
def test_every_change_keeps_the_size_changes_pixels_and_is_not_random(name: str, crop: np.ndarray) -> None:
    before = crop.copy()
    made = SHIFTS[name](crop)
    assert made.shape == crop.shape and made.dtype == np.uint8
    assert np.array_equal(made, SHIFTS[name](crop)) and np.array_equal(crop, before)
    # The crop is made of the first stains already: giving it these again changes little.
    change = float(np.abs(made.astype(int) - crop).mean())
    assert change < 12 if name == "stain-macenko" else change > 2


def test_what_they_do(crop: np.ndarray) -> None:
    rough = lambda image: float(np.abs(np.diff(image.astype(float), axis=0)).mean())  # noqa: E731
    for name in ("blur", "coarse", "jpeg"):
        assert rough(SHIFTS[name](crop)) < rough(crop)
    assert SHIFTS["dark"](crop).mean() < crop.mean() < SHIFTS["bright"](crop).mean()
    assert np.array_equal(lit(np.full((2, 2, 3), 250, np.uint8), 2.0), np.full((2, 2, 3), 255))
    spot = np.full((40, 40, 3), 200, np.uint8)
    spot[15:25, 15:25] = 20
    assert (SHIFTS["zoomed"](spot) < 100).sum() > 1.3 * (spot < 100).sum(), "the middle is enlarged"
    to_other = restained(crop, BANK["stain-ruifrok"])
    density = lambda image: -np.log((image.reshape(-1, 3).astype(float) + 1) / LIGHT)  # noqa: E731
    fit = np.linalg.lstsq(BANK["stain-ruifrok"], density(to_other).T, rcond=None)
    off = density(to_other).T - BANK["stain-ruifrok"] @ fit[0]
    assert np.abs(off).mean() < 0.02, "every pixel is a mixture of the stains that it was given"
    paper = np.full((16, 16, 3), 240, np.uint8)
    assert restained(paper, BANK["stain-ruifrok"]) is paper, "nothing is stained there"


def test_a_store_under_a_change(tmp_path: Path) -> None:
    manifest = write_phantom(tmp_path / "phantom", 6, 1)
    store = open_store(manifest, CropGeometry(out_px=32))
    changed = shifted_store(store, "dark")
    assert changed.fingerprint != store.fingerprint != shifted_store(store, "blur").fingerprint
    assert len(changed.crops) == 6 and changed.crops.shape == store.crops.shape
    assert np.array_equal(changed.crops[2], SHIFTS["dark"](np.asarray(store.crops[2])))
    batches = [crops for _, crops in changed.batches(np.array([5, 0]), 1)]
    assert np.array_equal(batches[0][0], changed.crops[5]) and np.array_equal(batches[1][0], changed.crops[0])
    assert changed.crops[np.array([], np.int64)].shape == (0, 32, 32, 3)
    with pytest.raises(InputError, match=r"`shift` must be one of .*blur.*fog"):
        shifted_store(replace(store), "fog")
