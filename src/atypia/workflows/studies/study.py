"""The work of ``atypia study``: a comparison, from a study file to its report.

from atypia.workflows.studies.study import plan_study, report_study, run_study

planned = plan_study("what-matters", "smoke", fetch=True)
ran = run_study(planned)
report = report_study(planned)
print(report.table.to_text())
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Final

from atypia.base import runs
from atypia.base.errors import count_noun
from atypia.base.extras import NETWORKS, require
from atypia.base.process.progress import Progress, silent
from atypia.studies import files
from atypia.studies.ledger import DONE_FILE
from atypia.workflows.studies.study_results import StudyFolderResults

if TYPE_CHECKING:
    from atypia.reports.drawing.tables import Table
    from atypia.studies.plan import Plan
    from atypia.studies.run import Status
    from atypia.studies.schema import StudyConfig

DEFAULT_FOLDER = Path("studies")
"""Default folder of studies: ``studies/NAME-SIZE`` below it."""
COMPLETE_RUNS: Final = f"{files.RUNS}/*/{DONE_FILE}"
CHECKPOINTS: Final = f"{files.RUNS}/*/*/{runs.CHECKPOINT}"
"""Patterns of what is complete in a study's folder, and of what was begun."""


@dataclass(frozen=True, eq=False, repr=False)
class PlannedStudy(StudyFolderResults):
    """A study's runs, and their folder.

    Attributes:
        plan: Its plan.
        folder: Its folder.
    """

    plan: Plan
    folder: Path

    @property
    def warnings(self) -> list[str]:
        """What cannot be done on this machine, in words."""
        return [
            *(f"left out: {', '.join(labels[:4])}{', …' if len(labels) > 4 else ''}: {text}"
              for text, labels in self.plan.lacking().items()),
            *(f"not tested on {name}: {text}" for name, text in self.plan.absent_tests.items()),
        ]  # fmt: skip

    def status(self) -> Status:
        """Its progress: done, running, failed and pending runs, and the time left."""
        from atypia.studies.run import study_status

        return study_status(self.plan, self.folder)

    def __repr__(self) -> str:
        return f"<PlannedStudy {self.plan.name}, {self.plan.size}: {count_noun(len(self.plan.runs), 'run')}; in {self.folder}>"


@dataclass(frozen=True, repr=False)
class StudyRuns(StudyFolderResults):
    """The result of a call of :func:`run_study`.

    Attributes:
        study: The study.
        done: Ids of the runs done by this call.
        kept: Those that were complete before, or were done by another call meanwhile.
        failed: Ids and reasons.
        seconds: Wall time, planning not counted.
    """

    study: PlannedStudy
    done: tuple[str, ...]
    kept: tuple[str, ...]
    failed: Mapping[str, str]
    seconds: float

    @property
    def plan(self) -> Plan:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The study's plan."""
        return self.study.plan

    @property
    def folder(self) -> Path:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The study's folder."""
        return self.study.folder

    def __repr__(self) -> str:
        counts = f"{len(self.done)} done, {len(self.kept)} kept, {len(self.failed)} failed"
        return f"<StudyRuns {self.plan.name}, {self.plan.size}: {counts}; in {self.folder}>"

    @property
    def reasons(self) -> str:
        """Why runs failed, each reason once."""
        return "; ".join(dict.fromkeys(self.failed.values()))

    def report(self) -> StudyReport:
        """Page, tables and plots of the runs that are complete; see :func:`report_study`."""
        return report_study(self.study)


@dataclass(frozen=True, eq=False, repr=False)
class StudyReport:
    """A study's report.

    Attributes:
        table: Its main table.
        tables: All tables, by name.
        page: The HTML page.
        markdown: All tables in one file.
        plots: Files of the plots.
        warnings: What could not be written, and the remedy.
    """

    table: Table
    tables: Mapping[str, Table]
    page: Path
    markdown: Path
    plots: tuple[Path, ...]
    warnings: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<StudyReport: {count_noun(len(self.tables), 'table')}, {count_noun(len(self.plots), 'plot')}; {self.page}>"


