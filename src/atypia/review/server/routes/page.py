"""The page, the opened data, health and counters."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fastapi import APIRouter
from fastapi.responses import FileResponse, PlainTextResponse, Response

from atypia.base.records import ATYPICAL_TASK
from atypia.base.version import VERSION
from atypia.review.decisions.listing import SORTS
from atypia.review.decisions.words import DECISIONS, TAGS
from atypia.review.figures.figures import FIELD_UM
from atypia.review.server.context import Open
from atypia.review.server.monitoring import MEDIA_TYPE, resident_bytes
from atypia.review.server.schemas import Has, Health, Session

router = APIRouter(tags=["page"])
INDEX: Final = Path(__file__).parents[2] / "static" / "index.html"
QUEUES: Final = ("value", "calibration", "label-errors")


@router.get("/", include_in_schema=False)
def page() -> Response:
    """The page."""
    if not INDEX.is_file():
        return PlainTextResponse("The API is at /openapi.json; this installation does not include the page.\n")
    return FileResponse(INDEX, media_type="text/html; charset=utf-8", headers={"Cache-Control": "no-cache"})


@router.get("/favicon.ico", include_in_schema=False)
def icon() -> Response:
    """The icon, which browsers request on their own."""
    return Response(status_code=204)


@router.get("/health")
def health(review: Open) -> Health:
    """Whether the server is running; needs no token."""
    return Health(status="ok", version=VERSION, figures=len(review.figures))


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(review: Open) -> Response:
    """Counters in Prometheus' text format."""
    crops, tiles = review.crops.cache, review.slides.cache
    values = {
        "figures": ("gauge", float(len(review.figures))),
        "raters": ("gauge", float(len(review.intake.decision_state.raters))),
        "events_total": ("counter", float(review.intake.decision_state.events)),
        "crop_cache_hits_total": ("counter", float(crops.hits)),
        "crop_cache_misses_total": ("counter", float(crops.misses)),
        "tile_cache_hits_total": ("counter", float(tiles.hits)),
        "tile_cache_misses_total": ("counter", float(tiles.misses)),
        "resident_memory_bytes": ("gauge", resident_bytes()),
    }
    return Response(review.counters.text(values), media_type=MEDIA_TYPE)


@router.get("/session")
def session(review: Open) -> Session:
    """The opened data, and which columns are known."""
    f = review.figures
    has = {name: f.has(name) for name in ("p", "label", "votes", "slides", "novelty")}
    return Session(
        title=f.title,
        source=f.source,
        task=ATYPICAL_TASK,
        figures=len(f),
        has=Has(**has, features=review.features is not None),
        cases=list(f.case.names),
        domains=list(f.domain.names),
        calls=list(f.call.names),
        raters=list(review.intake.decision_state.raters),
        rater=review.rater,
        model=None if review.predictor is None else Path(review.predictor.model).name,
        threshold=f.threshold,
        field_um=FIELD_UM if bool(f.cut.any()) else None,
        decisions=list(DECISIONS),
        sorts=list(SORTS),
        queues=list(QUEUES),
        tags=list(dict.fromkeys((*TAGS, *review.intake.decision_state.known_tags()))),
        notes=list(f.notes),
        fingerprint=f.fingerprint,
        version=VERSION,
    )
