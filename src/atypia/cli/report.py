"""``atypia report``: the report of a case after review."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atypia.base.errors import InputError, must
from atypia.base.files.regularfiles import check_folder
from atypia.cli.shared.console import bars, note, show_json
from atypia.cli.shared.options import Field, Json, Region, RegionClass, Root

EXAMPLE = "Example: `atypia report case/results.parquet --decisions board.sqlite --slides slides --out report`"


def register(app: typer.Typer) -> None:
    """Adds the verb."""

    @app.command("report", epilog=EXAMPLE)
    def report(
        case: Annotated[
            list[str] | None,
            typer.Argument(help="What was reviewed: the same as for `atypia serve`.", show_default=False),
        ] = None,
        decisions: Annotated[
            Path | None,
            typer.Option(
                help="Decisions file (.sqlite), also of a running server. Default: that of these figures.",
                show_default=False,
            ),
        ] = None,
        out: Annotated[
            Path | None,
            typer.Option(help="Folder for report.html (prints on A4), report.json and report.csv.", show_default=False),
        ] = None,
        data: Annotated[
            str | None, typer.Option(help="The data set of the results: images, labels.", show_default=False)
        ] = None,
        slides: Annotated[
            Path | None, typer.Option(help="Folder of the slides with the figures.", show_default=False)
        ] = None,
        title: Annotated[str | None, typer.Option(help="Name of the case on the page.", show_default=False)] = None,
        model: Annotated[
            str | None,
            typer.Option(
                help="Bundle of the model whose calls were reviewed, for the rate of all figures. A shipped one is found by its name.",
                show_default=False,
            ),
        ] = None,
        field: Field = None,
        region: Region = None,
        region_class: RegionClass = None,
        schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of report.json.")] = False,
        as_json: Json = False,
        root: Root = None,
    ) -> None:
        """Say what a review came to: final counts and rate, who decided what, what is open; a page to print."""
        if schema:
            from atypia.reports.case.reviewed import report_schema

            show_json(report_schema())
            return
        if not case and data is None:
            raise InputError(must("CASE", "what was reviewed", "nothing", "atypia report RESULTS --decisions FILE"))
        check_folder(out)
        from atypia.reports.case.density import field_size
        from atypia.review.figures.opening import Opening
        from atypia.review.report.final import report_review
        from atypia.workflows.case.density import DensityOptions

        by_area = DensityOptions(region, tuple(region_class or ()), field_size(field or "2"))
        with bars() as progress:
            opening = Opening(tuple(case or ()), data, slides, root)
            found = report_review(opening, decisions, title, progress, model, by_area)
        if as_json:
            show_json(found.case.as_dict())
        else:
            print(found.case.sentence())
            if found.case.whole is not None and found.case.whole.by_model:
                print(found.case.whole.text)
            print(found.case.by_whom())
            for line in (line for one in found.case.density for line in one["lines"]):
                print(line)
        for path in [] if out is None else found.write(out):
            note(f"file: {path}")
