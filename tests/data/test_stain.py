"""Stain normalisation: against independent implementations, and the same wherever a crop is cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atypia.base.errors import InputError
from atypia.data.images.geometry import CropGeometry, apply
from atypia.data.images.stain import MACENKO_STAINS, REINHARD_MEAN, STAINS, macenko, normalised, reinhard
from atypia.data.points.base import Points
from atypia.data.slides.slidecrops import slide_crops
from atypia.data.slides.streams import CropBatch, crop_files

REFERENCE = json.loads(Path(__file__).with_name("stain_reference.json").read_text("utf-8"))
"""Every 29th pixel of :func:`stained` for three seeds, as the named packages normalise it."""


def stained(seed: int, side: int = 24) -> np.ndarray[Any, Any]:
    """Two stains of random directions mixed in random amounts."""
    rng = np.random.default_rng(seed)
    stains = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]]) + rng.uniform(-0.06, 0.06, (2, 3))
    stains /= np.linalg.norm(stains, axis=1, keepdims=True)
    density = rng.gamma(2.0, 0.35, (side * side, 2)) * np.array([1.2, 0.8]) @ stains
    light = 255 * np.exp(-density) + rng.normal(0, 2, density.shape)
    return np.clip(light, 0, 255).astype(np.uint8).reshape(side, side, 3)


@pytest.mark.parametrize("name", STAINS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_same_pixels_as_an_independent_implementation(name: str, seed: int) -> None:
    got = STAINS[name](stained(seed)).reshape(-1, 3)[:: REFERENCE["every"]].astype(int)
    want = np.array(REFERENCE[name][seed])
    assert np.abs(got - want).max() <= 1  # a value just at a whole number may be cut either way
    assert (got == want).mean() > 0.99 and want.std() > 20


def test_stains_of_any_colour_get_the_reference_s() -> None:
    crops = [macenko(stained(seed)) for seed in range(4)]
    before = [stained(seed).mean((0, 1)) for seed in range(4)]
    after = [crop.mean((0, 1)) for crop in crops]
    assert np.std(after, axis=0).max() < 0.5 * np.std(before, axis=0).max()
    density = -np.log((crops[0].reshape(-1, 3) + 1.0) / 240)
    plane = np.linalg.svd(density[(density > 0.15).all(axis=1)], full_matrices=False)[2][:2]
    for stain in MACENKO_STAINS.T:  # the reference's stains lie in the plane of what was made
        assert np.linalg.norm(plane @ stain) / np.linalg.norm(stain) > 0.999


def test_reinhard_gives_the_reference_s_mean() -> None:
    from atypia.data.images.stain import LMS_TO_LAB, RGB_TO_LMS

    made = reinhard(stained(5)).reshape(-1, 3).T.astype(float)
    found = (LMS_TO_LAB @ np.log(np.maximum(RGB_TO_LMS @ made, 1))).mean(axis=1)
    np.testing.assert_allclose(found, REINHARD_MEAN, atol=0.05)


@pytest.mark.parametrize("name", STAINS)
@pytest.mark.parametrize("value", [0, 128, 255])
def test_crops_without_two_stains_stay_as_they_are(name: str, value: int) -> None:
    blank = np.full((16, 16, 3), value, np.uint8)
    np.testing.assert_array_equal(STAINS[name](blank), blank)
    grey = np.tile(np.linspace(40, 200, 16).astype(np.uint8)[:, None, None], (1, 16, 3))
    assert STAINS[name](grey).shape == grey.shape


def test_a_geometry_without_it_is_what_it_was() -> None:
    plain = CropGeometry(64)
    assert "stain" not in plain.as_dict() and CropGeometry(64, stain="macenko").as_dict()["stain"] == "macenko"
    assert plain.fingerprint == "7e945281bd45dc16f695ff17980beae5"
    prints = {CropGeometry(64, stain=stain).fingerprint for stain in (None, *STAINS)}
    assert len(prints) == 1 + len(STAINS)
    with pytest.raises(InputError, match="`stain` must be one of macenko, reinhard, got vahadane; fix: leave it out"):
        CropGeometry(stain="vahadane")
    np.testing.assert_array_equal(normalised(stained(1), None), stained(1))


def test_a_crop_is_normalised_alike_from_a_file_and_from_a_slide(tmp_path: Path) -> None:
    crop = stained(3, 64)
    Image.fromarray(crop).save(tmp_path / "crop.png")
    slide = np.full((256, 256, 3), 240, np.uint8)
    slide[96:160, 96:160] = crop
    Image.fromarray(slide).save(tmp_path / "slide.png")
    geometry = CropGeometry(32, side_px=64, stain="macenko")
    want = macenko(apply(crop, CropGeometry(32, side_px=64)))
    np.testing.assert_array_equal(apply(crop, geometry), want)
    (from_file,) = [item for item in crop_files([tmp_path / "crop.png"], geometry) if isinstance(item, CropBatch)]
    np.testing.assert_array_equal(from_file.crops[0], want)
    points = Points.at(np.array([128.0]), np.array([128.0]))
    (from_slide,) = [
        item for item in slide_crops(tmp_path / "slide.png", points, geometry) if isinstance(item, CropBatch)
    ]
    np.testing.assert_array_equal(from_slide.crops[0], want)
