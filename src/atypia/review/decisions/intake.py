"""The desk: receives decisions one at a time and stores them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Final

from atypia.base.artifacts import lock
from atypia.base.errors import InputError, LockedError, WorkError, must
from atypia.base.paths import home
from atypia.review.decisions.checks import checked_decision, checked_name, checked_note, checked_tags
from atypia.review.decisions.log import DecisionLog, Event, damaged_error, now
from atypia.review.decisions.state import DecisionState, UndoError
from atypia.review.decisions.words import (
    ADDED,
    ADDED_PREFIX,
    ARBITRATED,
    ASSIGNED,
    DECIDED,
    IMPORTED,
    UNDONE,
)
from atypia.review.figures.added import AddedPlace, with_added
from atypia.review.figures.figures import ReviewFigures

LOCK_WAIT_S: Final = 1.0
ImportedRow = tuple[str, str | None, str | None, Sequence[str] | None]
"""Figure id, decision, note and tags of a line of an imported file."""


class ConflictError(InputError):
    """The state has changed in between, or there is nothing to do."""


class UnknownError(InputError):
    """Unknown rater or figure."""


@dataclass(frozen=True)
class Undoing:
    """What an undo took back: one figure, or all those that were decided at once.

    Attributes:
        events: The undo events, the last undone first.
        indices: Their figures.
        kind: Kind of the undone events.
    """

    events: tuple[Event, ...]
    indices: tuple[int, ...]
    kind: str


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
                self.decision_state.replay(self.decision_log.raters(), self._replayed(), self._index)
            except UndoError as error:
                raise damaged_error(path, str(error)) from error
            except (ValueError, TypeError) as error:
                raise damaged_error(path, f"the place of an added figure cannot be read: {error}") from error
            self._open = stack.pop_all()

    def _replayed(self) -> Iterable[Event]:
        """The log; figures that it adds are there before the events on them."""
        for event in self.decision_log.events():
            if event.kind == ADDED and event.figure_id not in self.figures.index_of:
                self._grow(event.figure_id, AddedPlace(**json.loads(event.value or "{}")))
            yield event

    def _grow(self, figure_id: str, place: AddedPlace) -> int:
        figures = with_added(self.figures, figure_id, place)
        figures.__dict__["index_of"] = {**self.figures.index_of, figure_id: len(figures) - 1}
        self.decision_state.grow(len(figures))  # first: who sees the new figures finds their decisions
        self.figures = figures
        return len(figures) - 1

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
        *, arbitrate: bool = False, tags: Sequence[str] | None = None,
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
            tags: The rater's tags of the figure, such as the type of atypia; None keeps them.

        Raises:
            UnknownError: There is no such rater or figure.
            ConflictError: There is a later event than ``seen``.
            InputError: Unknown decision, or the note is too long.
        """
        checked_decision(decision)
        text, labels = checked_note(note), checked_tags(tags)
        self._check(rater, index)
        with self._writing:
            decision_state = self.decision_state
            latest = decision_state.latest(rater, index) or 0
            if seen is not None and seen != latest:
                raise ConflictError(
                    f"{rater} decided on this figure in another window (event {latest}, not {seen}); fix: load it again"
                )
            return self._keep([self._event(rater, index, decision, text, labels, arbitrate)], [index])[0]

    def _event(
        self, rater: str, index: int, decision: str | None, note: str | None = None, tags: str | None = None,
        arbitrate: bool = False,
    ) -> Event:  # fmt: skip
        """An event for the log; None keeps a note or tags, an empty text clears them."""
        state = self.decision_state
        before = None if arbitrate else state.note(rater, index)
        tagged = None if arbitrate else state.tag_text(rater, index)
        return Event(
            id=0,
            time=now(),
            rater=rater,
            figure_id=self.figures.id(index),
            kind=ARBITRATED if arbitrate else DECIDED,
            decision=decision,
            previous=state.settled_as(index) if arbitrate else state.decision(rater, index),
            note=before if note is None else (note or None),
            previous_note=before,
            tags=tagged if tags is None else (tags or None),
            previous_tags=tagged,
        )

    def decide_several(
        self, rater: str, indices: Sequence[int], decision: str | None, *, arbitrate: bool = False
    ) -> list[Event]:
        """One decision on several figures, which one undo takes back; figures that have it already are left out.

        Raises:
            UnknownError: There is no such rater or figure; nothing was changed.
            InputError: Unknown decision.
        """
        checked_decision(decision)
        for index in indices:
            self._check(rater, index)
        with self._writing:
            state = self.decision_state
            present = state.settled_as if arbitrate else (lambda index: state.decision(rater, index))
            wanted = [index for index in dict.fromkeys(indices) if present(index) != decision]
            events = [self._event(rater, index, decision, arbitrate=arbitrate) for index in wanted]
            return self._keep(self._together(events), wanted)

    def assign(self, rater: str, indices: Sequence[int], to: Sequence[str]) -> list[Event]:
        """Assigns figures to raters, or with none to nobody; what a rater sees and decides does not change.

        Args:
            rater: Who assigns them.
            indices: The figures.
            to: Names of raters who have joined.

        Raises:
            UnknownError: There is no such rater or figure; nothing was changed.
        """
        for name in (rater, *to):
            self._check(name)
        for index in indices:
            self._check(rater, index)
        value = json.dumps(sorted(set(to)), ensure_ascii=False) if to else None
        with self._writing:
            events, changed, time = [], [], now()
            for index in dict.fromkeys(indices):
                before = self.decision_state.assigned(index)
                was = json.dumps(before, ensure_ascii=False) if before else None
                if was != value:
                    events.append(
                        Event(0, time, rater, self.figures.id(index), ASSIGNED, None, None, None, None, value=value,
                              previous_value=was)
                    )  # fmt: skip
                    changed.append(index)
            return self._keep(self._together(events), changed)

    def add(self, rater: str, slide: int, x_px: float, y_px: float) -> int:
        """Adds a figure at a place of a slide: a mitosis that the opened data does not have.

        Returns:
            Its index. Undoing it withdraws the figure, as long as nobody else has decided on it.

        Raises:
            UnknownError: There is no such rater or slide.
        """
        self._check(rater)
        if not 0 <= slide < len(self.figures.slides):
            raise UnknownError(must("slide", f"one of {len(self.figures.slides)} slides, from 0", slide, "see /slides"))
        place = AddedPlace(self.figures.slides[slide].name, slide, round(x_px, 2), round(y_px, 2))
        with self._writing:
            number = 1
            while f"{ADDED_PREFIX}{number}" in self.figures.index_of:
                number += 1
            name = f"{ADDED_PREFIX}{number}"
            value = json.dumps(asdict(place), ensure_ascii=False)
            kept = self.decision_log.append([Event(0, now(), rater, name, ADDED, None, None, None, None, value=value)])
            index = self._grow(name, place)
            self.decision_state.apply(kept[0], index)
            return index

    def _together(self, events: list[Event]) -> list[Event]:
        """Marks events as made at once."""
        batch = self.decision_state.events + 1
        return [replace(event, batch=batch) for event in events] if len(events) > 1 else events

    def undo(self, rater: str) -> Undoing:
        """Undoes what the rater did last and did not undo yet: a decision, an arbitration, an assignment, an added
        figure, or all of several decisions that were made at once.

        Raises:
            UnknownError: There is no such rater.
            ConflictError: There is nothing to undo.
        """
        self._check(rater)
        with self._writing:
            state = self.decision_state
            last = state.undoable(rater)
            if last is None:
                raise ConflictError(f"{rater} has nothing to undo")
            found = state.undoable_batch(rater)
            events = [_undo_of(event) for event, _ in found]
            indices = [index for _, index in found]
            kept = self._keep(events, indices)
            return Undoing(tuple(kept), tuple(indices), last[0].kind)

    def take_over(self, rater: str, rows: Iterable[ImportedRow]) -> TakenDecision:
        """Imports decisions as this rater's own, all or none.

        Args:
            rater: The rater; added if the name is new.
            rows: Figure id, decision (None: skip), note (None: keep) and tags (None: keep).

        Raises:
            InputError: A name or note is not valid.
        """
        self.join(rater)
        rater = checked_name(rater)
        unknown = skipped = 0
        with self._writing:
            decision_state = self.decision_state
            current: dict[int, tuple[str | None, str | None, str | None]] = {}
            events, indices, time = [], [], now()
            for figure, decision, note, tags in rows:
                index = self.figures.index_of.get(figure)
                if index is None:
                    unknown += 1
                    continue
                held = (decision_state.decision(rater, index), decision_state.note(rater, index),
                        decision_state.tag_text(rater, index))  # fmt: skip
                before = current.get(index, held)
                text, labels = checked_note(note), checked_tags(tags)
                after = (decision, before[1] if text is None else (text or None),
                         before[2] if labels is None else (labels or None))  # fmt: skip
                if decision is None or after == before:
                    skipped += 1
                    continue
                current[index] = after
                events.append(
                    Event(0, time, rater, figure, IMPORTED, after[0], before[0], after[1], before[1], tags=after[2],
                          previous_tags=before[2])
                )  # fmt: skip
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


def _undo_of(undone: Event) -> Event:
    return Event(
        id=0,
        time=now(),
        rater=undone.rater,
        figure_id=undone.figure_id,
        kind=UNDONE,
        decision=undone.previous,
        previous=undone.decision,
        note=undone.previous_note,
        previous_note=undone.note,
        undoes=undone.id,
        tags=undone.previous_tags,
        previous_tags=undone.tags,
        value=undone.previous_value,
        previous_value=undone.value,
        batch=undone.batch,
    )
