"""``atypia study``: plan, carry out and tabulate whole comparisons."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atypia.cli.console import bars, keeps, note, show_json, warn, width
from atypia.cli.options import Device, Json, Root

if TYPE_CHECKING:
    from atypia.studies.plan import Plan
    from atypia.studies.run import Status
    from atypia.studies.schema import StudyConfig

app = typer.Typer(help="Whole comparisons: models × factors × folds × seeds, as one command.", no_args_is_help=True)

Study = Annotated[str, typer.Argument(help="A shipped study (`atypia study list`), or a YAML file.")]
Size = Annotated[str, typer.Option(help="full: as the paper; cpu: offline backbones; smoke: minutes, phantom set.")]
Out = Annotated[Path | None, typer.Option(help="The study's folder. Default: studies/NAME-SIZE.", show_default=False)]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the study file; may be repeated.",
                 show_default=False),
]  # fmt: skip


@app.command("list", epilog="Example: `atypia study list`")
def list_studies(as_json: Json = False) -> None:
    """The studies that ship with Atypia."""
    from atypia.reports.drawing.listing import columns_table
    from atypia.studies.files import load_study, shipped_studies

    loaded = [load_study(name) for name in shipped_studies()]
    if as_json:
        show_json([study.model_dump(mode="json") for study in loaded])
        return
    rows = [[study.name, ", ".join(["full", *(s for s in study.sizes if s != "full")]), study.summary]
            for study in loaded]  # fmt: skip
    print(columns_table(["study", "sizes", "what"], rows).to_text(width()), end="")


@app.command("plan", epilog="Example: `atypia study plan what-matters --size smoke`")
def plan_study(
    study: Study, size: Size = "full", out: Out = None, overrides: Changes = None, root: Root = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """The runs that a study comes to, and what is missing for them. Nothing is trained or downloaded."""
    from atypia.studies.files import load_study

    loaded = load_study(study, overrides or ())
    planned = _planned(loaded, size, _folder(loaded, size, out), root, fetch=False)
    if as_json:
        show_json(
            {
                "name": planned.name,
                "size": planned.size,
                "runs": [{"id": run.id, "label": planned.cells[run.cell].label, "fold": run.fold,
                          "data": planned.cells[run.cell].data, "seed": planned.cells[run.cell].seed,
                          "figures": list(run.sizes)} for run in planned.runs],
                "lacking": planned.lacking(),
                "absent_tests": dict(planned.absent_tests),
            }
        )  # fmt: skip
        return
    _print_plan(planned)


@app.command("run", epilog="Example: `atypia study run giedziun-lodo --size cpu --out lodo`")
def run(
    study: Study,
    size: Size = "full",
    out: Out = None,
    engine: Annotated[str, typer.Option(help="local: processes; ray: a cluster; inline: this process.")] = "local",
    workers: Annotated[int | None, typer.Option(help="Runs at once.", min=1, show_default=False)] = None,
    address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster (host:6379, auto); else one is started.", show_default=False)
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Try failed runs again.")] = False,
    reuse: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Take complete runs over from another study's folder.", show_default=False),
    ] = None,
    device: Device = "auto",
    overrides: Changes = None,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Do every run that is not complete, then write the tables. The same command continues, or shares the work."""
    from atypia.base.errors import WorkError
    from atypia.engines.engine import ENGINES
    from atypia.engines.tasks import Setup
    from atypia.studies.files import load_study
    from atypia.studies.run import run_study, study_status

    started = time.perf_counter()
    _ = ENGINES[engine]
    loaded = load_study(study, overrides or ())
    folder = _folder(loaded, size, out)
    planned = _planned(loaded, size, folder, root, fetch=True)
    planned.save(folder)
    for text, labels in planned.lacking().items():
        warn(f"left out: {', '.join(labels[:4])}{', …' if len(labels) > 4 else ''}: {text}")
    for name, text in planned.absent_tests.items():
        warn(f"not tested on {name}: {text}")
    keeps("runs that are complete, and checkpoints,")
    with bars() as progress:
        ran = run_study(
            planned, folder, engine, Setup(workers, address, progress), retry=retry, reuse=reuse or (), device=device
        )
    note(
        f"{len(ran.done)} runs done, {len(ran.kept)} kept, {len(ran.failed)} failed, "
        f"in {time.perf_counter() - started:.1f} s"
    )
    status = study_status(planned, folder)
    if len(ran.done) + len(ran.kept):
        _report(planned, folder, as_json, status)
    if ran.failed:
        reasons = "; ".join(dict.fromkeys(ran.failed.values()))
        raise WorkError(f"{len(ran.failed)} runs failed: {reasons}; fix: see the report, then run again with --retry")


@app.command("status", epilog="Example: `atypia study status giedziun-lodo --size cpu --out lodo`")
def status(study: Study, size: Size = "full", out: Out = None, as_json: Json = False) -> None:
    """Done, running, failed and pending runs, and the time left."""
    from atypia.studies.files import load_study
    from atypia.studies.plan import Plan
    from atypia.studies.run import study_status

    folder = out or _folder(load_study(study), size, out)
    found = study_status(Plan.load(folder), folder)
    if as_json:
        show_json(_status_values(found))
        return
    _print_status(found)


