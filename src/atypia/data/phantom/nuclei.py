"""Interphase nuclei, lymphocytes, spindle cells and erythrocytes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from atypia.data.phantom.fields import SIDE_PX, Field, grid_px, step

Density = float | npt.NDArray[np.floating]


@dataclass
class Canvas:
    """Densities of the two stains, painted on in place."""

    hematoxylin: Field
    eosin: Field

    def paint(
        self,
        cover: npt.NDArray[np.floating],
        hematoxylin: Density,
        eosin: Density,
        window: tuple[slice, slice] = (slice(None), slice(None)),
    ) -> None:
        """Lays densities over what is there.

        Args:
            cover: How much of what lies below is replaced, in [0, 1], of the window's shape.
            hematoxylin: New density.
            eosin: New density.
            window: Rows and columns that are painted.
        """
        for plane, value in ((self.hematoxylin, hematoxylin), (self.eosin, eosin)):
            below = plane[window]
            below += cover * (value - below)


class NucleusKind(Enum):
    """Chromatin patterns: base, rim, clumps (hematoxylin densities), edge width px, chance of a nucleolus."""

    VESICULAR = (0.17, 0.36, 0.22, 1.6, 0.75)
    GRANULAR = (0.32, 0.20, 0.22, 1.8, 0.45)
    DARK = (0.48, 0.14, 0.24, 2.4, 0.10)
    PALE = (0.20, 0.08, 0.10, 4.0, 0.25)
    LYMPHOCYTE = (0.62, 0.2, 0.5, 1.8, 0.0)
    SPINDLE = (0.48, 0.20, 0.25, 1.8, 0.1)


def window_px(x: float, y: float, reach: float) -> tuple[slice, slice] | None:
    """Rows and columns of a square around a point, cut at the crop's edge; None where outside."""
    half = (SIDE_PX - 1) / 2
    left, right = int(max(0, x + half - reach)), int(min(SIDE_PX, x + half + reach + 2))
    top, bottom = int(max(0, y + half - reach)), int(min(SIDE_PX, y + half + reach + 2))
    return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None


def outline_px(
    rng: np.random.Generator,
    place: tuple[float, float],
    semi_px: tuple[float, float],
    angle: float,
    wobble: float,
    window: tuple[slice, slice],
) -> Field:
    """Signed distance (px, inside negative, approximate) to a wobbly ellipse."""
    x, y = grid_px()
    dx, dy = x[window] - np.float32(place[0]), y[window] - np.float32(place[1])
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = (dx * c + dy * s) / np.float32(semi_px[0]), (dy * c - dx * s) / np.float32(semi_px[1])
    radius = np.sqrt(u * u + v * v)
    # cos(k·turn + phase) is the real part of e^(i·phase) times the k-th power of the unit vector.
    unit = (u + 1j * v) / np.maximum(radius, np.float32(1e-6))
    power, edge = unit, np.float32(1)
    for k in (2, 3, 4, 5):
        amplitude, phase = rng.normal(0, wobble / k), rng.uniform(0, 2 * np.pi)
        power = power * unit
        edge = edge + (power * np.complex64(amplitude * np.exp(1j * phase))).real
    return ((radius - edge) * np.float32(np.sqrt(semi_px[0] * semi_px[1]))).astype(np.float32)


def paint_nucleus(
    canvas: Canvas,
    rng: np.random.Generator,
    place: tuple[float, float],
    radius_px: float,
    aspect: float,
    kind: NucleusKind,
    textures: tuple[Field, Field],
    angle: float | None = None,
) -> None:
    """Paints one interphase nucleus.

    Args:
        canvas: What it is painted on.
        rng: Source of randomness.
        place: Centre (x, y) relative to the crop's centre, px.
        radius_px: Radius of the circle of equal area.
        aspect: Long over short axis.
        kind: Chromatin pattern.
        textures: Fields for chromatin clumps and for grain.
        angle: Direction of the long axis, radians; None for any.
    """
    semi = (radius_px * aspect**0.5, radius_px / aspect**0.5)
    window = window_px(*place, max(semi) * 1.3 + 3)
    turned = rng.uniform(0, np.pi) if angle is None else angle
    if window is None:
        return
    base, rim, clump, edge_px, nucleolus = kind.value
    depth = outline_px(rng, place, semi, turned, 0.1, window)
    vary = rng.lognormal(0, 0.18)
    clumps, grain = textures[0][window], textures[1][window]
    density = base * vary + rim * np.exp(-(((depth + 1.3) / 1.15) ** 2))
    density = (
        density
        + clump * step(clumps - np.float32(rng.uniform(0.5, 1.1)), 0.9)
        + (0.07 * grain + 0.09 * clumps) * (1 + base)
    )
    eosin = np.full(density.shape, 0.18 + 0.16 * rng.uniform(), dtype=np.float32)
    if rng.uniform() < nucleolus:
        x, y = grid_px()
        for _ in range(int(rng.integers(1, 3))):
            reach, way = radius_px * rng.uniform(0, 0.5), rng.uniform(0, 2 * np.pi)
            nx, ny = place[0] + reach * np.cos(way), place[1] + reach * np.sin(way)
            spot = step(np.float32(rng.uniform(1.6, 3.2)) - np.hypot(x[window] - nx, y[window] - ny), 1.8)
            density = density + 0.5 * spot
            eosin = eosin + np.float32(0.3) * spot
    canvas.paint(step(-depth, edge_px), np.clip(density, 0.03, 2.5), eosin, window)


def paint_erythrocyte(canvas: Canvas, rng: np.random.Generator, place: tuple[float, float]) -> None:
    """Paints one red blood cell: 6 to 7 µm, brightly eosinophilic, no nucleus."""
    radius = rng.uniform(11, 14) * 0.8
    window = window_px(*place, radius * 1.4 + 3)
    if window is None:
        return
    aspect = rng.uniform(1.0, 1.5)
    depth = outline_px(rng, place, (radius * aspect**0.5, radius / aspect**0.5), rng.uniform(0, np.pi), 0.08, window)
    eosin = rng.uniform(0.75, 1.1) + 0.12 * np.exp(-(((depth + 2) / 1.8) ** 2))
    canvas.paint(step(-depth, 1.6), 0.02, eosin, window)
