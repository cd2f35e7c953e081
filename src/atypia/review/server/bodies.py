"""What is sent to the API: the bodies of requests; what it answers is in :mod:`atypia.review.server.schemas`."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from atypia.review.decisions.words import (
    NAME_CHARACTERS,
    NOTE_CHARACTERS,
    TAG_CHARACTERS,
    TAGS_A_FIGURE,
    DecisionName,
)

MAX_AT_ONCE = 5000
"""Most figures that are decided or assigned at once."""
MAX_ID = 2**53
"""Largest integer that every JSON reader represents exactly."""

RaterName = Annotated[str, Field(min_length=1, max_length=4 * NAME_CHARACTERS, description="A rater's name")]
Index = Annotated[int, Field(ge=0, le=MAX_ID, description="Position of a figure in the opened data, from 0")]


class Given(BaseModel):
    """Base of request bodies: refuses unknown keys and values of another type (`true`, `"3"` for a number)."""

    model_config = ConfigDict(extra="forbid", strict=True)


class NewRater(Given):
    """A rater who joins."""

    name: RaterName


Tag = Annotated[str, Field(min_length=1, max_length=4 * TAG_CHARACTERS)]
Indices = Annotated[list[Index], Field(min_length=1, max_length=MAX_AT_ONCE)]


class NewDecision(Given):
    """A decision."""

    rater: RaterName
    index: Index
    decision: DecisionName | None = Field(description="null clears the decision")
    note: Annotated[
        str | None,
        Field(max_length=NOTE_CHARACTERS, description="null leaves the note as it is, an empty text clears it"),
    ] = None
    seen_previous: Annotated[
        int | None,
        Field(
            ge=0,
            le=MAX_ID,
            description="Id of the rater's latest event known to the client, 0 for none; null: no check",
        ),
    ] = None
    tags: Annotated[
        list[Tag] | None,
        Field(max_length=2 * TAGS_A_FIGURE, description="null leaves the tags as they are, an empty list clears them"),
    ] = None
    blind: Annotated[bool, Field(description="Whether the answer hides the figure's name")] = False


class NewDecisions(Given):
    """One decision on several figures; one undo takes all of it back."""

    rater: RaterName
    indices: Indices
    decision: DecisionName | None = Field(description="null clears the decisions")
    settles: Annotated[bool, Field(description="Whether it is an arbitration of each figure")] = False


class NewAssignment(Given):
    """Figures for raters to decide."""

    rater: RaterName = Field(description="Who assigns them")
    indices: Indices
    to: Annotated[list[RaterName], Field(max_length=100, description="Raters; empty: nobody")]


class NewFigure(Given):
    """A mitosis that the opened data does not have."""

    rater: RaterName
    slide: Index
    x_px: Annotated[float, Field(ge=0, le=1e7, description="Centre, in level-0 pixels of the slide's canvas")]
    y_px: Annotated[float, Field(ge=0, le=1e7)]


class NewArbitration(Given):
    """An arbitration: a decision that settles a figure for all raters."""

    rater: RaterName
    index: Index
    decision: DecisionName | None = Field(description="null makes the figure disputed again")
    note: Annotated[str | None, Field(max_length=NOTE_CHARACTERS)] = None


class Undo(Given):
    """The rater whose last decision is undone."""

    rater: RaterName
