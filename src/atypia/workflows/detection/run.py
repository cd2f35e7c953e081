"""The work of ``atypia detect``: from slides to files of detections, and how good those are.

from atypia.workflows.detection.run import detect

found = detect(["case.svs"], model="mitoses/fold-1/bundle", out=["figures.geojson"])
len(found.slides[0].found)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from atypia.base.config import parse, with_overrides
from atypia.base.errors import InputError, count_noun, must
from atypia.base.process.progress import Progress, silent
from atypia.data.points.classes import ALL, wanted_figures
from atypia.data.slides.origins import zero_of
from atypia.data.slides.readers import open_slide
from atypia.data.slides.slidecrops import SlideReading, slide_points
from atypia.reports.case.density import three_digits
from atypia.statistics.detection import RADIUS_UM, DetectionQuality, SlideHits, detection_quality, match_detections
from atypia.workflows.detection.detector import DETECTORS, Detections, Detector, DetectRequest, known_mpp
from atypia.workflows.detection.files import FORMS, FoundOn, form_of, write_detections

if TYPE_CHECKING:
    from atypia.data.points.base import Points
    from atypia.data.slides.regions import Slide

CANDIDATES: Final = "candidates"
SLIDES: Final = "slides"


@dataclass(frozen=True)
class Truth:
    """Known figures, with which detections are compared.

    Attributes:
        points: A file in any format of points, or a folder with one file per slide.
        classes: Which of them are mitotic figures, by class; needed where there are several.
        radius_um: Largest distance of a hit.
    """

    points: Path
    classes: tuple[str, ...] = ()
    radius_um: float = RADIUS_UM


@dataclass(frozen=True)
class GivenDetections:
    """Detections that are there already, in place of a detector.

    Attributes:
        points: A file in any format of points, with scores, or a folder with one file per slide.
        classes: Which of them count, by class; needed where there are several.
    """

    points: Path
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Detected:
    """The result.

    Attributes:
        slides: What was found on each, in their order.
        files: What was written.
        quality: Against known figures; None where none were given.
        hits: The comparison of each slide; empty likewise.
        notes: What was decided, and what users should know.
    """

    slides: tuple[FoundOn, ...]
    files: tuple[Path, ...]
    quality: DetectionQuality | None
    hits: tuple[SlideHits, ...]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        slides = []
        for number, one in enumerate(self.slides):
            row: dict[str, Any] = {
                "slide": one.slide.name, "detections": len(one.found), "min_score": one.found.min_score, "by": one.found.by,
                "area_mm2": one.found.mm2,
            }  # fmt: skip
            if self.hits:
                counts = self.hits[number].counts(one.found.min_score)
                row |= dict(zip(("hits", "false_positives", "missed"), counts, strict=True))
            slides.append(row)
        return {"slides": slides, "quality": None if self.quality is None else quality_dict(self.quality)}

    def to_text(self) -> str:
        """For people: a line a slide, then the quality."""
        lines = []
        for number, one in enumerate(self.slides):
            found = one.found
            by_area = (
                ""
                if not found.mm2
                else f", {three_digits(len(found) / found.mm2)} per mm² of {three_digits(found.mm2)} mm²"
            )
            line = f"{one.slide.name}: {count_noun(len(found), 'detection')} with a score of at least {found.min_score:.3g}{by_area}"
            if self.hits:
                hits, false, missed = self.hits[number].counts(found.min_score)
                line += f"; {count_noun(hits, 'hit')}, {false:,} false, {missed:,} missed"
            lines.append(line)
        return "\n".join([*lines, *([] if self.quality is None else [quality_text(self.quality)])])


def detect(
    slides: Sequence[str | Path], detector: str = CANDIDATES, *, model: str | None = None, min_score: float | None = None,
    settings: Sequence[str] = (), reading: SlideReading | None = None, out: Sequence[str | Path] = (), form: str = "geojson",
    given: GivenDetections | None = None, truth: Truth | None = None, progress: Progress = silent,
) -> Detected:  # fmt: skip
    """Finds mitotic figures on slides, or takes what was found, writes them, and compares them with known ones.

    Args:
        slides: The files.
        detector: Key of :data:`atypia.workflows.detection.detector.DETECTORS`.
        model: The network that it runs: for ``candidates`` a bundle's folder or an exported file of the task mitosis.
        min_score: Least score; None for the detector's own.
        settings: ``key=value`` for options of the detector.
        reading: How µm/px is told where files do not state it.
        out: Files of the one slide (.geojson, .csv), or one folder, where each slide gets a file of its name.
        form: Form in a folder.
        given: Detections that are there already; no detector runs.
        truth: Known figures.
        progress: Told about the work.

    Raises:
        InputError: An option does not fit, or µm/px is not known.
        DataError: A slide or a file of points cannot be read.
        AbsentError: What the detector needs is not on this machine.
        WorkError: The detector failed, or a file cannot be written.
    """
    reading = reading or SlideReading()
    reading.check()
    paths = [Path(slide) for slide in slides]
    files = _files(paths, [Path(one) for one in out], form)
    entry = DETECTORS[detector]
    options = parse(entry.options, with_overrides({}, settings), f"options of {detector}")
    found: list[FoundOn] = []
    hits: list[SlideHits] = []
    notes: dict[str, None] = {}
    figures = _Truths(truth, paths, reading)
    for number, path in enumerate(paths):
        if len(paths) > 1:
            progress(number, len(paths), SLIDES)
        beside = [other for other in paths if other != path]
        if given is not None:
            all_found = _given(given, path, beside, reading, min_score)
        else:
            all_found = _run(entry, options, DetectRequest(path, reading, min_score, model, progress))
        kept = all_found.take(all_found.scores >= all_found.min_score)
        with open_slide(path) as slide:
            found.append(FoundOn(path, kept, slide.facts.bounds))
            if truth is not None:
                hits.append(_compared(slide, path, all_found, figures, reading, progress))
        notes.update(dict.fromkeys(kept.notes))
        for file in files[number]:
            write_detections(file, found[-1])
    if len(paths) > 1:
        progress(len(paths), len(paths), SLIDES)
    figures.check(hits)
    standing = [] if given is not None else [f"{entry.name} is {entry.standing}"]
    # Where each slide has a least score of its own (that of the detections that were given), all of them count.
    quality = detection_quality(hits, min(one.found.min_score for one in found)) if hits else None
    return Detected(
        tuple(found), tuple(file for of_one in files for file in of_one), quality, tuple(hits), (*standing, *notes)
    )


def _run(entry: Detector, options: Any, request: DetectRequest) -> Detections:
    found = entry.find(request, options)
    order = np.lexsort((found.x_px, found.y_px, -found.scores))
    return found.take(order)


def _files(slides: Sequence[Path], out: Sequence[Path], form: str) -> list[list[Path]]:
    if not slides:
        raise InputError(must("slides", "at least one", "none", "name a slide"))
    if len(slides) == 1 and all(path.suffix for path in out):
        for path in out:
            form_of(path)
        return [list(out)]
    if not out:
        return [[] for _ in slides]
    if len(out) > 1 or out[0].suffix:
        raise InputError(must("--out", f"one folder for {len(slides)} slides", str(out[0]), "name a folder"))
    if f".{form}" not in FORMS:
        raise InputError(must("--form", " or ".join(name[1:] for name in FORMS), form, "for QuPath: geojson"))
    stems = [slide.stem for slide in slides]
    twice = next((stem for stem in stems if stems.count(stem) > 1), None)
    if twice is not None:
        raise InputError(must("slides", "of different names", f"{twice} twice", "call it for each folder of slides"))
    return [[out[0] / f"{stem}.{form}"] for stem in stems]


def _given(
    given: GivenDetections, path: Path, beside: Sequence[Path], reading: SlideReading, min_score: float | None
) -> Detections:
    points = slide_points(
        path, given.points, classes=given.classes, beside=beside, reading=reading, shared=bool(beside)
    )
    if points.scores is None or np.isnan(points.scores).any():
        scores = np.ones(len(points))
        notes = (f"{given.points.name}: not all detections have scores, which are not used",)
    else:
        scores, notes = points.scores, ()
    with open_slide(path) as slide:
        zero = zero_of(slide, points, reading.origin, reading.offset_px)
    least = float(scores.min()) if min_score is None else min_score
    return Detections(points.x_px + zero.x_px, points.y_px + zero.y_px, scores, least, given.points.name, None, notes)


class _Truths:
    """Known figures by slide; that no slide has any is an error, that one has none is not."""

    def __init__(self, truth: Truth | None, slides: Sequence[Path], reading: SlideReading) -> None:
        self.truth, self.slides, self.reading = truth, slides, reading
        self._absent: InputError | None = None

    def of(self, path: Path) -> Points:
        assert self.truth is not None
        beside = [other for other in self.slides if other != path]
        points = slide_points(
            path, self.truth.points, classes=[ALL], beside=beside, reading=self.reading, shared=bool(beside)
        )
        classes = points.classes or [None] * len(points)
        try:
            taken, _ = wanted_figures(classes, self.truth.classes)
        except InputError as error:
            if not self.truth.classes:
                raise
            self._absent = error
            taken = np.zeros(len(points), bool)
        return points.take(taken)

    def check(self, hits: Sequence[SlideHits]) -> None:
        """Raises what was wrong where no figure was found in the truth at all."""
        if self._absent is not None and not sum(one.targets for one in hits):
            raise self._absent


def _compared(
    slide: Slide, path: Path, found: Detections, figures: _Truths, reading: SlideReading, progress: Progress
) -> SlideHits:
    from atypia.data.tissue.masks import TISSUE_UM, tissue_mask
    from atypia.data.tissue.overviews import read_overview

    assert figures.truth is not None
    mpp = known_mpp(DetectRequest(path, reading), slide)
    points = figures.of(path)
    zero = zero_of(slide, points, reading.origin, reading.offset_px) if len(points) else None
    offset = (0.0, 0.0) if zero is None else (zero.x_px, zero.y_px)
    mm2 = found.mm2
    if mm2 is None:
        overview = read_overview(slide, TISSUE_UM, mpp, progress)
        mm2 = float(tissue_mask(overview, mpp).sum()) * (overview.down * mpp / 1000) ** 2
    targets = np.stack([points.x_px + offset[0], points.y_px + offset[1]], axis=1)
    places = np.stack([found.x_px, found.y_px], axis=1)
    return match_detections(places * mpp, found.scores, targets * mpp, figures.truth.radius_um, mm2)


def quality_dict(quality: DetectionQuality) -> dict[str, Any]:
    """JSON form; what is undefined is null."""

    def known(value: float) -> float | None:
        return None if value != value else value

    interval = quality.interval
    return {
        "slides": quality.slides, "hits": quality.hits, "false_positives": quality.false_positives, "missed": quality.missed,
        "precision": known(quality.precision), "recall": known(quality.recall), "f1": known(quality.f1),
        "f1_low": None if interval is None else known(interval.low),
        "f1_high": None if interval is None else known(interval.high),
        "froc": known(quality.froc),
        "sensitivity_at_false_per_mm2": {f"{rate:g}": known(one) for rate, one in zip(quality.rates, quality.sensitivities, strict=True)},
    }  # fmt: skip


def quality_text(quality: DetectionQuality) -> str:
    """For people."""
    interval = quality.interval
    ends = ""
    if interval is not None and interval.low == interval.low:
        ends = f" ({interval.level:.0%} interval over slides {interval.low:.3f} to {interval.high:.3f})"
    at = ", ".join(f"{one:.2f} at {rate:g}" for rate, one in zip(quality.rates, quality.sensitivities, strict=True))
    slides = count_noun(quality.slides, "slide")
    return (
        f"F1 {quality.f1:.3f}{ends} on {slides}: precision {quality.precision:.3f}, recall {quality.recall:.3f}\n"
        f"FROC {quality.froc:.3f}, the mean of recall {at} false detections per mm²"
    )
