"""Decisions in a file that may be in use: read without changing it."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from atypia.base.errors import DataError, InputError, must
from atypia.review.decisions.log import Event, file_events
from atypia.review.decisions.state import DecisionState, UndoError
from atypia.review.decisions.words import ADDED
from atypia.review.figures.added import AddedPlace, with_added
from atypia.review.figures.figures import ReviewFigures


@dataclass(frozen=True)
class ReadDecisions:
    """What a decisions file holds.

    Attributes:
        figures: The figures, with those that raters added.
        state: The decisions on them.
        events: The whole log.
    """

    figures: ReviewFigures
    state: DecisionState
    events: tuple[Event, ...]


def read_decisions_file(path: Path, figures: ReviewFigures) -> ReadDecisions:
    """The decisions in a file on these figures.

    Raises:
        InputError: There is no such file, or it belongs to other figures.
        DataError: It is damaged.
    """
    if not path.is_file():
        fix = "decide on figures with `atypia serve`, or name the file with --decisions"
        raise InputError(must("decisions", "a decisions file", f"{path}, which does not exist", fix))
    events = file_events(path)
    about, raters = _about(path)
    if about.get("figures") != figures.fingerprint:
        got = f"those of «{about.get('title', 'unknown')}»"
        raise InputError(
            must(
                f"figures of {path}",
                f"those that were opened («{figures.title}»)",
                got,
                "name the data that was reviewed",
            )
        )
    state = DecisionState(len(figures))
    for rater in raters:
        state.join(rater)
    try:
        for event in events:
            if event.kind == ADDED and event.figure_id not in figures.index_of:
                figures = with_added(figures, event.figure_id, AddedPlace(**json.loads(event.value or "{}")))
                state.grow(len(figures))
            state.apply(event, figures.index_of[event.figure_id])
    except (UndoError, KeyError, ValueError, TypeError) as error:
        raise DataError(
            f"{path} is damaged ({error}); fix: `atypia serve WHAT --rescue {path} --to NEW.sqlite`"
        ) from error
    return ReadDecisions(figures, state, tuple(events))


def _about(path: Path) -> tuple[dict[str, str], list[str]]:
    try:
        db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            about = dict(db.execute("SELECT key, value FROM about"))
            return about, [name for (name,) in db.execute("SELECT name FROM raters ORDER BY rowid")]
        finally:
            db.close()
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a readable decisions file ({error}); fix: check the path") from error
