"""``atypia predict``: which figures are atypical, in crops, stacks, regions and slides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from atypia.cli.console import bars, keeps, note, show_json, warn
from atypia.cli.options import Json
from atypia.cli.picked import Picked

if TYPE_CHECKING:
    from atypia.data.points.base import BoxFormat
    from atypia.inference.classifier import Classifier
    from atypia.inference.many_tasks import SlideSettings
    from atypia.inference.requests import Request
    from atypia.reports.case.summary import CaseSummary

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
                help="Figures on slides: CSV, GeoJSON, COCO/MIDOG JSON, SlideRunner or EXACT; or a folder of one a slide.",
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
        mpp: Annotated[
            float | None, typer.Option(help="µm/px, where the files do not state it.", show_default=False)
        ] = None,
        magnification: Annotated[
            float | None, typer.Option(help="Instead of --mpp: 40 is 0.25 µm/px, 20 is 0.5.", show_default=False)
        ] = None,
        mpp_from: Annotated[
            str,
            typer.Option(help="Whom to believe where µm/px differ: given, openslide, ome, scn, imagej, tiff or dpi."),
        ] = "auto",
        origin: Annotated[
            str,
            typer.Option(help="Points count from the slide's canvas (as in OpenSlide) or its bounds (as in QuPath)."),
        ] = "auto",
        offset: Annotated[
            str | None,
            typer.Option(
                help="X,Y: pixels added to points, for slides that were converted and cropped.", show_default=False
            ),
        ] = None,
        at: Annotated[
            str | None,
            typer.Option(help="Operating point of the model, for instance sensitivity-0.90.", show_default=False),
        ] = None,
        coverage: Annotated[
            float | None, typer.Option(help="Coverage of the sets behind «uncertain».", show_default=False)
        ] = None,
        threshold: Annotated[
            float | None, typer.Option(help="Decide at this probability instead.", show_default=False)
        ] = None,
        tta: Annotated[
            bool, typer.Option("--tta", help="Average over 8 flips and turns, at 8 times the cost.")
        ] = False,
        runtime: Annotated[
            str | None, typer.Option(help="onnx, openvino or torch. Default: the fastest there is.", show_default=False)
        ] = None,
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
        classes: Annotated[
            list[str] | None,
            typer.Option(
                "--class",
                help="Only points that the file calls so, and classes derived from it; may be repeated. all: every class.",
                show_default=False,
            ),
        ] = None,
        point_format: Annotated[str | None, typer.Option(help="Format of the points.", show_default=False)] = None,
        box_format: Annotated[
            str, typer.Option(help="Numbers of boxes: auto, xywh (corner), xyxy or cxcywh (centre).")
        ] = "auto",
        fields: Annotated[
            bool, typer.Option("--fields", help="GeoJSON: squares of the field instead of points.")
        ] = False,
        batch_size: Annotated[int, typer.Option(min=1, help="Crops at once.")] = 64,
        slides: Annotated[
            Path | None,
            typer.Option(
                help="CSV of slides: slide, points, name, mpp … One folder a slide under --out.",
                show_default=False,
                rich_help_panel=SLIDES,
            ),
        ] = None,
        forms: Annotated[
            list[str] | None,
            typer.Option(
                "--form",
                help="Form of each slide's results; may be repeated. Default: parquet, geojson.",
                show_default=False,
                rich_help_panel=SLIDES,
            ),
        ] = None,
        engine: Annotated[str, typer.Option(help="local or ray.", rich_help_panel=SLIDES)] = "local",
        address: Annotated[
            str | None, typer.Option(help="A running Ray cluster.", show_default=False, rich_help_panel=SLIDES)
        ] = None,
        workers: Annotated[
            int | None, typer.Option(min=1, help="Slides at once.", show_default=False, rich_help_panel=SLIDES)
        ] = None,
        as_json: Json = False,
    ) -> None:
        """Tell which mitotic figures are atypical, how sure that is, and the atypical rate. Works offline."""
        from atypia.data.slides.origins import offset_of
        from atypia.data.slides.scale import magnified
        from atypia.inference.classifier import SHIPPED
        from atypia.inference.many_tasks import SlideSettings
        from atypia.inference.requests import Request

        models = tuple(model or [SHIPPED])
        mpp, given_as = magnified(mpp, magnification)
        place = (mpp_from, given_as, origin, offset_of(offset))
        box = cast("BoxFormat", box_format)
        if slides is not None:
            if inputs or out is None or page or summary or explain:
                raise typer.BadParameter("give --out FOLDER, and neither inputs nor --page, --summary or --explain "
                                         "(--form html writes each slide's page)", param_hint="--slides")  # fmt: skip
            settings = SlideSettings(models, at, coverage, threshold, runtime, tta, mpp, point_format, box,
                                     tuple(classes or ()), tuple(forms or ("parquet", "geojson")), fields, *place)  # fmt: skip
            many(slides, points, out, settings, engine, address, workers, as_json)
            return
        if not inputs or engine != "local" or address or workers or forms:
            what = (
                "--engine, --address, --workers and --form go with --slides"
                if inputs
                else "name crops, stacks or slides"
            )
            raise typer.BadParameter(what, param_hint="--slides" if inputs else "inputs")
        request = Request(tuple(inputs), points, mpp, point_format, box, tuple(classes or ()), batch_size, *place)
        classifier = opened(models, at, coverage, threshold, runtime, tta)
        if classifier.passes > 1:
            views = ", 8 views" if tta else ""
            note(f"{classifier.passes} forward passes a crop ({len(classifier.members)} networks{views})")
        picked = None if explain is None else Picked(tuple(figure or ()))
        found = classify(request, classifier, out, page, fields, picked)
        if summary is not None:
            found.write(summary)
        if explain is not None and picked is not None:
            for path in models:
                note(f"{len(picked.explained(path, explain))} overlays in {explain}/ ({path})")
        if as_json:
            show_json(found.as_dict())
        else:
            print(found.to_text())
        for written in (out, page, summary):
            if written is not None:
                note(f"file: {written}")
        if found.total.refused and not found.total.scored:
            warn(f"every figure ({found.total.refused:,}) was refused; see the column `reason` of the results")
            raise typer.Exit(1)


def opened(
    models: tuple[str, ...],
    at: str | None,
    coverage: float | None,
    threshold: float | None,
    runtime: str | None,
    tta: bool,
) -> Classifier:
    """The classifier that the options ask for."""
    from atypia.inference.classifier import Classifier, with_threshold

    warn_of_old_forms(models)
    classifier = Classifier.load(models, point=at, coverage=coverage, runtime=runtime, tta=tta)
    return classifier if threshold is None else with_threshold(classifier, threshold)


def warn_of_old_forms(models: tuple[str, ...]) -> None:
    """Says which models hold no hashes, so that not every damage of them would be noticed."""
    from atypia.inference.bundles.integrity import old_form
    from atypia.inference.classifier import named_model

    for text in filter(None, (old_form(named_model(model)) for model in models)):
        warn(text)


def many(
    slides: Path, points: Path | None, out: Path, settings: SlideSettings, engine: str, address: str | None,
    workers: int | None, as_json: bool,
) -> None:  # fmt: skip
    """Classifies a list of slides; those that fail or whose figures are all refused are reported: exit code 1."""
    from dataclasses import asdict

    from atypia.cli.slides import predict_slides
    from atypia.inference.many import read_jobs

    warn_of_old_forms(settings.models)
    jobs = read_jobs(slides, points)
    keeps("slides that are done")
    with bars() as progress:
        outcomes = predict_slides(
            jobs, out, settings, engine=engine, address=address, workers=workers, progress=progress
        )
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    if as_json:
        show_json([asdict(outcome) for outcome in outcomes])
    for outcome in failed:
        warn(f"{outcome.name}: {outcome.reason}")
    for outcome in outcomes:
        for text in outcome.notes:
            warn(text)
    kept = sum(outcome.status == "kept" for outcome in outcomes)
    note(f"{len(outcomes) - kept - len(failed)} slides done, {kept} kept, {len(failed)} failed")
    note(f"files: {out}/slides.csv, and one folder a slide")
    refused = [outcome for outcome in outcomes if outcome.figures and outcome.rate is None]
    for outcome in refused:
        warn(f"{outcome.name}: every figure ({outcome.figures:,}) was refused; see `reason` in its results")
    if failed or refused:
        raise typer.Exit(1)


def classify(
    request: Request,
    classifier: Classifier,
    out: Path | None,
    page: Path | None = None,
    fields: bool = False,
    picked: Picked | None = None,
) -> CaseSummary:
    """Runs a request from its inputs to its files, in constant memory."""
    from contextlib import ExitStack

    from atypia.cli.slides import field_px
    from atypia.inference.ordered import classify_stream
    from atypia.inference.requests import Told, only_slide, open_stream
    from atypia.reports.case.outputs import check_suffix, open_writer
    from atypia.reports.case.summary import CaseSummary

    told, side = Told(), None
    if out is not None and check_suffix(out) == ".geojson":
        only_slide(request)
        side = field_px(classifier, request) if fields else None
    html: Any = None
    if page is not None:
        from atypia.reports.case.page import CasePage

        html = CasePage(", ".join(Path(given).name for given in request.inputs)[:120], facts(classifier))
    total = html.summary if html is not None else CaseSummary()
    stream = open_stream(request, classifier, told)
    with ExitStack() as stack:
        progress = stack.enter_context(bars())
        writer = (
            stack.enter_context(open_writer(out, field_px=side, qupath_zero=told.qupath_zero))
            if out is not None
            else None
        )
        rows = [] if writer is None else [writer.write]
        shown = [] if html is None else [html.offer]
        wanted = [] if picked is None else [picked.add]
        count = total.add if html is None else html.count
        classify_stream(classifier, stream, rows=[*rows, count], crops=[*shown, *wanted], progress=progress)
    if html is not None and page is not None:
        html.write(page)
    if told.skipped.count:
        warn(f"{told.skipped.count} files in folders are no images and were left out (first: {told.skipped.first})")
    for text in told.notes:
        warn(text)
    return total


def facts(classifier: Classifier) -> dict[str, str]:
    """What a page says of the classifier."""
    return {
        "model": classifier.name,
        "threshold": f"{classifier.threshold:.3f}",
        "field": "unknown" if classifier.field_um is None else f"{classifier.field_um:g} µm",
        "forward passes a crop": str(classifier.passes),
    }
