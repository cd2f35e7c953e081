"""Raters, their decisions, consensus and arbitration."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse

from atypia.review.decisions.checks import checked_name
from atypia.review.decisions.consensus import consensus_report
from atypia.review.decisions.listing import described, progress
from atypia.review.decisions.log import Event
from atypia.review.decisions.words import tags_of
from atypia.review.server.bodies import MAX_ID, NewArbitration, NewAssignment, NewDecision, NewDecisions, NewRater, Undo
from atypia.review.server.context import Open, Review
from atypia.review.server.routes.figures import RaterQuery
from atypia.review.server.schemas import (
    Consensus,
    DecisionReply,
    FigureList,
    LogEntry,
    Rater,
    Rates,
    Several,
    Undone,
    UndoneFigure,
    WholeRateReply,
)

router = APIRouter(tags=["decisions"])


@router.get("/raters")
def raters(review: Open) -> list[Rater]:
    """Raters and their progress."""
    return [Rater(**one) for one in progress(review.intake.decision_state)]


@router.post("/raters", status_code=201, responses={200: {"model": Rater, "description": "The name exists already"}})
def join(review: Open, new: NewRater, response: Response) -> Rater:
    """Adds a rater; an existing name is left unchanged (200)."""
    if not review.intake.join(new.name):
        response.status_code = 200
    name = checked_name(new.name)
    return next(Rater(**one) for one in progress(review.intake.decision_state) if one["name"] == name)


@router.post("/decisions", status_code=201)
def decide(review: Open, new: NewDecision) -> DecisionReply:
    """Stores a decision; it is on disk when this answers."""
    event = review.intake.decide(new.rater, new.index, new.decision, new.note, new.seen_previous, tags=new.tags)
    return _reply(review, event, new.index, new.blind)


@router.post("/decisions/several", status_code=201)
def decide_several(review: Open, new: NewDecisions) -> Several:
    """Stores one decision on several figures; one undo takes it back."""
    events = review.intake.decide_several(new.rater, new.indices, new.decision, arbitrate=new.settles)
    return _several(review, events)


@router.post("/assignments", status_code=201)
def assign(review: Open, new: NewAssignment) -> Several:
    """Assigns figures to raters; nothing else changes."""
    return _several(review, review.intake.assign(new.rater, new.indices, [checked_name(name) for name in new.to]))


@router.post("/decisions/undo")
def undo(review: Open, asked: Undo) -> Undone:
    """Undoes what the rater did last and did not undo yet."""
    undoing = review.intake.undo(asked.rater)
    event = undoing.events[0]
    figures = [
        UndoneFigure(index=index, decision=one.decision, note=one.note, tags=tags_of(one.tags), event=one.id)
        for one, index in zip(undoing.events, undoing.indices, strict=True)
    ]
    return Undone(
        id=event.id, undone=event.undoes or 0, index=undoing.indices[0], decision=event.decision, note=event.note,
        tags=tags_of(event.tags), kind=undoing.kind, figures=figures,
    )  # fmt: skip


@router.get("/decisions", response_model=list[LogEntry])
def log(
    review: Open,
    rater: RaterQuery = None,
    index: Annotated[int | None, Query(ge=0, le=MAX_ID)] = None,
    after: Annotated[int, Query(ge=0, le=MAX_ID)] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> JSONResponse:
    """A part of the log, oldest first; it is append-only."""
    if index is not None:
        review.checked(index)
    events = review.intake.log(rater, index, after, limit)
    return JSONResponse([_entry(review, event) for event in events])


@router.get("/consensus")
def consensus(review: Open) -> Consensus:
    """Majority, ties, kappas and each rater compared with the others."""
    return Consensus(**consensus_report(review.intake.decision_state))


@router.get("/rates")
def rates(review: Open, rater: RaterQuery = None) -> Rates:
    """The rate of all figures by a rater's decisions, or the consensus, and the model's calls of the others.

    It tells of the model: the page does not ask for it in blind mode.
    """
    found = review.whole_rate(rater)
    return Rates(whole=None if found is None else WholeRateReply(**found.as_dict()))


@router.get("/arbitration", response_model=FigureList)
def disputed(
    review: Open,
    offset: Annotated[int, Query(ge=0, le=MAX_ID)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> JSONResponse:
    """Figures on which raters decided differently and that are not settled; even splits first."""
    found = review.intake.decision_state.disputed()
    window = found[offset : offset + limit].tolist()
    shown = described(review.figures, review.intake.decision_state, review.slides, window, None, everyone=True)
    return JSONResponse({"total": len(found), "figures": shown})


@router.post("/arbitration", status_code=201)
def settle(review: Open, new: NewArbitration) -> DecisionReply:
    """Settles a figure for all raters; their own decisions do not change."""
    event = review.intake.decide(new.rater, new.index, new.decision, new.note, arbitrate=True)
    return _reply(review, event, new.index, False)


def _reply(review: Review, event: Event, index: int, blind: bool) -> DecisionReply:
    return DecisionReply(
        id=event.id,
        rater=event.rater,
        index=index,
        figure_id=review.figures.blind_name(index) if blind else event.figure_id,
        decision=event.decision,
        previous=event.previous,
        note=event.note,
        tags=tags_of(event.tags),
        time=event.time,
    )


def _several(review: Review, events: list[Event]) -> Several:
    index_of = review.figures.index_of
    return Several(changed=len(events), events={str(index_of[event.figure_id]): event.id for event in events})


def _entry(review: Review, event: Event) -> dict[str, Any]:
    return {**asdict(event), "index": review.figures.index_of[event.figure_id]}
