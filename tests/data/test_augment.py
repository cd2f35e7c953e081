"""Augmentation: conventions by hand, independent implementations, and what every pipeline promises."""

from __future__ import annotations

import colorsys
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as tv
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from atypia.base.errors import InputError
from atypia.data.augment import colour as c
from atypia.data.augment import spatial as s
from atypia.data.augment import texture as t
from atypia.data.augment.pipeline import AUGMENTATIONS

from .augmenting import NAMES, seeded, smooth_image, some_images, warped_by

# Every named pipeline


@pytest.mark.parametrize("name", NAMES)
def test_pipelines_keep_shape_range_and_input(name: str) -> None:
    for images in (some_images(8), some_images(8).contiguous(memory_format=torch.channels_last), torch.zeros(2, 3, 32, 32),
                   torch.ones(2, 3, 32, 32)):  # fmt: skip
        before = images.clone()
        for seed in range(3):
            out = AUGMENTATIONS[name](images, seeded(seed))
            assert out.shape == images.shape
            assert out.dtype == images.dtype
            assert torch.isfinite(out).all()
            assert out.min() >= 0
            assert out.max() <= 1
        assert torch.equal(images, before)


@pytest.mark.parametrize("name", NAMES)
def test_the_generator_alone_decides(name: str) -> None:
    images, pipeline = some_images(8), AUGMENTATIONS[name]
    torch.manual_seed(1)
    first = pipeline(images, seeded(5))
    torch.manual_seed(2)
    assert torch.equal(pipeline(images, seeded(5)), first)
    if name != "none":
        assert not torch.equal(pipeline(images, seeded(6)), first)
        assert not torch.equal(first, images)


@pytest.mark.parametrize("name", NAMES)
def test_draws_do_not_depend_on_what_is_augmented_or_how_it_lies(name: str) -> None:
    """The same draws on another image, layout or precision: what holds for devices holds here too."""
    pipeline, images = AUGMENTATIONS[name], some_images(8)
    generators = [seeded(5) for _ in range(4)]
    out = [
        pipeline(images, generators[0]),
        pipeline(images.contiguous(memory_format=torch.channels_last), generators[1]),
        pipeline(images.double(), generators[2]),
        pipeline(some_images(8, seed=1), generators[3]),
    ]
    assert torch.allclose(out[0], out[1], atol=1e-5)
    assert torch.allclose(out[0], out[2].float(), atol=2e-4)
    assert len({int(torch.randint(1 << 30, (1,), generator=g)) for g in generators}) == 1


def test_white_stays_white_under_geometry() -> None:
    white = torch.ones(4, 3, 32, 32)
    steps = (s.Affine(180, (0.8, 1.2), 0.2, 10), s.Perspective(0.2, 1.0), s.Elastic(0.05, 4, 1.0))
    assert torch.allclose(s.resample(white, steps, seeded()), white, atol=1e-5)


@pytest.mark.parametrize(
    ("images", "got"),
    [
        (torch.zeros(2, 3, 8, 9), r"\(2, 3, 8, 9\)"),
        (torch.zeros(2, 1, 8, 8), r"\(2, 1, 8, 8\)"),
        (torch.zeros(3, 8, 8), r"\(3, 8, 8\)"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "torch.uint8"),
    ],
)
def test_other_images_are_refused(images: Tensor, got: str) -> None:
    with pytest.raises(InputError, match=rf"`images` must be of shape \(b, 3, h, h\), float, got .*{got}.*; fix: "):
        AUGMENTATIONS["basic"](images, seeded())
    if images.ndim == 4 and images.shape[2] != images.shape[3]:
        with pytest.raises(InputError, match="square"):
            s.resample(images, (s.Flip(),), seeded())


def test_unknown_name_lists_the_choices() -> None:
    with pytest.raises(InputError, match=r"unknown augmentation 'stian'; did you mean 'stain'"):
        AUGMENTATIONS["stian"]


# Geometry


def test_flips_by_hand() -> None:
    images = some_images()
    assert torch.equal(s.resample(images, (s.Flip(1, 0),), seeded()), images.flip(3))
    assert torch.equal(s.resample(images, (s.Flip(0, 1),), seeded()), images.flip(2))
    assert torch.equal(s.resample(images, (s.HalfTurn(1),), seeded()), images.rot90(2, (2, 3)))
    assert torch.equal(s.resample(images, (s.Flip(0, 0), s.QuarterTurn(0)), seeded()), images)


