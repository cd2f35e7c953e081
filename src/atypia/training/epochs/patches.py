"""Patches around moved centres: where each lies on its slide, and whether a positive's centre lies inside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

NEVER: Final = np.inf
"""Distance of a neighbour that is none."""


@dataclass(frozen=True)
class PatchCentres:
    """Where crops lie on their slides, all of shape (n,) but for ``xy``.

    Attributes:
        xy: Centre of each crop's field in px of its slide, shape (n, 2).
        slides: Code of the slide.
        scale: Pixels of the slide for one pixel of the stored crop.
        targets: Label or soft label in [0, 1]; 0 for a random place.
    """

    xy: Floats
    slides: Ints
    scale: Floats
    targets: Floats


class Patches:
    """Moves the centres of crops at random and labels what the moved patches show (Ammeling et al.).

    A patch has the greatest target of all figures of its part whose centre lies inside it: it is positive where any
    positive's centre does, whichever figure it was cut around.

    Args:
        centres: Of the figures and random places of one part.
        seen_px: Side of a patch, in pixels of the stored crops.
        jitter: Centres move by up to ± this share of the patch's side, on each axis.
    """

    def __init__(self, centres: PatchCentres, seen_px: int, jitter: float) -> None:
        self.centres, self.seen_px, self.jitter_px = centres, seen_px, int(jitter * seen_px)
        self.neighbours, self.values = self._neighbours()

    def _neighbours(self) -> tuple[Floats, Floats]:
        """Positives that a moved patch can hold: offsets from its crop's centre (n, k, 2), and targets (n, k)."""
        of = self.centres
        reach = (self.seen_px / 2 + self.jitter_px) * of.scale
        found: list[Ints] = [np.zeros(0, np.int64)] * len(of.slides)
        for slide in np.unique(of.slides):
            here = np.flatnonzero(of.slides == slide)
            positive = here[of.targets[here] > 0]
            if len(positive):
                near = KDTree(of.xy[positive]).query_ball_point(of.xy[here], reach[here], p=np.inf)
                for row, places in zip(here.tolist(), near, strict=True):
                    found[row] = positive[np.sort(np.asarray(places, np.int64))]
        most = max((len(rows) for rows in found), default=0)
        offsets, values = np.full((len(found), most, 2), NEVER), np.zeros((len(found), most))
        for row, others in enumerate(found):
            offsets[row, : len(others)] = (of.xy[others] - of.xy[row]) / of.scale[row]
            values[row, : len(others)] = of.targets[others]
        return offsets, values

    def draw(self, positions: Ints, seed: int) -> tuple[Ints, Floats]:
        """Moves of the centres of these crops, and the targets of what is then seen.

        Args:
            positions: Positions in the part, shape (b,).
            seed: Decides the draw.

        Returns:
            Moves to the right and down in whole pixels of the stored crop, shape (b, 2); targets, shape (b,).
        """
        rng = np.random.default_rng(seed)
        moves = rng.integers(-self.jitter_px, self.jitter_px + 1, (len(positions), 2))
        inside = (np.abs(self.neighbours[positions] - moves[:, None, :]) < self.seen_px / 2).all(axis=2)
        return moves, np.where(inside, self.values[positions], 0.0).max(axis=1, initial=0.0)
