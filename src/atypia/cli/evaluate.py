"""``atypia evaluate``: predictions and metrics on other data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atypia.base.errors import WorkError
from atypia.cli.shared.console import bars, keeps, note, warn
from atypia.cli.shared.options import Allow, Device, Json, Root

EXAMPLE = "Example: `atypia evaluate runs/probe --on atnorm-br`"


def register(app: typer.Typer) -> None:
    """Adds the verb."""

    @app.command("evaluate", epilog=EXAMPLE)
    def evaluate(
        target: Annotated[
            str, typer.Argument(help="A training's folder, a run's folder, a bundle, or a shipped model's name.")
        ],
        on: Annotated[list[str], typer.Option(help="A source, manifest, CSV or folder; may be repeated.")],
        out: Annotated[
            Path | None,
            typer.Option(
                help="Folder of predictions and metrics. Default: the training's own; of a bundle or a shipped model "
                "evaluations/NAME in the current folder.",
                show_default=False,
            ),
        ] = None,
        allow: Allow = None,
        skip_unreadable: Annotated[
            bool, typer.Option("--skip-unreadable", help="Exit with code 0 although unreadable images were left out.")
        ] = False,
        weights: Annotated[
            Path | None, typer.Option(help="The backbone's weights in a local file.", show_default=False)
        ] = None,
        device: Device = "auto",
        root: Root = None,
        as_json: Json = False,
        formats: Annotated[
            list[str] | None,
            typer.Option("--write", metavar="FILE", help="Also write the table: .md, .csv, .tex, .json or .txt."),
        ] = None,
    ) -> None:
        """Score other data sets with every fold's classifier, and print the table of all results.

        Figures whose images cannot be read are left out of all results; the exit code is then 1.
        """
        from atypia.cli.shared.results import show_results
        from atypia.workflows.evaluate import evaluate as run
        from atypia.workflows.tables import table_files

        files = table_files(formats or [])
        keeps("features and predictions that are complete")
        with bars() as progress:
            found = run(
                target,
                on,
                out=out,
                allow=allow or (),
                weights=weights,
                device=device,
                root=root,
                progress=progress,
                on_warning=warn,
            )
        show_results(found.table(), as_json, files)
        note(f"files: {found.out}/evaluations/ (predictions), {found.out}/results.parquet (metrics)")
        left_out = [one for one in found.sets if one.left_out]
        if left_out and not skip_unreadable:
            said = ", ".join(f"{one.left_out} of {one.figures} figures of {one.name}" for one in left_out)
            raise WorkError(f"{said} cannot be read and are left out of the results above; "
                            "fix: repair or remove them (`atypia data audit`), or give --skip-unreadable")  # fmt: skip
