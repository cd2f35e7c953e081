"""Slides and regions, their tiles, and the figures on them."""

from __future__ import annotations

import math
import time
from typing import Annotated

import numpy as np
from fastapi import APIRouter, HTTPException, Path
from fastapi.responses import JSONResponse, Response

from atypia.base.errors import DataError
from atypia.review.figures.figures import FIELD_PX, FIELD_UM, ReviewFigures
from atypia.review.media.slides import dzi
from atypia.review.server.bodies import MAX_ID
from atypia.review.server.context import Open
from atypia.review.server.routes.figures import Blind, RaterQuery
from atypia.review.server.schemas import SlideEntry, SlideFigure

router = APIRouter(tags=["slides"])
PATIENCE_S = 2.0
"""Seconds that the list of slides may spend opening slides for their sizes."""
SlideNumber = Annotated[int, Path(ge=0, le=MAX_ID, description="Position of the slide in /slides")]
Place = Annotated[int, Path(ge=0, le=MAX_ID)]


@router.get("/slides")
def slides(review: Open) -> list[SlideEntry]:
    """The slides that figures lie on; an unreadable file gives the reason, a slide not opened yet has no size."""
    until = time.monotonic() + PATIENCE_S
    on = review.figures.slide
    counts = np.bincount(on[on >= 0], minlength=len(review.figures.slides))
    scales = _scales(review.figures)
    found = []
    for number, path in enumerate(review.figures.slides):
        facts, reason = None, None
        try:
            facts = review.slides.known(number, until)
        except DataError as error:
            reason = str(error)
        found.append(
            SlideEntry(
                slide=number,
                name=path.name.encode("utf-8", "backslashreplace").decode(),
                width_px=None if facts is None else facts.width_px,
                height_px=None if facts is None else facts.height_px,
                mpp=scales.get(number, None if facts is None else facts.mpp),
                figures=int(counts[number]),
                reason=reason,
            )
        )
    return found


def _scales(figures: ReviewFigures) -> dict[int, float]:
    """µm/px at which figures were cut from slides, by slide, where the results state it: the first figure's counts."""
    stated = np.flatnonzero((figures.slide >= 0) & figures.cut & np.isfinite(figures.mpp))[::-1]
    return dict(zip(figures.slide[stated].tolist(), figures.mpp[stated].tolist(), strict=True))


@router.get("/slides/{slide}.dzi", response_class=Response, responses={200: {"content": {"application/xml": {}}}})
def description(review: Open, slide: SlideNumber) -> Response:
    """The DeepZoom description of a slide."""
    try:
        return Response(dzi(review.slides.facts(slide)), media_type="application/xml")
    except DataError as error:
        raise HTTPException(404, str(error)) from error


@router.get(
    "/slides/{slide}_files/{level}/{column}_{row}.jpeg",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}},
)
def tile(review: Open, slide: SlideNumber, level: Place, column: Place, row: Place) -> Response:
    """One DeepZoom tile."""
    try:
        data = review.slides.tile(slide, level, column, row)
    except DataError as error:
        raise HTTPException(404, str(error)) from error
    return Response(data, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=300"})


@router.get("/slides/{slide}/figures", response_model=list[SlideFigure])
def figures_on(review: Open, slide: SlideNumber, rater: RaterQuery = None, blind: Blind = False) -> JSONResponse:
    """Positions of a slide's figures, with what is known about them."""
    f, decision_state = review.figures, review.intake.decision_state
    try:
        mpp = review.slides.facts(slide).mpp
    except DataError as error:
        raise HTTPException(404, str(error)) from error
    found = []
    withdrawn = set(decision_state.withdrawn)
    for index in np.flatnonzero(f.slide == slide).tolist():
        if index in withdrawn:
            continue
        own = float(f.mpp[index]) if f.cut[index] else math.nan
        scale = own if math.isfinite(own) else mpp
        p = float(f.p[index])
        found.append(
            {
                "index": index,
                "x_px": float(f.x_px[index]),
                "y_px": float(f.y_px[index]),
                "call": None if blind else f.call.at(index),
                "p": None if blind or not math.isfinite(p) else p,
                "decision": decision_state.decision(rater, index),
                "side_px": float(FIELD_PX) if scale is None else FIELD_UM / scale,
                "added": decision_state.added_by(index) is not None,
            }
        )
    return JSONResponse(found)
