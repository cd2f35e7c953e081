"""Augmentations of texture, how often steps happen, and sheets of draws."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import torch
import torchvision.transforms.v2.functional as tv
from PIL import Image

from atypia.base.errors import InputError
from atypia.data.augment import colour as c
from atypia.data.augment import texture as t
from atypia.data.augment.draws import change_chosen
from atypia.data.augment.pipeline import Pipeline
from atypia.data.augment.sheet import augmentation_sheet

from .augmenting import seeded, some_images

# Texture


def test_blur_against_scipy() -> None:
    images, sigma = some_images(3), torch.tensor([0.5, 1.0, 1.8])
    out = t.blur(images, sigma)
    radius = math.ceil(3 * 1.8)
    for i in range(3):
        for channel in range(3):
            expected = scipy.ndimage.gaussian_filter(
                images[i, channel].double().numpy(), float(sigma[i]), mode="mirror", radius=radius
            )
            assert np.abs(out[i, channel].numpy() - expected).max() < 1e-4


def test_blur_of_a_small_image_and_a_flat_one() -> None:
    assert torch.allclose(t.blur(torch.full((2, 3, 4, 4), 0.3), torch.tensor([2.0, 0.1])), torch.tensor(0.3), atol=1e-6)


@pytest.mark.parametrize("factor", [0.0, 0.25, 1.0, 1.5])
def test_sharpness_is_torchvisions(factor: float) -> None:
    images = some_images()
    assert torch.allclose(t.sharpened(images, torch.full((6,), factor)), tv.adjust_sharpness(images, factor), atol=1e-5)


def test_noise_has_the_deviation_asked_for() -> None:
    grey = torch.full((4, 3, 64, 64), 0.5)
    out = t.Noise((0.05, 0.05), 1)(grey, seeded())
    assert float((out - grey).std()) == pytest.approx(0.05, rel=0.02)
    assert float((out - grey).mean()) == pytest.approx(0, abs=1e-3)
    each = t.Noise((0.0, 0.1), 1)(grey, seeded()).flatten(1).std(1)
    assert len(set(each.tolist())) == 4


@pytest.mark.parametrize("area", [0.05, 0.2])
def test_erased_area_and_colour(area: float) -> None:
    images = some_images(50, 64)
    out = t.Erase((area, area), 1, 1.0)(images, seeded())
    changed = (out != images).any(1)
    share = changed.flatten(1).float().mean(1)
    assert float(share.mean()) == pytest.approx(area, rel=0.1)
    assert float((share - area).abs().max()) < 0.2 * area  # boxes lie inside, so none is cut
    mean = images[0].mean((1, 2))
    assert torch.allclose(out[0][:, changed[0]], mean[:, None].expand(-1, int(changed[0].sum())), atol=1e-6)


def test_more_boxes_blank_more() -> None:
    images = some_images(30, 64)
    one, three = (float((t.Erase((0.05, 0.05), n, 1.0)(images, seeded()) != images).float().mean()) for n in (1, 3))
    assert 2 < three / one <= 3


def test_spectrum_keeps_phase_and_changes_amplitude() -> None:
    images = some_images() * 0.5 + 0.25
    out = t.Spectrum(0.3, 1.0).perturbed(images, seeded())
    before, after = torch.fft.fft2(images.double()), torch.fft.fft2(out.double())
    strong = before.abs() > 1.0
    turn = torch.angle(after / before)[strong].abs()
    assert float(turn.max()) < 1e-3
    ratio = (after.abs() / before.abs())[strong]
    assert float(ratio.std()) > 0.05
    assert torch.allclose(out.mean((2, 3)), images.mean((2, 3)), atol=1e-5)  # the zero frequency stays


def test_spectrum_leaves_low_frequencies_more_than_high_ones() -> None:
    noise = torch.randn(8, 3, 64, 64, generator=seeded())
    out = t.Spectrum(1.0, 1.0).perturbed(noise, seeded(1))
    change = (torch.fft.fft2(out).abs() / torch.fft.fft2(noise).abs()).log().abs().mean((0, 1))
    assert float(change[1:5, 1:5].mean()) < 0.3 * float(change[24:32, 24:32].mean())


def test_change_chosen_touches_nothing_else() -> None:
    images = some_images(4)
    out = change_chosen(
        images, torch.tensor([True, False, True, False]), lambda part, rows: part + rows[:, None, None, None]
    )
    assert torch.equal(out[[1, 3]], images[[1, 3]])
    assert torch.allclose(out[2], images[2] + 2)
    assert change_chosen(images, torch.zeros(4, dtype=torch.bool), lambda part, rows: part / 0) is images


@pytest.mark.parametrize(
    ("step", "share"),
    [(c.Jitter(0.5, probability=0.3), 0.3), (t.Blur((1, 2), 0.2), 0.2), (c.StainJitter(0.3, 0.1, 0.8), 0.8),
     (t.Erase((0.1, 0.1), 1, 0.5), 0.5), (t.Noise((0.1, 0.1), 0.4), 0.4)],
)  # fmt: skip
def test_steps_happen_as_often_as_asked(step: c.Jitter, share: float) -> None:
    images = some_images(400, 8) * 0.5 + 0.2
    changed = float(((step(images, seeded()) - images).abs() > 1e-5).flatten(1).any(1).float().mean())
    assert changed == pytest.approx(share, abs=0.08)


# Sheets


def test_sheet_shows_originals_and_draws(tmp_path: Path) -> None:
    crops = (some_images(2, 32).permute(0, 2, 3, 1) * 255).to(torch.uint8).numpy()
    one = augmentation_sheet(crops, ["medium"], tmp_path / "one.png", seed=1, draws=3)
    picture = np.asarray(Image.open(one))
    found = any(
        np.array_equal(picture[y : y + 32, x : x + 32], crops[0])
        for y in range(picture.shape[0] - 32) for x in range(8, 14)
    )  # fmt: skip
    assert found  # the original, pixel by pixel, in the first column
    again = np.asarray(Image.open(augmentation_sheet(crops, ["medium"], tmp_path / "two.png", seed=1, draws=3)))
    other = np.asarray(Image.open(augmentation_sheet(crops, ["medium"], tmp_path / "three.png", seed=2, draws=3)))
    assert np.array_equal(picture, again)
    assert not np.array_equal(picture, other)
    several = np.asarray(Image.open(augmentation_sheet(crops, ["stain", "robust"], tmp_path / "four.png")))
    assert several.shape[1] < picture.shape[1]  # three columns instead of four, and a shorter title


def test_sheet_refuses_bad_input(tmp_path: Path) -> None:
    crops = np.zeros((1, 8, 8, 3), np.uint8)
    with pytest.raises(InputError, match=r"`names` must be at least one augmentation, got none; fix: choose of none, "):
        augmentation_sheet(crops, [], tmp_path / "x.png")
    with pytest.raises(InputError, match="unknown augmentation 'mediun'"):
        augmentation_sheet(crops, ["mediun"], tmp_path / "x.png")
    with pytest.raises(InputError, match=r"`crops` must be RGB"):
        augmentation_sheet(crops[..., 0], ["medium"], tmp_path / "x.png")
    with pytest.raises(InputError, match=r"`draws` must be at least 1, got 0"):
        augmentation_sheet(crops, ["medium"], tmp_path / "x.png", draws=0)
    assert list(tmp_path.iterdir()) == []


def test_pipeline_without_steps_hands_back_its_input() -> None:
    images = some_images()
    assert Pipeline("nothing")(images, seeded()) is images
