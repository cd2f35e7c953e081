"""What can be read of a damaged decisions file, copied into a new one; the damaged file is not touched."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from atypia.base.artifacts import lock
from atypia.base.errors import InputError, LockedError, WorkError, must
from atypia.review.decisions.carving import Row, carved
from atypia.review.decisions.log import COLUMNS, Book, Event, fault_of, is_decisions_file
from atypia.review.decisions.state import Board, UndoError
from atypia.review.figures.figures import Figures

LOCK_WAIT_S: Final = 1.0
SHOWN: Final = 5
_TIME: Final = re.compile(rb"\d{4}-\d\d-\d\dT[\d:.]+Z")
_ABOUT: Final = (b"figures", b"title", b"created")
_TEXTS: Final = ("time", "rater", "figure_id", "kind", "decision", "previous")
"""Columns of the log that must be readable; a note may lose characters."""


@dataclass(frozen=True)
class Rescued:
    """What came of it.

    Attributes:
        events: Events that are in the new file.
        raters: Names that are in it.
        lost: Events that the log numbered and that could not be read, or were not of these figures.
        undone: Undoings left out because what they undo is lost.
        notes: What a reader must know, one line each.
    """

    events: int
    raters: int
    lost: int
    undone: int
    notes: tuple[str, ...]


def rescue(old: Path, new: Path, figures: Figures | None = None) -> Rescued:
    """Copies what can be read of a decisions file into a new one.

    Args:
        old: The damaged file; read together with the write-ahead log beside it, and left as it is.
        new: The file to make.
        figures: What was reviewed; None where the damaged file still says which figures these are.

    Raises:
        InputError: There is no such file, or one of the new name; nothing of the file can be read; it does not
            say which figures it is of and none were given, or it is of others.
        WorkError: The file is in use, or the new one cannot be written.
    """
    if not old.is_file():
        raise InputError(must("--rescue", "a decisions file", f"{old}, which is not there", "check the path"))
    if new.exists():
        raise InputError(must("--to", "a file that is not there yet", str(new), "name another"))
    try:
        with lock(old, LOCK_WAIT_S):
            rows = list(carved(old))
    except LockedError as error:
        raise WorkError(f"{old} is in use by another `atypia serve`; fix: stop that one") from error
    about, joined, events, blurred, highest = _sorted(rows)
    if not events and not joined and "figures" not in about:
        what = "nothing that can be read" if is_decisions_file(old) else "something else"
        raise InputError(must(str(old), "a decisions file", what, "go back to a copy of it"))
    fingerprint = about.get("figures")
    if figures is not None:
        fits = fingerprint in (None, figures.fingerprint) or any(one.figure_id in figures.index_of for one in events)
        if not fits:
            got = f"those of «{about.get('title', 'unknown')}»"
            raise InputError(must(f"figures of {old}", f"«{figures.title}»", got, "name what was reviewed"))
        fingerprint = figures.fingerprint
    if fingerprint is None:
        fix = f"`atypia serve WHAT --rescue {old} --to {new}`, with what was reviewed"
        raise InputError(must(str(old), "of figures that it names", "none that can be read", fix))
    title = figures.title if figures is not None else about.get("title", "unknown")

    strangers = [] if figures is None else [one for one in events if one.figure_id not in figures.index_of]
    names = {one.id for one in strangers}
    kept, left_out = _consistent([one for one in events if one.id not in names])
    times = dict(joined)
    for event in kept:
        times.setdefault(event.rater, event.time)
    book = Book(new, fingerprint, title)
    try:
        book.fill(list(times.items()), kept)
    finally:
        book.close()
    lost = max(highest, *(one.id for one in events), 0) - len(events) + len(strangers)
    return Rescued(
        len(kept), len(times), lost, len(left_out), _notes(lost, strangers, left_out, blurred, times, joined)
    )


def _sorted(
    rows: Iterable[Row],
) -> tuple[dict[str, str], list[tuple[str, str]], list[Event], list[Event], int]:
    """About, raters, events by id, those whose notes lost characters, and the highest id that the log gave."""
    about: dict[str, str] = {}
    raters: dict[int, tuple[str, str]] = {}
    events: dict[int, tuple[Event, bool]] = {}
    highest = 0
    for row in rows:
        values = row.values
        if len(values) == len(COLUMNS) and row.rowid > 0:
            found = _event(row)
            # The same event may lie in several places, some of them damaged.
            if found is not None and (row.rowid not in events or events[row.rowid][1]):
                events[row.rowid] = found
        elif len(values) == 2 and values[0] == b"log" and isinstance(values[1], int):
            highest = max(highest, values[1])
        elif len(values) == 2 and all(row.texts):
            first, second = values
            assert isinstance(first, bytes) and isinstance(second, bytes)
            try:
                pair = first.decode(), second.decode()
            except UnicodeDecodeError:
                continue
            if first in _ABOUT and not (_TIME.fullmatch(second) and first != b"created"):
                about[pair[0]] = pair[1]
            elif _TIME.fullmatch(second) and first != b"created":
                raters.setdefault(row.rowid, pair)
    joined = list(dict(raters[number] for number in sorted(raters)).items())
    found = [events[number] for number in sorted(events)]
    # A number far beyond all others is a damaged one, and so is what it counts.
    most = max((event.id for event, _ in found), default=0)
    highest = highest if highest <= 2 * most + 1000 else most
    return about, joined, [event for event, _ in found], [event for event, blurred in found if blurred], highest


def _event(row: Row) -> tuple[Event, bool] | None:
    """An event, and whether a note of it lost characters; None for what is none."""
    given: dict[str, str | int | None] = {}
    blurred = False
    for name, value, is_text in zip(COLUMNS[1:], row.values[1:], row.texts[1:], strict=True):
        if isinstance(value, bytes) and is_text:
            try:
                given[name] = value.decode()
            except UnicodeDecodeError:
                if name in _TEXTS:
                    return None
                given[name], blurred = value.decode(errors="replace"), True
        elif value is None or (name == "undoes" and isinstance(value, int)):
            given[name] = value
        else:
            return None
    event = Event(row.rowid, **given)  # type: ignore[arg-type]  # what they hold is looked at now
    return None if fault_of(event) is not None or not _TIME.fullmatch(event.time.encode()) else (event, blurred)


def _consistent(events: list[Event]) -> tuple[list[Event], list[Event]]:
    """The events that follow from one another, and the undoings of what is not there."""
    index: dict[str, int] = {}
    for event in events:
        index.setdefault(event.figure_id, len(index))
    board = Board(len(index))
    kept, left_out = [], []
    for event in events:
        try:
            board.apply(event, index[event.figure_id])
            kept.append(event)
        except UndoError:
            left_out.append(event)
    return kept, left_out


def _notes(
    lost: int,
    strangers: list[Event],
    undone: list[Event],
    blurred: list[Event],
    times: dict[str, str],
    joined: list[tuple[str, str]],
) -> tuple[str, ...]:
    def named(events: list[Event]) -> str:
        figures = list(Counter(event.figure_id for event in events))
        more = f" and {len(figures) - SHOWN} more" if len(figures) > SHOWN else ""
        return ", ".join(figures[:SHOWN]) + more

    known = dict(joined)
    found = [name for name in times if name not in known]
    lines = [
        lost and f"{lost} events are lost: what was decided then is not in the new file",
        strangers and f"{len(strangers)} of them name figures that were not opened: {named(strangers)}",
        undone and f"{len(undone)} undoings are left out, as what they undid is lost; look at: {named(undone)}",
        blurred and f"{len(blurred)} notes lost characters: {named(blurred)}",
        found and f"{len(found)} raters were lost and are known from their events: {', '.join(found[:SHOWN])}",
        "a changed letter inside a name or note cannot be told from a right one; compare with a copy where there is one",
    ]
    return tuple(line for line in lines if line)
