"""The log and what follows from it."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atypia.base.errors import InputError, WorkError
from atypia.review.decisions.intake import ConflictError, Desk, UnknownError, decisions_file
from atypia.review.decisions.log import Book
from atypia.review.decisions.state import Board
from atypia.review.decisions.words import DECISIONS, TIE, code_of
from atypia.review.figures.figures import Figures


@pytest.fixture
def desk(figures: Figures, tmp_path: Path):
    """A desk with three raters."""
    desk = Desk(tmp_path / "d.sqlite", figures)
    for rater in ("Ada", "Ben", "Cy"):
        desk.join(rater)
    yield desk
    desk.close()


def state(board: Board) -> object:
    """Everything that is current."""
    return (
        {rater: board.codes(rater).tolist() for rater in board.raters},
        {rater: {i: (board.note(rater, i), board.latest(rater, i)) for i in range(board.count)} for rater in board.raters},
        board.settled,
        {rater: (found[0].id if (found := board.undoable(rater)) else None) for rater in board.raters},
    )  # fmt: skip


STEPS = st.lists(
    st.tuples(
        st.sampled_from(("decide", "arbitrate", "undo", "import")),
        st.sampled_from(("Ada", "Ben")),
        st.integers(0, 3),
        st.sampled_from((*DECISIONS, None)),
        st.sampled_from((None, "", "a note")),
    ),
    max_size=25,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_replay_of_the_log_gives_the_same_state(figures: Figures, tmp_path_factory, steps) -> None:
    path = tmp_path_factory.mktemp("replay") / "d.sqlite"
    desk = Desk(path, figures)
    desk.join("Ada")
    desk.join("Ben")
    for what, rater, index, decision, note in steps:
        if what == "undo":
            try:
                desk.undo(rater)
            except ConflictError:
                assert desk.board.undoable(rater) is None
        elif what == "import":
            desk.take_over(rater, [(figures.id(index), decision, note)])
        else:
            desk.decide(rater, index, decision, note, arbitrate=what == "arbitrate")
    before = state(desk.board)
    desk.close()
    again = Desk(path, figures)
    assert state(again.board) == before
    again.close()


def test_undoing_everything_leaves_nothing(desk: Desk) -> None:
    for index, decision in ((0, "atypical"), (1, "normal"), (0, "unsure")):
        desk.decide("Ada", index, decision, "n")
    desk.decide("Ada", 0, "normal", arbitrate=True)
    kinds = [desk.undo("Ada")[2] for _ in range(4)]
    assert kinds == ["arbitration", "decision", "decision", "decision"]
    assert (desk.board.codes("Ada") == -1).all() and desk.board.settled == {} and desk.board.note("Ada", 0) is None
    with pytest.raises(ConflictError, match="Ada has nothing to undo"):
        desk.undo("Ada")


def test_undo_leaves_imports_and_others_alone(desk: Desk, figures: Figures) -> None:
    desk.decide("Ada", 0, "atypical")
    desk.decide("Ada", 1, "atypical")
    assert desk.take_over("Ada", [(figures.id(1), "normal", None)]).taken == 1
    assert desk.undo("Ada")[1] == 0  # the decision on figure 1 was replaced by the import
    assert desk.board.decision("Ada", 1) == "normal"
    desk.decide("Ada", 2, "atypical", arbitrate=True)
    desk.decide("Ben", 2, "normal", arbitrate=True)
    with pytest.raises(ConflictError):
        desk.undo("Ada")
    assert desk.undo("Ben")[2] == "arbitration"
    assert desk.board.settled == {2: "atypical"}
    assert desk.undo("Ada")[1] == 2


def test_consensus_by_hand(desk: Desk) -> None:
    said = {
        0: ("atypical", "atypical", "normal"),
        1: ("atypical", "normal", None),
        2: ("unsure", "normal", None),
        3: ("unsure", None, None),
        4: ("not-mitosis", "not-mitosis", "atypical"),
        5: ("atypical", "normal", "not-mitosis"),
    }
    for index, decisions in said.items():
        for rater, decision in zip(("Ada", "Ben", "Cy"), decisions, strict=True):
            if decision is not None:
                desk.decide(rater, index, decision)
    expected = [code_of("atypical"), TIE, code_of("normal"), code_of("unsure"), code_of("not-mitosis"), TIE, -1]
    assert desk.board.consensus()[:7].tolist() == expected
    assert desk.board.disputed().tolist() == [1, 5, 0, 2, 4]
    desk.decide("Cy", 1, "not-mitosis", arbitrate=True)
    assert desk.board.consensus()[1] == code_of("not-mitosis")
    assert desk.board.disputed().tolist() == [5, 0, 2, 4]
    assert desk.board.decision("Cy", 1) is None  # an arbitration is nobody's vote


def test_log_refuses_change(desk: Desk) -> None:
    desk.decide("Ada", 0, "atypical")
    other = sqlite3.connect(desk.book.path)
    for statement in ("UPDATE log SET decision = 'normal'", "DELETE FROM log", "DELETE FROM raters"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            other.execute(statement)
    other.close()


def test_file_is_durable_and_bound_to_its_figures(desk: Desk, figures: Figures, tmp_path: Path) -> None:
    assert desk.book._db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert desk.book._db.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL
    with pytest.raises(WorkError, match="in use by another `atypia serve`"):
        Desk(tmp_path / "d.sqlite", figures)
    desk.decide("Ada", 0, "atypical")
    desk.close()
    with pytest.raises(InputError, match=r"figures of .* must be those that were opened"):
        Book(tmp_path / "d.sqlite", "0" * 32, "another set")
    again = Desk(tmp_path / "d.sqlite", replace(figures, p=np.full(80, 0.5)))  # another model's opinion
    assert again.board.decision("Ada", 0) == "atypical"
    again.close()


def test_other_files_are_refused(figures: Figures, tmp_path: Path) -> None:
    (tmp_path / "text.sqlite").write_text("no database " * 100)
    with pytest.raises(InputError, match="a decisions file"):
        Desk(tmp_path / "text.sqlite", figures)
    other = sqlite3.connect(tmp_path / "other.sqlite")
    other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(InputError, match="another database"):
        Desk(tmp_path / "other.sqlite", figures)
    desk = Desk(tmp_path / "later.sqlite", figures)
    desk.book._db.execute("PRAGMA user_version = 2")
    desk.close()
    with pytest.raises(InputError, match="version 2"):
        Desk(tmp_path / "later.sqlite", figures)
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkError):
        Desk(tmp_path / "file" / "d.sqlite", figures)


def test_bad_input_is_refused(desk: Desk) -> None:
    with pytest.raises(UnknownError, match="no rater 'Dan'"):
        desk.decide("Dan", 0, "atypical")
    with pytest.raises(UnknownError, match="`index` must be from 0 to 79"):
        desk.decide("Ada", 80, "atypical")
    with pytest.raises(InputError, match="`decision` must be atypical or normal"):
        desk.decide("Ada", 0, "maybe")
    with pytest.raises(InputError, match="`note` must be at most 2000"):
        desk.decide("Ada", 0, "atypical", "x" * 2001)
    for name in ("", "  ", "x" * 65, "a\nb", "a\u202eb"):
        with pytest.raises(InputError, match="`rater` must be 1 to 64 visible characters"):
            desk.join(name)
    assert not desk.join(" Ada ")
    assert desk.book.page(None, None, 0, 10) == []


def test_usual_place_is_in_the_home(figures: Figures, own_home: Path) -> None:
    assert decisions_file(figures) == own_home / "reviews" / f"{figures.fingerprint}.sqlite"