def study_folder(
    study: str | PathLike[str] | StudyConfig, size: str = "full", out: str | PathLike[str] | None = None
) -> Path:
    """The folder of a study: the one that is named, else ``studies/NAME-SIZE``.

    Raises:
        InputError: No such study.
    """
    return Path(out) if out else DEFAULT_FOLDER / f"{_loaded(study).name}-{size}"


def plan_study(
    study: str | PathLike[str] | StudyConfig,
    size: str = "full",
    out: str | PathLike[str] | None = None,
    *,
    overrides: Sequence[str] = (),
    root: Path | None = None,
    fetch: bool = False,
    progress: Progress = silent,
) -> PlannedStudy:
    """The runs of a study, and what is missing for them. Nothing is trained or written.

    Args:
        study: A shipped study's name, the path of a YAML file, or an opened study.
        size: One of the study's sizes.
        out: Its folder; None for ``studies/NAME-SIZE``.
        overrides: Changes of the study file, ``key=value``; not with an opened study.
        root: Data root; None for the user's setting.
        fetch: Whether weights that are not here may be downloaded.
        progress: Told about the data that are opened.

    Raises:
        InputError: No such study or size, or it is not valid.
    """
    from atypia.studies.plan import make_plan

    loaded = _loaded(study, overrides)
    folder = study_folder(loaded, size, out)
    return PlannedStudy(make_plan(loaded.sized(size), folder, root, fetch, progress=progress), folder)


def open_study(
    study: str | PathLike[str] | StudyConfig, size: str = "full", out: str | PathLike[str] | None = None
) -> PlannedStudy:
    """A study that was begun, by the plan in its folder; opens no data.

    Raises:
        InputError: No such study, or it was not begun.
    """
    from atypia.studies.plan import Plan

    folder = study_folder(study, size, out)
    return PlannedStudy(Plan.load(folder), folder)


def run_study(
    study: str | PathLike[str] | StudyConfig | PlannedStudy,
    size: str = "full",
    out: str | PathLike[str] | None = None,
    *,
    overrides: Sequence[str] = (),
    engine: str = "local",
    workers: int | None = None,
    address: str | None = None,
    retry: bool = False,
    reuse: Sequence[Path] = (),
    device: str = "auto",
    root: Path | None = None,
    progress: Progress = silent,
) -> StudyRuns:
    """Does every run that is not complete; a failed one does not stop the others. The same call continues.

    Args:
        study: As for :func:`plan_study`; or its result, with which ``size``, ``out``, ``overrides`` and ``root`` are
            ignored.
        size: One of the study's sizes.
        out: Its folder; several calls may share it, on several machines.
        overrides: Changes of the study file, ``key=value``.
        engine: ``local`` (processes), ``ray`` (a cluster) or ``inline`` (this process).
        workers: Runs at once; None for what the machine allows.
        address: Of a Ray cluster; None starts one on this machine.
        retry: Whether runs that failed before are tried again.
        reuse: Folders of other studies whose complete runs are taken over.
        device: ``auto``, ``cpu`` or ``cuda``.
        root: Data root; None for the user's setting.
        progress: Told how many runs are over.

    Raises:
        AbsentError: None of the study's runs can be done here; names what is missing.
        InputError: The study, the engine or its setup is not valid.

    >>> _ = Path("two.yaml").write_text(
    ...     "name: two\\nsummary: Which random backbone?\\ndata: {train: mine.csv}\\nprotocol: {name: lodo}\\n"
    ...     "models: [{recipe: probe, backbones: [tiny-cnn]}]\\nsizes: {smoke: {set: {geometry.out_px: 32}}}\\n"
    ... )
    >>> ran = run_study("two.yaml", "smoke", "two", engine="inline")
    >>> ran
    <StudyRuns two, smoke: 2 done, 0 kept, 0 failed; in two>
    >>> ran.predictions()
    <Predictions of 48 figures by ..., 2 models: ...; 48 labelled>
    """
    require("`atypia study run`", *NETWORKS, *(["ray"] if engine == "ray" else []))
    from atypia.engines.engine import ENGINES
    from atypia.engines.tasks import Setup
    from atypia.studies.run import run_study as do_runs

    _ = ENGINES[engine]
    if not isinstance(study, PlannedStudy):
        study = plan_study(study, size, out, overrides=overrides, root=root, fetch=True, progress=progress)
    study.plan.save(study.folder)
    started = time.perf_counter()
    setup = Setup(workers, address, progress)
    ran = do_runs(study.plan, study.folder, engine, setup, retry=retry, reuse=reuse, device=device)
    return StudyRuns(study, ran.done, ran.kept, ran.failed, time.perf_counter() - started)


