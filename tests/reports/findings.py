"""Findings of an invented study, for tests of what a report shows."""

from __future__ import annotations

import math
from typing import Any

from atypia.base import runs
from atypia.statistics.agreement import RaterScore
from atypia.statistics.differences.crossvalidation import CorrectedT, mean_sd
from atypia.statistics.differences.groups import independent_groups
from atypia.statistics.differences.multiple import rank_models
from atypia.statistics.intervals import Interval
from atypia.studies.findings.about import Failure, StudyAbout
from atypia.studies.findings.schema import (
    COMMON,
    HELD_OUT,
    AdaptationTest,
    Curves,
    Difference,
    DomainScore,
    Findings,
    FoldDifference,
    LeftOut,
    Line,
    Place,
    PlaceScore,
    Ranked,
    Series,
    Unseen,
)
from atypia.studies.findings.single_figures import Gallery, Raters, WrongCrop

PIXEL = "/9j/4AAQSkZJRg=="
NASTY = 'row <script>alert("1")</script> & more'


def interval(value: float, half: float = 0.05, method: str = "bca") -> Interval:
    """An interval around a value."""
    return Interval(value, value - half, value + half, 0.95, method, half / 2, 100, 10, 2000)


def score(series: int, place: int, value: float, common: bool = True, drawn: bool = True) -> PlaceScore:
    """A row on a place whose balanced accuracy is given."""
    values = {"balanced_accuracy": value, "sensitivity": value - 0.1, "specificity": value + 0.1, "auroc": value + 0.05}
    line = Line((0.0, 0.2, 1.0), (0.0, 0.7, 1.0))
    return PlaceScore(
        series=series,
        place=place,
        n_models=2,
        n=100,
        threshold=0.5,
        pooled={name: interval(v) for name, v in values.items()},
        each={name: interval(v - 0.01) for name, v in values.items()} if common else {},
        confusion=(20, 10, 14, 56),
        domains=tuple(DomainScore(f"scanner {d} | breast", 50, 15, 5, interval(value - d / 10)) for d in (0, 1)),
        curves=Curves(line, line, line, 0.4, 0.1) if drawn else None,
        runs={name: mean_sd([v - 0.02, v]) for name, v in values.items()},
    )


def unseen(series: int, *values: float, reference: int | None = None) -> Unseen:
    """A row on left-out domains whose balanced accuracies are given; AUROC: 0.1 higher, undefined on the first."""

    def metrics(value: float, area: Interval) -> dict[str, Interval]:
        return {"balanced_accuracy": interval(value), "sensitivity": interval(value - 0.1),
                "specificity": interval(value + 0.1), "auroc": area}  # fmt: skip

    domains = tuple(
        LeftOut(f"scanner {d}", 50, 15, 5, 2, 0.3, metrics(value, interval(value + 0.1) if d else UNDEFINED))
        for d, value in enumerate(values)
    )
    mean = sum(values) / len(values)
    gain = {} if reference is None else metrics(-0.02, interval(-0.03))
    return Unseen(series, 0, domains, metrics(mean, interval(sum(values[1:]) / len(values[1:]) + 0.1)), reference, gain)


def findings(rows: int = 3, **changes: Any) -> Findings:
    """A study of some rows on a test part and on validation parts."""
    labels = [NASTY, "second", *(f"row {i}" for i in range(2, rows))]
    series = tuple(Series(label, label, "", "tiny-cnn", "probe") for label in labels[:rows])
    places = (
        Place("ami-br", runs.TEST, COMMON, 100, 30, 10, 100),
        Place("ami-br", runs.VALIDATION, HELD_OUT, 200, 60, 200, 0),
    )
    scores = [score(s, p, 0.8 - s / 200, not p, s < 6) for p in range(2) for s in range(rows)]
    differences = [
        Difference(s, 0, 0, metric, interval(-s / 200, 0.03), 0.01 * s, min(1.0, 0.02 * s), "swaps of cases", 3, 5, 0.7)
        for s in range(1, rows)
        for metric in ("balanced_accuracy", "auroc")
    ]
    outcome = CorrectedT(-0.02, 0.01, -2.0, 4, 0.1, -0.05, 0.01, 0.95)
    ranking = rank_models([[0.8, 0.7, 0.6]] * 4 + [[0.7, 0.8, 0.6]], ["a", "b", "c"])
    tests = tuple(independent_groups({"x": [0.8, 0.7], "y": [0.75, 0.74]}, {"z": [0.6, 0.5], "w": [0.55, 0.52]}))
    crop = WrongCrop("figure-<1>", "scanner 0 | breast", 1, (1, 0, 1), 0.02, 2, PIXEL)
    given: dict[str, Any] = {
        "series": series,
        "places": places,
        "scores": tuple(scores),
        "differences": tuple(differences),
        "folds": (FoldDifference(1, 0, 1, "balanced_accuracy", 5, outcome, 0.2),) if rows > 1 else (),
        "ranks": (Ranked("", "balanced_accuracy", ("a", "b", "c", "d", "e"), 1, ranking),),
        "adaptations": (AdaptationTest(0, "", "full", "probe", 2, 2, 0.7475, 0.5425, tests),),
        "raters": (Raters(0, 90, 0.8, 0.6, (RaterScore(0, 80, 20, 10, 0.7, 0.9, 0.8),), (interval(0.8),), 0.8),),
        "galleries": (Gallery(0, 0, (crop,), (WrongCrop("f2", None, 0, (), 0.97, 1),), 10, 14, rows, ""),),
        "draws": 2000,
    }
    return Findings(**{**given, **changes})


def about(**changes: Any) -> StudyAbout:
    """What a report says of the invented study."""
    given: dict[str, Any] = {
        "name": "banerjee-mine",
        "size": "cpu",
        "summary": "a question",
        "source": "a paper",
        "protocol": "kfold (folds 2)",
        "counts": {"done": 5, "running": 0, "failed": 1, "pending": 2, "lacking": 3},
        "seconds": 5400.0,
        "n_rows": 3,
        "trained_on": ("ami-br",),
        "tested_on": ("ami-br",),
        "baseline": None,
        "failures": (Failure("second", "fold-2", "abc", "ValueError: <b>no</b>", "Traceback\n  line & more"),),
        "lacking": {"weights of uni": ("third",)},
        "absent_tests": {"atnorm-md": "not on this machine"},
        "environments": (({"python": "3.11.7"}, 4), ({"python": "3.12.0", "torch": "2.14"}, 1)),
        "commands": ("atypia study run study.yaml --size cpu",),
        "study_yaml": "name: banerjee-mine\n",
        "warnings": ("2 runs are not complete yet",),
    }
    return StudyAbout(**{**given, **changes})


UNDEFINED = Interval(math.nan, math.nan, math.nan, 0.95, "bca", math.nan, 0, 0)
