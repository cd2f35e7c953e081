"""``atypia predict``: which figures are atypical, in crops, stacks, regions and slides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from atypia.cli.console import bars, note, show_json, warn
from atypia.cli.options import Json

if TYPE_CHECKING:
    from atypia.data.points.base import BoxFormat
    from atypia.inference.classifier import Classifier
    from atypia.inference.requests import Request
    from atypia.reports.case import CaseSummary

EXAMPLE = "Example: `atypia predict crops/ --out calls.csv` or `atypia predict case.svs --points mitoses.geojson --out calls.geojson --page case.html`"


def register(app: typer.Typer) -> None:
    """Adds the verb."""

    @app.command("predict", epilog=EXAMPLE)
    def predict(
        inputs: Annotated[
            list[str], typer.Argument(help="Crops (files, folders, patterns), TIFF stacks, regions or whole slides.")
        ],
        out: Annotated[
            Path | None, typer.Option(help="Results: .csv, .parquet, .json, .jsonl or .geojson.", show_default=False)
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
        classes: Annotated[
            list[str] | None,
            typer.Option("--class", help="Only points that the file calls so; may be repeated.", show_default=False),
        ] = None,
        point_format: Annotated[str | None, typer.Option(help="Format of the points.", show_default=False)] = None,
        box_format: Annotated[str, typer.Option(help="Boxes in JSON: auto, xywh or xyxy.")] = "auto",
        fields: Annotated[
            bool, typer.Option("--fields", help="GeoJSON: squares of the field instead of points.")
        ] = False,
        batch_size: Annotated[int, typer.Option(min=1, help="Crops at once.")] = 64,
        as_json: Json = False,
    ) -> None:
        """Tell which mitotic figures are atypical, how sure that is, and the atypical rate. Works offline."""
        from atypia.inference.classifier import SHIPPED, Classifier, with_threshold
        from atypia.inference.requests import Request
        from atypia.reports.outputs import check_suffix

        if out is not None:
            check_suffix(out)
        request = Request(
            tuple(inputs),
            points,
            mpp,
            point_format,
            cast("BoxFormat", box_format),
            tuple(classes or ()),
            batch_size,
        )
        classifier = Classifier.load(model or [SHIPPED], point=at, coverage=coverage, runtime=runtime, tta=tta)
        if threshold is not None:
            classifier = with_threshold(classifier, threshold)
        if classifier.passes > 1:
            note(
                f"{classifier.passes} forward passes a crop ({len(classifier.members)} networks{', 8 views' if tta else ''})"
            )
        found = classify(request, classifier, out, page, fields)
        if summary is not None:
            found.write(summary)
        if as_json:
            show_json(found.as_dict())
        else:
            print(found.to_text())
        for written in (out, page, summary):
            if written is not None:
                note(f"file: {written}")


def classify(
    request: Request, classifier: Classifier, out: Path | None, page: Path | None, fields: bool
) -> CaseSummary:
    """Runs a request from its inputs to its files, in constant memory."""
    from contextlib import ExitStack

    from atypia.inference.requests import Told, only_slide, open_stream
    from atypia.reports.case import CaseSummary
    from atypia.reports.outputs import open_writer

    told = Told()
    field_px = None
    if out is not None and out.suffix == ".geojson":
        slide = only_slide(request)
        field_px = _field_px(slide, request, classifier) if fields else None
    html: Any = None
    if page is not None:
        from atypia.reports.case_page import CasePage

        html = CasePage(", ".join(Path(given).name for given in request.inputs)[:120], facts(classifier))
    total = html.summary if html is not None else CaseSummary()
    stream = open_stream(request, classifier, told)
    with ExitStack() as stack:
        progress = stack.enter_context(bars())
        writer = stack.enter_context(open_writer(out, field_px=field_px)) if out is not None else None
        done = 0
        for crops, results in classifier.stream(stream):
            if writer is not None:
                writer.write(results)
            if html is not None:
                html.add(crops, results)
            else:
                total.add(results)
            done += results.num_rows
            progress(done, 0, "figures")
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


def _field_px(slide: str, request: Request, classifier: Classifier) -> int:
    from atypia.data.slides import open_slide

    with open_slide(slide) as opened:
        known = opened.mpp if request.mpp is None else request.mpp
    side = classifier.slide_geometry.source_side_px(known)
    assert side is not None  # a geometry for slides has a side
    return side