def test_quarter_turns_by_hand() -> None:
    images = some_images(200, 8)
    out = s.resample(images, (s.QuarterTurn(),), seeded())
    drawn = s.QuarterTurn().matrices(200, seeded())
    angles = torch.round(torch.atan2(drawn[:, 1, 0], drawn[:, 0, 0]) / (math.pi / 2)).int() % 4
    for i in range(200):
        # x to the right and y down: the map of the output turns clockwise, so the content turns anticlockwise.
        assert torch.equal(out[i], images[i].rot90(int(angles[i]), (1, 2)))
    assert set(angles.tolist()) == {0, 1, 2, 3}


def test_first_step_acts_first() -> None:
    images = some_images(1, 16)
    quarter = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    flip = torch.diag(torch.tensor([-1.0, 1, 1]))
    assert torch.equal(warped_by(images, quarter, flip), images.rot90(1, (2, 3)).flip(3))
    assert torch.equal(warped_by(images, flip, quarter), images.flip(3).rot90(1, (2, 3)))
    # A shift by four pixels to the left, then a turn, is not the other way round.
    shift = torch.tensor([[1.0, 0, 2 * 4 / 16], [0, 1, 0], [0, 0, 1]])
    moved = warped_by(images, shift, quarter)[0].rot90(-1, (1, 2))
    assert torch.allclose(moved[:, :, :12], images[0, :, :, 4:], atol=1e-5)


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("x", [1.0, -1.0])
@pytest.mark.parametrize("y", [1.0, -1.0])
def test_moving_pixels_is_what_resampling_would_give(swap: bool, x: float, y: float) -> None:
    rows = [[0, x, 0], [y, 0, 0], [0, 0, 1]] if swap else [[x, 0, 0], [0, y, 0], [0, 0, 1]]
    total = torch.tensor(rows).expand(3, 3, 3)
    images = some_images(3, 16)
    grid = s.sampling_grid(total, 16)
    assert bool(s.is_dihedral(total).all())
    sampled = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    assert torch.allclose(s.move_pixels(images, total), sampled, atol=1e-5)


def test_a_shift_or_a_horizon_is_no_dihedral_map() -> None:
    total = torch.eye(3).repeat(3, 1, 1)
    total[0, 0, 2], total[1, 2, 0], total[2, 0, 0] = 1.0, 1.0, 0.5
    assert s.is_dihedral(total).tolist() == [False, False, False]


def test_figures_without_resampling_are_exact_beside_those_with() -> None:
    images = some_images(64, 16)
    out = s.resample(images, (s.Affine(20, (0.9, 1.1), 0.05, 0, 0.5),), seeded(1))
    same = (out == images).flatten(1).all(1)
    assert 15 < int(same.sum()) < 49


@pytest.mark.parametrize(("angle", "scale", "shift"), [(20.0, 1.0, (0, 0)), (-35.0, 1.2, (0, 0)), (0.0, 0.9, (5, -3))])
def test_affine_against_torchvision(angle: float, scale: float, shift: tuple[int, int]) -> None:
    image = smooth_image()
    # torchvision turns by ``angle`` clockwise, magnifies by ``scale``, then shifts the content.
    expected = tv.affine(image, angle=angle, translate=list(shift), scale=scale, shear=[0.0, 0.0],
                         interpolation=tv.InterpolationMode.BILINEAR)  # fmt: skip
    rad = math.radians(-angle)
    co, si = math.cos(rad) / scale, math.sin(rad) / scale
    dx, dy = (-2 * v / 64 for v in shift)
    own = warped_by(image, torch.tensor([[co, -si, dx / scale], [si, co, dy / scale], [0, 0, 1]]))
    middle = slice(20, 44)  # borders are filled in other ways
    assert (own - expected)[:, :, middle, middle].abs().max() < 0.02


def test_affine_draws_in_its_ranges() -> None:
    m = s.Affine(30, (0.8, 1.25), 0.1, 0, 1.0).matrices(2000, seeded())
    scale = 1 / torch.linalg.det(m[:, :2, :2]).sqrt()
    angle = torch.rad2deg(torch.atan2(m[:, 1, 0], m[:, 0, 0]))
    assert 0.8 <= scale.min() < 0.81
    assert 1.24 < scale.max() <= 1.25 + 1e-5
    assert angle.abs().max() <= 30 + 1e-3
    assert angle.abs().max() > 29
    assert m[:, :2, 2].abs().max() <= 0.2 + 1e-6  # a tenth of the side; the grid is two wide
    assert m[:, :2, 2].abs().max() > 0.19
    sheared = s.Affine(shear_degrees=10).matrices(500, seeded())
    assert float(torch.linalg.det(sheared[:, :2, :2]).sub(1).abs().max()) < 1e-5
    assert float(sheared[:, 0, 1].abs().max()) == pytest.approx(math.tan(math.radians(10)), rel=0.02)


