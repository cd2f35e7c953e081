"""Spatial augmentation: every geometric step becomes one matrix per figure, and one resampling.

Coordinates are those of ``torch.nn.functional.grid_sample``: x to the right, y down, both from −1
to 1. A matrix maps a place in the *output* to the place in the input that it shows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from atypia.base.errors import InputError, must
from atypia.data.augment.draws import happens, uniform
from atypia.data.augment.options import Fill
from atypia.data.augment.steps import registered_step

Matrix = Tensor


@registered_step("flip", spatial=True)
@dataclass(frozen=True)
class Flip:
    """Mirrors left-right and up-down, each with a probability of its own."""

    horizontal: float = 0.5
    vertical: float = 0.5

    def matrices(self, count: int, generator: torch.Generator) -> Matrix:
        """Shape (count, 3, 3)."""
        x = 1 - 2 * happens(count, self.horizontal, generator).float()
        y = 1 - 2 * happens(count, self.vertical, generator).float()
        return _stack(x, 0, 0, 0, y, 0, 0, 0, 1)


@registered_step("quarter-turn", spatial=True)
@dataclass(frozen=True)
class QuarterTurn:
    """Turns by 0, 90, 180 or 270 degrees, with a probability."""

    probability: float = 1.0

    def matrices(self, count: int, generator: torch.Generator) -> Matrix:
        """Shape (count, 3, 3); exact, without resampling error."""
        turns = torch.randint(0, 4, (count,), generator=generator)
        turns = turns * happens(count, self.probability, generator)
        c = torch.tensor([1.0, 0.0, -1.0, 0.0])[turns]
        s = torch.tensor([0.0, 1.0, 0.0, -1.0])[turns]
        return _stack(c, -s, 0, s, c, 0, 0, 0, 1)


@registered_step("half-turn", spatial=True)
@dataclass(frozen=True)
class HalfTurn:
    """Turns by 180 degrees, with a probability (Ammeling et al.)."""

    probability: float = 0.5

    def matrices(self, count: int, generator: torch.Generator) -> Matrix:
        """Shape (count, 3, 3)."""
        c = 1 - 2 * happens(count, self.probability, generator).float()
        return _stack(c, 0, 0, 0, c, 0, 0, 0, 1)


@registered_step("affine", spatial=True)
@dataclass(frozen=True)
class Affine:
    """Rotation, scale, shift and shear, drawn uniformly, with a probability.

    Attributes:
        degrees: Rotation up to ± this.
        scale: Range of the magnification; 1.25 shows the middle larger.
        shift: Shift up to ± this share of the side.
        shear_degrees: Shear up to ± this.
        probability: Probability of the whole step.
    """

    degrees: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shift: float = 0.0
    shear_degrees: float = 0.0
    probability: float = 1.0

    def matrices(self, count: int, generator: torch.Generator) -> Matrix:
        """Shape (count, 3, 3)."""
        on = happens(count, self.probability, generator).float()
        angle = on * torch.deg2rad(uniform(count, -self.degrees, self.degrees, generator))
        scale = 1 + on * (uniform(count, *self.scale, generator) - 1)
        shear = torch.tan(on * torch.deg2rad(uniform(count, -self.shear_degrees, self.shear_degrees, generator)))
        dx = on * uniform(count, -2 * self.shift, 2 * self.shift, generator)
        dy = on * uniform(count, -2 * self.shift, 2 * self.shift, generator)
        c, s = torch.cos(angle) / scale, torch.sin(angle) / scale
        turn = _stack(c, -s, dx, s, c, dy, 0, 0, 1)
        return turn @ _stack(torch.ones(count), shear, 0, 0, 1, 0, 0, 0, 1)


@registered_step("resized-crop", spatial=True)
@dataclass(frozen=True)
class ResizedCrop:
    """A crop of a random area and aspect, resized to the whole (``RandomResizedCrop``), with a probability."""

    area: tuple[float, float] = (0.8, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    probability: float = 1.0

    def matrices(self, count: int, generator: torch.Generator) -> Matrix:
        """Shape (count, 3, 3); the crop never leaves the image."""
        on = happens(count, self.probability, generator)
        area = uniform(count, *self.area, generator)
        ratio = torch.exp(uniform(count, math.log(self.aspect[0]), math.log(self.aspect[1]), generator))
        width = torch.where(on, (area * ratio).sqrt().clamp(max=1), torch.ones(count))
        height = torch.where(on, (area / ratio).sqrt().clamp(max=1), torch.ones(count))
        dx = (1 - width) * uniform(count, -1, 1, generator)
        dy = (1 - height) * uniform(count, -1, 1, generator)
        return _stack(width, 0, dx, 0, height, dy, 0, 0, 1)


@registered_step("perspective", spatial=True)
@dataclass(frozen=True)
class Perspective:
    """A mild perspective warp: the last row of the matrix up to ± ``strength``, with a probability."""

    strength: float = 0.1
    probability: float = 0.5

    def matrices(self, count: int, generator: torch.Generator) -> Matrix:
        """Shape (count, 3, 3)."""
        on = happens(count, self.probability, generator).float()
        px = on * uniform(count, -self.strength, self.strength, generator)
        py = on * uniform(count, -self.strength, self.strength, generator)
        return _stack(torch.ones(count), 0, 0, 0, 1, 0, px, py, 1)


@registered_step("elastic", spatial=True)
@dataclass(frozen=True)
class Elastic:
    """A smooth random displacement: a coarse field of normal draws, interpolated, with a probability.

    Attributes:
        amplitude: Standard deviation of the displacement, as a share of the side.
        cells: Side of the coarse field.
        probability: Probability for each figure.
    """

    amplitude: float = 0.02
    cells: int = 4
    probability: float = 0.5

    def field(self, count: int, side: int, generator: torch.Generator) -> Tensor:
        """Displacement (count, side, side, 2), in grid coordinates; zero if it does not happen."""
        coarse = torch.randn(count, 2, self.cells, self.cells, generator=generator) * 2 * self.amplitude
        coarse = coarse * happens(count, self.probability, generator).float()[:, None, None, None]
        # Bicubic interpolation is linear and separable: a matrix from either side.
        spread = F.interpolate(
            torch.eye(self.cells)[None, None], (side, self.cells), mode="bicubic", align_corners=True
        )
        return (spread[0, 0] @ coarse @ spread[0, 0].T).permute(0, 2, 3, 1)


WITHIN = 1e-5
"""By how much rounding may move a place beyond a border that it lies on."""

SpatialStep = Flip | QuarterTurn | HalfTurn | Affine | ResizedCrop | Perspective | Elastic


@dataclass(frozen=True)
class Seen:
    """What the last step of a resampling shows: the middle ``share`` of the side, in ``side_px`` pixels."""

    share: float
    side_px: int


def resample(
    images: Tensor,
    steps: tuple[SpatialStep, ...],
    generator: torch.Generator,
    seen: Seen | None = None,
    fill: Fill = "reflect",
    moves: Tensor | None = None,
) -> Tensor:
    """Applies all spatial steps with one bilinear resampling.

    ``moves`` (b, 2), px to the right and down: the steps act about this place of each image instead of its middle.

    Figures for which only flips and quarter turns were drawn are not resampled: their pixels are
    moved, which is exact. Elastic displacements are added last, whatever their place in ``steps``.

    Args:
        images: Shape (b, c, h, h), float.
        steps: In order: the first acts on the image first.
        generator: CPU generator.
        seen: What is shown of the result; None: all of it, at the size of the images. The steps act
            on the whole image, so that a turned corner of the view shows what lies outside it; the
            amplitude of elastic displacements is a share of what is seen.
        fill: What is shown beyond the border: the reflection of the whole image, or black. Black is as if each step were
            done on the image that the step before it gave, which ends at its own border (torchvision's transforms).

    Returns:
        Shape (b, c, h, h), or (b, c, side_px, side_px) where ``seen`` is given; contiguous.

    Raises:
        InputError: The images are not square.
    """
    count, side = len(images), images.shape[-1]
    if images.shape[-2] != side:
        raise InputError(must("images", "square", tuple(images.shape), "cut square crops"))
    total = torch.eye(3).expand(count, 3, 3)
    if moves is not None:
        ahead = moves.to("cpu", torch.float32) * 2 / side
        total = _stack(1, 0, ahead[:, 0], 0, 1, ahead[:, 1], 0, 0, 1)
    drawn_matrices: list[Matrix] = []
    displacement: Tensor | None = None
    for step in steps:
        if isinstance(step, Elastic):
            drawn = step.field(count, side if seen is None else seen.side_px, generator)
            displacement = drawn if displacement is None else displacement + drawn
        else:
            # A later step acts on what the earlier ones show, so its matrix is applied to the output first.
            drawn_matrices.append(step.matrices(count, generator))
            total = total @ drawn_matrices[-1]
    if seen is not None:
        zoom = torch.diag(torch.tensor([seen.share, seen.share, 1.0]))
        moves = None if displacement is None else displacement * seen.share
        frames = _frames(drawn_matrices, fill, zoom)
        return _sampled(images, total @ zoom, moves, seen.side_px, fill, frames)
    moved = is_dihedral(total)
    if displacement is not None:
        moved &= (displacement == 0).flatten(1).all(1)
    if bool(moved.all()):
        return move_pixels(images, total)
    frames = _frames(drawn_matrices, fill, torch.eye(3))
    if not bool(moved.any()):
        return _sampled(images, total, displacement, None, fill, frames)
    out = torch.empty_like(images, memory_format=torch.contiguous_format)
    for rows, exact in ((torch.nonzero(moved).flatten(), True), (torch.nonzero(~moved).flatten(), False)):
        at = rows.to(images.device)
        shift = None if displacement is None else displacement[rows]
        if exact:
            out[at] = move_pixels(images[at], total[rows])
        else:
            out[at] = _sampled(images[at], total[rows], shift, None, fill, [frame[rows] for frame in frames])
    return out


def _frames(drawn: Sequence[Matrix], fill: Fill, last: Matrix) -> list[Matrix]:
    """For each step but the last: from the output to its image, beyond whose border nothing is shown; none to reflect."""
    frames: list[Matrix] = []
    after = last
    for matrix in reversed(drawn[1:]) if fill == "black" else ():
        after = matrix @ after
        frames.append(after)
    return frames


def _sampled(
    images: Tensor,
    total: Matrix,
    displacement: Tensor | None,
    side: int | None,
    fill: Fill,
    frames: Sequence[Matrix],
) -> Tensor:
    """Bilinear resampling of images (b, c, h, h) to ``side`` by matrices (b, 3, 3), displacements (b, side, side, 2)."""
    side = images.shape[-1] if side is None else side
    grid = sampling_grid(total, side)
    if displacement is not None:
        grid += displacement
    if images.device.type == "cpu":
        # The three channels of a place lie side by side then, which is a quarter faster.
        images = images.contiguous(memory_format=torch.channels_last)
    grid = grid.to(images.device, images.dtype)
    beyond = "zeros" if fill == "black" else "reflection"
    shown = F.grid_sample(images, grid, mode="bilinear", padding_mode=beyond, align_corners=False).contiguous()
    for frame in frames:
        inside = (sampling_grid(frame, side).abs() <= 1 + WITHIN).all(-1)
        shown *= inside[:, None].to(shown.device, shown.dtype)
    return shown


def sampling_grid(total: Matrix, side: int) -> Tensor:
    """Where each place of the output lies in the input: (b, side, side, 2), from matrices (b, 3, 3)."""
    ticks = (torch.arange(side) * 2 + 1) / side - 1
    # Row i of M (x, y, 1) is (M_i1 y + M_i2) + M_i0 x: one addition a place instead of a matrix product.
    down = total[:, :, 1, None] * ticks + total[:, :, 2, None]
    across = total[:, :, 0, None] * ticks
    grid = torch.empty(len(total), side, side, 2)
    for i in (0, 1):
        torch.add(down[:, i, :, None], across[:, i, None, :], out=grid[..., i])
    if bool((total[:, 2, :2] != 0).any()):
        # Places on or behind the horizon of a strong perspective have no image; they are kept finite.
        grid /= (down[:, 2, :, None] + across[:, 2, None, :]).clamp_(min=0.1)[..., None]
    return grid


def is_dihedral(total: Matrix) -> Tensor:
    """Which matrices (b, 3, 3) are a flip, a quarter turn, both or neither: bool, shape (b,)."""
    linear = total[:, :2, :2].abs()
    exact = ((linear < 1e-6) | ((linear - 1).abs() < 1e-6)).flatten(1).all(1)
    still = (total[:, :2, 2].abs() < 1e-6).all(1) & (total[:, 2, :2].abs() < 1e-6).all(1)
    return exact & still


def move_pixels(images: Tensor, total: Matrix) -> Tensor:
    """Flips and quarter turns by moving pixels: exact, and much cheaper than resampling."""
    images = images.contiguous()
    out = torch.empty_like(images)
    swaps = total[:, 0, 1].abs() > 0.5
    xs = torch.where(swaps, total[:, 1, 0], total[:, 0, 0]) < 0
    ys = torch.where(swaps, total[:, 0, 1], total[:, 1, 1]) < 0
    for swap in (False, True):
        for flip_x in (False, True):
            for flip_y in (False, True):
                chosen = torch.nonzero((swaps == swap) & (xs == flip_x) & (ys == flip_y)).flatten()
                if not len(chosen):
                    continue
                chosen = chosen.to(images.device)
                part = images[chosen]
                part = part.transpose(2, 3) if swap else part
                turned = [dim for dim, on in ((3, flip_x), (2, flip_y)) if on]
                out[chosen] = part.flip(turned) if turned else part
    return out


def _stack(*entries: Tensor | float) -> Matrix:
    """Matrices (b, 3, 3) from nine entries, row by row; numbers are the same for all figures."""
    count = next(len(e) for e in entries if isinstance(e, Tensor))
    columns = [e if isinstance(e, Tensor) else torch.full((count,), float(e)) for e in entries]
    return torch.stack(columns, dim=1).reshape(count, 3, 3)
