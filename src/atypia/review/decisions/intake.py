"""The desk: receives decisions one at a time and stores them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Final

from atypia.base.artifacts import lock
from atypia.base.errors import InputError, LockedError, WorkError, must
from atypia.base.paths import home
from atypia.review.decisions.log import DecisionLog, Event, damaged_error, now
from atypia.review.decisions.state import DecisionState, UndoError
from atypia.review.decisions.words import (
    ARBITRATED,
    DECIDED,
    DECISIONS,
    IMPORTED,
    NAME_CHARACTERS,
    NOTE_CHARACTERS,
    UNDONE,
)
from atypia.review.figures.figures import ReviewFigures

LOCK_WAIT_S: Final = 1.0


class ConflictError(InputError):
    """The state has changed in between, or there is nothing to do."""


class UnknownError(InputError):
    """Unknown rater or figure."""


@dataclass(frozen=True)
class TakenDecision:
    """Result of an import: numbers of decisions imported, for unknown figures, and without change or decision."""

    taken: int
    unknown: int
    skipped: int


def decisions_file(figures: ReviewFigures) -> Path:
    """Default path of decisions on these figures: in the user's home, named by the fingerprint of the figures."""
    return home() / "reviews" / f"{figures.fingerprint}.sqlite"


class DecisionIntake:
    """Receives decisions; thread-safe.

    Args:
        path: The decisions file.
        figures: The figures under review.

    Raises:
        InputError: The file belongs to other figures.
        WorkError: It is not writable, or another server has it open.
    """

    def __init__(self, path: Path, figures: ReviewFigures) -> None:
        self.figures = figures
        self._writing = Lock()
        with ExitStack() as stack:
            try:
                stack.enter_context(lock(path, LOCK_WAIT_S))
            except LockedError as error:
                fix = "stop that one, or name another file with --decisions"
                raise WorkError(f"{path} is in use by another `atypia serve`; fix: {fix}") from error
            self.decision_log = DecisionLog(path, figures.fingerprint, figures.title)
            stack.callback(self.decision_log.close)
            self.decision_state = DecisionState(len(figures))
            try:
                self.decision_state.replay(self.decision_log.raters(), self.decision_log.events(), self._index)
            except UndoError as error:
                raise damaged_error(path, str(error)) from error
            self._open = stack.pop_all()

    def _index(self, figure_id: str) -> int:
        try:
            return self.figures.index_of[figure_id]
        except KeyError:
            raise damaged_error(
                self.decision_log.path, f"its log names {figure_id!r}, which is not among the opened figures"
            ) from None

    def join(self, name: str) -> bool:
        """Adds a rater; False if there is one with that name.

        Raises:
            InputError: The name is empty, too long, or has invisible characters.
        """
        name = checked_name(name)
        with self._writing:
            if name in self.decision_state.raters:
                return False
            self.decision_log.add_rater(name)
            self.decision_state.join(name)
            return True

    def decide(
        self, rater: str, index: int, decision: str | None, note: str | None = None, seen: int | None = None,
        *, arbitrate: bool = False,
    ) -> Event:  # fmt: skip
        """Stores a decision; when this returns it is on disk.

        Args:
            rater: Name of the rater.
            index: Index of the figure.
            decision: One of :data:`~atypia.review.decisions.words.DECISIONS`; None clears.
            note: Text to go with it; None keeps the note, an empty text clears it.
            seen: Id of the rater's latest event on the figure that the caller knows of, 0 for none;
            None for no check.
            arbitrate: Whether it settles the figure for all instead of recording the rater's own opinion.

        Raises:
            UnknownError: There is no such rater or figure.
            ConflictError: There is a later event than ``seen``.
            InputError: Unknown decision, or the note is too long.
        """
        if decision is not None and decision not in DECISIONS:
            raise InputError(must("decision", " or ".join(DECISIONS), decision, "choose one of them"))
        text = checked_note(note)
        self._check(rater, index)
        with self._writing:
            decision_state = self.decision_state
            latest = decision_state.latest(rater, index) or 0
            if seen is not None and seen != latest:
                raise ConflictError(
                    f"{rater} decided on this figure in another window (event {latest}, not {seen}); fix: load it again"
                )
            before = None if arbitrate else decision_state.note(rater, index)
            event = Event(
                id=0,
                time=now(),
                rater=rater,
                figure_id=self.figures.id(index),
                kind=ARBITRATED if arbitrate else DECIDED,
                decision=decision,
                previous=decision_state.settled_as(index) if arbitrate else decision_state.decision(rater, index),
                note=before if text is None else (text or None),
                previous_note=before,
            )
            return self._keep([event], [index])[0]

    def undo(self, rater: str) -> tuple[Event, int, str]:
        """Undoes the rater's last decision or arbitration that was not undone yet.

        Returns:
            The undo event, the index of its figure, and the kind of the undone event.

        Raises:
            UnknownError: There is no such rater.
            ConflictError: There is nothing to undo.
        """
        self._check(rater)
        with self._writing:
            last = self.decision_state.undoable(rater)
            if last is None:
                raise ConflictError(f"{rater} has nothing to undo")
            undone, index = last
            event = Event(
                id=0,
                time=now(),
                rater=rater,
                figure_id=undone.figure_id,
                kind=UNDONE,
                decision=undone.previous,
                previous=undone.decision,
                note=undone.previous_note,
                previous_note=undone.note,
                undoes=undone.id,
            )
            return self._keep([event], [index])[0], index, undone.kind

    def take_over(self, rater: str, rows: Iterable[tuple[str, str | None, str | None]]) -> TakenDecision:
        """Imports decisions as this rater's own, all or none.

        Args:
            rater: The rater; added if the name is new.
            rows: Figure id, decision (None: skip) and note (None: keep).

        Raises:
            InputError: A name or note is not valid.
        """
        self.join(rater)
        rater = checked_name(rater)
        unknown = skipped = 0
        with self._writing:
            decision_state = self.decision_state
            current: dict[int, tuple[str | None, str | None]] = {}
            events, indices, time = [], [], now()
            for figure, decision, note in rows:
                index = self.figures.index_of.get(figure)
                if index is None:
                    unknown += 1
                    continue
                before = current.get(index, (decision_state.decision(rater, index), decision_state.note(rater, index)))
                text = checked_note(note)
                after = (decision, before[1] if text is None else (text or None))
                if decision is None or after == before:
                    skipped += 1
                    continue
                current[index] = after
                events.append(Event(0, time, rater, figure, IMPORTED, after[0], before[0], after[1], before[1]))
                indices.append(index)
            self._keep(events, indices)
        return TakenDecision(len(events), unknown, skipped)

    def log(self, rater: str | None, index: int | None, after: int, limit: int) -> list[Event]:
        """A part of the log, oldest first; see :meth:`atypia.review.decisions.log.DecisionLog.page`."""
        with self._writing:
            return self.decision_log.page(rater, None if index is None else self.figures.id(index), after, limit)

    def whole_log(self) -> list[Event]:
        """The whole log, oldest first."""
        with self._writing:
            return list(self.decision_log.events())

    def close(self) -> None:
        """Closes the file and lets others open it."""
        with self._writing:
            self._open.close()

    def _keep(self, events: list[Event], indices: list[int]) -> list[Event]:
        kept = self.decision_log.append(events) if events else []
        for event, index in zip(kept, indices, strict=True):
            self.decision_state.apply(event, index)
        return kept

    def _check(self, rater: str, index: int | None = None) -> None:
        if rater not in self.decision_state.raters:
            raise UnknownError(f"there is no rater {rater!r}; fix: add the name first")
        if index is not None and not 0 <= index < len(self.figures):
            raise UnknownError(must("index", f"from 0 to {len(self.figures) - 1}", index, "see /figures"))


def checked_name(name: str) -> str:
    """A rater's name without surrounding spaces, in Unicode's composed form (NFC).

    Raises:
        InputError: It is empty, too long, or has invisible characters.
    """
    found = unicodedata.normalize("NFC", name).strip()
    visible = all(not unicodedata.category(sign).startswith("C") for sign in found)
    if not found or len(found) > NAME_CHARACTERS or not visible:
        expected = f"1 to {NAME_CHARACTERS} visible characters"
        raise InputError(must("rater", expected, repr(name[: NAME_CHARACTERS + 8]), "give a name"))
    return found


def checked_note(note: str | None) -> str | None:
    """Returns the note if it is valid.

    Raises:
        InputError: It is too long, or is not valid text.
    """
    if note is None:
        return None
    if len(note) > NOTE_CHARACTERS:
        raise InputError(must("note", f"at most {NOTE_CHARACTERS} characters", len(note), "shorten it"))
    if any(unicodedata.category(sign) == "Cs" or sign == "\0" for sign in note):
        raise InputError(must("note", "text", "invalid characters", "remove them"))
    return note
