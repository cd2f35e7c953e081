"""``atypia qupath``: scripts that run Atypia from QuPath."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atypia.cli.shared.console import note

EXAMPLE = "Example: `atypia qupath --out scripts`"


def register(app: typer.Typer) -> None:
    """Adds the verb."""

    @app.command("qupath", epilog=EXAMPLE)
    def qupath(
        script: Annotated[
            str | None,
            typer.Argument(
                help="export or classify: print this script. Default: say what each does.", show_default=False
            ),
        ] = None,
        out: Annotated[
            Path | None, typer.Option(help="Write every script into this folder.", show_default=False)
        ] = None,
    ) -> None:
        """Print scripts for QuPath: export the figures of the open image, or classify them and show the calls.

        The scripts name this installation of Atypia. In QuPath (0.4 or later): Automate > Script editor, open the
        file, Run.
        """
        from atypia.workflows.qupath.scripts import SCRIPTS, qupath_script, write_scripts

        if script is not None:
            text = qupath_script(script)
            if out is None:
                print(text, end="")
        elif out is None:
            for name, summary in SCRIPTS.items():
                print(f"{name:10} {summary}")
            note("print one with `atypia qupath NAME`, or write them with `atypia qupath --out FOLDER`")
        if out is not None:
            for path in write_scripts(out):
                note(f"file: {path}")