def report_study(
    study: str | PathLike[str] | StudyConfig | PlannedStudy,
    size: str = "full",
    out: str | PathLike[str] | None = None,
    *,
    metric: str = "balanced_accuracy",
    every: bool = False,
    robustness: bool = False,
    progress: Progress = silent,
) -> StudyReport:
    """Computes page, tables and plots from the predictions of the runs that are complete. Nothing is trained.

    Args:
        study: As for :func:`plan_study`, or its result.
        size: One of the study's sizes.
        out: Its folder.
        metric: By which rows are ordered, drawn and ranked: ``balanced_accuracy`` or ``auroc``.
        every: Whether plots show every row; else the best few.
        robustness: Whether a table tells how robust the features of the probes' backbones are to the domain.
        progress: Told about that.

    Raises:
        InputError: No such study or metric, or no run of it is complete; or ``robustness`` without a probe.
        AbsentError: ``robustness`` without the package ``croma``.
        DataError: A file of the study is damaged.

    >>> _ = Path("two.yaml").write_text(
    ...     "name: two\\nsummary: Which random backbone?\\ndata: {train: mine.csv}\\nprotocol: {name: lodo}\\n"
    ...     "models: [{recipe: probe, backbones: [tiny-cnn]}]\\nsizes: {smoke: {set: {geometry.out_px: 32}}}\\n"
    ... )
    >>> _ = run_study("two.yaml", "smoke", "two", engine="inline")
    >>> report_study("two.yaml", "smoke", "two").page.as_posix()
    'two/report/index.html'
    """
    from atypia.reports.study.report import write_report
    from atypia.reports.study.tables import RESULTS, study_tables
    from atypia.studies.findings.compute import about_study, study_findings
    from atypia.studies.run import failures_text

    opened = study if isinstance(study, PlannedStudy) else open_study(study, size, out)
    plan, folder, found = opened.plan, opened.folder, opened.status()
    results, findings = study_findings(plan, folder, metric, every)
    doubts = [*doubts_of(found), *results.warnings]
    tables = study_tables(
        results.rows,
        results.deltas,
        results.shift,
        results.matrix,
        title=f"{plan.name}, size {plan.size}",
        warnings=doubts,
        baseline=plan.baseline,
    )
    if robustness:
        from atypia.reports.study.encoders import ENCODERS, encoders_table
        from atypia.studies.encoders import study_encoders

        tables[ENCODERS] = encoders_table(
            findings, study_encoders(plan, folder, progress), f"{plan.name}, size {plan.size}"
        )
    failures = failures_text(folder, [run for _, _, run, _ in found.failures])
    written = write_report(about_study(plan, folder, found, doubts), findings, tables, folder, failures)
    return StudyReport(tables[RESULTS], tables, written.page, written.markdown, written.figures, written.notes)


def _loaded(study: str | PathLike[str] | StudyConfig, overrides: Sequence[str] = ()) -> StudyConfig:
    from atypia.studies.files import load_study

    return load_study(str(study), overrides) if isinstance(study, str | PathLike) else study


def doubts_of(found: Status) -> list[str]:
    """What is missing in the tables, and why."""
    open_runs = found.counts["pending"] + found.counts["running"]
    return [
        *([f"{count_noun(open_runs, 'run is', 'runs are')} not complete yet"] if open_runs else []),
        *(f"failed: {label}, {fold} ({run}): {reason}" for label, fold, run, reason in found.failures),
        *(f"left out: {', '.join(labels)}: {text}" for text, labels in found.lacking.items()),
        *(f"not tested on {name}: {text}" for name, text in found.absent_tests.items()),
    ]
