"""A detector: positions and scores on one slide, of whatever finds them."""

import numpy as np
from pydantic import Field

from atypia.data.slides.readers import open_slide
from atypia.workflows.detection.detector import DETECTORS, Detections, Detector, DetectorOptions, DetectRequest


class BlotsOptions(DetectorOptions):
    """Options, for ``--set``.

    Attributes:
        below: Grey level of a dark pixel, 0 to 255.
    """

    below: int = Field(default=80, ge=0, le=255)


def find(request: DetectRequest, options: BlotsOptions) -> Detections:
    with open_slide(request.slide) as slide:  # a small one; read a large one tile by tile with slide.block
        grey = slide.block(0, 0, slide.width_px, slide.height_px).mean(axis=2)
    y, x = np.nonzero(grey < options.below)
    least = 0.5 if request.min_score is None else request.min_score
    return Detections(x + 0.5, y + 0.5, 1 - grey[y, x] / 255, least, "mylab-blots")


DETECTORS.add("mylab-blots", Detector("mylab-blots", "single dark pixels", BlotsOptions, find), version=1)
