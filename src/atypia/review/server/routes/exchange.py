"""Exports, and import of another rater's file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

from fastapi import APIRouter, File, Form, Query, UploadFile
from fastapi.responses import Response

from atypia.review.decisions.checks import checked_name
from atypia.review.decisions.exchange import decisions_csv, decisions_geojson, log_csv, read_decisions
from atypia.review.decisions.manifest import decision_manifest
from atypia.review.server.bodies import MAX_ID
from atypia.review.server.context import Open, Review
from atypia.review.server.routes.figures import RaterQuery
from atypia.review.server.schemas import Imported, NextCommandReply

router = APIRouter(tags=["exchange"])
ExportName = Literal[
    "manifest.parquet", "decisions.csv", "log.csv", "decisions.geojson", "report.html", "report.json", "report.csv"
]
MEDIA_TYPES: dict[str, str] = {
    "manifest.parquet": "application/vnd.apache.parquet",
    "decisions.csv": "text/csv; charset=utf-8",
    "log.csv": "text/csv; charset=utf-8",
    "decisions.geojson": "application/geo+json",
    "report.html": "text/html; charset=utf-8",
    "report.json": "application/json",
    "report.csv": "text/csv; charset=utf-8",
}


@router.get(
    "/exports/{name}",
    response_class=Response,
    responses={200: {"content": {kind: {} for kind in MEDIA_TYPES.values()}}},
)
def export(
    review: Open,
    name: ExportName,
    rater: RaterQuery = None,
    slide: Annotated[int | None, Query(ge=0, le=MAX_ID, description="Slide of the GeoJSON")] = None,
    decided: Annotated[bool, Query(description="Manifest: only figures with a reviewer's decision")] = False,
) -> Response:
    """A file: `manifest.parquet` is for `atypia train --data`; GeoJSON covers one slide."""
    data = _made(review, name, rater, slide, decided)
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(data, media_type=MEDIA_TYPES[name], headers=headers)


def _made(review: Review, name: str, rater: str | None, slide: int | None, decided: bool) -> bytes:
    if name == "decisions.csv":
        return decisions_csv(review.intake).encode()
    if name == "log.csv":
        return log_csv(review.intake).encode()
    if name == "decisions.geojson":
        return decisions_geojson(review.figures, review.intake, review.slides, rater, slide).encode()
    if name.startswith("report."):
        found = review.report()
        made = {"report.json": found.case.to_json, "report.csv": found.case.to_csv}
        return (made[name]() if name in made else found.case.html(found.crops)).encode()
    taught = decision_manifest(review.figures, review.intake.decision_state, review.slides, decided)
    with TemporaryDirectory() as folder:
        return taught.manifest.save(Path(folder) / name).read_bytes()


@router.get("/calibration")
def calibration(review: Open) -> NextCommandReply:
    """The command that calibrates the model with the decided figures, and what is missing for it."""
    return NextCommandReply(**asdict(review.next_command()))


@router.post("/imports")
def take_over(
    review: Open, file: Annotated[UploadFile, File()], rater: Annotated[str, Form(max_length=256)]
) -> Imported:
    """Imports decisions from a CSV as a rater's own: `decisions.csv`, or `figure_id,decision[,note]`."""
    name = checked_name(rater)
    taken = review.intake.take_over(name, read_decisions(file.file.read(), name))
    return Imported(taken=taken.taken, unknown=taken.unknown, skipped=taken.skipped)
