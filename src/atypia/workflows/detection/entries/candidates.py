"""``candidates``: a classifier of mitotic figures against look-alikes, slid over the tissue."""

from __future__ import annotations

from pydantic import Field

from atypia.base.errors import InputError, must
from atypia.workflows.detection.detector import DETECTORS, Detections, Detector, DetectorOptions, DetectRequest


class CandidatesOptions(DetectorOptions):
    """Options of the detector.

    Attributes:
        step_um: Distance of neighbouring windows, in µm; None for a quarter of the field, at most 5 µm.
        distance_um: Two detections are never nearer, in µm.
        batch_size: Windows at once.
    """

    step_um: float | None = Field(default=None, gt=0, le=100)
    distance_um: float = Field(default=10.0, gt=0, le=100)
    batch_size: int = Field(default=64, ge=1, le=4096)


def find(request: DetectRequest, options: CandidatesOptions) -> Detections:
    """See :func:`atypia.workflows.detection.sliding.slide_over`.

    Raises:
        InputError: No model is named.
    """
    from atypia.workflows.detection.sliding import Sliding, WindowScorer, slide_over

    if request.model is None:
        fix = "train one (docs/detect.md) and pass --model BUNDLE; none is shipped"
        raise InputError(must("--model", "a classifier of the task mitosis", "nothing", fix))
    how = Sliding(options.step_um, options.distance_um, options.batch_size)
    return slide_over(request, WindowScorer(request.model), how)


DETECTORS.add(
    "candidates",
    Detector(
        "candidates",
        "your classifier of mitotic figures against look-alikes, slid over the tissue",
        CandidatesOptions,
        find,
    ),
)
