"""A region of tissue with known mitotic figures and look-alikes, as large as a region of MIDOG (2 mm²).

Background is a quilt of a few dozen drawings, each in eight orientations, whose seams are irregular; every figure and
look-alike has a drawing of its own. All as densities of the two stains, so that light, scanner and compression act on
the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must
from atypia.base.seeds import generator
from atypia.data.phantom.domains import PhantomDomain
from atypia.data.phantom.fields import CROP_MPP, SIDE_PX, Field, grid_px, step
from atypia.data.phantom.lookalikes import LOOK_ALIKES, look_alike_canvas, paint_interphase
from atypia.data.phantom.nuclei import Canvas
from atypia.data.phantom.optics import exposed, transmitted
from atypia.data.phantom.plan import CASE_SPREAD, drawn_figure
from atypia.data.phantom.render import case_stain, figure_canvas
from atypia.data.phantom.tissue import draw_tissue

MARGIN_PX: Final = 256
"""Glass around the tissue."""
SPACING_PX: Final = 150
SHIFT_PX: Final = 25.0
"""Figures and look-alikes lie in squares of a lattice, moved by at most this: never nearer than 100 px (25 µm)."""
STEP_PX: Final = 104
"""Distance of the quilt's drawings, which overlap by 24 px."""
SEAM_PX: Final = SIDE_PX - STEP_PX
DRAWINGS: Final = 32
"""Different drawings of the background of one slide."""
EOSIN: Final = 0.28
"""Density of eosin that the background's drawings are brought near to."""
FIRST: Final = 1_000_000_000
A_SLIDE: Final = 1_000_000
"""Numbers of figures on slides, which no crop of a phantom set has: slides and crops of one seed share no figure."""
PASTED_PX: Final = 44.0
"""Radius up to which a figure's own drawing replaces the background."""
BAND_PX: Final = 1024
REACH_PX: Final = 12
"""Rows beyond a band that the scanner's filters look at."""
RATIO: Final = 4 / 3


@dataclass(frozen=True)
class PlacedFigure:
    """A mitotic figure or a look-alike on a slide.

    Attributes:
        index: Its number in the set; its pixels follow from it.
        x_px: Centre, px of full resolution.
        y_px: Centre.
        mitotic: Whether it is a mitotic figure.
        kind: Its morphology, or the kind of look-alike.
        severity: How far the morphology is developed; 0 for look-alikes.
        votes: Whether it is atypical, one label a rater; empty for look-alikes.
    """

    index: int
    x_px: float
    y_px: float
    mitotic: bool
    kind: str
    severity: float = 0.0
    votes: tuple[int, ...] = ()

    @property
    def label(self) -> int:
        """The majority of the votes, 1 = atypical; 0 for look-alikes."""
        return int(2 * sum(self.votes) > len(self.votes))


@dataclass(frozen=True)
class RegionPlan:
    """One slide before it is drawn.

    Attributes:
        slide: Its number in the set.
        domain: Stain, scanner, architecture.
        seed: Seed of the set.
        width_px: Of the slide, glass included.
        height_px: Of the slide.
        figures: What lies on it.
    """

    slide: int
    domain: PhantomDomain
    seed: int
    width_px: int
    height_px: int
    figures: tuple[PlacedFigure, ...]


def plan_region(
    slide: int, domain: PhantomDomain, seed: int, mm2: float, figures_per_mm2: float, look_alikes_per_mm2: float
) -> RegionPlan:
    """Decides what lies where; figures depend on the arguments alone.

    Args:
        slide: Number of the slide in the set.
        domain: Its domain.
        seed: Seed of the set.
        mm2: Area of its tissue, a rectangle of 4 to 3, surrounded by glass.
        figures_per_mm2: Mitotic figures by area.
        look_alikes_per_mm2: Look-alikes by area.

    Raises:
        InputError: So many figures have no place.
    """
    width, height = tissue_sides_px(mm2)
    across, down = (width - 2 * SHIFT_PX) // SPACING_PX, (height - 2 * SHIFT_PX) // SPACING_PX
    wanted = round(mm2 * figures_per_mm2), round(mm2 * look_alikes_per_mm2)
    places = int(across * down)
    if sum(wanted) > places:
        fix = "pass a larger --mm2, or fewer figures by area"
        raise InputError(must("figures and look-alikes", f"at most {places} on {mm2:g} mm²", sum(wanted), fix))
    rng = generator(seed, "phantom", "region", slide)
    rate = float(rng.beta(CASE_SPREAD * domain.atypia_rate, CASE_SPREAD * (1 - domain.atypia_rate)))
    chosen, found = rng.choice(places, sum(wanted), replace=False), []
    for number, place in enumerate(chosen.tolist()):
        row, column = divmod(place, int(across))
        index = FIRST + slide * A_SLIDE + number
        own = generator(seed, "phantom", "figure", index)
        x, y = (MARGIN_PX + (at + 0.5) * SPACING_PX + own.uniform(-SHIFT_PX, SHIFT_PX) for at in (column, row))
        if number < wanted[0]:
            morphology, severity, votes = drawn_figure(own, rate)
            found.append(PlacedFigure(index, x, y, True, morphology, severity, votes))
        else:
            found.append(PlacedFigure(index, x, y, False, list(LOOK_ALIKES)[int(own.integers(len(LOOK_ALIKES)))]))
    return RegionPlan(slide, domain, seed, width + 2 * MARGIN_PX, height + 2 * MARGIN_PX, tuple(found))


