"""One crop: surroundings, the dividing cell, its chromatin, the stain and the scanner."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from atypia.base.errors import InputError, must
from atypia.base.seeds import generator
from atypia.data.phantom.chromatin import MORPHOLOGIES, Morphology, mass_field
from atypia.data.phantom.domains import PhantomDomain
from atypia.data.phantom.fields import CROP_MPP, Field, grid_px, step
from atypia.data.phantom.nuclei import Canvas
from atypia.data.phantom.optics import scanned, transmitted, unit_vector
from atypia.data.phantom.tissue import Tissue, draw_tissue


@dataclass(frozen=True)
class CaseStain:
    """How a case's stain differs from its domain's.

    Attributes:
        hematoxylin: Absorption vector, (3,), length 1.
        eosin: Likewise.
        strengths: Factors on the densities of hematoxylin and eosin.
        focus: Factor on the domain's defocus.
    """

    hematoxylin: npt.NDArray[np.float32]
    eosin: npt.NDArray[np.float32]
    strengths: tuple[float, float]
    focus: float


def case_stain(domain: PhantomDomain, seed: int, case: int) -> CaseStain:
    """The stain of one case, drawn about its domain's."""
    rng = generator(seed, "phantom", "stain", case)
    tilt = rng.normal(0, domain.stain_sd / 3, (2, 3))
    factors = np.exp(rng.normal(0, domain.stain_sd, 2))
    return CaseStain(
        unit_vector(np.clip(np.asarray(domain.hematoxylin) + tilt[0] * 0.5, 0.02, 1)),
        unit_vector(np.clip(np.asarray(domain.eosin) + tilt[1], 0.02, 1)),
        (domain.hematoxylin_strength * factors[0], domain.eosin_strength * factors[1]),
        float(rng.lognormal(0, 0.15)),
    )


def render_crop(
    domain: PhantomDomain, morphology: str, severity: float, seed: int, figure: int, case: int = 0
) -> npt.NDArray[np.uint8]:
    """Renders one mitotic figure; a pure function of its arguments.

    The surroundings, the scanner's noise and the position, size and rotation of the figure come from
    separate random streams, so two morphologies with the same seed and figure share them.

    Args:
        domain: Stain, scanner and architecture.
        morphology: Name in :data:`atypia.data.phantom.chromatin.MORPHOLOGIES`.
        severity: How far the morphology is developed, in [0, 1]; of a normal one, its irregularity.
        seed: Seed of the set.
        figure: Index of the figure.
        case: Index of the case, which decides the stain.

    Returns:
        RGB crop of shape (128, 128, 3), uint8, 0.25 µm/px, centred on the figure to within 5 px.

    Raises:
        InputError: An unknown morphology, or a severity outside [0, 1].
    """
    if not 0 <= severity <= 1:
        raise InputError(must("severity", "between 0 and 1", severity, "0 is hardly developed, 1 fully"))
    canvas, _ = figure_canvas(domain, morphology, severity, seed, figure)
    stain = case_stain(domain, seed, case)
    scan = generator(seed, "phantom", "scan", figure)
    defocus = domain.blur_px * stain.focus * float(scan.lognormal(0, 0.2))
    light = transmitted(
        np.maximum(canvas.hematoxylin, 0) * np.float32(stain.strengths[0]),
        np.maximum(canvas.eosin, 0) * np.float32(stain.strengths[1]),
        stain.hematoxylin,
        stain.eosin,
    )
    return scanned(light, domain, defocus, scan)


def figure_canvas(
    domain: PhantomDomain, morphology: str, severity: float, seed: int, figure: int
) -> tuple[Canvas, tuple[float, float]]:
    """The densities of one figure and its surroundings, and where it lies, (x, y) relative to the middle, px.

    Arguments as for :func:`render_crop`.
    """
    tissue = draw_tissue(domain, generator(seed, "phantom", "tissue", figure))
    canvas = Canvas(tissue.hematoxylin, tissue.eosin)
    _paint_figure(canvas, tissue, MORPHOLOGIES[morphology], (severity, domain.figure_size), (seed, figure))
    return canvas, tissue.centre_px


