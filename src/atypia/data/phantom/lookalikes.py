"""Look-alikes of mitotic figures (hard negatives): dark nuclei that do not divide, each with its own surroundings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from scipy.ndimage import gaussian_filter

from atypia.base.registry import Registry
from atypia.base.seeds import generator
from atypia.data.phantom.domains import PhantomDomain
from atypia.data.phantom.fields import grid_px, step
from atypia.data.phantom.nuclei import Canvas, NucleusKind, outline_px, paint_nucleus
from atypia.data.phantom.tissue import Tissue, draw_tissue

WHOLE: Final = (slice(None), slice(None))

Paint = Callable[[Canvas, Tissue, np.random.Generator, float], None]
"""Paints one over its surroundings; the number is the factor on lengths of the domain's figures."""

LOOK_ALIKES: Registry[Paint] = Registry("look-alike")
"""All kinds, equally frequent."""


def look_alike_canvas(domain: PhantomDomain, kind: str, seed: int, figure: int) -> tuple[Canvas, tuple[float, float]]:
    """The densities of a look-alike and its surroundings, and where it lies, (x, y) relative to the middle, px.

    Args:
        domain: Stain and architecture.
        kind: Key of :data:`LOOK_ALIKES`.
        seed: Seed of the set.
        figure: Index of the object; mitotic figures and look-alikes of a set are counted together.
    """
    tissue = draw_tissue(domain, generator(seed, "phantom", "tissue", figure))
    canvas = Canvas(tissue.hematoxylin, tissue.eosin)
    LOOK_ALIKES[kind](canvas, tissue, generator(seed, "phantom", "look", figure), domain.figure_size)
    return canvas, tissue.centre_px


def paint_interphase(canvas: Canvas, tissue: Tissue, rng: np.random.Generator) -> None:
    """An ordinary nucleus in the cell that :func:`atypia.data.phantom.tissue.draw_tissue` leaves for a figure."""
    kind = (NucleusKind.VESICULAR, NucleusKind.GRANULAR)[int(rng.integers(2))]
    textures = tissue.textures["net"], tissue.textures["grain"]
    paint_nucleus(
        canvas, rng, tissue.centre_px, tissue.cell_px * rng.uniform(0.45, 0.6), rng.uniform(1, 1.5), kind, textures
    )


def _dark(
    canvas: Canvas, tissue: Tissue, rng: np.random.Generator, place: tuple[float, float], semi: tuple[float, float],
    density: float, edge_px: float, wobble: float,
) -> None:  # fmt: skip
    """A dark, homogeneous body."""
    depth = outline_px(rng, place, semi, rng.uniform(0, np.pi), wobble, WHOLE)
    texture = 1 + 0.05 * tissue.textures["grain"]
    canvas.paint(step(-depth, edge_px), density * texture, 0.25)


def _cytoplasm(canvas: Canvas, tissue: Tissue, radius_px: float, eosin: float, halo: float) -> None:
    """A shrunken, bright cell body with an empty ring around it."""
    x, y = grid_px()
    away = np.hypot(x - tissue.centre_px[0], y - tissue.centre_px[1]) + 2 * tissue.textures["medium"]
    ring = step(radius_px + 3 - away, 2.0) * np.float32(halo)
    canvas.paint(ring, 0.02, 0.04)
    canvas.paint(step(radius_px - away, 2.5), 0.08, eosin)


@LOOK_ALIKES.register("pyknotic")
def _pyknotic(canvas: Canvas, tissue: Tissue, rng: np.random.Generator, size: float) -> None:
    """A shrunken, round, smooth nucleus in bright cytoplasm."""
    radius = size * rng.uniform(8, 12)
    _cytoplasm(canvas, tissue, radius * rng.uniform(1.6, 2.2), rng.uniform(0.55, 0.85), rng.uniform(0.4, 0.9))
    _dark(
        canvas, tissue, rng, tissue.centre_px, (radius, radius / rng.uniform(1, 1.2)), rng.uniform(1.0, 1.4), 2.0, 0.03
    )


@LOOK_ALIKES.register("apoptotic")
def _apoptotic(canvas: Canvas, tissue: Tissue, rng: np.random.Generator, size: float) -> None:
    """Round fragments of different size in bright cytoplasm."""
    reach = size * rng.uniform(9, 13)
    _cytoplasm(canvas, tissue, reach * 1.7, rng.uniform(0.6, 0.9), rng.uniform(0.5, 0.95))
    for _ in range(int(rng.integers(3, 7))):
        turn, away = rng.uniform(0, 2 * np.pi), reach * np.sqrt(rng.uniform())
        radius = size * rng.uniform(2.2, 5.5)
        place = tissue.centre_px[0] + away * np.cos(turn), tissue.centre_px[1] + away * np.sin(turn)
        _dark(canvas, tissue, rng, place, (radius, radius / rng.uniform(1, 1.15)), rng.uniform(0.95, 1.4), 1.6, 0.02)


@LOOK_ALIKES.register("hyperchromatic")
def _hyperchromatic(canvas: Canvas, tissue: Tissue, rng: np.random.Generator, size: float) -> None:
    """A large, evenly dark nucleus with a smooth outline."""
    radius, aspect = size * rng.uniform(13, 19), rng.uniform(1.1, 2.0)
    semi = radius * aspect**0.5, radius / aspect**0.5
    _dark(canvas, tissue, rng, tissue.centre_px, semi, rng.uniform(0.7, 0.95), 2.5, 0.08)


@LOOK_ALIKES.register("smudged")
def _smudged(canvas: Canvas, tissue: Tissue, rng: np.random.Generator, size: float) -> None:
    """A crushed nucleus without an edge."""
    radius, aspect = size * rng.uniform(10, 15), rng.uniform(1.3, 2.6)
    semi = radius * aspect**0.5, radius / aspect**0.5
    depth = outline_px(rng, tissue.centre_px, semi, rng.uniform(0, np.pi), 0.2, WHOLE)
    cover = gaussian_filter(step(-depth, 3.0), rng.uniform(2.0, 4.0), truncate=2.5)
    canvas.paint(cover, rng.uniform(0.8, 1.15), 0.25)
