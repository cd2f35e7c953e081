"""``atypia drift``: how far cases lie from the laboratories that a classifier was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from atypia.base.files.regularfiles import check_folder
from atypia.cli.shared.console import bars, note, show_json, width
from atypia.cli.shared.options import (
    BoxForm,
    Classes,
    Json,
    Magnification,
    MinScore,
    Mpp,
    MppFrom,
    Offset,
    Origin,
    PointFormat,
    Unit,
)

if TYPE_CHECKING:
    from atypia.data.points.base import BoxFormat

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
        magnification: Magnification = None,
        mpp_from: MppFrom = "auto",
        origin: Origin = "auto",
        offset: Offset = None,
        classes: Classes = None,
        min_score: MinScore = None,
        unit: Unit = "auto",
        point_format: PointFormat = None,
        box_format: BoxForm = "auto",
        as_json: Json = False,
    ) -> None:
        """Report whether cases look like the training laboratories: colour, sharpness, scale, novelty, scores."""
        check_folder(out)
        from atypia.data.slides.origins import offset_of
        from atypia.data.slides.scale import mpp_from_magnification
        from atypia.inference.classifier import SHIPPED, Classifier
        from atypia.inference.requests import Request
        from atypia.workflows.laboratory.drift import drift_of

        mpp, given_as = mpp_from_magnification(mpp, magnification)
        request = Request(
            tuple(cases),
            points,
            mpp,
            point_format,
            cast("BoxFormat", box_format),
            tuple(classes or ()),
            mpp_from=mpp_from,
            given_as=given_as,
            origin=origin,
            offset_px=offset_of(offset),
            min_score=min_score,
            unit=unit,
        )
        with bars() as progress:
            found = drift_of(request, Classifier.load(model or SHIPPED), progress)
        written = [] if out is None else found.write(out)
        if as_json:
            show_json(found.as_dict())
        else:
            print(found.to_text(width()), end="")
        for path in written:
            note(f"file: {path}")
        if not any(case.figures for case in found.cases):
            raise typer.Exit(1)