def tissue_sides_px(mm2: float) -> tuple[int, int]:
    """Width and height of the tissue of an area.

    >>> tissue_sides_px(2.0)
    (6532, 4899)
    """
    height = (mm2 / RATIO) ** 0.5 * 1000 / CROP_MPP
    return round(height * RATIO), round(height)


class Region:
    """A slide's densities, from which its pixels are exposed band by band.

    Args:
        plan: What is drawn; about 8 bytes a pixel are held.
        told: Receives the number of drawings that are laid, and how many there are.
    """

    def __init__(self, plan: RegionPlan, told: Callable[[int, int], None] = lambda _, __: None) -> None:
        self.plan = plan
        shape = plan.height_px, plan.width_px
        self._canvas = Canvas(np.full(shape, 0.01, np.float32), np.full(shape, 0.015, np.float32))
        self._lay_background(told)
        for number, figure in enumerate(plan.figures):
            self._lay_figure(figure)
            told(number, len(plan.figures))

    def bands(self) -> Iterator[npt.NDArray[np.uint8]]:
        """The pixels from top to bottom, in bands of :data:`BAND_PX` rows and one of the rest, RGB."""
        for top in range(0, self.plan.height_px, BAND_PX):
            yield self._exposed(top, min(top + BAND_PX, self.plan.height_px))

    def _exposed(self, top: int, bottom: int) -> npt.NDArray[np.uint8]:
        plan = self.plan
        first, last = max(0, top - REACH_PX), min(plan.height_px, bottom + REACH_PX)
        case = FIRST + plan.slide
        stain = case_stain(plan.domain, plan.seed, case)
        light = transmitted(
            np.maximum(self._canvas.hematoxylin[first:last], 0) * np.float32(stain.strengths[0]),
            np.maximum(self._canvas.eosin[first:last], 0) * np.float32(stain.strengths[1]),
            stain.hematoxylin,
            stain.eosin,
        )
        scan = generator(plan.seed, "phantom", "scan", case, top)
        pixels = exposed(light, plan.domain, plan.domain.blur_px * stain.focus, scan)
        return pixels[top - first : len(pixels) - (last - bottom)]

    def _lay_background(self, told: Callable[[int, int], None]) -> None:
        plan = self.plan
        rng = generator(plan.seed, "phantom", "quilt", plan.slide)
        right, bottom = plan.width_px - MARGIN_PX, plan.height_px - MARGIN_PX
        starts = [
            (left, top)
            for top in range(MARGIN_PX - SEAM_PX, bottom, STEP_PX)
            for left in range(MARGIN_PX - SEAM_PX, right, STEP_PX)
        ]
        drawings = [self._drawing(number) for number in range(min(DRAWINGS, len(starts)))]
        x, y = grid_px()
        for number, (left, top) in enumerate(starts):
            canvas, seam = drawings[int(rng.integers(len(drawings)))]
            turn = int(rng.integers(8))
            planes = [_turned(plane, turn) for plane in (canvas.hematoxylin, canvas.eosin, seam)]
            # The drawing lies over those above and to its left, along a border that wanders; the tissue's own edge is
            # straight, so that its area is known.
            far, low = max(0, MARGIN_PX - left), max(0, MARGIN_PX - top)
            wide, high = min(SIDE_PX, right - left), min(SIDE_PX, bottom - top)
            inside = np.minimum(x if not far else np.float32(SIDE_PX), y if not low else np.float32(SIDE_PX))
            cover = step(inside + np.float32((SIDE_PX - SEAM_PX) / 2) + 4 * planes[2], 5.0)
            part = slice(low, high), slice(far, wide)
            window = slice(top + low, top + high), slice(left + far, left + wide)
            self._canvas.paint(cover[part], planes[0][part], planes[1][part], window)
            told(number, len(starts))

    def _drawing(self, number: int) -> tuple[Canvas, Field]:
        plan = self.plan
        rng = generator(plan.seed, "phantom", "quilt", plan.slide, number)
        tissue = draw_tissue(plan.domain, rng)
        canvas = Canvas(tissue.hematoxylin, tissue.eosin)
        paint_interphase(canvas, tissue, rng)
        # One slide has one stain: what crops differ by would show as squares.
        canvas.eosin *= np.float32((EOSIN / max(float(canvas.eosin.mean()), 0.05)) ** 0.8)
        return canvas, tissue.textures["coarse"]

    def _lay_figure(self, figure: PlacedFigure) -> None:
        plan = self.plan
        if figure.mitotic:
            canvas, centre = figure_canvas(plan.domain, figure.kind, figure.severity, plan.seed, figure.index)
        else:
            canvas, centre = look_alike_canvas(plan.domain, figure.kind, plan.seed, figure.index)
        # The pixel whose middle is the drawing's middle, so that the object's centre lies where it is said to lie.
        left = round(figure.x_px - centre[0] - SIDE_PX / 2)
        top = round(figure.y_px - centre[1] - SIDE_PX / 2)
        x, y = grid_px()
        away = np.hypot(x - np.float32(centre[0]), y - np.float32(centre[1]))
        cover = step(np.float32(PASTED_PX) - away, 8.0)
        window = slice(top, top + SIDE_PX), slice(left, left + SIDE_PX)
        self._canvas.paint(cover, canvas.hematoxylin, canvas.eosin, window)


def _turned(plane: Field, turn: int) -> Field:
    """A plane in one of eight orientations."""
    turned = np.rot90(plane, turn % 4)
    return turned[:, ::-1] if turn >= 4 else turned