def _paint_figure(
    canvas: Canvas, tissue: Tissue, shape: Morphology, degree: tuple[float, float], stream: tuple[int, int]
) -> None:
    severity, size = degree
    seed, figure = stream
    # Place, size and condensation do not depend on the morphology; where the arms lie does.
    look = generator(seed, "phantom", "look", figure)
    angle = float(look.uniform(0, 2 * np.pi))
    # Atypical divisions are mostly of cells with too many chromosomes.
    excess = shape.atypical * severity
    count = round(46 * float(np.clip(look.lognormal(0.0, 0.22), 0.6, 1.7)) * (1 + 0.8 * excess))
    level, dark = look.uniform(0.55, 1.15), look.uniform(1.05, 1.45)
    ragged, halo = look.uniform(0.15, 0.5), look.uniform(0.05, 0.2)
    arms = shape.draw(generator(seed, "phantom", "arms", figure), count, severity)
    _paint_cell(canvas, tissue, angle, tissue.cell_px * (1 + 0.12 * excess), size * shape.poles_um / 2 / CROP_MPP, look)

    mass = mass_field(arms, size, angle, tissue.centre_px, look)
    rough = mass * (1 + ragged * (0.7 * tissue.textures["fine"] + 0.4 * tissue.textures["grain"]))
    cover = step((rough - np.float32(level)).astype(np.float32), 0.75)
    thick = 1 - np.exp(-np.maximum(rough, 0) / 2.2)
    texture = 1 + 0.05 * tissue.textures["grain"] + 0.06 * tissue.textures["fine"]
    density = dark * (0.5 + 0.6 * thick) * texture
    # Chromatin above and below the focal plane: a soft violet edge.
    canvas.hematoxylin += np.float32(halo) * gaussian_filter(cover, 2.2, truncate=2.5)
    canvas.paint(cover, density, 0.2 + 0.1 * thick)


def _paint_cell(
    canvas: Canvas, tissue: Tissue, angle: float, cell_px: float, half_poles_px: float, look: np.random.Generator
) -> None:
    """The rounded, often paler cell of the figure, longer and waisted where the daughters part."""
    x, y = grid_px()
    dx, dy = x - np.float32(tissue.centre_px[0]), y - np.float32(tissue.centre_px[1])
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along, across = np.abs(dx * c + dy * s), dy * c - dx * s
    beyond = np.maximum(along - np.float32(half_poles_px * 0.8), 0)
    radius = cell_px * (1 - 0.12 * min(half_poles_px / 22, 1))
    waist = 0.3 * max(0.0, half_poles_px - 13) * np.exp(-((along / 6.0) ** 2))
    depth = np.hypot(beyond, across) - radius + waist + 1.6 * tissue.textures["medium"] + 0.7 * tissue.textures["fine"]
    depth = depth.astype(np.float32)
    inside = step(-depth, 2.5)

    eosin, basophilia = tissue.cytoplasm
    clear = look.uniform(0.3, 1.0)
    granular = look.uniform(0.1, 0.35)
    grains = 0.5 * tissue.textures["fine"] + 0.7 * tissue.textures["grain"]
    speckle = 1 + granular * grains + look.uniform(0, 0.5) * tissue.textures["net"]
    # The spindle's zone in the middle is clearer than the rim of the cytoplasm.
    zone = 1 - (1 - clear) * np.exp(-((np.hypot(beyond, across) / (0.8 * radius)) ** 2))
    own_e = eosin * look.uniform(0.75, 1.1) * zone * np.clip(speckle, 0.2, 2.5)
    own_h = basophilia * look.uniform(0.7, 1.4) * zone * np.clip(speckle, 0.2, 2.5)
    cleft = look.uniform(0, 1)
    if cleft < 0.22:
        # A cleft around the rounded-up cell.
        ring: Field = np.exp(-(((depth - 2.0) / look.uniform(1.2, 3.0)) ** 2)).astype(np.float32)
        part = step(tissue.textures["coarse"] + tissue.textures["medium"] * 0.4 + np.float32(0.3), 1.2)
        canvas.paint(ring * part * np.float32(0.85), 0.02, 0.04)
    canvas.paint(inside, own_h, own_e)
    border = np.exp(-((depth / 1.3) ** 2)).astype(np.float32)
    canvas.eosin += np.float32(look.uniform(0.0, 0.22)) * border
    canvas.hematoxylin += np.float32(look.uniform(0.0, 0.06)) * border
