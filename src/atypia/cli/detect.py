"""``atypia detect``: finds mitotic figures on slides, and says how well."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atypia.cli.shared.console import bars, keeps, note, show_json, warn
from atypia.cli.shared.options import Json, Magnification, Mpp, MppFrom

EXAMPLE = "Example: `atypia detect case.svs --model mitoses/fold-1/bundle --out figures.geojson`"
QUALITY = "How good it is"


def register(app: typer.Typer) -> None:
    """Adds the verb."""

    @app.command("detect", epilog=EXAMPLE)
    def detect(
        slides: Annotated[list[str], typer.Argument(help="Whole slides or regions.", show_default=False)],
        out: Annotated[
            list[Path] | None,
            typer.Option(
                help="Detections: .geojson (opens in QuPath) or .csv; may be repeated. With several slides: a folder.",
                show_default=False,
            ),
        ] = None,
        detector: Annotated[str, typer.Option(help="candidates, tiatoolbox, or a plug-in's.")] = "candidates",
        model: Annotated[
            str | None,
            typer.Option(
                help="For candidates: a bundle's folder or exported file of the task mitosis. For tiatoolbox: a network's name.",
                show_default=False,
            ),
        ] = None,
        settings: Annotated[
            list[str] | None,
            typer.Option(
                "--set",
                metavar="KEY=VALUE",
                help="Option of the detector, for instance python=tia/bin/python; may be repeated.",
                show_default=False,
            ),
        ] = None,
        min_score: Annotated[
            float | None, typer.Option(help="Least score. Default: the detector's own.", show_default=False)
        ] = None,
        mpp: Mpp = None,
        magnification: Magnification = None,
        mpp_from: MppFrom = "auto",
        form: Annotated[str, typer.Option(help="Form of the files in a folder: geojson or csv.")] = "geojson",
        against: Annotated[
            Path | None,
            typer.Option(
                help="Known figures, or a folder with one file per slide: hits, F1 and FROC as MIDOG scores them.",
                show_default=False,
                rich_help_panel=QUALITY,
            ),
        ] = None,
        classes: Annotated[
            list[str] | None,
            typer.Option(
                "--class",
                help="Which of the known ones are mitotic figures, by class; may be repeated.",
                show_default=False,
                rich_help_panel=QUALITY,
            ),
        ] = None,
        radius: Annotated[float, typer.Option(help="Largest distance of a hit, µm.", rich_help_panel=QUALITY)] = 7.5,
        found: Annotated[
            Path | None,
            typer.Option(
                help="Compare these detections, or a folder with one file per slide; no detector runs.",
                show_default=False,
                rich_help_panel=QUALITY,
            ),
        ] = None,
        found_class: Annotated[
            list[str] | None,
            typer.Option(help="Which of those count, by class.", show_default=False, rich_help_panel=QUALITY),
        ] = None,
        as_json: Json = False,
    ) -> None:
        """Find mitotic figures on slides, for `atypia predict --points`. Experimental: check its detections.

        A detector is your own classifier of mitotic figures against look-alikes, slid over the tissue (candidates), TIAToolbox's
        from an environment of yours (tiatoolbox), or a plug-in. Its error on slides of patients is not known.
        """
        from atypia.data.slides.scale import mpp_from_magnification
        from atypia.data.slides.slidecrops import SlideReading
        from atypia.workflows.detection.run import GivenDetections, Truth
        from atypia.workflows.detection.run import detect as run

        if (classes or radius != 7.5) and against is None:
            raise typer.BadParameter("--class and --radius go with --against POINTS", param_hint="--against")
        if found is None and found_class:
            raise typer.BadParameter("--found-class goes with --found POINTS", param_hint="--found")
        if found is not None and (model or settings or detector != "candidates"):
            raise typer.BadParameter(
                "with --found no detector runs: leave out --detector, --model, --set", param_hint="--found"
            )
        mpp, given_as = mpp_from_magnification(mpp, magnification)
        keeps("scores of the slide so far")
        with bars() as progress:
            done = run(
                slides,
                detector,
                model=model,
                min_score=min_score,
                settings=settings or (),
                reading=SlideReading(mpp, mpp_from, given_as),
                out=out or (),
                form=form,
                given=None if found is None else GivenDetections(found, tuple(found_class or ())),
                truth=None if against is None else Truth(against, tuple(classes or ()), radius),
                progress=progress,
            )
        for text in done.notes:
            note(text)
        if as_json:
            show_json(done.as_dict())
        else:
            print(done.to_text())
        for path in done.files:
            note(f"file: {path}")
        if not any(len(one.found) for one in done.slides):
            warn("nothing was found; a smaller --min-score finds more")
