"""The view: the middle of the crop that a network sees, in training and in evaluation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from atypia.backbones.catalogue import BACKBONES
from atypia.base.errors import InputError
from atypia.data.augment.pipeline import AUGMENTATIONS, Pipeline, augmentation
from atypia.data.augment.spatial import Affine, Elastic, Flip, Seen, resample
from atypia.inference.crops import DeviceCrops, Frame
from atypia.training.epochs.feed import Feed

ENTRY = BACKBONES["tiny-cnn"]


def _crops(n: int = 3, side: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("side", "view", "expected"),
    [(128, 1.0, 128), (128, 0.6, 76), (127, 0.6, 77), (64, 0.5, 32), (9, 0.1, 1), (8, 0.1, 2)],
)
def test_the_middle_stays_the_middle(side: int, view: float, expected: int) -> None:
    seen = Frame(32, view).seen_px(side)
    assert seen == expected
    assert (side - seen) % 2 == 0


def test_the_middle_is_cut_exactly() -> None:
    images = torch.arange(64.0).reshape(1, 1, 8, 8)
    assert Frame(4, 0.5).cut(images)[0, 0].tolist() == [
        [18, 19, 20, 21],
        [26, 27, 28, 29],
        [34, 35, 36, 37],
        [42, 43, 44, 45],
    ]


def test_evaluation_resizes_what_is_seen() -> None:
    crops = _crops()
    found = DeviceCrops(crops, ENTRY, Frame(32, 0.6)).plain_batch(np.array([0, 2]))
    middle = torch.from_numpy(crops[[0, 2]]).permute(0, 3, 1, 2)[..., 13:51, 13:51].float() / 255
    expected = (F.interpolate(middle, (32, 32), mode="bilinear", antialias=True) - 0.5) / 0.5
    torch.testing.assert_close(found, expected)


def test_training_without_augmentation_sees_what_evaluation_sees() -> None:
    crops, rows = _crops(), np.array([1, 2])
    still = Feed(crops, ENTRY, Frame(64, 0.5), AUGMENTATIONS["none"])
    # But for the outermost pixels: an upsampled border interpolates with what lies outside the view, or with itself.
    inside = (..., slice(1, -1), slice(1, -1))
    torch.testing.assert_close(
        still.training_batch(rows, 0)[inside], still.plain_batch(rows)[inside], atol=2e-5, rtol=0
    )
    # Where the network takes fewer pixels than are seen, both are reduced by the same antialiased resize.
    small = Feed(crops, ENTRY, Frame(16, 0.5), AUGMENTATIONS["none"])
    torch.testing.assert_close(small.training_batch(rows, 0), small.plain_batch(rows), atol=2e-5, rtol=0)


def test_a_turned_view_shows_what_lies_outside_it() -> None:
    """Turned by 45 degrees, the corner of the half view is the crop's own edge, not a reflection of the view."""
    images = torch.zeros(1, 1, 64, 64)
    images[..., 31:33, 50:56] = 1  # outside the middle half (16 to 48), where its corner comes to lie
    generator = torch.Generator().manual_seed(0)
    turned = resample(images, (Affine(scale=(1.0, 1.0)),), generator, Seen(0.5, 32))
    assert float(turned.sum()) == 0
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        turned = resample(images, (Affine(degrees=180),), generator, Seen(0.5, 32))
        if float(turned.sum()) > 0:
            break
    rows, columns = torch.nonzero(turned[0, 0] > 0.3, as_tuple=True)
    assert len(rows) > 0
    assert int(torch.stack([(rows - 15.5).abs(), (columns - 15.5).abs()]).min(0).values.max()) >= 9


def test_flips_and_views_commute() -> None:
    images = torch.rand(4, 3, 32, 32)
    flipped = resample(images, (Flip(1.0, 0.0),), torch.Generator(), Seen(0.5, 16))
    torch.testing.assert_close(flipped, images[..., 8:24, 8:24].flip(3), atol=1e-5, rtol=0)


def test_elastic_displacement_is_a_share_of_what_is_seen() -> None:
    """A displacement moves a view's pixels as far as it moves a whole image's of the view's size."""
    ramp = torch.linspace(0, 1, 64)[None, None, None, :].expand(6, 1, 64, 64)
    step = Elastic(0.02, 4, 1.0)
    whole = resample(ramp, (step,), torch.Generator().manual_seed(3))
    half = resample(ramp, (step,), torch.Generator().manual_seed(3), Seen(0.5, 64))
    moved = (half - resample(ramp, (), torch.Generator(), Seen(0.5, 64)))[..., 16:48, 16:48]
    torch.testing.assert_close(moved, 0.5 * (whole - ramp)[..., 16:48, 16:48], atol=1e-4, rtol=0)


def test_names_are_joined_in_order() -> None:
    both = augmentation("flip-rotate+cutout + blur-noise")
    assert both.spatial == AUGMENTATIONS["flip-rotate"].spatial
    assert both.photometric == AUGMENTATIONS["cutout"].photometric + AUGMENTATIONS["blur-noise"].photometric
    assert augmentation("stain") is AUGMENTATIONS["stain"]
    with pytest.raises(InputError, match="unknown augmentation 'stian'; did you mean 'stain'"):
        augmentation("flip-rotate+stian")


def test_a_pipeline_without_steps_still_shows_the_view() -> None:
    images = torch.rand(2, 3, 16, 16)
    seen = Pipeline("none")(images, torch.Generator(), Seen(0.5, 8))
    torch.testing.assert_close(seen, images[..., 4:12, 4:12], atol=1e-5, rtol=0)
