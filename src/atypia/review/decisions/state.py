"""The current state: every rater's decisions, notes and arbitrations, derived from the log."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from atypia.base.errors import DataError
from atypia.review.decisions.log import Event
from atypia.review.decisions.words import (
    ADDED,
    ARBITRATED,
    ASSIGNED,
    DECISIONS,
    IMPORTED,
    IS_ATYPICAL,
    IS_NORMAL,
    IS_UNSURE,
    NO_DECISION,
    TIE,
    UNDONE,
    code_of,
    decision_of,
    tags_of,
)

Codes8 = npt.NDArray[np.int8]


class UndoError(DataError):
    """An undo event whose target cannot be undone: part of the log is missing."""


class DecisionState:
    """Current decisions of all raters on ``count`` figures.

    A decision is a rater's own opinion and counts for agreement; an arbitration settles a figure for all and
    changes nobody's opinion.

    Args:
        count: Number of figures.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._codes: dict[str, Codes8] = {}
        self._notes: dict[tuple[str, int], str] = {}
        self._latest: dict[tuple[str, int], int] = {}
        self._imported: dict[tuple[str, int], int] = {}
        self._done: dict[str, list[tuple[Event, int]]] = {}
        self._tags: dict[tuple[str, int], str] = {}
        self._shared: dict[str, dict[int, list[Event]]] = {ARBITRATED: {}, ASSIGNED: {}, ADDED: {}}
        """Events that hold for all raters, by kind and figure; the last one counts, an undo takes it away."""
        self.events = 0
        """Number of applied events."""

    @property
    def raters(self) -> tuple[str, ...]:
        """Names, in the order in which they joined."""
        return tuple(self._codes)

    @property
    def settled(self) -> dict[int, str]:
        """The settled figures, with their decision."""
        tops = {index: events[-1].decision for index, events in list(self._shared[ARBITRATED].items()) if events}
        return {index: decision for index, decision in tops.items() if decision is not None}

    def settled_as(self, index: int) -> str | None:
        """The settled decision of a figure."""
        event = self._shared_event(ARBITRATED, index)
        return None if event is None else event.decision

    def settled_by(self, index: int) -> str | None:
        """Who settled a figure."""
        event = self._shared_event(ARBITRATED, index)
        return None if event is None or event.decision is None else event.rater

    def assigned(self, index: int) -> list[str]:
        """The raters to whom a figure is assigned."""
        event = self._shared_event(ASSIGNED, index)
        return [] if event is None or event.value is None else json.loads(event.value)

    def assigned_to(self, rater: str) -> set[int]:
        """The figures that are assigned to a rater."""
        return {index for index in list(self._shared[ASSIGNED]) if rater in self.assigned(index)}

    def added_by(self, index: int) -> str | None:
        """Who added a figure that the opened data does not have; None for figures of the data."""
        event = self._shared_event(ADDED, index)
        return None if event is None else event.rater

    @property
    def withdrawn(self) -> list[int]:
        """Figures that were added, and whose addition was undone; sorted."""
        return sorted(index for index, events in list(self._shared[ADDED].items()) if not events)

    def _shared_event(self, kind: str, index: int) -> Event | None:
        events = self._shared[kind].get(index)
        return events[-1] if events else None

    def grow(self, count: int) -> None:
        """Makes room for figures that were added."""
        more = count - self.count
        if more > 0:
            empty = np.full(more, NO_DECISION, np.int8)
            self._codes = {rater: np.concatenate([codes, empty]) for rater, codes in self._codes.items()}
            self.count = count

    def join(self, rater: str) -> None:
        """Adds a rater without decisions."""
        self._codes.setdefault(rater, np.full(self.count, NO_DECISION, np.int8))
        self._done.setdefault(rater, [])

    def codes(self, rater: str | None) -> Codes8:
        """Codes of one rater's decisions, shape (n,); for an unknown rater, all undecided."""
        found = self._codes.get(rater or "")
        return np.full(self.count, NO_DECISION, np.int8) if found is None else found

    def decision(self, rater: str | None, index: int) -> str | None:
        """One rater's decision on a figure."""
        found = self._codes.get(rater or "")
        return None if found is None else decision_of(int(found[index]))

    def note(self, rater: str | None, index: int) -> str | None:
        """One rater's note on a figure."""
        return self._notes.get((rater or "", index))

    def tags(self, rater: str | None, index: int) -> list[str]:
        """One rater's tags of a figure, sorted."""
        return tags_of(self._tags.get((rater or "", index)))

    def tag_text(self, rater: str | None, index: int) -> str | None:
        """The same as the log keeps them."""
        return self._tags.get((rater or "", index))

    def all_tags(self, index: int) -> dict[str, list[str]]:
        """The tags of each rater who gave any to a figure."""
        return {rater: tags for rater in self.raters if (tags := self.tags(rater, index))}

    def known_tags(self) -> list[str]:
        """All tags in use, sorted."""
        return sorted({tag for text in list(self._tags.values()) for tag in tags_of(text)})

    def tagged(self, rater: str, wanted: Iterable[str]) -> set[int]:
        """The figures to which a rater gave any of these tags."""
        names = set(wanted)
        return {index for (name, index), text in list(self._tags.items()) if name == rater and names & {*tags_of(text)}}

    def noted(self, rater: str) -> set[int]:
        """The figures on which a rater has a note or tags."""
        return {index for name, index in (*list(self._notes), *list(self._tags)) if name == rater}

    def latest(self, rater: str | None, index: int) -> int | None:
        """Id of one rater's latest event on a figure; None if there is none."""
        return self._latest.get((rater or "", index))

    def others(self, rater: str | None, index: int) -> dict[str, str]:
        """The other raters' decisions on a figure."""
        found = {name: decision_of(int(codes[index])) for name, codes in list(self._codes.items()) if name != rater}
        return {name: decision for name, decision in found.items() if decision is not None}

    def counts(self, rater: str) -> dict[str, int]:
        """How often a rater made each decision."""
        codes = self.codes(rater)
        return {name: int(np.count_nonzero(codes == code)) for code, name in enumerate(DECISIONS)}

    def undoable_batch(self, rater: str) -> list[tuple[Event, int]]:
        """The events that the rater's next undo cancels, the latest first: several where they were made at once."""
        last = self.undoable(rater)
        if last is None or last[0].batch is None:
            return [] if last is None else [last]
        return [
            one for one in reversed(self._done[rater]) if one[0].batch == last[0].batch and not self._stale(rater, *one)
        ]

    def undoable(self, rater: str) -> tuple[Event, int] | None:
        """The event (with its figure) that the rater's next undo cancels; None if there is none.

        Skipped are events that were since replaced by an import, settled or assigned again by another rater, and
        additions of figures on which others have decided.
        """
        for event, index in reversed(self._done.get(rater, [])):
            if not self._stale(rater, event, index):
                return event, index
        return None

    def _stale(self, rater: str, event: Event, index: int) -> bool:
        if event.kind in self._shared:
            last = self._shared_event(event.kind, index)
            return last is None or last.id != event.id or (event.kind == ADDED and self.touched(index, event.rater))
        return self._imported.get((rater, index), 0) > event.id

    def touched(self, index: int, rater: str) -> bool:
        """Whether another rater has a decision, a note or tags on a figure."""
        names = [name for name in self.raters if name != rater]
        return any(
            self.decision(name, index) is not None or self.note(name, index) or self.tags(name, index) for name in names
        )

    def apply(self, event: Event, index: int) -> None:
        """Applies the next event of the log.

        Raises:
            UndoError: An undo does not refer to the rater's last event.
        """
        self.events += 1
        self.join(event.rater)
        kind = event.kind
        if kind == UNDONE:
            undone = self.undoable(event.rater)
            if undone is None or undone[0].id != event.undoes:
                raise UndoError(f"event {event.id} of its log does not undo the last event")
            self._drop(event.rater, undone[0].id)
            kind = undone[0].kind
        elif kind != IMPORTED:
            self._done[event.rater].append((event, index))
        if kind in self._shared:
            shared = self._shared[kind].setdefault(index, [])
            if event.kind == UNDONE:
                shared.pop()
            else:
                shared.append(event)
            return
        key = (event.rater, index)
        self._codes[event.rater][index] = code_of(event.decision)
        self._latest[key] = event.id
        if kind == IMPORTED:
            self._imported[key] = event.id
        if event.note:
            self._notes[key] = event.note
        else:
            self._notes.pop(key, None)
        if event.tags:
            self._tags[key] = event.tags
        else:
            self._tags.pop(key, None)

    def _drop(self, rater: str, event: int) -> None:
        """Removes an undone event from the stack, and later events that can no longer be undone."""
        done = self._done[rater]
        while done.pop()[0].id != event:
            pass

    def replay(self, raters: Iterable[str], events: Iterable[Event], index_of: Callable[[str], int]) -> None:
        """Applies a whole log."""
        for rater in raters:
            self.join(rater)
        for event in events:
            self.apply(event, index_of(event.figure_id))

    def tally(self) -> npt.NDArray[np.int16]:
        """Number of raters with each decision on each figure, shape (n, decisions)."""
        by_rater = list(self._codes.values())
        counts = np.zeros((len(by_rater[0]) if by_rater else self.count, len(DECISIONS)), np.int16)
        for codes in by_rater:
            decided = np.flatnonzero(codes >= 0)
            counts[decided, codes[decided]] += 1
        return counts

    def consensus(self) -> Codes8:
        """The raters' joint decisions, shape (n,), as codes.

        The decision of most raters, where *unsure* counts as an abstention unless nobody made another decision;
        :data:`~atypia.review.decisions.words.TIE` if two are equally frequent; an arbitration overrides both.
        """
        found = self.majority()
        for index, decision in self.settled.items():
            found[index] = code_of(decision)
        return found

    def majority(self) -> Codes8:
        """The decision of most raters, shape (n,), as codes; :meth:`consensus` before arbitrations."""
        counts = self.tally()
        unsure = DECISIONS.index(IS_UNSURE)
        opinions = counts.copy()
        opinions[:, unsure] = 0
        most = opinions.max(axis=1)
        found = np.where(most > 0, opinions.argmax(axis=1), NO_DECISION).astype(np.int8)
        found[(most > 0) & ((opinions == most[:, None]).sum(axis=1) > 1)] = TIE
        found[(most == 0) & (counts[:, unsure] > 0)] = unsure
        return found

    def disputed(self) -> npt.NDArray[np.int64]:
        """Figures on which raters decided differently and that are not settled; even splits first."""
        differ = (self.tally() > 0).sum(axis=1) > 1
        differ[list(self.settled)] = False
        found = np.flatnonzero(differ)
        tie = self.consensus()[found] == TIE
        return found[np.lexsort((found, ~tie))]

    def vote_matrix(self) -> npt.NDArray[np.float64]:
        """Votes on the class, shape (n, raters): 1 atypical, 0 normal, NaN for anything else."""
        by_rater = list(self._codes.values())
        if not by_rater:
            return np.empty((self.count, 0))
        codes = np.stack(by_rater, axis=1)
        atypical, normal = DECISIONS.index(IS_ATYPICAL), DECISIONS.index(IS_NORMAL)
        return np.where(codes == atypical, 1.0, np.where(codes == normal, 0.0, np.nan))
