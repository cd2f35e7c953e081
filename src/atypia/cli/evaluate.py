"""``atypia evaluate``: predictions and metrics on other data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atypia.cli.console import bars, note, warn
from atypia.cli.options import Allow, Json, Root

EXAMPLE = "Example: `atypia evaluate runs/probe --on atnorm-br`"


def register(app: typer.Typer) -> None:
    """Adds the verb."""

    @app.command("evaluate", epilog=EXAMPLE)
    def evaluate(
        target: Annotated[Path, typer.Argument(help="A training's folder, one fold's, or a bundle.")],
        on: Annotated[list[str], typer.Option(help="A source, manifest, CSV or folder; may be repeated.")],
        allow: Allow = None,
        weights: Annotated[
            Path | None, typer.Option(help="The backbone's weights in a local file.", show_default=False)
        ] = None,
        root: Root = None,
        as_json: Json = False,
        formats: Annotated[
            list[str] | None,
            typer.Option("--write", metavar="FILE", help="Also write the table: .md, .csv, .tex, .json or .txt."),
        ] = None,
    ) -> None:
        """Score other data sets with every fold's classifier, and print the table of all results."""
        from atypia.cli.results import show_results, table_files
        from atypia.data.opening import open_data
        from atypia.evaluation.external import evaluate as run
        from atypia.evaluation.external import open_target

        files = table_files(formats or [])
        opened = open_target(target)
        manifests = [open_data(reference, root) for reference in on]
        with bars() as progress:
            for manifest in manifests:
                _, warnings = run(opened, manifest, tuple(allow or ()), weights, progress)
                for warning in warnings:
                    warn(warning)
        show_results(target, as_json, files)
        note(f"files: {target}/evaluations/ (predictions), {target}/results.parquet (metrics)")
