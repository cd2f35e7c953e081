"""What spatial steps show beyond the border: reflection, or black as torchvision does it."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as tv
from torch import Tensor
from torchvision.transforms import InterpolationMode

from atypia.data.augment.pipeline import AUGMENTATIONS, augmentation

from .augmenting import seeded, smooth_image, warped_by


def _rotated(degrees: float) -> Tensor:
    angle = math.radians(degrees)
    c, s_ = math.cos(angle), math.sin(angle)
    return torch.tensor([[c, -s_, 0.0], [s_, c, 0.0], [0.0, 0.0, 1.0]])


@pytest.mark.parametrize("order", ["crop first", "rotation first"])
def test_black_corners_are_torchvisions(order: str) -> None:
    """Each step is done on the image that the step before gave, beyond whose border torchvision shows black."""
    images, degrees = smooth_image(64) * 0.5 + 0.4, 15.0
    crop = torch.tensor([[0.5, 0.0, 0.5], [0.0, 0.5, -0.5], [0.0, 0.0, 1.0]])  # upper right quarter
    turn = _rotated(degrees)
    cropped = lambda x: tv.resized_crop(x, 0, 32, 32, 32, [64, 64], antialias=False)  # noqa: E731
    turned = lambda x: tv.rotate(x, degrees, InterpolationMode.BILINEAR)  # noqa: E731
    steps, matrices = ([cropped, turned], [crop, turn]) if order == "crop first" else ([turned, cropped], [turn, crop])
    want = steps[1](steps[0](images))
    found = warped_by(images, *matrices, fill="black")
    black = want[0].sum(0) == 0
    # But for pixels beside the edge, which both interpolate with what lies beyond it.
    near = F.max_pool2d((want[0].sum(0, keepdim=True) < 1.19)[None].float(), 9, 1, 4)[0, 0] > 0
    torch.testing.assert_close(found[..., ~near], want[..., ~near], atol=0.02, rtol=0)
    inner = F.max_pool2d((~black)[None, None].float(), 5, 1, 2)[0, 0] == 0
    assert float(found[..., inner].abs().max() if inner.any() else 0.0) == 0 and int(black.sum()) > 60
    assert float(warped_by(images, *matrices).min()) > 0.3  # reflected otherwise


def test_black_is_a_choice_of_the_recipe() -> None:
    images = torch.ones(4, 3, 32, 32)
    spun = augmentation("banerjee-uncropped", "black")
    assert float(spun(images, seeded()).min()) == 0
    assert float(augmentation("banerjee-uncropped")(images, seeded()).min()) > 0.5
    assert augmentation("stain") is AUGMENTATIONS["stain"]
