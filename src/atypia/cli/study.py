"""``atypia study``: plans, runs and tabulates comparisons."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atypia.base.errors import count_noun
from atypia.cli.shared.console import bars, counted, keeps, note, show_json, warn, width
from atypia.cli.shared.options import Device, Json, Root

if TYPE_CHECKING:
    from atypia.workflows.studies.study import PlannedStudy, StudyReport

app = typer.Typer(help="Comparisons of models × factors × folds × seeds, as one command.", no_args_is_help=True)

Study = Annotated[str, typer.Argument(help="A shipped study (`atypia study list`), or a YAML file.")]
Size = Annotated[str, typer.Option(help="full: as in the paper; cpu: offline backbones; smoke: minutes, phantom set.")]
Out = Annotated[Path | None, typer.Option(help="The study's folder. Default: studies/NAME-SIZE.", show_default=False)]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the study file; may be repeated.",
                 show_default=False),
]  # fmt: skip


@app.command("list", epilog="Example: `atypia study list`")
def list_studies(as_json: Json = False) -> None:
    """List the shipped studies."""
    from atypia.reports.drawing.listing import columns_table
    from atypia.workflows.recipes import shipped_studies

    loaded = shipped_studies()
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
    """List the runs of a study and what is missing for them. Nothing is trained or downloaded."""
    from atypia.workflows.studies.study import plan_study as run

    with bars() as progress:
        found = run(study, size, out, overrides=overrides or (), root=root, progress=progress)
    planned = found.plan
    if as_json:
        show_json(
            {
                "name": planned.name,
                "size": planned.size,
                "runs": [{"id": run.id, "label": planned.trainings[run.training].label, "fold": run.fold,
                          "data": planned.trainings[run.training].data, "seed": planned.trainings[run.training].seed,
                          "figures": list(run.sizes)} for run in planned.runs],
                "lacking": planned.lacking(),
                "absent_tests": dict(planned.absent_tests),
            }
        )  # fmt: skip
        return
    _print_plan(found)


@app.command("run", epilog="Example: `atypia study run giedziun-lodo --size cpu --out lodo`")
def run(
    study: Study,
    size: Size = "full",
    out: Out = None,
    engine: Annotated[str, typer.Option(help="local: processes; ray: a cluster; inline: this process.")] = "local",
    workers: Annotated[int | None, typer.Option(help="Number of parallel runs.", min=1, show_default=False)] = None,
    address: Annotated[
        str | None,
        typer.Option(help="Address of a Ray cluster (host:6379, auto); else one is started.", show_default=False),
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Try failed runs again.")] = False,
    reuse: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Copy complete runs from another study's folder.", show_default=False),
    ] = None,
    device: Device = "auto",
    overrides: Changes = None,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Execute every incomplete run, then write the tables. The same command resumes, or shares the work."""
    from atypia.base.errors import WorkError
    from atypia.base.extras import NETWORKS, require
    from atypia.engines.engine import ENGINES
    from atypia.workflows.studies.study import CHECKPOINTS, COMPLETE_RUNS, run_study
    from atypia.workflows.studies.study import plan_study as make

    started = time.perf_counter()
    _ = ENGINES[engine]
    # Before data are opened or rendered.
    require("`atypia study run`", *NETWORKS, *(["ray"] if engine == "ray" else []))
    with bars() as progress:
        planned = make(study, size, out, overrides=overrides or (), root=root, fetch=True, progress=progress)
    for text in planned.warnings:
        warn(text)
    keeps(counted(planned.folder, COMPLETE_RUNS, "complete run", "complete runs", CHECKPOINTS))
    with bars() as progress:
        ran = run_study(
            planned,
            engine=engine,
            workers=workers,
            address=address,
            retry=retry,
            reuse=reuse or (),
            device=device,
            progress=progress,
        )
    note(
        f"{count_noun(len(ran.done), 'run')} done, {len(ran.kept)} kept, {len(ran.failed)} failed, "
        f"in {time.perf_counter() - started:.1f} s"
    )
    if ran.done or ran.kept:
        _show_report(ran.report(), planned.folder, as_json)
    if ran.failed:
        raise WorkError(
            f"{count_noun(len(ran.failed), 'run')} failed: {ran.reasons}; fix: see the report, then run again with --retry"
        )


@app.command("status", epilog="Example: `atypia study status giedziun-lodo --size cpu --out lodo`")
def status(study: Study, size: Size = "full", out: Out = None, as_json: Json = False) -> None:
    """Show done, running, failed and pending runs, and the time left."""
    from atypia.workflows.studies.study import open_study

    opened = open_study(study, size, out)
    if as_json:
        show_json(_status_values(opened))
        return
    _print_status(opened)


