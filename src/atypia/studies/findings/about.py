"""What a report says of a study itself: what was asked, how much of it is done, how to do it again."""

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
    """What a report says of the study itself.

    Attributes:
        name: Of the study.
        size: ``full``, ``cpu`` or ``smoke``.
        summary: What it asks.
        source: The paper; empty without one.
        protocol: How the data was divided, in words.
        counts: Number of runs in each state.
        seconds: Sum over the complete runs.
        n_rows: Rows of the plan.
        trained_on: Names of the training sets.
        tested_on: Names of the sets that every classifier was tested on.
        baseline: Label of the row that others are compared with.
        failures: Runs that failed.
        lacking: What is missing here, and the rows that need it.
        absent_tests: Test sets that are not here, and why.
        environments: Versions, and the number of runs that were made with them.
        commands: What to type to do it again.
        study_yaml: The study file with all changes.
        warnings: What makes the numbers doubtful or incomplete.
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
