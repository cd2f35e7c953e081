"""Measures of crops and distances from laboratories, by hand and on altered crops."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from atypia.base.errors import InputError
from atypia.data.images.appearance import MEASURES, appearance
from atypia.statistics.drift import FEWEST, LEVELS, MeasureRange, departure, measure_range


def textured(n: int = 6, seed: int = 0) -> list[Image.Image]:
    """Smooth noise in two stains, with some fine grain, 128 px."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        coarse = Image.fromarray((255 * rng.random((16, 16))).astype(np.uint8)).resize(
            (128, 128), Image.Resampling.BICUBIC
        )
        mixed = np.asarray(coarse, dtype=np.float64)[..., None] / 255
        pixels = mixed * np.array([150, 90, 160]) + (1 - mixed) * np.array([240, 220, 235])
        found.append(Image.fromarray((pixels + rng.normal(0, 5, pixels.shape)).clip(0, 255).astype(np.uint8)))
    return found


def measures(crops: list[Image.Image]) -> dict[str, float]:
    found = appearance(np.stack([np.asarray(crop) for crop in crops]))
    assert set(found) == set(MEASURES) and all(np.isfinite(values).all() for values in found.values())
    return {name: float(np.median(values)) for name, values in found.items()}


def test_colours_by_hand() -> None:
    crop = np.zeros((1, 20, 20, 3), np.uint8)
    crop[:] = (24, 255, 99)  # OD log10(256 / 25), 0, log10(2.56)
    found = appearance(crop)
    red, blue = np.log10(256 / 25), np.log10(2.56)
    assert found["darkness"][0] == pytest.approx((red + blue) / 3, rel=1e-5)
    assert found["red_absorbed"][0] == pytest.approx(red / (red + blue), rel=1e-5)
    assert found["blue_absorbed"][0] == pytest.approx(blue / (red + blue), rel=1e-5)
    assert found["contrast"][0] == pytest.approx(0, abs=1e-6)
    ramp = np.repeat((np.arange(32) * 4).astype(np.uint8)[None, :, None], 32, 0).repeat(3, 2)[None]
    # squared differences 16 and 64 along one of two directions
    assert appearance(ramp)["sharpness"][0] == pytest.approx(-2, abs=1e-3)


def test_each_alteration_moves_its_measure() -> None:
    crops = textured()
    plain = measures(crops)
    blurred = measures([crop.filter(ImageFilter.GaussianBlur(1)) for crop in crops])
    assert blurred["sharpness"] < plain["sharpness"] - 0.3

    def stored(crop: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        crop.save(buffer, "JPEG", quality=10)
        return Image.open(buffer).convert("RGB").crop((3, 5, 115, 117))  # wherever the blocks begin

    assert measures([stored(crop) for crop in crops])["blocks"] > plain["blocks"] + 0.5
    enlarged = measures([crop.crop((32, 32, 96, 96)).resize((128, 128), Image.Resampling.BICUBIC) for crop in crops])
    assert enlarged["grain"] < plain["grain"] - 0.3
    dyed = measures([Image.fromarray((255 * (np.asarray(crop) / 255) ** [1, 1, 2]).astype(np.uint8)) for crop in crops])
    assert dyed["blue_absorbed"] > plain["blue_absorbed"] + 0.05


def test_distance_by_hand() -> None:
    values = np.repeat([1.0, 2.0, 3.0, 4.0, 5.0], FEWEST)  # five cases without spread within
    cases = [f"case {i}" for i in range(5) for _ in range(FEWEST)]
    known = measure_range([*values, np.nan], [*cases, None])
    assert known.cases == (1.0, 2.0, 3.0, 4.0, 5.0) and len(known.figures) == len(LEVELS)
    assert known.between_cases == pytest.approx(2 / 1.349)
    inside, above = (departure(np.full(10, at), [known]) for at in (4.5, 5 + 3 * 2 / 1.349))
    assert inside is not None and inside.distance == 0 and inside.like
    assert above is not None and above.distance == pytest.approx(3) and above.unlike and not above.like
    below = departure(np.full(10, 1 - 1.5 * 2 / 1.349), [known])
    assert below is not None and below.distance == pytest.approx(-1.5) and not below.like and not below.unlike
    other = MeasureRange(tuple([9.0] * 7), (8.0, 9.0, 9.0, 9.0, 10.0))
    between = departure(np.full(10, 7.0), [known, other])
    assert between is not None and between.distance == 0  # between laboratories
    wide = departure(np.tile([6.0, 12.0], 5), [known])  # its own figures vary: its median is less sure
    assert wide is not None and wide.distance < (9 - 5) / known.between_cases
    assert departure([1.0] * (FEWEST - 1) + [np.nan] * 5, [known]) is None


def test_a_laboratory_whose_cases_are_not_known_does_not_narrow_the_spread_of_the_others() -> None:
    values = np.repeat([1.0, 2.0, 3.0, 4.0, 5.0], FEWEST)
    known = measure_range(values, [f"case {i}" for i in range(5) for _ in range(FEWEST)])
    unknown = measure_range(values, [None] * len(values))  # one median stands for its cases
    assert known.cases_known and not unknown.cases_known and unknown.between_cases == 0
    alone, beside = (departure(np.full(10, 9.0), one) for one in ([known], [known, unknown]))
    assert alone is not None and beside is not None and beside.distance == pytest.approx(alone.distance)
    constant = measure_range([0.25] * 20, [None] * 20)
    assert constant.cases_known, "all figures are alike, and so are cases"


def test_a_least_spread_stands_for_none() -> None:
    scanners = [measure_range([at] * 20, [None] * 20) for at in (0.23, 0.25)]
    same, near, far = (departure(np.full(10, at), scanners, least=0.05) for at in (0.2501, 0.225, 0.3))
    assert same is not None and same.distance == pytest.approx(0.0001 / 0.0125) and same.like
    assert near is not None and near.distance == pytest.approx(-0.005 / 0.0115)
    assert far is not None and far.distance == pytest.approx(4) and far.unlike
    bare = departure(np.full(10, 0.2501), scanners)
    assert bare is not None and bare.distance == np.inf


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(InputError, match=r"crops.*must be uint8 of shape"):
        appearance(np.zeros((2, 64, 64), np.uint8))
    with pytest.raises(InputError, match=r"values.*must be two that are known"):
        measure_range([1.0, np.nan], ["a", "b"])
    with pytest.raises(InputError, match=r"cases.*must be 5 finite quantiles"):
        MeasureRange(tuple(map(float, range(7))), (2.0, 1.0, 3.0, 4.0, 5.0))