@app.command("report", epilog="Example: `atypia study report giedziun-lodo --size cpu --out lodo`")
def report(
    study: Study,
    size: Size = "full",
    out: Out = None,
    metric: Annotated[
        str, typer.Option(help="Metric by which rows are ordered, drawn and ranked: balanced_accuracy or auroc.")
    ] = "balanced_accuracy",
    every: Annotated[bool, typer.Option("--all", help="Draw every row, not only the best few.")] = False,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Also tell how robust the probes' backbones are to the domain.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Recompute page, tables and plots from the predictions. Nothing is trained."""
    from atypia.workflows.studies.study import open_study, report_study

    opened = open_study(study, size, out)
    with bars() as progress:
        found = report_study(opened, metric=metric, every=every, robustness=robustness, progress=progress)
    _show_report(found, opened.folder, as_json)
    if robustness and not as_json:
        print(found.tables["encoders"].to_text(width()), end="")


def register(root: typer.Typer) -> None:
    """Adds the verb ``paper``."""

    @root.command("paper", epilog="Example: `atypia paper banerjee --table 3`")
    def paper(
        name: Annotated[str, typer.Argument(help="banerjee, ammeling, giedziun, benito, atey or balezo.")],
        study: Annotated[
            list[Path] | None,
            typer.Option(metavar="DIR", help="A study of your own to compare; may be repeated.", show_default=False),
        ] = None,
        out: Annotated[
            Path | None, typer.Option(help="Folder to write. Default: papers/NAME.", show_default=False)
        ] = None,
        table: Annotated[str | None, typer.Option(help="This table only.", show_default=False)] = None,
        figure: Annotated[str | None, typer.Option(help="This figure only.", show_default=False)] = None,
        metric: Annotated[
            str, typer.Option(help="Of learning curves and heat maps: auroc or balanced_accuracy.")
        ] = "auroc",
        as_json: Json = False,
    ) -> None:
        """Write a paper's tables and plots in its own layout: published numbers, your own, and what differs."""
        from atypia.workflows.studies.paper import paper as write

        report = write(name, study or (), out, table=table, figure=figure, metric=metric)
        shown = {**report.tables, "differs": report.differs}
        if as_json:
            show_json({key: json.loads(one.render("json")) for key, one in shown.items()})
        else:
            print("\n".join(one.to_text(width=width()) for one in shown.values()), end="")
            for heading, texts in report.missing.items():
                print("\n".join(f"{heading}: {text}" for text in texts))
        for text in report.warnings:
            warn(text)
        note(f"paper: {report.page} (page), {report.markdown} (all tables)")
        n = sum(path.suffix == ".svg" for path in report.files)
        plots = f"; {count_noun(n, 'plot')} as .svg and .png" if n else ""
        note(f"files: {report.page.parent}/ (each table as .md, .csv, .tex{plots})")


def _print_plan(found: PlannedStudy) -> None:
    from atypia.reports.drawing.listing import columns_table

    planned = found.plan

    lines: dict[tuple[str, str], list[int]] = {}
    for number, training in enumerate(planned.trainings):
        lines.setdefault((training.label, training.data), []).append(number)
    counts: dict[int, int] = {}
    for one in planned.runs:
        counts[one.training] = counts.get(one.training, 0) + 1
    rows = []
    for (label, data), numbers in lines.items():
        training = planned.trainings[numbers[0]]
        folds = sum(counts.get(number, 0) for number in numbers)
        rows.append([label, training.adaptation, training.backbone, data, len(numbers), folds or None,
                     "no" if training.lacks else "yes"])  # fmt: skip
    table = columns_table(["row", "adaptation", "backbone", "trained on", "seeds", "runs", "here"], rows)
    print(table.to_text(width()), end="")
    distinct = len({one.id for one in planned.runs})
    print(f"\n{planned.name}, {planned.size}: {count_noun(len(planned.runs), 'run')}, {distinct} different, "
          f"{len(planned.to_do())} can be done here")  # fmt: skip
    if planned.tests:
        print(f"tested on: {', '.join(planned.tests.values())}")
    for text, labels in planned.lacking().items():
        print(f"lacking for {count_noun(len(labels), 'row')}: {text}")
    for name, text in planned.absent_tests.items():
        print(f"not tested on {name}: {text}")


def _status_values(opened: PlannedStudy) -> dict[str, Any]:
    found = opened.status()
    return {
        "counts": dict(found.counts),
        "seconds_left": found.seconds_left,
        "rows": [{"row": label, "trained_on": data, **counts} for label, data, counts in found.rows],
        "failures": [{"row": label, "fold": fold, "run": run, "reason": reason}
                     for label, fold, run, reason in found.failures],
        "lacking": {text: list(labels) for text, labels in found.lacking.items()},
        "absent_tests": dict(found.absent_tests),
    }  # fmt: skip


def _print_status(opened: PlannedStudy) -> None:
    from atypia.reports.drawing.listing import columns_table

    found = opened.status()

    states = list(found.counts)
    rows = [[label, data, *(counts.get(state, 0) for state in states)] for label, data, counts in found.rows]
    rows.append(["all", "", *found.counts.values()])
    print(columns_table(["row", "trained on", *states], rows).to_text(width()), end="")
    if found.seconds_left:
        print(f"\ntime left: about {_duration(found.seconds_left)} at the current speed")
    for label, fold, run, reason in found.failures:
        print(f"failed: {label}, {fold} ({run}): {reason}")
    for text, labels in found.lacking.items():
        print(f"lacking for {count_noun(len(labels), 'row')}: {text}")
    for name, text in found.absent_tests.items():
        print(f"not tested on {name}: {text}")


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _show_report(report: StudyReport, folder: Path, as_json: bool) -> None:
    """Prints the main table, and says where the rest is."""
    sys.stdout.write(report.table.render("json") if as_json else report.table.to_text(width=width()))
    for text in report.warnings:
        warn(text)
    note(f"report: {report.page} (page), {report.markdown} (all tables)")
    note(f"files: {folder}/results.parquet, {folder}/runs.parquet")
