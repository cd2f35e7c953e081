"""The renderer: stain law, determinism, what depends on what, and that it looks like tissue."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from atypia.base.errors import InputError
from atypia.data.phantom.chromatin import MORPHOLOGIES, Arms, mass_field
from atypia.data.phantom.domains import DOMAINS, PhantomDomain
from atypia.data.phantom.fields import fibre_pair, smooth_pair, step
from atypia.data.phantom.optics import jpeg_cycle, scanned, transmitted, unit_vector
from atypia.data.phantom.render import case_stain, render_crop
from atypia.data.phantom.sheet import domain_sheet, save_sheet, severity_sheet

ROSE = DOMAINS["rose"]
PLAIN = replace(
    ROSE, blur_px=0, sharpening=0, noise=0, jpeg_quality=95, glare=0, gamma=1, saturation=1, white=(1.0, 1.0, 1.0)
)
"""A scanner that stores what it sees."""


def dark_pieces(crop: np.ndarray, below: float = 75.0, reach_px: float = 34.0) -> list[int]:
    """Areas of the dark connected pieces near the centre, largest first, specks left out."""
    y, x = np.mgrid[:128, :128] - 63.5
    mask = (crop.mean(axis=2) < below) & (np.hypot(x, y) < reach_px)
    sizes = np.bincount(ndimage.label(mask)[0].ravel())[1:]
    return sorted((int(s) for s in sizes if s > 25), reverse=True)


def test_light_follows_beer_lambert_by_hand():
    one = np.ones((128, 128), dtype=np.float32)
    vector = np.array([0.5, 0.3, 0.1], dtype=np.float32)
    other = np.array([0.0, 0.2, 0.0], dtype=np.float32)
    light = transmitted(2 * one, one, vector, other)
    # 10^-(2·0.5), 10^-(2·0.3 + 0.2), 10^-(2·0.1)
    assert light[3, 4] == pytest.approx([0.1, 0.158489, 0.630957], rel=1e-5)


def test_stain_vectors_have_unit_length_and_keep_their_direction():
    vector = unit_vector([0.3, 0.4, 1e-9])
    assert vector == pytest.approx([0.6, 0.8, 0.0], abs=1e-6)


def test_empty_glass_is_the_white_point():
    light = np.ones((128, 128, 3), dtype=np.float32)
    domain = replace(PLAIN, white=(0.9, 0.8, 0.7))
    pixels = scanned(light, domain, 0.0, np.random.default_rng(0))
    assert np.abs(pixels.reshape(-1, 3).mean(0) - [229.5, 204, 178.5]).max() < 1.5


def test_noise_grows_with_the_root_of_the_light():
    # Grey at transmittance 0.5, so that nothing is cut off: sd = noise · sqrt(0.5 + 0.05).
    light = np.full((128, 128, 3), 0.5, dtype=np.float32)
    domain = replace(PLAIN, noise=8.0)
    grey = scanned(light, domain, 0.0, np.random.default_rng(0)) @ np.array([0.299, 0.587, 0.114])
    # Grey averages three independent colours; compression adds a little.
    assert grey.std() == pytest.approx(8 * 0.55**0.5 * (0.299**2 + 0.587**2 + 0.114**2) ** 0.5, rel=0.12)


def test_zero_saturation_leaves_grey():
    crop = render_crop(replace(PLAIN, saturation=0.001), "metaphase", 0.1, 0, 0)
    assert np.ptp(crop.astype(int), axis=2).max() <= 3


def test_stronger_compression_loses_more():
    crop = render_crop(PLAIN, "metaphase", 0.1, 0, 0)
    errors = [np.abs(jpeg_cycle(crop, q).astype(int) - crop).mean() for q in (95, 75, 30)]
    assert errors[0] < errors[1] < errors[2]


def test_defocus_removes_detail():
    sharp, soft = (
        render_crop(replace(PLAIN, blur_px=b), "prometaphase", 0.1, 0, 1).astype(float).mean(2) for b in (0.2, 2.5)
    )
    assert ndimage.laplace(soft).std() < 0.4 * ndimage.laplace(sharp).std()


def test_fields_have_zero_mean_unit_variance_and_the_smoothness_asked_for():
    rng = np.random.default_rng(0)
    fields = np.stack([f for _ in range(12) for f in smooth_pair(rng, 2.0)])
    assert abs(fields.mean()) < 1e-5
    assert fields.var() == pytest.approx(1, abs=0.05)
    # White noise smoothed with sigma s has autocorrelation exp(-d²/4s²).
    lag4 = (fields * np.roll(fields, 4, axis=2)).mean()
    assert lag4 == pytest.approx(np.exp(-16 / 16), abs=0.05)
    strands, _ = fibre_pair(rng, 0.0, 20.0, 1.0)
    along, across = ((strands * np.roll(strands, 4, axis=k)).mean() / strands.var() for k in (1, 0))
    # exp(-16/1600) along the fibres, exp(-16/4) across them.
    assert along > 0.95
    assert across < 0.2


def test_step_is_soft_and_exact_at_its_ends():
    assert step(np.array([-5, -1, 0, 1, 5.0]), 2.0).tolist() == [0, 0, 0.5, 1, 1]


def test_mass_of_one_arm_is_where_it_was_put():
    arm = Arms(np.array([[4.0, 0.0]]), np.zeros(1), np.full(1, 0.5), np.ones(1))
    mass = mass_field(arm, 1.0, np.pi / 2, (3.0, -2.0), np.random.default_rng(0))
    cy, cx = ndimage.center_of_mass(mass)
    # 4 µm along an axis that points down: 18.4 px (0.25 µm/px, cells 1.15 times ordinary size).
    assert (cx - 63.5, cy - 63.5) == pytest.approx((3.0, -2.0 + 18.4), abs=0.3)


def test_crop_is_a_pure_function_of_its_arguments():
    first = render_crop(ROSE, "ring", 0.8, 5, 17, 3)
    assert first.shape == (128, 128, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, render_crop(ROSE, "ring", 0.8, 5, 17, 3))
    different = [
        render_crop(ROSE, "ring", 0.8, 6, 17, 3),
        render_crop(ROSE, "ring", 0.8, 5, 18, 3),
        render_crop(ROSE, "ring", 0.8, 5, 17, 4),
        render_crop(ROSE, "ring", 0.3, 5, 17, 3),
        render_crop(DOMAINS["ash"], "ring", 0.8, 5, 17, 3),
    ]
    assert len({hashlib.sha256(c.tobytes()).hexdigest() for c in [first, *different]}) == 6


@pytest.mark.parametrize("figure", range(4))
def test_surroundings_do_not_know_the_morphology(figure: int):
    crops = [render_crop(ROSE, name, 0.9, 3, figure).astype(int) for name in MORPHOLOGIES]
    y, x = np.mgrid[:128, :128] - 63.5
    # The dividing cell, at most 42 px · 1.12 in radius and longer in anaphase, ends well before the corners.
    outside = np.hypot(x, y) > 84
    assert outside.sum() > 150
    for crop in crops[1:]:
        assert np.array_equal(crop[outside], crops[0][outside])


@pytest.mark.parametrize("name", list(MORPHOLOGIES))
@pytest.mark.parametrize("severity", [0.0, 1.0])
def test_every_morphology_puts_dark_chromatin_in_the_middle(name: str, severity: float):
    crop = render_crop(PLAIN, name, severity, 0, 7).astype(float)
    y, x = np.mgrid[:128, :128] - 63.5
    dark = (crop.mean(2) < 80) & (np.hypot(x, y) < 40)
    assert 120 < dark.sum() < 2600
    # Hematoxylin: darkest in green, brightest in blue or red.
    colour = crop[dark].mean(0)
    assert colour[1] < colour[0]
    assert colour[1] < colour[2]


def test_severity_develops_the_morphology():
    def mean_share(name: str, severity: float) -> float:
        shares = []
        for figure in range(8):
            pieces = dark_pieces(render_crop(PLAIN, name, severity, 1, figure))
            shares.append(pieces[1] / pieces[0] if len(pieces) > 1 else 0.0)
        return float(np.mean(shares))

    # Sister plates are alike at first and unequal in the end.
    assert mean_share("asymmetric", 0.0) > 0.6 > 0.45 > mean_share("asymmetric", 1.0)


def test_ring_opens_with_severity():
    y, x = np.mgrid[:128, :128] - 63.5
    middle = np.hypot(x, y) < 4

    def grey(severity: float) -> float:
        return float(np.median([render_crop(PLAIN, "ring", severity, 1, k)[middle].mean() for k in range(8)]))

    # The middle of a plate seen from its pole is chromatin, that of a ring is cytoplasm.
    assert grey(0.0) < 100 < 115 < grey(1.0)


def test_counterparts_are_of_the_other_class():
    for shape in MORPHOLOGIES.values():
        assert MORPHOLOGIES[shape.counterpart].atypical != shape.atypical
    assert sum(s.atypical for s in MORPHOLOGIES.values()) == 7
    assert len(MORPHOLOGIES) == 12


def test_cases_vary_about_their_domain():
    strengths = np.array([case_stain(ROSE, 0, case).strengths for case in range(300)])
    assert np.log(strengths).std(0) == pytest.approx([ROSE.stain_sd] * 2, rel=0.15)
    vectors = np.stack([case_stain(ROSE, 0, case).hematoxylin for case in range(300)])
    assert vectors.mean(0) == pytest.approx(unit_vector(ROSE.hematoxylin), abs=0.01)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(300), abs=1e-6)


def test_domains_differ_in_colour_more_than_their_cases():
    means = {
        name: np.stack([render_crop(d, "metaphase", 0.1, 2, k, k).mean((0, 1)) for k in range(5)])
        for name, d in DOMAINS.items()
    }
    assert len(means) >= 4
    centres = np.stack([m.mean(0) for m in means.values()])
    within = np.mean([m.std(0).max() for m in means.values()])
    gaps = [np.abs(a - b).max() for i, a in enumerate(centres) for b in centres[i + 1 :]]
    assert min(gaps) > 0.8 * within


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"jpeg_quality": 0}, "`jpeg_quality` must be between 1 and 95, got 0"),
        ({"atypia_rate": 1.5}, "`atypia_rate` must be between 0.01 and 0.99, got 1.5"),
        ({"white": (1.2, 1.0, 1.0)}, "`white` must be three numbers"),
        ({"eosin": (0.1, 0.2)}, "`eosin` must be three numbers"),
        ({"blur_px": float("nan")}, "`blur_px` must be between 0 and 10, got nan"),
    ],
)
def test_domain_out_of_range_is_refused(change: dict, message: str):
    with pytest.raises(InputError, match=message):
        replace(ROSE, **change)


def test_bad_arguments_are_refused():
    with pytest.raises(InputError, match=r"`severity` must be between 0 and 1, got 1\.2"):
        render_crop(ROSE, "ring", 1.2, 0, 0)
    with pytest.raises(InputError, match="unknown morphology 'rnig'; did you mean 'ring'"):
        render_crop(ROSE, "rnig", 0.5, 0, 0)


def test_domain_is_json():
    values = DOMAINS["ash"].to_json()
    assert values["white"] == [0.94, 0.925, 0.9]
    assert PhantomDomain(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}) == DOMAINS["ash"]


def test_sheets_show_every_domain_and_morphology(tmp_path):
    sheet = domain_sheet(1)
    assert sheet.width > 7 * 128
    assert sheet.height > 4 * 128
    assert severity_sheet("violet").height > 7 * 128
    file = save_sheet(sheet, tmp_path / "sheet.png")
    assert file.stat().st_size < 600_000
