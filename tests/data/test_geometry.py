"""Crop geometry: fields, borders, resampling."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atypia.base.errors import DataError, InputError
from atypia.data.images.geometry import CropGeometry, apply, mirrored, mirrored_square, resize, start_px


def gradient(width: int, height: int) -> np.ndarray:
    """Red tells the column, green the row."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, :, 0] = np.arange(width)
    image[:, :, 1] = np.arange(height)[:, None]
    return image


def test_defaults_are_the_whole_crop_at_128() -> None:
    geometry = CropGeometry()
    assert (geometry.out_px, geometry.is_whole, geometry.source_side_px(0.25)) == (128, True, None)


@pytest.mark.parametrize("bad", [0, 7, -1, 4097, 1.5, "128", True])
def test_out_px_is_checked(bad: object) -> None:
    with pytest.raises(InputError, match="`out_px` must be a whole number from 8 to 4096, got "):
        CropGeometry(out_px=bad)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("bad", [0.0, -32.0, math.nan, math.inf, "32", True])
def test_side_um_is_checked(bad: object) -> None:
    with pytest.raises(InputError, match="`side_um` must be a positive length in µm"):
        CropGeometry(side_um=bad)  # pyright: ignore[reportArgumentType]


def test_two_sides_are_one_too_many() -> None:
    with pytest.raises(InputError, match="`side_um` must be given without side_px"):
        CropGeometry(side_um=32.0, side_px=64)


def test_side_in_source_pixels() -> None:
    geometry = CropGeometry(side_um=32.0)
    assert [geometry.source_side_px(mpp) for mpp in (0.25, 0.5, 0.23, 0.2500001)] == [128, 64, 139, 128]
    assert CropGeometry(side_px=64).source_side_px(None) == 64


@pytest.mark.parametrize("mpp", [None, math.nan, 0.0, -0.25])
def test_side_um_needs_mpp(mpp: float | None) -> None:
    with pytest.raises(DataError, match=r"`mpp` must be known where side_um is set.*fix: fill the column `mpp`"):
        CropGeometry(side_um=32.0).source_side_px(mpp)


@pytest.mark.parametrize("mpp", [100.0, 0.001])
def test_absurd_fields_are_refused(mpp: float) -> None:
    with pytest.raises(DataError, match="`side_um` must be 8 to 8192 px"):
        CropGeometry(side_um=32.0).source_side_px(mpp)


def test_fingerprint_tells_geometries_apart() -> None:
    geometries = [CropGeometry(), CropGeometry(64), CropGeometry(side_px=64), CropGeometry(side_um=64.0)]
    assert len({geometry.fingerprint for geometry in geometries}) == 4
    whole_number: float = 64
    assert CropGeometry(side_um=whole_number).fingerprint == CropGeometry(side_um=64.0).fingerprint
    assert CropGeometry(np.int64(64)).fingerprint == CropGeometry(64).fingerprint  # pyright: ignore[reportArgumentType]


def test_equal_sizes_pass_through_bit_by_bit() -> None:
    image = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    np.testing.assert_array_equal(apply(image, CropGeometry()), image)
    np.testing.assert_array_equal(apply(image, CropGeometry(side_um=32.0), 0.25), image)
    np.testing.assert_array_equal(apply(image, CropGeometry(out_px=64, side_px=64)), image[32:96, 32:96])


def test_oblong_image_gives_its_centre_square() -> None:
    cropped = apply(gradient(20, 10), CropGeometry(out_px=10))
    assert cropped[0, :, 0].tolist() == list(range(5, 15))
    assert cropped[:, 0, 1].tolist() == list(range(10))


def test_larger_field_is_reflected() -> None:
    image = gradient(8, 8)
    wide = apply(image, CropGeometry(out_px=12, side_px=12))
    assert wide[0, :, 0].tolist() == [2, 1, 0, 1, 2, 3, 4, 5, 6, 7, 6, 5]
    np.testing.assert_array_equal(wide, np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="reflect"))


def test_field_of_more_than_twice_the_image_is_refused() -> None:
    assert apply(gradient(8, 8), CropGeometry(out_px=16, side_px=16)).shape == (16, 16, 3)
    with pytest.raises(DataError, match=r"`field` must be at most 2 times .*8 px.*got 17 px"):
        apply(gradient(8, 8), CropGeometry(out_px=16, side_px=17))


def test_tiny_image_is_refused() -> None:
    with pytest.raises(DataError, match="at least 8 px wide and high, got 1 × 1 px"):
        apply(np.zeros((1, 1, 3), np.uint8), CropGeometry())


@pytest.mark.parametrize("bad", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3))])
def test_other_arrays_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(DataError, match="uint8"):
        apply(bad, CropGeometry())


def test_halving_is_antialiased() -> None:
    """A checkerboard of single pixels averages to grey; without antialiasing it would alias to one colour."""
    board = np.indices((32, 32)).sum(axis=0) % 2 * 255
    halved = resize(np.repeat(board[:, :, None], 3, axis=2).astype(np.uint8), 16)
    assert np.abs(halved[2:-2, 2:-2].astype(int) - 127.5).max() <= 1


def test_bilinear_triangle_by_hand() -> None:
    """Halving weights four neighbours 1:3:3:1; at the border the part inside is renormalised."""
    ramp = np.tile(np.array([0, 0, 0, 0, 80, 80, 80, 80], np.uint8)[None, :, None], (8, 1, 3))
    assert resize(ramp, 4)[0, :, 0].tolist() == [0, 10, 70, 80]


@given(st.integers(2, 40), st.integers(-100, 100), st.integers(1, 60))
def test_mirrored_is_numpys_reflection(size: int, start: int, count: int) -> None:
    padded = np.pad(np.arange(size), 200, mode="reflect")
    assert mirrored(start, count, size).tolist() == padded[200 + start : 200 + start + count].tolist()


@given(st.floats(-50, 50), st.integers(1, 99))
def test_field_is_centred_to_half_a_pixel(centre: float, side: int) -> None:
    assert abs(start_px(centre, side) + side / 2 - centre) <= 0.5 + 1e-9


def test_square_inside_is_a_plain_slice() -> None:
    image = gradient(30, 20)
    np.testing.assert_array_equal(mirrored_square(image, 15.0, 10.0, 6), image[7:13, 12:18])