def test_larger_scale_shows_the_middle_larger() -> None:
    image = torch.zeros(1, 3, 32, 32)
    image[:, :, 12:20, 12:20] = 1
    big = s.resample(image, (s.Affine(scale=(1.5, 1.5)),), seeded())
    assert float(big.mean() / image.mean()) == pytest.approx(1.5**2, rel=0.05)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 1.0))
def test_resized_crop_never_leaves_the_image(seed: int, least: float) -> None:
    m = s.ResizedCrop((least, 1.0)).matrices(64, seeded(seed))
    corners = torch.tensor([[x, y, 1.0] for x in (-1, 1) for y in (-1, 1)])
    assert (m @ corners.T)[:, :2].abs().max() <= 1 + 1e-6
    area = m[:, 0, 0] * m[:, 1, 1]
    assert area.max() <= 1 + 1e-6
    assert area.min() >= least * 0.75 - 1e-6  # the aspect may cut what would stick out


def test_perspective_bends_parallel_lines() -> None:
    total = torch.eye(3)[None].clone()
    total[0, 2, 0] = 0.2
    grid = s.sampling_grid(total, 8)[0]
    x, y = (torch.arange(8) * 2 + 1) / 8 - 1, -1 + 1 / 8
    assert torch.allclose(grid[0, :, 0], x / (1 + 0.2 * x), atol=1e-6)
    assert torch.allclose(grid[0, :, 1], y / (1 + 0.2 * x), atol=1e-6)


def test_elastic_field_is_bicubic_and_as_large_as_asked() -> None:
    step = s.Elastic(0.02, 5, 1.0)
    coarse = torch.randn(4, 2, 5, 5, generator=seeded(2)) * 0.04
    expected = F.interpolate(coarse, (32, 32), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    assert torch.allclose(step.field(4, 32, seeded(2)), expected, atol=1e-6)
    assert s.Elastic(0.02, 5, 0.0).field(4, 32, seeded()).abs().sum() == 0
    images = some_images(40, 16)
    out = s.resample(images, (s.Elastic(0.05, 4, 0.5),), seeded())
    assert 8 < int((out == images).flatten(1).all(1).sum()) < 32


# Colour


@pytest.mark.parametrize(
    "step",
    [
        c.Jitter(), c.Jitter(0.5, 0.5, 0.5, 0.5, probability=0), c.StainJitter(probability=0), c.Gamma(1.0, 1.0),
        c.Gamma(2.0, 0.0), c.AutoContrast(0), c.Posterize(5, 0), c.Solarize(0.5, 0), c.Solarize(1.1, 1), t.Blur(probability=0),
        t.Sharpness(probability=0), t.Noise((0, 0), 1), t.Noise(probability=0), t.Erase(probability=0), t.Spectrum(probability=0),
    ],
    ids=repr,
)  # fmt: skip
def test_identity_settings_leave_the_image(step: c.Jitter) -> None:
    images = some_images()
    images[0, :, :4, :4] = 0
    assert torch.allclose(step(images, seeded()), images, atol=1e-6)


@pytest.mark.parametrize(
    "step", [c.StainJitter(0, 0, 1), t.Sharpness((1, 1), 1), t.Spectrum(0, 1), t.Blur((1e-3, 1e-3), 1)]
)
def test_neutral_strength_leaves_the_image(step: c.StainJitter) -> None:
    images = some_images()
    assert (step(images, seeded()) - images).abs().max() < 1 / 255 + 1e-5


def test_brightness_and_saturation_are_torchvisions() -> None:
    images = some_images() * 0.7
    zero, one = torch.zeros(6), torch.ones(6)
    bright = c.map_colours(images, c.colour_matrices(one * 1.3, one, zero), torch.zeros(6, 3))
    assert torch.allclose(bright, tv.adjust_brightness(images, 1.3), atol=1e-5)
    for factor in (0.0, 0.6, 1.2):
        own = c.map_colours(images, c.colour_matrices(one, one * factor, zero), torch.zeros(6, 3)).clamp(0, 1)
        # torchvision's grey has the weights 0.2989, 0.587, 0.114.
        assert torch.allclose(own, tv.adjust_saturation(images, factor), atol=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_contrast_is_torchvisions(seed: int) -> None:
    images = some_images(1)
    own = c.Jitter(contrast=0.4)(images, seeded(seed))
    generator = seeded(seed)
    torch.rand(2, generator=generator)  # whether, brightness
    factor = float(0.6 + 0.8 * torch.rand(1, generator=generator))
    assert torch.allclose(own, tv.adjust_contrast(images, factor), atol=1e-3)


def test_hue_turns_as_far_as_asked_and_keeps_the_luminance() -> None:
    colour = torch.tensor([0.62, 0.45, 0.55])[None, :, None, None].expand(1, 3, 2, 2)
    for share in (-0.05, 0.02, 0.05):
        angle = torch.tensor([share * 2 * math.pi])
        out = c.map_colours(colour, c.colour_matrices(torch.ones(1), torch.ones(1), angle), torch.zeros(1, 3))
        assert torch.allclose(c.luminance(out), c.luminance(colour), atol=1e-4)
        before, after = (colorsys.rgb_to_hsv(*image[0, :, 0, 0].tolist())[0] for image in (colour, out))
        assert abs(after - before) == pytest.approx(abs(share), rel=0.5)
    full = c.colour_matrices(torch.ones(1), torch.ones(1), torch.tensor([2 * math.pi]))
    assert torch.allclose(full, torch.eye(3)[None], atol=1e-5)


def test_stain_jitter_against_the_formula_in_double_precision() -> None:
    images = some_images()
    images[:, :, :3, :3] = 0.0
    alpha, beta = torch.rand(6, 3) + 0.5, torch.rand(6, 3) * 0.1 - 0.05
    matrix = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105], [0.268, 0.570, 0.776]])
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    pixels = images.double().permute(0, 2, 3, 1).numpy()
    density = -np.log(np.maximum(pixels, 1 / 255))
    amounts = density @ np.linalg.inv(matrix)
    changed = amounts * alpha.double().numpy()[:, None, None] + beta.double().numpy()[:, None, None]
    expected = np.exp(-changed @ matrix).clip(0, 1)
    own = c.jitter_stains(images, alpha, beta).permute(0, 2, 3, 1).numpy()
    assert np.abs(own - expected).max() < 1e-5