@app.command("report", epilog="Example: `atypia study report giedziun-lodo --size cpu --out lodo`")
def report(study: Study, size: Size = "full", out: Out = None, as_json: Json = False) -> None:
    """Recompute page, tables and figures from the predictions. Nothing is trained."""
    from atypia.studies.files import load_study
    from atypia.studies.plan import Plan
    from atypia.studies.run import study_status

    folder = out or _folder(load_study(study), size, out)
    planned = Plan.load(folder)
    _report(planned, folder, as_json, study_status(planned, folder))


def _folder(study: StudyConfig, size: str, out: Path | None) -> Path:
    return out or Path("studies") / f"{study.name}-{size}"


def _planned(study: StudyConfig, size: str, out: Path, root: Path | None, fetch: bool) -> Plan:
    from atypia.studies.plan import make_plan

    with bars() as progress:
        return make_plan(study.sized(size), out, root, fetch, progress=progress)


def _print_plan(planned: Plan) -> None:
    from atypia.reports.drawing.listing import columns_table

    lines: dict[tuple[str, str], list[int]] = {}
    for number, cell in enumerate(planned.cells):
        lines.setdefault((cell.label, cell.data), []).append(number)
    counts: dict[int, int] = {}
    for one in planned.runs:
        counts[one.cell] = counts.get(one.cell, 0) + 1
    rows = []
    for (label, data), numbers in lines.items():
        cell = planned.cells[numbers[0]]
        folds = sum(counts.get(number, 0) for number in numbers)
        rows.append([label, cell.adaptation, cell.backbone, data, len(numbers), folds or None,
                     "no" if cell.lacks else "yes"])  # fmt: skip
    table = columns_table(["row", "adaptation", "backbone", "trained on", "seeds", "runs", "here"], rows)
    print(table.to_text(width()), end="")
    distinct = len({one.id for one in planned.runs})
    print(f"\n{planned.name}, {planned.size}: {len(planned.runs)} runs, {distinct} different, "
          f"{len(planned.to_do())} can be done here")  # fmt: skip
    if planned.tests:
        print(f"tested on: {', '.join(planned.tests.values())}")
    for text, labels in planned.lacking().items():
        print(f"lacking for {len(labels)} rows: {text}")
    for name, text in planned.absent_tests.items():
        print(f"not tested on {name}: {text}")


def _status_values(found: Status) -> dict[str, Any]:
    return {
        "counts": dict(found.counts),
        "seconds_left": found.seconds_left,
        "rows": [{"row": label, "trained_on": data, **counts} for label, data, counts in found.rows],
        "failures": [{"row": label, "fold": fold, "run": run, "reason": reason}
                     for label, fold, run, reason in found.failures],
        "lacking": {text: list(labels) for text, labels in found.lacking.items()},
        "absent_tests": dict(found.absent_tests),
    }  # fmt: skip


def _print_status(found: Status) -> None:
    from atypia.reports.drawing.listing import columns_table

    states = list(found.counts)
    rows = [[label, data, *(counts.get(state, 0) for state in states)] for label, data, counts in found.rows]
    rows.append(["all", "", *found.counts.values()])
    print(columns_table(["row", "trained on", *states], rows).to_text(width()), end="")
    if found.seconds_left:
        print(f"\ntime left: about {_duration(found.seconds_left)} at the present pace")
    for label, fold, run, reason in found.failures:
        print(f"failed: {label}, {fold} ({run}): {reason}")
    for text, labels in found.lacking.items():
        print(f"lacking for {len(labels)} rows: {text}")
    for name, text in found.absent_tests.items():
        print(f"not tested on {name}: {text}")


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _report(planned: Plan, folder: Path, as_json: bool, found: Status) -> None:
    """Computes, prints and writes the report."""
    from atypia.reports.study.report import write_report
    from atypia.reports.study.tables import RESULTS, study_tables
    from atypia.studies.findings.compute import about_study, study_findings
    from atypia.studies.run import failures_text

    results, said = study_findings(planned, folder)
    doubts = [*_doubts(found), *results.warnings]
    tables = study_tables(
        results.rows,
        results.deltas,
        results.shift,
        results.matrix,
        title=f"{planned.name}, size {planned.size}",
        warnings=doubts,
        baseline=planned.baseline,
    )
    failures = failures_text(folder, [run for _, _, run, _ in found.failures])
    written = write_report(about_study(planned, folder, found, doubts), said, tables, folder, failures)
    main = tables[RESULTS]
    sys.stdout.write(main.render("json") if as_json else main.to_text(width=width()))
    for text in written.notes:
        warn(text)
    note(f"report: {written.page} (page), {written.markdown} (all tables)")
    note(f"files: {folder}/results.parquet, {folder}/runs.parquet")


def _doubts(found: Status) -> list[str]:
    """What is not in the tables, and why."""
    open_runs = found.counts["pending"] + found.counts["running"]
    return [
        *([f"{open_runs} runs are not complete yet"] if open_runs else []),
        *(f"failed: {label}, {fold} ({run}): {reason}" for label, fold, run, reason in found.failures),
        *(f"left out: {', '.join(labels)}: {text}" for text, labels in found.lacking.items()),
        *(f"not tested on {name}: {text}" for name, text in found.absent_tests.items()),
    ]
