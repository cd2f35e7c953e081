"""``atypia leaderboard``: rows of the public test sets, and another one from a file of predictions."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from atypia.cli.shared.console import note, show_json, warn, width
from atypia.cli.shared.options import Json, Root

app = typer.Typer(help="Rows of the public test sets: published, shipped, and your own.", no_args_is_help=True)

OwnFile = Annotated[
    Path | None,
    typer.Option(
        "--file", help="Leaderboard's file. Default: leaderboard.csv in the user's data folder.", show_default=False
    ),
]


@app.command("show", epilog="Example: `atypia leaderboard show --on atnorm-br`")
def show(
    on: Annotated[
        list[str] | None,
        typer.Option(help="Test set; may be repeated. Default: ami-br and atnorm-br.", show_default=False),
    ] = None,
    metric: Annotated[str, typer.Option(help="Order by balanced_accuracy or auroc.")] = "balanced_accuracy",
    file: OwnFile = None,
    as_json: Json = False,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--write", metavar="FILE", help="Also write the table of one set: .md, .csv, .tex, .json or .txt."
        ),
    ] = None,
) -> None:
    """Show who reached what on a test set: rows that were checked here, beside published ones."""
    from atypia.workflows.leaderboard import leaderboard_table, narrow
    from atypia.workflows.tables import table_files

    files = table_files(formats or [])
    sets = on or ["ami-br", "atnorm-br"]
    if files and len(sets) > 1:
        raise typer.BadParameter("give one --on with it", param_hint="--write")
    from atypia.reports.drawing.tables import as_dict, write_table

    tables = [leaderboard_table(name, metric, file) for name in sets]
    if as_json:
        show_json([as_dict(table) for table in tables])
    else:
        print("\n".join(narrow(table).to_text(width()) for table in tables), end="")
    for path in files:
        write_table(tables[0], path)
        note(f"file: {path}")


@app.command(
    "add", epilog="Example: `atypia leaderboard add scored.csv --on atnorm-br --name ours --trained-on ami-br:train`"
)
def add(
    predictions: Annotated[
        list[Path],
        typer.Argument(help="Files with figure_id and p_atypical (.csv, .parquet); several are several models."),
    ],
    on: Annotated[str, typer.Option(help="Test set: ami-br (its published hold-out), atnorm-br or atnorm-md.")],
    name: Annotated[str, typer.Option(help="Name of the row.")],
    trained_on: Annotated[
        list[str] | None,
        typer.Option(
            help="What the model was trained on; may be repeated: a training's folder, a manifest, CSV or folder of "
            "crops, a source, or its part (ami-br:train). It is compared with the test set.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="The bundle or shipped model, where the files do not name it.", show_default=False),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Decision threshold. Default: the file's, else 0.5.", show_default=False)
    ] = None,
    link: Annotated[str, typer.Option(help="Where more is said of the model.", show_default=False)] = "",
    replace: Annotated[bool, typer.Option("--replace", help="Replace the row of this name.")] = False,
    file: OwnFile = None,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Check a file of predictions, compute its metrics with intervals, and add it as a row.

    Refused: other figures than the test set's, other labels than the published ones, values that are no probabilities, and
    models that saw the test set, as far as their files or --trained-on tell.
    """
    from dataclasses import asdict

    from atypia.workflows.leaderboard import add_to_leaderboard

    added = add_to_leaderboard(
        predictions,
        on,
        name,
        trained_on=trained_on or (),
        model=model,
        threshold=threshold,
        link=link,
        replace=replace,
        file=file,
        root=root,
        command=shlex.join(
            ["atypia", *(Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:])]
        ),
    )
    for text in added.warnings:
        warn(text)
    if as_json:
        show_json(asdict(added.row))
    else:
        print(added.sentence())
    note(f"file: {added.file}")
