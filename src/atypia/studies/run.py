"""Runs a study: complete runs are kept, runs of other processes are waited for, the rest is done."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from atypia.base.errors import AbsentError
from atypia.base.process.progress import silent
from atypia.engines.engine import ENGINES
from atypia.engines.tasks import Setup
from atypia.studies.ledger import DONE, FAILED, PENDING, RUNNING, STATES, Ledger
from atypia.studies.plan import Plan, Run, known_ids
from atypia.studies.work import BUSY, KEPT, RUNS, RunOutcome, RunTask

LACKING: Final = "lacking"
"""State of runs whose data or weights are not on this machine."""
POLL_S: Final = 1.0
"""Interval in seconds for checking runs of other processes."""


@dataclass(frozen=True)
class StudyRun:
    """Result of a call of :func:`run_study`.

    Attributes:
        done: Ids of the runs done by this call.
        kept: Ids of runs that were complete before, or were done by another call in the meantime.
        failed: Ids and reasons.
        adopted: Ids of runs copied from other studies' folders; included in ``kept``.
    """

    done: tuple[str, ...]
    kept: tuple[str, ...]
    failed: Mapping[str, str]
    adopted: tuple[str, ...] = ()


def run_study(
    plan: Plan,
    out: Path,
    engine: str = "local",
    setup: Setup | None = None,
    *,
    retry: bool = False,
    reuse: Sequence[Path] = (),
    device: str = "auto",
) -> StudyRun:
    """Does every run of a plan that is not complete; a failed one does not stop the others.

    Args:
        plan: The study's plan.
        out: Its folder; several calls may share it, on several machines.
        engine: Name in :data:`atypia.engines.engine.ENGINES`.
        setup: Options for running tasks.
        retry: Whether runs that failed before are tried again.
        reuse: Folders of other studies whose complete runs may be copied.
        device: Device for training networks: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        AbsentError: None of the study's runs can be done on this machine; lists what is missing.
        InputError: The engine does not exist, or its setup is not valid.
    """
    carry_out = ENGINES[engine]
    setup = setup or Setup()
    wanted = plan.to_do()
    if not wanted:
        missing = "; ".join(plan.lacking()) or "it has no runs"
        raise AbsentError(f"nothing of {plan.name} can be run here: {missing}")
    ledger = Ledger(out)
    ledger.runs.mkdir(parents=True, exist_ok=True)
    states = ledger.states((run.id for run in wanted), plan.tests)
    adopted = _adopted(plan, ledger, [run.id for run in wanted if states[run.id] == PENDING], reuse)
    if adopted:
        states = ledger.states((run.id for run in wanted), plan.tests)
    if retry:
        ledger.forgive(run.id for run in wanted)
    kept = [run.id for run in wanted if states[run.id] == DONE]
    failed = {
        run.id: str((ledger.failure(run.id) or {}).get("reason", ""))
        for run in wanted
        if states[run.id] == FAILED and not retry
    }
    over = {*kept, *failed}
    todo = {run.id: _task(plan, run, out, device) for run in wanted if run.id not in over}
    done: list[str] = []
    setup.progress(len(over), len(wanted), "runs")
    inner = replace(setup, progress=silent)  # progress within runs would hide the number of finished runs
    while todo:
        ready = _ready(ledger, plan, todo)
        if not ready:
            time.sleep(POLL_S)
            continue
        for outcome in carry_out(ready, RUNS, inner):
            _note(outcome, todo, done, kept, failed)
            setup.progress(len(wanted) - len(todo), len(wanted), "runs")
    return StudyRun(tuple(done), tuple(kept), failed, adopted)


def _adopted(plan: Plan, ledger: Ledger, pending: Sequence[str], reuse: Sequence[Path]) -> tuple[str, ...]:
    """Copies complete runs from other studies, under any of their ids."""
    others = {other: known_ids(other) for other in reuse}
    of_today = {here: new for new, here in plan.known.items()}

    def names(run: str) -> dict[Path, str]:
        new = of_today.get(run, run)
        return {other: known.get(new, new) for other, known in others.items()}

    return tuple(run for run in pending if ledger.adopt(run, names(run))) if others else ()


def _task(plan: Plan, run: Run, out: Path, device: str) -> RunTask:
    training = plan.trainings[run.training]
    own = plan.weights.get(training.backbone)
    weights = Path(own).absolute() if own else None
    return RunTask(out.absolute(), run, training, plan.tests, plan.allow, weights, device, plan.shifts)


def _ready(ledger: Ledger, plan: Plan, todo: Mapping[str, RunTask]) -> list[RunTask]:
    """The tasks that no other process is working on."""
    states = ledger.states(todo, plan.tests)
    return [task for run, task in todo.items() if states[run] != RUNNING]


def _note(
    outcome: RunOutcome, todo: dict[str, RunTask], done: list[str], kept: list[str], failed: dict[str, str]
) -> None:
    if outcome.status == BUSY:
        return  # checked again when the others are finished
    todo.pop(outcome.run, None)
    if outcome.status == DONE:
        done.append(outcome.run)
    elif outcome.status == KEPT:
        kept.append(outcome.run)
    else:
        failed[outcome.run] = outcome.reason


@dataclass(frozen=True)
class Status:
    """Progress of a study.

    Attributes:
        counts: Number of runs in each state.
        rows: Label, training set and number of runs in each state, for each line of the plan.
        failures: Label, fold, id and reason of each failed run.
        lacking: Missing requirements, and the labels that need them.
        absent_tests: Missing test sets, and the reasons.
        seconds_left: Estimated seconds for running and pending runs; None if no run is complete.
        workers: Number of runs in progress.
    """

    counts: Mapping[str, int]
    rows: Sequence[tuple[str, str, Mapping[str, int]]]
    failures: Sequence[tuple[str, str, str, str]]
    lacking: Mapping[str, Sequence[str]]
    absent_tests: Mapping[str, str]
    seconds_left: float | None
    workers: int = 0


def study_status(plan: Plan, out: Path) -> Status:
    """Reads the progress of a study from its plan and its runs' folders; opens no data."""
    ledger = Ledger(out)
    unique = plan.to_do()
    states = ledger.states((run.id for run in unique), plan.tests)
    counts = Counter(states.values())
    by_cell: dict[int, Counter[str]] = {number: Counter() for number in range(len(plan.trainings))}
    for run in plan.runs:
        training = plan.trainings[run.training]
        by_cell[run.training][LACKING if training.lacks else states[run.id]] += 1
    grouped: dict[tuple[str, str], Counter[str]] = {}
    for number, training in enumerate(plan.trainings):
        grouped.setdefault((training.label, training.data), Counter()).update(by_cell[number])
    counts[LACKING] = sum(row[LACKING] for row in grouped.values())
    failures = [
        (plan.trainings[run.training].label, run.fold, run.id, str((ledger.failure(run.id) or {}).get("reason", "")))
        for run in unique
        if states[run.id] == FAILED
    ]
    return Status(
        counts={state: counts[state] for state in (*STATES, LACKING)},
        rows=[(label, data, row) for (label, data), row in grouped.items()],
        failures=failures,
        lacking=plan.lacking(),
        absent_tests=plan.absent_tests,
        seconds_left=_left(ledger, plan, unique, states),
        workers=counts[RUNNING],
    )


def _left(ledger: Ledger, plan: Plan, unique: Sequence[Run], states: Mapping[str, str]) -> float | None:
    """Mean seconds of the complete runs of each cell, or else of its adaptation, or else of all, times the number of remaining runs."""
    spent: dict[object, list[float]] = {}
    for run in unique:
        facts = ledger.done(run.id) if states[run.id] == DONE else None
        if facts is not None:
            for key in (run.training, plan.trainings[run.training].adaptation, None):
                spent.setdefault(key, []).append(float(facts["seconds"]))
    if not spent:
        return None
    total = 0.0
    for run in unique:
        if states[run.id] in (PENDING, RUNNING):
            keys = (run.training, plan.trainings[run.training].adaptation, None)
            known = next(spent[key] for key in keys if key in spent)
            total += sum(known) / len(known)
    return total / max(1, sum(state == RUNNING for state in states.values()))


def failures_text(out: Path, ids: Sequence[str]) -> str:
    """Reasons and tracebacks of failed runs, for people."""
    ledger, parts = Ledger(out), []
    for run in ids:
        facts = ledger.failure(run)
        if facts is not None:
            parts.append(f"{run}: {facts.get('reason', '')}\n{facts.get('traceback', '')}".rstrip())
    return "\n\n".join(parts)
