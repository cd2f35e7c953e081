"""Facts about a study for its report: its question, its progress, and how to repeat it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Failure:
    """A run that failed.

    Attributes:
        label: The row.
        fold: Its fold.
        run: Its id.
        reason: One line.
        trace: The traceback.
    """

    label: str
    fold: str
    run: str
    reason: str
    trace: str = ""


@dataclass(frozen=True)
class StudyAbout:
    """Facts about a study for its report.

    Attributes:
        name: Name of the study.
        size: ``full``, ``cpu`` or ``smoke``.
        summary: Its question.
        source: The paper that it follows; empty without one.
        protocol: Description of how the data was divided.
        counts: Number of runs in each state.
        seconds: Total duration of the complete runs.
        n_rows: Rows of the plan.
        trained_on: Names of the training sets.
        tested_on: Names of the sets that every classifier was tested on.
        baseline: Label of the reference row.
        failures: Runs that failed.
        lacking: Missing data or weights, and the rows that need them.
        absent_tests: Missing test sets, and the reasons.
        environments: Versions, and the number of runs made with them.
        commands: Commands that repeat the study.
        study_yaml: The study file with all changes.
        warnings: Reasons why the numbers are doubtful or incomplete.
    """

    name: str
    size: str
    summary: str
    source: str
    protocol: str
    counts: Mapping[str, int]
    seconds: float
    n_rows: int
    trained_on: tuple[str, ...]
    tested_on: tuple[str, ...]
    baseline: str | None
    failures: tuple[Failure, ...]
    lacking: Mapping[str, tuple[str, ...]]
    absent_tests: Mapping[str, str]
    environments: tuple[tuple[Mapping[str, str], int], ...]
    commands: tuple[str, ...]
    study_yaml: str
    warnings: tuple[str, ...] = ()
