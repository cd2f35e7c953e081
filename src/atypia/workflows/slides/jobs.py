"""A list of slides: their files, their points, and the settings for all of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from atypia.base import records as r
from atypia.base.artifacts import fingerprint
from atypia.base.errors import DataError, InputError, must
from atypia.base.runs import safe_name
from atypia.data.points.base import BoxFormat
from atypia.data.points.names import bare_stem, loose
from atypia.data.slides.origins import AUTO, NO_OFFSET, check_origin, offset_of
from atypia.data.slides.scale import GIVEN, GIVEN_AS, check_choice
from atypia.data.textfiles import cleaned_text, number, read_table
from atypia.inference.classifier import SHIPPED, Classifier
from atypia.inference.requests import Request

TABLE: Final = "slides.csv"
"""The table of outcomes, in the folder of the results."""
LATER: Final = ("min_score", "unit", "density", "prevalence", "device")
"""Settings that earlier versions did not have."""
_SLIDE, _POINTS, _NAME = "slide", "points", "name"
_MPP_FROM, _ORIGIN, _OFFSET = "mpp_from", "origin", "offset"


@dataclass(frozen=True)
class SlideJob:
    """One slide and the figures on it.

    Attributes:
        slide: The file.
        points: The file of points, which may hold those of other slides too; or a folder with one file per slide.
        name: Name of its folder; empty for the slide's own name without suffix.
        mpp: Its µm/px, where it does not state it; None for the settings'.
        mpp_from: Which value is used if statements of µm/px differ; empty for the settings'.
        origin: What positions on it count from; empty for the settings'.
        offset_px: Added to positions on it; None for the settings'.
        beside: Other slides of the list that are named alike, whose points the file may hold.
        shared: Whether ``points`` was given once for several slides: a file then has to name them.
    """

    slide: Path
    points: Path
    name: str = ""
    mpp: float | None = None
    mpp_from: str = ""
    origin: str = ""
    offset_px: tuple[float, float] | None = None
    beside: tuple[str, ...] = ()
    shared: bool = False


@dataclass(frozen=True)
class SlideSettings:
    """All settings that change the written files, apart from the slide and its points; JSON-able.

    Attributes:
        models: As ``Classifier.load`` takes them; several are averaged.
        point: Operating point by name; None for the model's threshold.
        coverage: Coverage of the prediction sets; None for the model's own.
        threshold: Decide at this probability of *atypical* instead, in (0, 1).
        runtime: Name of the runtime; None for the first that is installed.
        tta: Whether to average over flips and quarter turns.
        mpp: µm/px, if the slides do not state it or are wrong.
        point_format: Format of the points; None: recognised by the content.
        box_format: Meaning of the four numbers of a JSON box.
        classes: Only points that the file calls one of these; ``all`` for all of several, empty if there is one.
        forms: Suffixes of the results that are written, without the dot; ``html`` is the case page.
        fields: Whether GeoJSON shows squares of the field instead of points.
        mpp_from: Which value is used if statements of µm/px differ.
        given_as: How ``mpp`` was given, for messages and results.
        origin: Origin of positions on slides.
        offset_px: Added to positions, for slides that were converted and cropped.
        min_score: Only points to which a detector gave at least this score; None for all.
        unit: What positions are in (:data:`atypia.data.points.units.CHOICES`); ``auto``: decided by the file.
        density: Field of the hotspots (:func:`atypia.reports.case.density.field_size`) where figures by area are wanted; else empty.
        prevalence: Share of atypical figures in the population of the slides, in (0, 1), where it is known.
        device: Where the networks are computed (:data:`atypia.inference.runtimes.providers.PREDICT_DEVICES`).
    """

    models: tuple[str, ...] = (SHIPPED,)
    point: str | None = None
    coverage: float | None = None
    threshold: float | None = None
    runtime: str | None = None
    tta: bool = False
    mpp: float | None = None
    point_format: str | None = None
    box_format: BoxFormat = "auto"
    classes: tuple[str, ...] = ()
    forms: tuple[str, ...] = ("parquet", "geojson")
    fields: bool = False
    mpp_from: str = AUTO
    given_as: str = GIVEN_AS
    origin: str = AUTO
    offset_px: tuple[float, float] = NO_OFFSET
    min_score: float | None = None
    unit: str = "auto"
    density: str = ""
    prevalence: float | None = None
    device: str = "auto"

    def evidence(self) -> dict[str, Any]:
        """What a slide's results depend on; options of later versions only where they are used, so that kept slides stay,
        and the first wording of ``given_as``."""
        plain = SlideSettings()
        later = {name for name in LATER if getattr(self, name) == getattr(plain, name)}
        worded = {"given_as": self.given_as.removeprefix(GIVEN_AS.removesuffix("--mpp"))}
        return {name: value for name, value in {**asdict(self), **worded}.items() if name not in later}

    def classifier(self) -> Classifier:
        """Opens the requested classifier.

        Raises:
            AtypiaError: As :meth:`Classifier.load`.
        """
        return Classifier.load(
            self.models,
            point=self.point,
            coverage=self.coverage,
            threshold=self.threshold,
            runtime=self.runtime,
            tta=self.tta,
            device=self.device,
        )

    def request(self, job: SlideJob) -> Request:
        """The request for a job."""
        mpp, given_as = (self.mpp, self.given_as) if job.mpp is None else (job.mpp, "column mpp")
        return Request(
            (str(job.slide),),
            job.points,
            mpp,
            self.point_format,
            self.box_format,
            tuple(self.classes),
            mpp_from=job.mpp_from or self.mpp_from,
            given_as=given_as,
            origin=job.origin or self.origin,
            beside=job.beside,
            offset_px=self.offset_px if job.offset_px is None else job.offset_px,
            min_score=self.min_score,
            unit=self.unit,
            shared=job.shared,
        )


def distinct(jobs: Sequence[SlideJob]) -> list[SlideJob]:
    """The jobs with absolute paths, each with a folder of its own, and with the slides that are named alike.

    If several would have the same name (ignoring case), a hash of the paths is appended to each, so that the
    name does not depend on the order.

    Raises:
        InputError: There is none, or a slide is listed twice with the same points.
    """
    if not jobs:
        raise InputError(must("jobs", "at least one slide", "none", "name one"))
    full = [
        replace(
            job,
            slide=job.slide.absolute(),
            points=job.points.absolute(),
            name=safe_name(job.name or bare_stem(job.slide.name)),
        )
        for job in jobs
    ]
    alike: dict[str, list[str]] = {}
    for job in full:
        alike.setdefault(loose(bare_stem(job.slide.name)), []).append(str(job.slide))
    full = [
        replace(
            job, beside=tuple(other for other in alike[loose(bare_stem(job.slide.name))] if other != str(job.slide))
        )
        for job in full
    ]
    counts = Counter(job.name.casefold() for job in full)
    counts[TABLE] += 1  # a folder of that name would be in the way of the table
    named = [
        job
        if counts[job.name.casefold()] == 1
        else replace(job, name=f"{job.name}-{fingerprint(str(job.slide), str(job.points))[:8]}")
        for job in full
    ]
    twice = [name for name, times in Counter(job.name.casefold() for job in named).items() if times > 1]
    if twice:
        job = next(job for job in named if job.name.casefold() == twice[0])
        raise InputError(f"{job.slide} is listed twice with the same points; fix: list it once")
    return named


def read_jobs(path: Path, points: Path | None = None) -> list[SlideJob]:
    """Reads a list of slides: a table with the columns ``slide``, ``points`` and, optionally, ``name``, ``mpp``,
    ``mpp_from``, ``origin`` and ``offset`` (two numbers, «X;Y» or quoted «X,Y»).

    Paths are relative to the folder of the table.

    Args:
        path: Delimited by commas, semicolons or tabs.
        points: For slides without points of their own: a file with those of all slides, or a folder.

    Raises:
        DataError: The table cannot be read, has no column ``slide``, or a line has no slide, no points, a µm/px
            that is not a positive number, or a word that is not a choice of the column's option.
    """
    table = read_table(path)
    table.require(_SLIDE, *(() if points else (_POINTS,)))
    jobs, without = [], sum(not cleaned_text(row.get(_POINTS)) for row in table.rows)
    for row, line in zip(table.rows, table.lines, strict=True):
        slide, own, name = (cleaned_text(row.get(column)) for column in (_SLIDE, _POINTS, _NAME))
        if not slide or not (own or points):
            raise DataError(f"{path.name}, line {line}: no {_POINTS if slide else _SLIDE}; fix: fill the cell")
        chosen = path.parent / own if own else points
        assert chosen is not None  # one of the two is there
        mpp, mpp_from, origin = _mpp(row.get(r.MPP, ""), path, line), row.get(_MPP_FROM, ""), row.get(_ORIGIN, "")
        try:
            check_choice(mpp_from or AUTO, mpp if mpp_from != GIVEN else mpp or 1.0)
            check_origin(origin or AUTO)
            offset = offset_of(row[_OFFSET]) if row.get(_OFFSET) else None
        except InputError as error:
            raise DataError(f"{path.name}, line {line}: {error}") from error
        shared = not own and without > 1
        jobs.append(SlideJob(path.parent / slide, chosen, name or "", mpp, mpp_from, origin, offset, shared=shared))
    if not jobs:
        raise DataError(f"{path.name} lists no slide; fix: write one line a slide")
    return jobs


def _mpp(text: str, path: Path, line: int) -> float | None:
    """µm/px of a cell; None if it is empty."""
    where = f"{path.name}, line {line}"
    value = number(text, r.MPP, where) if cleaned_text(text) else None
    if value is not None and not (math.isfinite(value) and value > 0):
        raise DataError(f"{where}: {must(r.MPP, 'a positive number of µm/px', text, 'correct the cell')}")
    return value
