"""A classifier of the mitosis task, slid over the tissue of a slide: resumable, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from atypia.base.artifacts import fingerprint, lock
from atypia.base.errors import InputError, must
from atypia.base.records import MITOSIS_TASK
from atypia.data.images.geometry import CropGeometry, check_field, resize, start_px
from atypia.data.images.stain import normalised
from atypia.data.slides.evidence import slide_evidence
from atypia.data.slides.readers import open_slide, slide_file
from atypia.data.slides.regions import Slide
from atypia.data.tissue.areas import MaskedArea
from atypia.data.tissue.masks import TISSUE_UM, tissue_mask
from atypia.data.tissue.overviews import read_overview
from atypia.workflows.detection.detector import Detections, DetectRequest, known_mpp
from atypia.workflows.detection.score_grid import PeakRule, ScoreGrid, peaks

if TYPE_CHECKING:
    from atypia.inference.runtimes.catalogue import Runtime

FORMAT: Final = 1
"""Raised when the same inputs would give other scores; what was kept is then not used."""
TILE_PX: Final = 1024
"""Side of what is read at once, without the windows' margin."""
BATCH: Final = 64
TILES: Final = "tiles of tissue"
STEPS_A_FIELD: Final = 4
LONGEST_STEP_UM: Final = 5.0
"""Windows are a quarter of the field apart, and at most this: a hit is within 7.5 µm."""
LOWEST: Final = 0.05
"""Positions down to this score are given, for the curves of a comparison; which ones does not depend on the least score."""
BLUR_OF_FIELD: Final = 0.2
"""Smoothing of the scores as a share of the field, as far as a quarter of the distance of two figures."""


@dataclass(frozen=True)
class Sliding:
    """How a classifier is slid.

    Attributes:
        step_um: Distance of neighbouring windows; None for a quarter of the field, at most 5 µm.
        distance_um: Two detections are never nearer.
        batch_size: Windows at once.
    """

    step_um: float | None = None
    distance_um: float = 10.0
    batch_size: int = BATCH


