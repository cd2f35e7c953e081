"""``atypia predict``: classifies figures in crops, stacks, regions and slides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from atypia.base.errors import count_noun
from atypia.base.extras import NETWORKS, require
from atypia.cli.shared.console import bars, counted, keeps, note, show_json, warn, width
from atypia.cli.shared.options import (
    DENSITY_PANEL,
    BoxForm,
    Classes,
    Field,
    Json,
    Magnification,
    MinScore,
    Mpp,
    MppFrom,
    Offset,
    Origin,
    PointFormat,
    Region,
    RegionClass,
    Unit,
)

if TYPE_CHECKING:
    from atypia.data.points.base import BoxFormat
    from atypia.workflows.slides.jobs import SlideSettings

EXAMPLE = "Example: `atypia predict case.svs --points mitoses.geojson --out calls.geojson --page case.html`"
SLIDES = "Many slides"


def register(app: typer.Typer) -> None:
    """Adds the verb."""

    @app.command("predict", epilog=EXAMPLE)
    def predict(
        inputs: Annotated[
            list[str] | None,
            typer.Argument(
                help="Crops (files, folders, patterns), TIFF stacks, regions or whole slides.", show_default=False
            ),
        ] = None,
        out: Annotated[
            Path | None,
            typer.Option(
                help="Results: .csv, .parquet, .json, .jsonl or .geojson. With --slides: a folder.", show_default=False
            ),
        ] = None,
        points: Annotated[
            Path | None,
            typer.Option(
                help="Figures on slides, from a detector or a person (docs/inputs.md lists the formats); or a folder with one file per slide.",
                show_default=False,
            ),
        ] = None,
        model: Annotated[
            list[str] | None,
            typer.Option(
                help="A bundle's folder or exported file; several are averaged. Default: the shipped model.",
                show_default=False,
            ),
        ] = None,
        mpp: Mpp = None,
        magnification: Magnification = None,
        mpp_from: MppFrom = "auto",
        origin: Origin = "auto",
        offset: Offset = None,
        at: Annotated[
            str | None,
            typer.Option(help="Operating point of the model, for instance sensitivity-0.90.", show_default=False),
        ] = None,
        coverage: Annotated[
            float | None, typer.Option(help="Coverage of the sets behind «uncertain».", show_default=False)
        ] = None,
        threshold: Annotated[
            float | None,
            typer.Option(help="Decision threshold on the probability, instead of the model's.", show_default=False),
        ] = None,
        prevalence: Annotated[
            float | None,
            typer.Option(
                help="Known share of atypical figures in the population, 0 to 1: expected rate of the case. Changes no call.",
                show_default=False,
            ),
        ] = None,
        tta: Annotated[
            bool, typer.Option("--tta", help="Average over 8 flips and turns, at 8 times the cost.")
        ] = False,
        runtime: Annotated[
            str | None,
            typer.Option(help="onnx, openvino or torch. Default: the fastest that is installed.", show_default=False),
        ] = None,
        device: Annotated[
            str, typer.Option(help="Device of networks: auto, cpu or cuda; with onnx also coreml or directml.")
        ] = "auto",
        page: Annotated[
            Path | None, typer.Option(help="Also write an HTML page with the crops.", show_default=False)
        ] = None,
        summary: Annotated[
            Path | None, typer.Option(help="Also write the case summary: .json, .md, .csv …", show_default=False)
        ] = None,
        explain: Annotated[
            Path | None, typer.Option(help="Also write saliency overlays into this folder.", show_default=False)
        ] = None,
        figure: Annotated[
            list[str] | None,
            typer.Option(help="Explain this figure; may be repeated. Default: the most probable.", show_default=False),
        ] = None,
        classes: Classes = None,
        min_score: MinScore = None,
        unit: Unit = "auto",
        point_format: PointFormat = None,
        box_format: BoxForm = "auto",
        fields: Annotated[
            bool, typer.Option("--fields", help="GeoJSON: squares of the field instead of points.")
        ] = False,
        batch_size: Annotated[int, typer.Option(min=1, help="Crops per batch.")] = 64,
        density: Annotated[
            bool,
            typer.Option(
                "--density", help="Figures per mm² of tissue, and the hotspot.", rich_help_panel=DENSITY_PANEL
            ),
        ] = False,
        region: Region = None,
        region_class: RegionClass = None,
        field: Field = None,
        slides: Annotated[
            Path | None,
            typer.Option(
                help="CSV of slides: slide, points, name, mpp … One folder per slide under --out.",
                show_default=False,
                rich_help_panel=SLIDES,
            ),
        ] = None,
        forms: Annotated[
            list[str] | None,
            typer.Option(
                "--form",
                help="Format of each slide's results; may be repeated. Default: parquet, geojson.",
                show_default=False,
                rich_help_panel=SLIDES,
            ),
        ] = None,
        engine: Annotated[str, typer.Option(help="local or ray.", rich_help_panel=SLIDES)] = "local",
        address: Annotated[
            str | None, typer.Option(help="A running Ray cluster.", show_default=False, rich_help_panel=SLIDES)
        ] = None,
        workers: Annotated[
            int | None,
            typer.Option(min=1, help="Number of parallel slides.", show_default=False, rich_help_panel=SLIDES),
        ] = None,
        as_json: Json = False,
    ) -> None:
        """Classify mitotic figures as atypical or normal, with probabilities and the atypical rate. Works offline."""
        if explain is not None:
            require("`atypia predict --explain`", *NETWORKS, "captum")
        if engine == "ray":
            require("`atypia predict --engine ray`", "ray")
        from atypia.data.slides.origins import offset_of
        from atypia.data.slides.scale import mpp_from_magnification
        from atypia.inference.classifier import SHIPPED, Classifier
        from atypia.inference.requests import Request
        from atypia.reports.case.density import field_size
        from atypia.reports.drawing.tables import TEXT_WIDTH
        from atypia.workflows.case.density import DensityOptions
        from atypia.workflows.case.overlays import FiguresToExplain
        from atypia.workflows.predict import old_form_warnings, predict_request
        from atypia.workflows.slides.jobs import SlideSettings

        models = tuple(model or [SHIPPED])
        mpp, given_as = mpp_from_magnification(mpp, magnification)
        place = (mpp_from, given_as, origin, offset_of(offset))
        box = cast("BoxFormat", box_format)
        by_area = density or region is not None or field is not None
        if slides is not None:
            if inputs or out is None or page or summary or explain or region:
                raise typer.BadParameter("give --out FOLDER, and neither inputs nor --page, --summary, --explain or --region "
                                         "(--form html writes each slide's page)", param_hint="--slides")  # fmt: skip
            settings = SlideSettings(models, at, coverage, threshold, runtime, tta, mpp, point_format, box,
                                     tuple(classes or ()), tuple(forms or ("parquet", "geojson")), fields, *place, min_score, unit, (field or "2") if by_area else "", prevalence, device)  # fmt: skip
            many(slides, points, out, settings, engine, address, workers, as_json)
            return
        if not inputs or engine != "local" or address or workers or forms:
            what = (
                "--engine, --address, --workers and --form go with --slides"
                if inputs
                else "name crops, stacks or slides"
            )
            raise typer.BadParameter(what, param_hint="--slides" if inputs else "inputs")
        request = Request(
            tuple(inputs),
            points,
            mpp,
            point_format,
            box,
            tuple(classes or ()),
            batch_size,
            *place,
            min_score=min_score,
            unit=unit,
        )
        for text in old_form_warnings(models):
            warn(text)
        classifier = Classifier.load(
            models, point=at, coverage=coverage, threshold=threshold, runtime=runtime, tta=tta, device=device
        )
        if classifier.passes > 1:
            views = ", 8 views" if tta else ""
            networks = count_noun(len(classifier.members), "network")
            note(f"{count_noun(classifier.passes, 'forward pass', 'forward passes')} a crop ({networks}{views})")
        shown = FiguresToExplain(tuple(figure or ()))
        with bars() as progress:
            found = predict_request(
                request,
                classifier,
                results=() if out is None else (out,),
                page=page,
                summary=summary,
                fields=fields,
                prevalence=prevalence,
                density=DensityOptions(region, tuple(region_class or ()), field_size(field or "2"))
                if by_area
                else None,
                also=() if explain is None else (shown.add,),
                progress=progress,
            )
        for text in found.warnings:
            warn(text)
        if explain is not None:
            for path in models:
                note(f"{count_noun(len(shown.write_overlays(path, explain)), 'overlay')} in {explain}/ ({path})")
        if as_json:
            show_json(found.summary.as_dict())
        else:
            print(found.summary.to_text(min(TEXT_WIDTH, width())))
        for written in found.files:
            note(f"file: {written}")
        total = found.summary.total
        if total.refused and not total.scored:
            warn(f"every figure ({total.refused:,}) was refused; see the column `reason` of the results")
            raise typer.Exit(1)


def many(
    slides: Path, points: Path | None, out: Path, settings: SlideSettings, engine: str, address: str | None,
    workers: int | None, as_json: bool,
) -> None:  # fmt: skip
    """Classifies a list of slides; those that fail or whose figures are all refused are reported: exit code 1."""
    from dataclasses import asdict

    from atypia.workflows.predict import old_form_warnings
    from atypia.workflows.slides.predict import predict_slides
    from atypia.workflows.slides.tasks import DONE_FILE

    for text in old_form_warnings(settings.models):
        warn(text)
    keeps(counted(out, f"*/{DONE_FILE}", "finished slide", "finished slides"))
    with bars() as progress:
        found = predict_slides(
            slides, out, settings, points=points, engine=engine, address=address, workers=workers, progress=progress
        )
    if as_json:
        show_json([asdict(outcome) for outcome in found.outcomes])
    for outcome in found.failed:
        warn(f"{outcome.name}: {outcome.reason}")
    for outcome in found.outcomes:
        for text in outcome.notes:
            warn(text)
    note(f"slides: {len(found.done)} done, {len(found.kept)} kept, {len(found.failed)} failed")
    note(f"files: {out}/slides.csv, and one folder a slide")
    for outcome in found.all_refused:
        warn(f"{outcome.name}: every figure ({outcome.figures:,}) was refused; see `reason` in its results")
    if found.failed or found.all_refused:
        raise typer.Exit(1)
