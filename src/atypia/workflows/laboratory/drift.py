"""How far cases lie from the laboratories of a classifier's training: what ``atypia drift`` does.

    from atypia.workflows.laboratory.drift import drift

    report = drift(["case-1/", "case-2/"], "my-model")
    report.verdict("case-1")      # 'like the training data', or what is not
    report.write(Path("drift"))   # drift.html with plots, drift.json

The classifier must record how its training's figures look; :func:`training_look` measures them
(``tools/bundle_records.py`` writes them into a bundle that was trained before trainings recorded it).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from atypia.base import records as r
from atypia.base.errors import InputError, must
from atypia.base.process.progress import Progress, silent
from atypia.data.images.appearance import MEASURES, appearance
from atypia.data.slides.readas import ASSUMED
from atypia.inference.bundles.training_look import (
    OF_MODEL,
    OF_SCAN,
    TrainingLook,
    look_at,
    look_of,
    model_measures,
)
from atypia.inference.classifier import SHIPPED, Classifier
from atypia.inference.requests import Request, StreamNotes, open_stream
from atypia.reports.case.drift import ALL, CaseMeasures, DriftReport
from atypia.reports.drawing.names import common_reason, short_names

if TYPE_CHECKING:
    from atypia.data.manifest import Manifest
    from atypia.inference.bundles.decision import Verdicts

TITLES: Final = {**MEASURES, **OF_MODEL, **OF_SCAN}
CHUNK: Final = 256
Floats = npt.NDArray[np.float64]


def drift(
    cases: Sequence[str | PathLike[str]] | str | PathLike[str],
    classifier: Classifier | str | Path = SHIPPED,
    *,
    points: str | PathLike[str] | None = None,
    mpp: float | None = None,
    progress: Progress = silent,
) -> DriftReport:
    """Compares cases with the laboratories of a classifier's training.

    Args:
        cases: Each a folder of crops, a file, a TIFF stack or, with ``points``, a slide; several are also judged together.
        classifier: An opened one, or what :meth:`Classifier.load` opens.
        points: File of the figures' positions on the slides, or a folder with one file a slide.
        mpp: µm/px of the images, where the files do not state it.
        progress: Told how many figures are measured.

    Raises:
        InputError: An input does not exist or is given twice, or the classifier does not record how its training's
            figures look.
        DataError: An input cannot be read.
        AbsentError: The model, or what runs it, is not here.
    """
    several = [cases] if isinstance(cases, str | PathLike) else list(cases)
    request = Request(
        tuple(str(case) for case in several), None if points is None else Path(points), mpp, given_as="given"
    )
    return drift_of(
        request, classifier if isinstance(classifier, Classifier) else Classifier.load(classifier), progress
    )


def drift_of(request: Request, classifier: Classifier, progress: Progress = silent) -> DriftReport:
    """As :func:`drift`, of a request whose inputs are the cases."""
    if len(classifier.members) != 1:
        got = f"{len(classifier.members)} models"
        raise InputError(must("model", "one whose training's look is recorded", got, "name one"))
    look = look_of(classifier.members[0].decision)
    if look is None:
        got = f"{classifier.name}, which does not record how its training's figures look"
        fix = "choose a model that does, or write it into this one: python tools/bundle_records.py"
        raise InputError(must("model", "one whose training's look is recorded", got, fix))
    names = case_names(request.inputs)
    found: list[CaseMeasures] = []
    for name, given in zip(names, request.inputs, strict=True):
        progress(len(found), len(names), "cases")
        others = tuple(other for other in request.inputs if other != given)  # a file of points may be of all
        one = replace(request, inputs=(given,), beside=others, shared=len(names) > 1)
        found.append(measured(name, one, classifier))
    progress(len(found), len(names), "cases")
    return DriftReport(found, look.ranges, TITLES, classifier.name, look.source)


def case_names(inputs: Sequence[str]) -> list[str]:
    """Names of cases: the last part of each input, with as many folders as tell it from the others.

    Raises:
        InputError: One is given twice.

    >>> case_names(["2024/a/crops", "2024/b/crops", "c.svs"])
    ['a/crops', 'b/crops', 'c.svs']
    """
    paths = [os.path.normpath(Path(given).absolute()) for given in inputs]
    for path, given in zip(paths, inputs, strict=True):
        if paths.count(path) > 1 or Path(path).name == ALL:
            got = f"{given} twice" if paths.count(path) > 1 else f"one that is called {ALL!r}"
            raise InputError(must("cases", "different from each other", got, "name each once, or rename the folder"))
    shown = short_names(paths)
    return [shown[path] for path in paths]


def measured(name: str, request: Request, classifier: Classifier) -> CaseMeasures:
    """Measures the figures of a case; those without a readable crop are counted with their reasons.

    Raises:
        DataError: The case cannot be read.
    """
    from atypia.inference.bundles.decision import REFUSED

    pieces: dict[str, list[Floats]] = {}
    refused = 0
    reasons: Counter[str] = Counter()
    assumed: dict[str, None] = {}
    told = StreamNotes()
    for item in classifier.judged_crops(open_stream(request, classifier, told)):
        if not isinstance(item, tuple):
            reasons[common_reason(item.reason, item.image)] += 1
            continue
        crops, verdicts = item
        refused += verdicts.call.count(REFUSED)
        # An assumed µm/px is the model's own and tells nothing.
        sources = [one.mpp_source or "" for one in crops.read_as]
        assumed |= dict.fromkeys(source for source in sources if source.startswith(ASSUMED))
        known = [
            np.nan if not source or source.startswith(ASSUMED) else one.mpp
            for source, one in zip(sources, crops.read_as, strict=True)
        ]
        scale = np.array(known or [np.nan] * len(crops), dtype=np.float64)
        for kind, values in {**appearance(crops.crops), **model_measures(verdicts), r.MPP: scale}.items():
            pieces.setdefault(kind, []).append(values)
    values = {kind: np.concatenate(parts) for kind, parts in pieces.items()}
    notes = [f"µm/px is {source}; --mpp or --magnification overrides this" for source in assumed]
    notes += [note.removeprefix(f"{request.inputs[0]}: ") for note in told.warnings()]
    figures = len(values[r.MPP]) if values else 0
    return CaseMeasures(name, figures, refused, values, reasons, tuple(notes))


def training_look(manifest: Manifest, classifier: Classifier, source: str, progress: Progress = silent) -> TrainingLook:
    """Measures the figures of a training, for its bundle.

    Args:
        manifest: The figures, with domains (the laboratories), and cases where they are known.
        classifier: For its novelty and scores. On figures that it was trained on it is more certain, and finds them less
            novel, than on others: its limits are narrower than a new case of the same laboratory needs, never wider.
        source: What is measured, in words.
        progress: Told how many figures are measured.

    Raises:
        InputError: No figure has a domain.
    """
    from atypia.data.crops.store import open_store

    store = open_store(manifest, classifier.geometry)
    rows = np.flatnonzero(store.usable)

    def judged() -> Iterator[tuple[npt.NDArray[np.uint8], Verdicts]]:
        for start in range(0, len(rows), CHUNK):
            progress(start, len(rows), "figures")
            crops = np.ascontiguousarray(store.crops[rows[start : start + CHUNK]])
            yield crops, classifier.judge(crops)

    return look_at(manifest.take(rows), judged(), source)
