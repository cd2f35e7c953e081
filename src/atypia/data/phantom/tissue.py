"""The surroundings of a mitotic figure: cells, nuclei, stroma, gaps, blood and inflammation.

Everything is drawn as two densities, hematoxylin and eosin. Nothing here knows the figure's
morphology or label, so the surroundings cannot reveal them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atypia.data.phantom.domains import PhantomDomain
from atypia.data.phantom.fields import SIDE_PX, Field, fibre_pair, grid_px, smooth_pair, step, warped
from atypia.data.phantom.nuclei import Canvas, NucleusKind, paint_erythrocyte, paint_nucleus


@dataclass(frozen=True)
class Tissue:
    """A crop's surroundings, and values for drawing the figure's own cell.

    Attributes:
        hematoxylin: Density of hematoxylin, (128, 128).
        eosin: Density of eosin, (128, 128).
        textures: Unit-variance fields: coarse (sigma 14 px), medium (5), fine (1.9), grain (0.9);
            and the net of foamy cytoplasm (mean near 0).
        centre_px: Where the figure lies, (x, y) relative to the crop's centre.
        cell_px: Radius of the figure's cell.
        cytoplasm: Eosin and hematoxylin density of ordinary cytoplasm in this crop.
    """

    hematoxylin: Field
    eosin: Field
    textures: dict[str, Field]
    centre_px: tuple[float, float]
    cell_px: float
    cytoplasm: tuple[float, float]


def _seeds(
    rng: np.random.Generator, centre: npt.NDArray[np.float64], clear_px: float, gap_px: float
) -> npt.NDArray[np.float64]:
    """Cell centres on a jittered, turned lattice that leaves a disc around the figure free."""
    reach = int(np.ceil(110 / gap_px))
    i, j = np.meshgrid(np.arange(-reach, reach + 1), np.arange(-reach, reach + 1))
    lattice = np.stack([i + 0.5 * (j % 2), j * 0.87], axis=-1).reshape(-1, 2) * gap_px
    turn = rng.uniform(0, np.pi)
    c, s = np.cos(turn), np.sin(turn)
    points = lattice @ np.array([[c, -s], [s, c]]) + rng.uniform(-0.5, 0.5, 2) * gap_px
    points = points + rng.normal(0, 0.17 * gap_px, points.shape)
    inside = np.abs(points).max(axis=1) < SIDE_PX / 2 + 0.6 * gap_px
    free = np.linalg.norm(points - centre, axis=1) > clear_px
    return points[inside & free]


def _cells(points: npt.NDArray[np.float64], warp: tuple[Field, Field]) -> tuple[npt.NDArray[np.int32], Field]:
    """Nearest cell of each pixel, and how far the second nearest is beyond it, in px."""
    x, y = grid_px()
    wx, wy = x + 4 * warp[0], y + 4 * warp[1]
    nearest = np.full((SIDE_PX, SIDE_PX), 1e9, dtype=np.float32)
    second = nearest.copy()
    owner = np.zeros((SIDE_PX, SIDE_PX), dtype=np.int32)
    for k, (px, py) in enumerate(points.astype(np.float32)):
        distance = np.sqrt((wx - px) ** 2 + (wy - py) ** 2)
        np.copyto(owner, k, where=distance < nearest)
        np.minimum(second, np.maximum(nearest, distance), out=second)
        np.minimum(nearest, distance, out=nearest)
    return owner, second - nearest


def draw_tissue(domain: PhantomDomain, rng: np.random.Generator) -> Tissue:
    """Draws the surroundings of one figure.

    Args:
        domain: Architecture: spacing of cells, share of crops with stroma and gaps.
        rng: Source of randomness; the same state gives the same tissue.
    """
    coarse, coarse2 = smooth_pair(rng, 14.0)
    medium, medium2 = smooth_pair(rng, 5.0)
    fine, clumps = smooth_pair(rng, 1.7)
    grain, _ = smooth_pair(rng, 0.9)
    centre = rng.normal(0, 2.0, 2).clip(-5, 5)
    cell_px = float(np.clip(rng.normal(0.76, 0.1) * domain.cell_px + 2, 22, 42))
    eosin, basophilia = float(rng.uniform(0.2, 0.38)), float(rng.uniform(0.04, 0.18))

    points = _seeds(rng, centre, cell_px + 0.42 * domain.cell_px, domain.cell_px * rng.uniform(0.78, 1.12))
    owner, margin = _cells(np.concatenate([points, centre[None]]), (medium, medium2))
    tone = rng.lognormal(0, 0.13, len(points) + 1).astype(np.float32)[owner]
    granular = rng.uniform(0.08, 0.3)
    # Foam: a net of thin strands around small clear spots, more in some crops than in others.
    net = _field(np.exp(-((clumps / 0.6) ** 2)) - 0.5)
    mottled = 1 + granular * (0.5 * fine + 0.6 * grain) + rng.uniform(0, 0.5) * net + 0.14 * medium + 0.12 * coarse
    canvas = Canvas(_field(basophilia * tone * mottled.clip(0.1, 3)), _field(eosin * tone * mottled.clip(0.1, 3)))

    # Borders of cells: a membrane that takes eosin, or a cleft where the cells have shrunk apart.
    thin = margin + 0.9 * np.abs(fine)
    line = np.exp(-((thin / rng.uniform(1.3, 2.6)) ** 2)) * step(coarse2 + 0.3 * medium + np.float32(0.4), 1.5)
    if rng.uniform() < 0.65:
        canvas.eosin += np.float32(rng.uniform(0.05, 0.22)) * line
    else:
        pale = np.float32(1) - np.float32(rng.uniform(0.2, 0.7)) * line
        canvas.eosin *= pale
        canvas.hematoxylin *= pale
    if rng.uniform() < 0.3:
        # Vacuoles and fat: clear, with smooth outlines.
        holes = step(medium2 - np.float32(rng.uniform(1.3, 2.0)), 0.5)
        canvas.paint(holes * 0.9, 0.02, 0.05)

    _paint_nuclei(canvas, rng, points, domain, clumps, grain)
    from_centre = np.hypot(grid_px()[0] - centre[0], grid_px()[1] - centre[1]).astype(np.float32)
    if rng.uniform() < domain.stroma:
        _paint_stroma(canvas, rng, coarse, (fine, clumps, grain), from_centre, cell_px)
    if rng.uniform() < domain.gaps:
        _paint_gaps(canvas, rng, (coarse2, medium, fine), from_centre, cell_px)
    for _ in range(int(rng.poisson(0.35))):
        x, y = _away(rng, centre, cell_px + 10)
        paint_nucleus(canvas, rng, (x, y), rng.uniform(6.5, 9), 1.1, NucleusKind.LYMPHOCYTE, (clumps, grain))
    return Tissue(
        canvas.hematoxylin,
        canvas.eosin,
        {"coarse": coarse, "medium": medium, "fine": fine, "grain": grain, "net": net},
        (float(centre[0]), float(centre[1])),
        cell_px,
        (eosin, basophilia),
    )


def _field(values: npt.NDArray[np.floating]) -> Field:
    return values.astype(np.float32, copy=False)


def _away(rng: np.random.Generator, centre: npt.NDArray[np.float64], least_px: float) -> tuple[float, float]:
    turn, far = rng.uniform(0, 2 * np.pi), rng.uniform(least_px, 85)
    return float(centre[0] + far * np.cos(turn)), float(centre[1] + far * np.sin(turn))


def _paint_nuclei(
    canvas: Canvas,
    rng: np.random.Generator,
    points: npt.NDArray[np.float64],
    domain: PhantomDomain,
    clumps: Field,
    grain: Field,
) -> None:
    # Nuclei of one crop are similar, because they are from one tumour.
    weights = rng.dirichlet([2.4, 2.4, 0.5, 1.0])
    kinds = (NucleusKind.VESICULAR, NucleusKind.GRANULAR, NucleusKind.DARK, NucleusKind.PALE)
    radius = domain.cell_px * rng.uniform(0.33, 0.46)
    aspect = rng.uniform(1.0, 1.5)
    for x, y in points:
        present, size, kind = rng.uniform() < 0.86, rng.lognormal(0, 0.13), kinds[rng.choice(4, p=weights)]
        shift = rng.normal(0, 1.5, 2)
        own = np.random.default_rng(rng.integers(2**32))
        if present:
            r = radius * size * (0.82 if kind is NucleusKind.DARK else 1.0)
            paint_nucleus(
                canvas, own, (x + shift[0], y + shift[1]), r, aspect * own.uniform(0.9, 1.25), kind, (clumps, grain)
            )


def _paint_stroma(
    canvas: Canvas,
    rng: np.random.Generator,
    coarse: Field,
    textures: tuple[Field, Field, Field],
    from_centre: Field,
    cell_px: float,
) -> None:
    """Collagen beyond a wavy edge, its fibres along the edge, with spindle cells and blood."""
    x, y = grid_px()
    fine, clumps, grain = textures
    normal = rng.uniform(0, 2 * np.pi)
    distance = x * np.cos(normal) + y * np.sin(normal) - rng.uniform(cell_px + 4, 52) + 6 * coarse
    mask = step(distance.astype(np.float32), 3.0) * step(from_centre - np.float32(cell_px + 1), 3.0)
    along = normal + np.pi / 2 + rng.normal(0, 0.15)
    strands, waves = fibre_pair(rng, along, 22.0, rng.uniform(0.9, 1.7))
    strands = warped(strands, 5 * coarse * np.cos(normal), 5 * coarse * np.sin(normal))
    dense = rng.uniform(0.25, 0.6)
    body = dense * (1 + 0.3 * strands + 0.15 * waves + 0.1 * grain)
    loose = step(strands + 0.2 * fine + np.float32(rng.uniform(0.6, 2.2)), 0.8)
    canvas.paint(mask, 0.05 + 0.03 * np.abs(strands), np.clip(body, 0.05, 2) * (0.4 + 0.6 * loose))
    for _ in range(int(rng.integers(0, 5))):
        depth = rng.uniform(4, 30)
        slide = rng.uniform(-60, 60)
        edge = 52.0
        px = (edge + depth) * np.cos(normal) - slide * np.sin(normal)
        py = (edge + depth) * np.sin(normal) + slide * np.cos(normal)
        paint_nucleus(
            canvas,
            rng,
            (px, py),
            rng.uniform(6, 9),
            rng.uniform(2.2, 4.0),
            NucleusKind.SPINDLE,
            (clumps, grain),
            angle=along + rng.normal(0, 0.15),
        )
    if rng.uniform() < 0.22:
        for _ in range(int(rng.integers(3, 10))):
            slide, depth = rng.uniform(-60, 60), rng.uniform(0, 14)
            px = (48 + depth) * np.cos(normal) - slide * np.sin(normal)
            py = (48 + depth) * np.sin(normal) + slide * np.cos(normal)
            paint_erythrocyte(canvas, rng, (px, py))


def _paint_gaps(
    canvas: Canvas,
    rng: np.random.Generator,
    fields: tuple[Field, Field, Field],
    from_centre: Field,
    cell_px: float,
) -> None:
    """Empty glass: retraction clefts and lumina, never over the figure's own cell."""
    coarse, medium, fine = fields
    level = np.float32(rng.uniform(0.7, 1.7))
    hole = coarse + 0.25 * medium + 0.07 * fine - level
    mask = step(hole, 0.22) * step(from_centre - np.float32(cell_px + 1.5), 2.5)
    rim = np.exp(-((hole / 0.12) ** 2)) * step(from_centre - np.float32(cell_px + 3), 3.0)
    canvas.eosin += np.float32(0.1) * rim.astype(np.float32)
    canvas.paint(mask * np.clip(0.97 - 0.05 * fine, 0, 1), 0.012, 0.02)
