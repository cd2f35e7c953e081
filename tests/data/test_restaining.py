"""Stain vectors of figures mixed with a bank's: against the normalisation's own numpy, and what stays as it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from atypia.data.augment.pipeline import AUGMENTATIONS
from atypia.data.augment.restaining import VECTORS, StainMix, mixed_stains, own_stains
from atypia.data.images.shifts import BANK
from atypia.data.images.stain import LEAST_DENSITY, LIGHT, _stains

from .augmenting import seeded
from .test_stain import stained

CROPS = [stained(seed, 40) for seed in range(4)]


def batch(crops: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255


def density_of(crop: np.ndarray) -> np.ndarray:
    return -np.log((crop.reshape(-1, 3).T.astype(float) + 1) / LIGHT)


def test_a_batch_has_the_stains_that_each_crop_has_alone() -> None:
    found, told = own_stains(torch.from_numpy(np.stack([density_of(crop) for crop in CROPS])))
    assert told.all()
    for crop, own in zip(CROPS, found, strict=True):
        density = density_of(crop).T
        want = _stains(density[(density >= LEAST_DENSITY).all(axis=1)])
        assert want is not None
        np.testing.assert_allclose(own, want, atol=1e-6)


@pytest.mark.parametrize("name", BANK)
def test_the_whole_way_to_the_bank_by_least_squares_of_each_crop(name: str) -> None:
    others = torch.from_numpy(BANK[name]).float().expand(len(CROPS), 3, 2)
    made = mixed_stains(batch(CROPS), others, torch.ones(len(CROPS))).flatten(2).numpy()
    for crop, one in zip(CROPS, made, strict=True):
        density = density_of(crop)
        own = _stains(density.T[(density.T >= LEAST_DENSITY).all(axis=1)])
        assert own is not None
        amounts = np.linalg.lstsq(own, density, rcond=None)[0]
        rest = density - own @ amounts
        want = np.clip((LIGHT * np.exp(-BANK[name] @ amounts - rest) - 1) / 255, 0, 1)
        np.testing.assert_allclose(one, want, atol=1e-3)  # the bank's vectors are of unit length to three digits
        assert np.abs(one - crop.reshape(-1, 3).T / 255).mean() > 0.01


def test_half_the_way_lies_between() -> None:
    images, others = batch(CROPS), torch.from_numpy(BANK["stain-macenko"]).float().expand(4, 3, 2)
    none, half, whole = (mixed_stains(images, others, torch.full((4,), share)) for share in (0.0, 0.5, 1.0))
    assert torch.allclose(none, images, atol=1e-5)
    before, after = own_stains(-((255 * images + 1) / LIGHT).log().flatten(2))[0], VECTORS[0].expand(4, 3, 2)
    middle = own_stains(-((255 * half.double() + 1) / LIGHT).log().flatten(2))[0].float()
    expected = torch.nn.functional.normalize((before + after) / 2, dim=1)
    assert (middle - expected).norm(dim=1).max() < 0.5 * (before - expected).norm(dim=1).max()
    assert (whole - images).abs().mean() > 1.5 * (half - images).abs().mean()


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_crop_without_two_stains_stays_and_changes_no_other(value: float) -> None:
    images = torch.cat([batch(CROPS[:1]), torch.full((1, 3, 40, 40), value)])
    made = StainMix(1, 1)(images, seeded())
    assert torch.equal(made[1], images[1]) and not torch.equal(made[0], images[0])
    alone = StainMix(1, 1)(images[:1], seeded())
    assert alone.shape == (1, 3, 40, 40) and made.isfinite().all()


def test_the_generator_alone_decides_and_every_figure_draws_on_its_own() -> None:
    images = batch([CROPS[0]] * 6)
    one, again, other = (StainMix(1, 1)(images, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert len({float(image.sum()) for image in one}) == 6 and one.min() >= 0 and one.max() <= 1
    many = batch([CROPS[0]] * 40)
    some = StainMix(1, 0.5)(many, seeded(3))
    assert 10 < sum(torch.equal(a, b) for a, b in zip(some, many, strict=True)) < 30
    assert torch.allclose(StainMix(0, 1)(images, seeded()), images, atol=1e-5)
    assert AUGMENTATIONS["stain-bank"].photometric == (StainMix(),)
