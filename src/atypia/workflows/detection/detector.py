"""What a detector is: it is given a slide and gives positions with scores.

An own one is a plug-in of the kind ``detectors`` (``docs/plugins.md``)::

    DETECTORS.add("mine", Detector("mine", "what it does", MyOptions, find))

where ``find(request, options)`` returns :class:`Detections`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from atypia.base.config import StrictModel
from atypia.base.errors import DataError, InputError, must
from atypia.base.paths import cache_root
from atypia.base.process.progress import Progress, silent
from atypia.base.registry import Registry
from atypia.data.slides.slidecrops import SlideReading

Floats = npt.NDArray[np.float64]

KEPT: Final = "detections"
"""Folder of the cache in which detectors keep their work."""
EXPERIMENTAL: Final = "experimental: its error on slides of patients is not known"


class DetectorOptions(StrictModel):
    """Base of the options of detectors; unknown keys are refused."""


@dataclass(frozen=True)
class DetectRequest:
    """What a detector is asked.

    Attributes:
        slide: The file.
        reading: How its µm/px is told where the file does not state it.
        min_score: Least score of what is given back; None for the detector's own.
        model: The network that it runs, as the user names it; None for its default.
        progress: Told about the work.
    """

    slide: Path
    reading: SlideReading = field(default_factory=SlideReading)
    min_score: float | None = None
    model: str | None = None
    progress: Progress = silent

    @property
    def kept(self) -> Path:
        """The folder for work that a second call continues; it may be deleted at any time (``atypia cache``)."""
        return cache_root() / KEPT


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found on one slide.

    Attributes:
        x_px: Positions in pixels of full resolution, from the corner of the image (the canvas), shape (n,).
        y_px: Downwards, shape (n,).
        scores: Higher is surer, shape (n,), finite. Those below ``min_score`` are not written; a comparison with known figures
            draws its curve from them.
        min_score: The least score that counts.
        by: Detector and network, for people.
        mm2: Area that was searched; None if it is not known.
        notes: What users should know about how it was done.
    """

    x_px: Floats
    y_px: Floats
    scores: Floats
    min_score: float
    by: str
    mm2: float | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shapes = {one.shape for one in (self.x_px, self.y_px, self.scores)}
        if len(shapes) != 1 or self.x_px.ndim != 1:
            raise DataError(must("detections", "x, y and score of each", f"shapes {sorted(shapes)}", "align them"))
        if not all(np.isfinite(one).all() for one in (self.x_px, self.y_px, self.scores)):
            raise DataError(must("detections", "finite", "NaN or infinity", "leave those out"))

    def __len__(self) -> int:
        return len(self.x_px)

    def take(self, rows: npt.NDArray[Any]) -> Detections:
        """Some of them: row numbers, or a boolean mask."""
        return replace(self, x_px=self.x_px[rows], y_px=self.y_px[rows], scores=self.scores[rows])


@dataclass(frozen=True)
class Detector:
    """An entry of :data:`DETECTORS`.

    Attributes:
        name: Value of ``--detector``.
        summary: What it does, for lists.
        options: Schema of its own options (``--set``).
        find: Finds figures on one slide, sorted in any way. Work that takes long should be kept below
            :attr:`DetectRequest.kept`, so that a call that was stopped is continued.
        validation: Where its error on slides of patients is published for this very use; empty: it is called experimental.
    """

    name: str
    summary: str
    options: type[DetectorOptions]
    find: Callable[[DetectRequest, Any], Detections]
    validation: str = ""

    @property
    def standing(self) -> str:
        """How far it can be trusted, in words."""
        return self.validation or EXPERIMENTAL


DETECTORS: Registry[Detector] = Registry("detector", "atypia.workflows.detection.entries", "detectors")
"""Detectors by name."""


def known_mpp(request: DetectRequest, slide: Any) -> float:
    """The µm/px of an open slide.

    Raises:
        InputError: It is not known.
        DataError: Its statements contradict each other or the given value.
    """
    mpp = request.reading.scale(slide).mpp
    if mpp is None:
        fix = "pass --mpp, for instance 0.25, or --magnification"
        raise InputError(must("µm/px", f"known of {request.slide.name}", "a file that does not state it", fix))
    return mpp