class WindowScorer:
    """A classifier of mitotic figures against look-alikes.

    Args:
        model: A bundle's folder, or an exported file.

    Attributes:
        runtime: The network.
        geometry: How windows are cut.
        threshold: Its own, on the probability of a mitotic figure.

    Raises:
        AbsentError: It, or what runs it, is not on this machine.
        InputError: It is of another task, or does not record the size of its field.
    """

    def __init__(self, model: str) -> None:
        from atypia.inference.classifier import find_model
        from atypia.inference.runtimes.catalogue import open_runtime

        self.runtime: Runtime = open_runtime(find_model(model))
        config = self.runtime.config
        if config["task"] != MITOSIS_TASK:
            fix = "train one of mitotic figures against look-alikes (docs/detect.md); this one is for `atypia predict`"
            raise InputError(must(f"task of {model}", repr(MITOSIS_TASK), repr(config["task"]), fix))
        geometry, field_um = CropGeometry(**config["geometry"]), config.get("field_um")
        if geometry.is_whole and field_um is None:
            raise InputError(
                must("field_um", "known to cut windows", f"nothing in {model}", "train on data with µm/px")
            )
        self.geometry = geometry if field_um is None else geometry.with_field(field_um)
        self.threshold = self.runtime.decision.threshold
        self.name = str(config.get("name", Path(model).name))

    def identity(self) -> list[object]:
        """What its scores follow from."""
        from atypia.inference.bundles.bundle import FINGERPRINT

        return [self.runtime.name, self.runtime.config.get(FINGERPRINT), self.runtime.decision.as_dict()]

    def scores(self, windows: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Probability of a mitotic figure, shape (n,)."""
        logits, features = self.runtime.run(windows)
        return self.runtime.decision.apply(logits, features).p


def slide_over(request: DetectRequest, scorer: WindowScorer, how: Sliding) -> Detections:
    """Scores windows all over the tissue and gives the positions that stand out.

    Scores are kept (:attr:`DetectRequest.kept`): the same call continues after a kill, and answers at once with another
    least score.

    Args:
        request: Slide and least score, by default the classifier's threshold.
        scorer: The classifier.
        how: Distances of windows and of detections.

    Raises:
        InputError: µm/px is not known.
        DataError: The slide cannot be read, or the field does not fit it.
        WorkError: Scores cannot be kept.
    """
    least = scorer.threshold if request.min_score is None else request.min_score
    with open_slide(request.slide) as slide:
        mpp = known_mpp(request, slide)
        side = scorer.geometry.source_side_px(mpp)
        assert side is not None  # a geometry of the whole image was given a field
        check_field(side, slide.width_px, slide.height_px)
        step_um = how.step_um or min(side * mpp / STEPS_A_FIELD, LONGEST_STEP_UM)
        grid = _Grid(slide.width_px, slide.height_px, step_um / mpp)
        overview = read_overview(slide, TISSUE_UM, mpp, request.progress)
        tissue = MaskedArea(tissue_mask(overview, mpp), overview.down, mpp, "tissue")
        evidence = slide_evidence(slide_file(request.slide))
        key = fingerprint("sliding", FORMAT, evidence, mpp, step_um, scorer.identity(), scorer.geometry.fingerprint)
        path = request.kept / f"{key}.heat"
        with lock(path):
            heat = ScoreGrid(path, grid.rows, grid.columns)
            try:
                _score_all(slide, grid, tissue, side, scorer, heat, request, how.batch_size)
                blur = min(BLUR_OF_FIELD * side * mpp, how.distance_um / 4) / step_um
                found = peaks(heat, PeakRule(how.distance_um / step_um, blur, min(least, LOWEST)))
            finally:
                heat.close()
    x, y = ((one + 0.5) * grid.step for one in found[:2])
    note = f"a window of {side * mpp:.3g} µm every {step_um:.3g} µm on {tissue.mm2:.3g} mm² of tissue"
    return Detections(x, y, found[2], least, f"candidates by {scorer.name}", tissue.mm2, (note,))


@dataclass(frozen=True)
class _Grid:
    """Places at which windows are centred: (k + 1/2) · step, in pixels of full resolution."""

    width_px: int
    height_px: int
    step: float

    @property
    def columns(self) -> int:
        return max(1, int(self.width_px / self.step))

    @property
    def rows(self) -> int:
        return max(1, int(self.height_px / self.step))

    def tiles(self) -> Iterator[tuple[slice, slice]]:
        """Rows and columns of each tile."""
        side = max(1, int(TILE_PX / self.step))
        for top in range(0, self.rows, side):
            for left in range(0, self.columns, side):
                yield slice(top, min(top + side, self.rows)), slice(left, min(left + side, self.columns))


def _score_all(
    slide: Slide, grid: _Grid, tissue: MaskedArea, side: int, scorer: WindowScorer, heat: ScoreGrid, request: DetectRequest,
    batch_size: int,
) -> None:  # fmt: skip
    tiles = [
        (rows, columns, asked) for rows, columns in grid.tiles() if (asked := _on(tissue, grid, rows, columns)).any()
    ]
    for done, (rows, columns, asked) in enumerate(tiles):
        request.progress(done, len(tiles), TILES)
        places = heat.missing(rows, columns, asked)
        if not len(places):
            continue
        y, x = ((places.astype(np.float64) + 0.5) * grid.step).T
        cut = _Block(slide, x, y, side, scorer.geometry)
        for start in range(0, len(places), batch_size):
            chosen = slice(start, start + batch_size)
            heat.put(places[chosen], scorer.scores(cut.windows(x[chosen], y[chosen])))
    request.progress(len(tiles), len(tiles), TILES)


def _on(tissue: MaskedArea, grid: _Grid, rows: slice, columns: slice) -> npt.NDArray[np.bool_]:
    """Which places of a tile are on tissue."""
    y, x = np.mgrid[rows, columns]
    inside = tissue.holds(((x + 0.5) * grid.step).ravel(), ((y + 0.5) * grid.step).ravel())
    return inside.reshape(x.shape)


class _Block:
    """A piece of the slide that is read once, and the windows in it; those that leave the slide are read one by one."""

    def __init__(
        self, slide: Slide, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], side: int, geometry: CropGeometry
    ) -> None:
        self.slide, self.side, self.geometry = slide, side, geometry
        self.left, self.top = max(0, start_px(x.min(), side)), max(0, start_px(y.min(), side))
        right = min(slide.width_px, start_px(x.max(), side) + side)
        bottom = min(slide.height_px, start_px(y.max(), side) + side)
        self.pixels = slide.block(self.left, self.top, right - self.left, bottom - self.top)

    def windows(self, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
        """Crops as the classifier takes them, shape (n, out_px, out_px, 3): the pixels that predictions at these
        places would see."""
        out = self.geometry.out_px
        found = np.empty((len(x), out, out, 3), np.uint8)
        for at, (across, down) in enumerate(zip(x.tolist(), y.tolist(), strict=True)):
            left, top = start_px(across, self.side) - self.left, start_px(down, self.side) - self.top
            inside = 0 <= left <= self.pixels.shape[1] - self.side and 0 <= top <= self.pixels.shape[0] - self.side
            if inside:
                window = self.pixels[top : top + self.side, left : left + self.side]
            else:
                window = self.slide.read(across, down, self.side)
            found[at] = normalised(resize(window, out), self.geometry.stain)
        return found
