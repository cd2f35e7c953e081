"""Lists of figures, single figures, and their crops."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Header, HTTPException, Path, Query
from fastapi.responses import JSONResponse, Response

from atypia.base.errors import DataError, InputError, must
from atypia.review.decisions.listing import FigureQuery, SortName, described, select
from atypia.review.decisions.words import NO_DECISION, DecisionName
from atypia.review.figures.learning import calibration_queue, label_error_queue, value_queue
from atypia.review.media.crops import MAX_AROUND, MAX_PX, ViewName
from atypia.review.server.bodies import MAX_ID, NewFigure
from atypia.review.server.context import Open
from atypia.review.server.schemas import Figure, FigurePage, QueueReply

router = APIRouter(tags=["figures"])

PICTURE = {200: {"content": {"image/png": {}, "image/jpeg": {}}}, 304: {"description": "It has not changed"}}
FigureIndex = Annotated[int, Path(ge=0, le=MAX_ID, description="Position of the figure in the opened data")]
RaterQuery = Annotated[str | None, Query(max_length=256, description="Rater whose decisions are listed separately")]
Blind = Annotated[bool, Query(description="Hide predictions and other raters' decisions")]


@router.get("/figures", response_model=FigurePage)
def figures(
    review: Open,
    sort: SortName = "index",
    descending: bool = False,
    case: Annotated[list[str] | None, Query()] = None,
    domain: Annotated[list[str] | None, Query()] = None,
    call: Annotated[list[str] | None, Query()] = None,
    decision: Annotated[list[DecisionName | Literal["none"]] | None, Query()] = None,
    rater: RaterQuery = None,
    undecided: bool = False,
    tag: Annotated[list[str] | None, Query()] = None,
    assigned: Annotated[bool, Query(description="Only figures assigned to the rater")] = False,
    blind: Blind = False,
    offset: Annotated[int, Query(ge=0, le=MAX_ID)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> JSONResponse:
    """A page of the figures that pass the filters, in order; unknown values come last."""
    wanted = FigureQuery(
        sort, descending, tuple(case or ()), tuple(domain or ()), tuple(call or ()), tuple(decision or ()), rater,
        undecided, blind, tuple(tag or ()), assigned,
    )  # fmt: skip
    found = select(review.figures, review.intake.decision_state, wanted)
    window = found[offset : offset + limit].tolist()
    shown = described(review.figures, review.intake.decision_state, review.slides, window, rater, blind)
    return JSONResponse({"total": len(found), "offset": offset, "figures": shown})


@router.post("/figures", status_code=201, response_model=Figure)
def add(review: Open, new: NewFigure) -> JSONResponse:
    """Adds a mitosis at a place of a slide; undo withdraws it as long as nobody else has decided on it."""
    try:
        size = review.slides.facts(new.slide)
    except DataError as error:
        raise HTTPException(404, str(error)) from error
    if new.x_px >= size.width_px or new.y_px >= size.height_px:
        got = f"({new.x_px:.0f}, {new.y_px:.0f})"
        raise InputError(
            must("x_px, y_px", f"inside {size.width_px} × {size.height_px} px", got, "choose a place on it")
        )
    index = review.add(new.rater, new.slide, new.x_px, new.y_px)
    shown = described(review.figures, review.intake.decision_state, review.slides, [index], new.rater)
    return JSONResponse(shown[0], 201)


@router.get("/figures/{index}", response_model=Figure)
def figure(review: Open, index: FigureIndex, rater: RaterQuery = None, blind: Blind = False) -> JSONResponse:
    """One figure."""
    index = review.checked(index)
    return JSONResponse(
        described(review.figures, review.intake.decision_state, review.slides, [index], rater, blind)[0]
    )


@router.get("/figures/{index}/crop", response_class=Response, responses=PICTURE)  # pyright: ignore[reportArgumentType]
def crop(
    review: Open,
    index: FigureIndex,
    view: ViewName = "rgb",
    size: Annotated[int | None, Query(ge=16, le=MAX_PX, description="Largest side in px: JPEG; without it PNG")] = None,
    around: Annotated[
        float, Query(ge=1, le=MAX_AROUND, description="Side in fields: more than 1 shows what is around, on a slide")
    ] = 1.0,
    v: Annotated[
        str | None, Query(max_length=64, description="Fingerprint of the session: makes the crop cacheable")
    ] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """The crop of a figure; 404 with the reason if it cannot be read."""
    index = review.checked(index)
    # Another data set may be served at the same URL later, so browsers must revalidate.
    known = v == review.figures.fingerprint
    cache = {"Cache-Control": "private, max-age=86400" if known else "private, no-cache"}
    try:
        tag = f'"{review.crops.tag(index, view, size, around)}"'
        if if_none_match is not None and tag in if_none_match:
            return Response(status_code=304, headers={**cache, "ETag": tag})
        picture = review.crops.picture(index, view, size, around)
    except DataError as error:
        raise HTTPException(404, str(error)) from error
    return Response(picture.data, media_type=picture.media_type, headers={**cache, "ETag": f'"{picture.tag}"'})


@router.get("/queue", response_model=QueueReply)
def queue(
    review: Open,
    kind: Literal["value", "calibration", "label-errors"] = "value",
    rater: RaterQuery = None,
    blind: Blind = False,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> JSONResponse:
    """Figures that the rater should look at next, among those without their decision."""
    f, decision_state = review.figures, review.intake.decision_state
    decided = decision_state.codes(rater)[: len(f)] != NO_DECISION
    decided[[index for index in decision_state.withdrawn if index < len(f)]] = True
    if kind == "value":
        found = value_queue(f, review.features, decided, limit)
    elif kind == "calibration":
        found = calibration_queue(f, decided, limit)
    elif blind:
        raise InputError(must("kind", "value or calibration in blind mode", kind, "leave blind mode"))
    else:
        found = label_error_queue(f, review.likely_errors(), decided, limit)
    indices = found.indices.tolist()
    reasons = {} if blind else {str(i): text for i, text in zip(indices, found.reasons, strict=True)}
    shown = described(f, decision_state, review.slides, indices, rater, blind)
    return JSONResponse({"figures": shown, "reason": reasons, "note": found.note})