def test_stain_jitter_leaves_white_and_scales_a_pure_stain() -> None:
    ones, zeros = torch.ones(1, 3), torch.zeros(1, 3)
    assert torch.equal(c.jitter_stains(torch.ones(1, 3, 2, 2), ones * 1.3, zeros), torch.ones(1, 3, 2, 2))
    eosin = F.normalize(torch.tensor(c.STAINS), dim=1)[1]
    image = torch.exp(-0.5 * eosin)[None, :, None, None].expand(1, 3, 2, 2)
    stronger = c.jitter_stains(image, torch.tensor([[1.0, 1.4, 1.0]]), zeros)
    assert torch.allclose(stronger[0, :, 0, 0], torch.exp(-0.7 * eosin), atol=1e-5)
    hematoxylin_alone = c.jitter_stains(image, torch.tensor([[1.7, 1.0, 1.0]]), zeros)
    assert torch.allclose(hematoxylin_alone, image, atol=1e-5)


def test_gamma_posterize_solarize_autocontrast_are_torchvisions() -> None:
    levels = torch.arange(256).div(255).repeat(3, 1).reshape(1, 3, 16, 16)
    for bits in (3, 5):
        bytes_ = tv.posterize(levels.mul(255).round().to(torch.uint8), bits)
        assert torch.equal(c.Posterize(bits, 1)(levels, seeded()).mul(255).round().to(torch.uint8), bytes_)
    images = some_images()
    assert torch.allclose(c.Solarize(0.6, 1)(images, seeded()), tv.solarize(images, 0.6), atol=1e-6)
    narrow = images * 0.5 + 0.2
    narrow[1, 2] = 0.4  # a flat channel stays
    assert torch.allclose(c.stretched(narrow), tv.autocontrast(narrow), atol=1e-5)
    generator = seeded(4)
    torch.rand(6, generator=generator)
    bound = math.log(2.0)
    gamma = torch.exp(-bound + 2 * bound * torch.rand(6, generator=generator))
    out = c.Gamma(2.0, 1.0)(images, seeded(4))
    for i in range(6):
        assert torch.allclose(out[i], tv.adjust_gamma(images[i], float(gamma[i])), atol=1e-5)
