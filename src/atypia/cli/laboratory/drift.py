"""``atypia drift``: how far cases lie from the laboratories that a classifier was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atypia.cli.shared.console import bars, note, show_json, width
from atypia.cli.shared.options import Json, Mpp

EXAMPLE = "Example: `atypia drift cases/case-1 cases/case-2 --out drift`"


def register(app: typer.Typer) -> None:
    """Adds the verb."""

    @app.command("drift", epilog=EXAMPLE)
    def drift(
        cases: Annotated[
            list[str], typer.Argument(help="Cases: folders of crops, TIFF stacks, slides.", show_default=False)
        ],
        out: Annotated[
            Path | None, typer.Option(help="Folder for drift.html, with plots, and drift.json.", show_default=False)
        ] = None,
        model: Annotated[
            str | None,
            typer.Option(help="A bundle's folder or exported file. Default: the shipped model.", show_default=False),
        ] = None,
        points: Annotated[
            Path | None,
            typer.Option(help="Figures on slides; or a folder with one file per slide.", show_default=False),
        ] = None,
        mpp: Mpp = None,
        as_json: Json = False,
    ) -> None:
        """Report whether cases look like the training laboratories: colour, sharpness, scale, novelty, scores."""
        from atypia.inference.classifier import SHIPPED
        from atypia.workflows.laboratory.drift import drift as run

        with bars() as progress:
            found = run(cases, model or SHIPPED, points=points, mpp=mpp, progress=progress)
        written = [] if out is None else found.write(out)
        if as_json:
            show_json(found.as_dict())
        else:
            print(found.to_text(width()), end="")
        for path in written:
            note(f"file: {path}")
