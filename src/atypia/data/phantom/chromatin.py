"""Shapes of mitotic figures: positions of the chromosomes for each morphology and severity.

A figure is a set of chromosome arms, each a short bent chain of Gaussian blobs, in micrometres
around the figure's centre with the spindle axis along x. Severity 0 of an atypical morphology is
its normal counterpart (a ring without a hole is a plate seen from the pole) and severity 1 the
full picture, so that raters may disagree on everything in between.

The morphologies are those that published definitions of atypical mitosis list: multipolar,
ring-shaped and disorganised metaphases; lagging or bridging chromosomes and asymmetric
segregation in anaphase and telophase.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atypia.base.registry import Registry
from atypia.data.phantom.fields import CROP_MPP, Field, grid_px

Points = npt.NDArray[np.float64]
"""Positions (n, 2) in µm: along the spindle axis, across it."""


@dataclass(frozen=True)
class Arms:
    """Chromosome arms of a figure.

    Attributes:
        centre_um: Middle of each arm, (n, 2): along the spindle axis, across it.
        angle: Direction of each arm in radians from the spindle axis, (n,).
        length_um: Length of each arm, (n,).
        width: Thickness relative to an ordinary chromosome, (n,).
    """

    centre_um: Points
    angle: npt.NDArray[np.float64]
    length_um: npt.NDArray[np.float64]
    width: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Morphology:
    """One way in which a mitotic figure can look.

    Attributes:
        name: The field's term.
        atypical: Whether its full picture is atypical.
        counterpart: Name used by a rater who votes for the other class.
        poles_um: How far the daughter plates are apart, which lengthens the cell; 0 before anaphase.
        draw: Places ``count`` arms at a severity in [0, 1].
    """

    name: str
    atypical: bool
    counterpart: str
    poles_um: float
    draw: Callable[[np.random.Generator, int, float], Arms]


SCALE = 1.15
"""Tumour cells are large: all lengths below are those of an ordinary cell and grow by this factor."""

MORPHOLOGIES: Registry[Morphology] = Registry("morphology")
"""All morphologies, the normal ones first."""


Draw = Callable[[np.random.Generator, int, float], Arms]


def _normal(name: str, atypical: str, poles_um: float = 0.0) -> Callable[[Draw], Draw]:
    def decorate(draw: Draw) -> Draw:
        MORPHOLOGIES.add(name, Morphology(name, False, atypical, poles_um, draw))
        return draw

    return decorate


def _atypical(name: str, normal: str, poles_um: float = 0.0) -> Callable[[Draw], Draw]:
    def decorate(draw: Draw) -> Draw:
        MORPHOLOGIES.add(name, Morphology(name, True, normal, poles_um, draw))
        return draw

    return decorate


def _arms(
    rng: np.random.Generator,
    centre_um: Points,
    angle: npt.NDArray[np.float64],
    length_um: float = 1.5,
    width: float = 1.0,
) -> Arms:
    n = len(centre_um)
    lengths = length_um * rng.uniform(0.6, 1.4, n)
    return Arms(centre_um, angle, lengths, width * rng.uniform(0.8, 1.2, n))


def _joined(*parts: Arms) -> Arms:
    return Arms(
        np.concatenate([p.centre_um for p in parts]),
        np.concatenate([p.angle for p in parts]),
        np.concatenate([p.length_um for p in parts]),
        np.concatenate([p.width for p in parts]),
    )


def _disc(rng: np.random.Generator, count: int, radius_um: float, squash: float = 1.0) -> Points:
    radius = radius_um * np.sqrt(rng.uniform(0, 1, count))
    turn = rng.uniform(0, 2 * np.pi, count)
    return np.stack([radius * np.cos(turn) * squash, radius * np.sin(turn)], axis=1)


def _bar(rng: np.random.Generator, count: int, half_um: float, thick_um: float, bend: float) -> Points:
    """A plate across the axis, bent by ``bend`` µm at its ends."""
    across = half_um * rng.uniform(-1, 1, count) * rng.uniform(0.85, 1.0, count)
    along = rng.normal(0, thick_um, count) + bend * (across / half_um) ** 2
    return np.stack([along, across], axis=1)


def _plate_half_um(count: int) -> float:
    # A metaphase plate widens with the amount of chromatin; 46 chromosomes make about 9 µm.
    return 4.6 * (count / 46) ** 0.5


def _plate(rng: np.random.Generator, count: int, ragged: float, thick_um: float = 0.55) -> Arms:
    half = _plate_half_um(count)
    centre = _bar(rng, count, half, thick_um * (1 + 0.8 * ragged), rng.normal(0, 0.35 + 0.6 * ragged))
    along_axis = rng.normal(0, 0.5 + 0.6 * ragged, count) + np.where(rng.uniform(size=count) < 0.5, 0, np.pi / 2)
    return _arms(rng, centre, along_axis)


def _daughters(
    rng: np.random.Generator,
    count: int,
    poles_um: float,
    shares: tuple[float, float] = (0.5, 0.5),
    tilt: float = 0.0,
    compact: float = 0.0,
) -> Arms:
    """Two plates of sister chromatids, arms trailing towards the equator."""
    parts = []
    wobble = rng.normal(0, 0.12)
    for side, share in zip((-1, 1), shares, strict=True):
        n = max(3, round(count * share))
        half = _plate_half_um(n) * (1.22 - 0.28 * compact)
        centre = _bar(rng, n, half, 0.42 + 0.18 * compact, rng.uniform(0.2, 1.3) * (1 - 0.6 * compact))
        turn = wobble + tilt * side + rng.normal(0, 0.08)
        # The bend opens away from the equator's side: V-shaped chromatids are pulled by their middle.
        centre = centre * np.array([-side, 1.0])
        c, s = np.cos(turn), np.sin(turn)
        centre = centre @ np.array([[c, s], [-s, c]]) + np.array([side * poles_um / 2, rng.normal(0, 0.25)])
        parts.append(_arms(rng, centre, rng.normal(0, 0.55, n), 1.5 - 0.5 * compact))
    return _joined(*parts)


@_normal("prometaphase", "disorganised")
def _prometaphase(rng: np.random.Generator, count: int, severity: float) -> Arms:
    radius = 3.7 * (count / 46) ** 0.5 * rng.uniform(0.85, 1.15)
    centre = _disc(rng, count, radius, rng.uniform(0.7, 1.0))
    # The spindle clears the middle a little: chromosomes gather towards the rim.
    centre *= 1 + 0.25 * rng.uniform(0, 1) * (1 - np.linalg.norm(centre, axis=1, keepdims=True) / radius)
    centre += rng.normal(0, 0.25 + 0.5 * severity, centre.shape)
    return _arms(rng, centre, rng.uniform(0, np.pi, count), rng.uniform(1.4, 2.3))


@_normal("metaphase", "disorganised")
def _metaphase(rng: np.random.Generator, count: int, severity: float) -> Arms:
    return _plate(rng, count, 0.2 * rng.uniform() + severity, rng.uniform(0.42, 0.75))


@_normal("polar metaphase", "ring")
def _polar(rng: np.random.Generator, count: int, severity: float) -> Arms:
    return _rosette(rng, count, 0.9 * severity + 0.25 * rng.uniform())


def _rosette(rng: np.random.Generator, count: int, hole: float, gap: float = 0.0) -> Arms:
    """A plate seen from the pole: arms point outwards; ``hole`` 1 leaves a ring, ``gap`` opens it."""
    outer = 3.3 * (count / 46) ** 0.5 * (1 + 0.3 * hole)
    inner = outer * 0.66 * hole
    radius = np.sqrt(rng.uniform(inner**2, outer**2, count))
    turn = rng.uniform(gap / 2, 2 * np.pi - gap / 2, count) + rng.uniform(0, 2 * np.pi)
    squash = rng.uniform(0.78, 1.0)
    lobes = 1 + 0.1 * np.sin(rng.integers(2, 5) * turn + rng.uniform(0, 6.3))
    centre = np.stack([radius * lobes * np.cos(turn) * squash, radius * lobes * np.sin(turn)], axis=1)
    pointing = turn + rng.normal(0, 0.5, count) + (np.pi / 2) * (rng.uniform(size=count) < 0.6 * hole)
    return _arms(rng, centre, pointing, 1.5)


@_normal("anaphase", "lagging", poles_um=6.0)
def _anaphase(rng: np.random.Generator, count: int, severity: float) -> Arms:
    return _daughters(rng, count, _anaphase_um(rng), tilt=0.15 * severity * rng.normal())


def _anaphase_um(rng: np.random.Generator) -> float:
    return float(rng.uniform(3.8, 7.5))


@_normal("telophase", "asymmetric", poles_um=11.0)
def _telophase(rng: np.random.Generator, count: int, severity: float) -> Arms:
    return _daughters(rng, count, rng.uniform(8.5, 12.5), tilt=0.3 * rng.normal() * (0.5 + severity), compact=1.0)


def _star(rng: np.random.Generator, count: int, severity: float, poles: int) -> Arms:
    """A plate with as many arms as poles; at severity 0 two arms in line make an ordinary plate."""
    # Directions at severity 0 and 1. Three arms open evenly; four are a cross from the beginning.
    start = np.array([np.pi / 2, -np.pi / 2, 0.0, np.pi])[:poles]
    even = np.array([2 * np.pi / 3, -2 * np.pi / 3, 0.0]) if poles == 3 else start
    turn = start + (even - start) * severity + rng.normal(0, 0.14, poles)
    reach = np.array([1.0, 1.0, *([severity] * (poles - 2))]) * rng.uniform(0.8, 1.2, poles)
    share = reach / reach.sum()
    length = _plate_half_um(count) * reach * (2.4 / reach.sum()) ** 0.5 * 1.08
    parts = []
    for k in range(poles):
        n = round(count * share[k])
        if n < 1:
            continue
        along = length[k] * rng.uniform(0, 1, n) ** 0.8
        aside = rng.normal(0, 0.5, n)
        c, s = np.cos(turn[k]), np.sin(turn[k])
        centre = np.stack([along * c - aside * s, along * s + aside * c], axis=1)
        parts.append(_arms(rng, centre, turn[k] + rng.normal(0, 0.8, n) + np.pi / 2))
    return _joined(*parts)


def _multipolar(rng: np.random.Generator, count: int, severity: float, poles: int) -> Arms:
    # Half are metaphase stars, half have moved apart into as many groups as poles.
    if rng.uniform() < 0.55:
        return _star(rng, count, severity, poles)
    apart = rng.uniform(3.2, 5.0)
    turn = np.array([0.0, np.pi, np.pi / 2, -np.pi / 2])[:poles]
    if poles == 3:
        turn = turn + severity * np.array([-0.42, 0.42, 0.0])
    weight = np.array([1.0, 1.0, *([severity] * (poles - 2))]) * rng.uniform(0.75, 1.25, poles)
    share = weight / weight.sum()
    parts = []
    for k in range(poles):
        n = round(count * share[k])
        if n < 1:
            continue
        centre = _bar(rng, n, _plate_half_um(n) * 1.05, 0.5, rng.uniform(0, 0.6))
        c, s = np.cos(turn[k]), np.sin(turn[k])
        centre = np.stack([apart - centre[:, 0], centre[:, 1]], axis=1)
        centre = np.stack([centre[:, 0] * c - centre[:, 1] * s, centre[:, 0] * s + centre[:, 1] * c], axis=1)
        parts.append(_arms(rng, centre, turn[k] + rng.normal(0, 0.6, n), 1.4))
    return _joined(*parts)


@_atypical("tripolar", "metaphase")
def _tripolar(rng: np.random.Generator, count: int, severity: float) -> Arms:
    return _multipolar(rng, count, severity, 3)


@_atypical("tetrapolar", "metaphase")
def _tetrapolar(rng: np.random.Generator, count: int, severity: float) -> Arms:
    return _multipolar(rng, count, severity, 4)


@_atypical("lagging", "anaphase", poles_um=6.0)
def _lagging(rng: np.random.Generator, count: int, severity: float) -> Arms:
    poles = _anaphase_um(rng) * (1 + 0.25 * severity)
    late = int(rng.integers(2, 8))
    plates = _daughters(rng, count - late, poles)
    # How far the late chromosomes stay behind their plate grows with severity.
    side = rng.choice([-1.0, 1.0], late)
    along = side * poles / 2 * (1 - severity * rng.uniform(0.7, 1.1, late))
    centre = np.stack([along, rng.normal(0, 1.2, late)], axis=1)
    return _joined(plates, _arms(rng, centre, rng.normal(0, 0.5, late), 1.7, 1.0 + 0.4 * severity))


@_atypical("bridging", "anaphase", poles_um=6.0)
def _bridging(rng: np.random.Generator, count: int, severity: float) -> Arms:
    poles = _anaphase_um(rng) * (1 + 0.2 * severity)
    parts = [_daughters(rng, count, poles)]
    for _ in range(int(rng.integers(1, 5))):
        steps = max(4, round(poles / 0.55))
        t = np.linspace(-0.5, 0.5, steps)
        start, end = rng.normal(0, 1.1, 2)
        bow = rng.normal(0, 0.5)
        centre = np.stack([t * poles, start + (end - start) * (t + 0.5) + bow * np.cos(np.pi * t)], axis=1)
        # A faint bridge breaks in the middle before it vanishes.
        kept = np.abs(t) > 0.5 * (1 - severity) * rng.uniform(0.6, 1.2)
        slope = np.full(int(kept.sum()), np.arctan2(end - start, poles))
        if len(slope):
            parts.append(_arms(rng, centre[kept], slope, 0.9, 0.6 + 0.6 * severity))
    return _joined(*parts)


@_atypical("asymmetric", "anaphase", poles_um=8.0)
def _asymmetric(rng: np.random.Generator, count: int, severity: float) -> Arms:
    lesser = 0.5 - severity * rng.uniform(0.25, 0.4)
    shares = (lesser, 1 - lesser) if rng.uniform() < 0.5 else (1 - lesser, lesser)
    tilt = rng.normal(0, 0.35) * severity
    return _daughters(rng, count, rng.uniform(5.0, 10.0), shares, tilt=tilt, compact=rng.uniform())


@_atypical("ring", "polar metaphase")
def _ring(rng: np.random.Generator, count: int, severity: float) -> Arms:
    open_ring = rng.uniform() < 0.35
    gap = severity * rng.uniform(0.5, 1.6) if open_ring else 0.0
    return _rosette(rng, count, 0.3 + 0.75 * severity, gap)


@_atypical("disorganised", "metaphase")
def _disorganised(rng: np.random.Generator, count: int, severity: float) -> Arms:
    stray = round(severity * rng.uniform(0.2, 0.45) * count)
    plate = _plate(rng, count - stray, 0.3 + 0.9 * severity)
    # The plate breaks: one piece tilts away, and single chromosomes lie off it.
    turn = severity * rng.uniform(0.3, 1.0) * rng.choice([-1.0, 1.0])
    upper = plate.centre_um[:, 1] > rng.normal(0, 1)
    c, s = np.cos(turn), np.sin(turn)
    bent = plate.centre_um.copy()
    bent[upper] = bent[upper] @ np.array([[c, s], [-s, c]]) + severity * rng.normal(0, 0.8, 2)
    plate = Arms(bent, plate.angle, plate.length_um, plate.width)
    if not stray:
        return plate
    groups = rng.normal(0, 1.0, (4, 2)) * np.array([3.4, 2.8])
    centre = groups[rng.integers(0, 4, stray)] + rng.normal(0, 0.7, (stray, 2))
    return _joined(plate, _arms(rng, centre, rng.uniform(0, np.pi, stray)))


def mass_field(
    arms: Arms, size: float, angle: float, centre_px: tuple[float, float], rng: np.random.Generator
) -> Field:
    """Amount of chromatin along the line of sight, in units of one chromosome's axis.

    Args:
        arms: What to draw.
        size: Factor on all lengths.
        angle: Direction of the spindle axis in radians, from x towards y (down).
        centre_px: Figure centre (x, y) relative to the crop's centre.
        rng: Draws each arm's bend.

    Returns:
        Shape (128, 128), zero far away; about 1.4 on a single chromosome, 3 to 8 in a plate.
    """
    n, links = len(arms.angle), 4
    t = np.linspace(-0.5, 0.5, links)
    bend = rng.normal(0, 0.7, n)
    direction = arms.angle[:, None] + bend[:, None] * t
    reach = arms.length_um[:, None] * t
    along = arms.centre_um[:, :1] + reach * np.cos(direction)
    across = arms.centre_um[:, 1:] + reach * np.sin(direction)
    c, s = np.cos(angle), np.sin(angle)
    px_per_um = SCALE * size / CROP_MPP
    x_px = (along * c - across * s) * px_per_um + centre_px[0]
    y_px = (along * s + across * c) * px_per_um + centre_px[1]
    sigma_px = np.repeat(0.33 * arms.width * px_per_um, links)
    axis, _ = grid_px()
    ticks = axis[0].astype(np.float64)
    # A round Gaussian is the product of two in one dimension, so the sum over blobs is one
    # contraction; einsum keeps it off threaded libraries, whose rounding may vary.
    column, row = (
        np.exp(-0.5 * ((ticks - place.reshape(-1, 1)) / sigma_px[:, None]) ** 2).astype(np.float32)
        for place in (x_px, y_px)
    )
    return np.einsum("ny,nx->yx", row, column, optimize=False)
