"""Copies the readable part of a damaged decisions file into a new one; the damaged file is not changed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from atypia.base.artifacts import lock
from atypia.base.errors import InputError, LockedError, WorkError, count_noun, first_of, must
from atypia.review.decisions.log import DecisionLog, Event, fault_of, is_decisions_file
from atypia.review.decisions.schema import SCHEMA_VERSION, log_columns
from atypia.review.decisions.sqlite_recovery import Row, recovered_rows
from atypia.review.decisions.state import DecisionState, UndoError
from atypia.review.decisions.words import ADDED, ADDED_PREFIX
from atypia.review.figures.figures import ReviewFigures

LOCK_WAIT_S: Final = 1.0
SHOWN: Final = 5
_WIDTHS: Final = {len(log_columns(version)): log_columns(version) for version in range(1, SCHEMA_VERSION + 1)}
"""Columns of the log, by their number: one for each version."""
_NUMBERS: Final = ("undoes", "batch")
_TIME: Final = re.compile(rb"\d{4}-\d\d-\d\dT[\d:.]+Z")
_ABOUT: Final = (b"figures", b"title", b"created")
_TEXTS: Final = ("time", "rater", "figure_id", "kind", "decision", "previous")
"""Columns of the log that must be readable; notes may lose characters."""


@dataclass(frozen=True)
class Rescued:
    """Result of a rescue.

    Attributes:
        events: Events in the new file.
        raters: Raters in the new file.
        lost: Events of the log that could not be read, or that belong to other figures.
        undone: Undo events left out because the event that they undo is lost.
        notes: Remarks for the user, one line each.
    """

    events: int
    raters: int
    lost: int
    undone: int
    notes: tuple[str, ...]


def rescue(old: Path, new: Path, figures: ReviewFigures | None = None) -> Rescued:
    """Copies the readable part of a decisions file into a new one.

    Args:
        old: The damaged file; read together with the write-ahead log beside it, and not changed.
        new: The file to write.
        figures: The figures under review; None if the damaged file still identifies them.

    Raises:
        InputError: There is no such file, or the new file exists; nothing can be read; the file does not
        identify its figures and none were given, or it belongs to other figures.
        WorkError: The file is in use, or the new one is not writable.
    """
    if not old.is_file():
        raise InputError(must("--rescue", "a decisions file", f"{old}, which does not exist", "check the path"))
    if new.exists():
        raise InputError(must("--to", "a file that does not exist yet", str(new), "name another"))
    try:
        with lock(old, LOCK_WAIT_S):
            rows = list(recovered_rows(old))
    except LockedError as error:
        raise WorkError(f"{old} is in use by another `atypia serve`; fix: stop that one") from error
    about, joined, events, blurred, highest = _sorted(rows)
    if not events and not joined and "figures" not in about:
        what = "nothing that can be read" if is_decisions_file(old) else "something else"
        raise InputError(must(str(old), "a decisions file", what, "use a backup copy of it"))
    fingerprint = about.get("figures")
    if figures is not None:
        fits = fingerprint in (None, figures.fingerprint) or any(one.figure_id in figures.index_of for one in events)
        if not fits:
            got = f"those of «{about.get('title', 'unknown')}»"
            raise InputError(must(f"figures of {old}", f"«{figures.title}»", got, "name the data that was reviewed"))
        fingerprint = figures.fingerprint
    if fingerprint is None:
        fix = f"`atypia serve WHAT --rescue {old} --to {new}`, with the data that was reviewed"
        raise InputError(must(str(old), "a file that identifies its figures", "none that can be read", fix))
    title = figures.title if figures is not None else about.get("title", "unknown")

    added = {one.figure_id for one in events if one.kind == ADDED}
    known = None if figures is None else figures.index_of.keys() | added
    strangers = [
        one
        for one in events
        if (known is not None and one.figure_id not in known)
        or (one.figure_id.startswith(ADDED_PREFIX) and one.figure_id not in added)
    ]
    names = {one.id for one in strangers}
    kept, left_out = _consistent([one for one in events if one.id not in names])
    times = dict(joined)
    for event in kept:
        times.setdefault(event.rater, event.time)
    decision_log = DecisionLog(new, fingerprint, title)
    try:
        decision_log.fill(list(times.items()), kept)
    finally:
        decision_log.close()
    lost = max(highest, *(one.id for one in events), 0) - len(events) + len(strangers)
    return Rescued(
        len(kept), len(times), lost, len(left_out), _notes(lost, strangers, left_out, blurred, times, joined)
    )


def _sorted(
    rows: Iterable[Row],
) -> tuple[dict[str, str], list[tuple[str, str]], list[Event], list[Event], int]:
    """About, raters, events by id, events whose notes lost characters, and the highest id of the log."""
    about: dict[str, str] = {}
    raters: dict[int, tuple[str, str]] = {}
    events: dict[int, tuple[Event, bool]] = {}
    highest = 0
    for row in rows:
        values = row.values
        if len(values) in _WIDTHS and row.rowid > 0:
            found = _event(row)
            # The same event may be stored in several places, some of them damaged.
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
    # An id far beyond all others is damaged, and so is the number of events derived from it.
    most = max((event.id for event, _ in found), default=0)
    highest = highest if highest <= 2 * most + 1000 else most
    return about, joined, [event for event, _ in found], [event for event, blurred in found if blurred], highest


def _event(row: Row) -> tuple[Event, bool] | None:
    """An event, and whether a note of it lost characters; None if the row is no event."""
    names = _WIDTHS[len(row.values)]
    given: dict[str, str | int | None] = {}
    blurred = False
    for name, value, is_text in zip(names[1:], row.values[1:], row.texts[1:], strict=True):
        if isinstance(value, bytes) and is_text:
            try:
                given[name] = value.decode()
            except UnicodeDecodeError:
                if name in _TEXTS:
                    return None
                given[name], blurred = value.decode(errors="replace"), True
        elif value is None or (name in _NUMBERS and isinstance(value, int)):
            given[name] = value
        else:
            return None
    event = Event(row.rowid, **given)  # type: ignore[arg-type]  # checked below
    return None if fault_of(event) is not None or not _TIME.fullmatch(event.time.encode()) else (event, blurred)


def _consistent(events: list[Event]) -> tuple[list[Event], list[Event]]:
    """The consistent events, and the undo events whose target is missing."""
    index: dict[str, int] = {}
    for event in events:
        index.setdefault(event.figure_id, len(index))
    decision_state = DecisionState(len(index))
    kept, left_out = [], []
    for event in events:
        try:
            decision_state.apply(event, index[event.figure_id])
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
        return first_of(figures, SHOWN)

    known = dict(joined)
    found = [name for name in times if name not in known]
    lines = [
        lost
        and f"{count_noun(lost, 'event is lost: its decision is', 'events are lost: their decisions are')} not in the new file",
        strangers and f"{len(strangers)} of them name figures that were not opened: {named(strangers)}",
        undone
        and f"left out because what they undo is lost: {count_noun(len(undone), 'undo event')}; check: {named(undone)}",
        blurred and f"{count_noun(len(blurred), 'note')} lost characters: {named(blurred)}",
        found
        and f"{count_noun(len(found), 'rater was', 'raters were')} lost and restored from their events: {', '.join(found[:SHOWN])}",
        "changed letters inside names or notes cannot be detected; compare with a backup copy if there is one",
    ]
    return tuple(line for line in lines if line)
