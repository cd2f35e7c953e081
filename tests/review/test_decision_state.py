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
from atypia.review.decisions.intake import ConflictError, DecisionIntake, UnknownError, decisions_file
from atypia.review.decisions.log import DecisionLog
from atypia.review.decisions.state import DecisionState
from atypia.review.decisions.words import DECISIONS, TIE, code_of
from atypia.review.figures.figures import ReviewFigures


@pytest.fixture
def intake(figures: ReviewFigures, tmp_path: Path):
    """A desk with three raters."""
    intake = DecisionIntake(tmp_path / "d.sqlite", figures)
    for rater in ("Ada", "Ben", "Cy"):
        intake.join(rater)
    yield intake
    intake.close()


def state(decision_state: DecisionState) -> object:
    """Everything that is current."""
    return (
        {rater: decision_state.codes(rater).tolist() for rater in decision_state.raters},
        {rater: {i: (decision_state.note(rater, i), decision_state.latest(rater, i)) for i in range(decision_state.count)} for rater in decision_state.raters},
        decision_state.settled,
        {rater: (found[0].id if (found := decision_state.undoable(rater)) else None) for rater in decision_state.raters},
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
def test_replay_of_the_log_gives_the_same_state(figures: ReviewFigures, tmp_path_factory, steps) -> None:
    path = tmp_path_factory.mktemp("replay") / "d.sqlite"
    intake = DecisionIntake(path, figures)
    intake.join("Ada")
    intake.join("Ben")
    for what, rater, index, decision, note in steps:
        if what == "undo":
            try:
                intake.undo(rater)
            except ConflictError:
                assert intake.decision_state.undoable(rater) is None
        elif what == "import":
            intake.take_over(rater, [(figures.id(index), decision, note, None)])
        else:
            intake.decide(rater, index, decision, note, arbitrate=what == "arbitrate")
    before = state(intake.decision_state)
    intake.close()
    again = DecisionIntake(path, figures)
    assert state(again.decision_state) == before
    again.close()


def test_undoing_everything_leaves_nothing(intake: DecisionIntake) -> None:
    for index, decision in ((0, "atypical"), (1, "normal"), (0, "unsure")):
        intake.decide("Ada", index, decision, "n")
    intake.decide("Ada", 0, "normal", arbitrate=True)
    kinds = [intake.undo("Ada").kind for _ in range(4)]
    assert kinds == ["arbitration", "decision", "decision", "decision"]
    assert (
        (intake.decision_state.codes("Ada") == -1).all()
        and intake.decision_state.settled == {}
        and intake.decision_state.note("Ada", 0) is None
    )
    with pytest.raises(ConflictError, match="Ada has nothing to undo"):
        intake.undo("Ada")


def test_undo_leaves_imports_and_others_alone(intake: DecisionIntake, figures: ReviewFigures) -> None:
    intake.decide("Ada", 0, "atypical")
    intake.decide("Ada", 1, "atypical")
    assert intake.take_over("Ada", [(figures.id(1), "normal", None, None)]).taken == 1
    assert intake.undo("Ada").indices[0] == 0  # the decision on figure 1 was replaced by the import
    assert intake.decision_state.decision("Ada", 1) == "normal"
    intake.decide("Ada", 2, "atypical", arbitrate=True)
    intake.decide("Ben", 2, "normal", arbitrate=True)
    with pytest.raises(ConflictError):
        intake.undo("Ada")
    assert intake.undo("Ben").kind == "arbitration"
    assert intake.decision_state.settled == {2: "atypical"}
    assert intake.undo("Ada").indices[0] == 2


def test_consensus_by_hand(intake: DecisionIntake) -> None:
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
                intake.decide(rater, index, decision)
    expected = [code_of("atypical"), TIE, code_of("normal"), code_of("unsure"), code_of("not-mitosis"), TIE, -1]
    assert intake.decision_state.consensus()[:7].tolist() == expected
    assert intake.decision_state.disputed().tolist() == [1, 5, 0, 2, 4]
    intake.decide("Cy", 1, "not-mitosis", arbitrate=True)
    assert intake.decision_state.consensus()[1] == code_of("not-mitosis")
    assert intake.decision_state.disputed().tolist() == [5, 0, 2, 4]
    assert intake.decision_state.decision("Cy", 1) is None  # an arbitration is nobody's vote


def test_log_refuses_change(intake: DecisionIntake) -> None:
    intake.decide("Ada", 0, "atypical")
    other = sqlite3.connect(intake.decision_log.path)
    for statement in ("UPDATE log SET decision = 'normal'", "DELETE FROM log", "DELETE FROM raters"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            other.execute(statement)
    other.close()


def test_file_is_durable_and_bound_to_its_figures(
    intake: DecisionIntake, figures: ReviewFigures, tmp_path: Path
) -> None:
    assert intake.decision_log._db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert intake.decision_log._db.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL
    with pytest.raises(WorkError, match="in use by another `atypia serve`"):
        DecisionIntake(tmp_path / "d.sqlite", figures)
    intake.decide("Ada", 0, "atypical")
    intake.close()
    with pytest.raises(InputError, match=r"figures of .* must be those that were opened"):
        DecisionLog(tmp_path / "d.sqlite", "0" * 32, "another set")
    again = DecisionIntake(tmp_path / "d.sqlite", replace(figures, p=np.full(80, 0.5)))  # another model's opinion
    assert again.decision_state.decision("Ada", 0) == "atypical"
    again.close()


def test_other_files_are_refused(figures: ReviewFigures, tmp_path: Path) -> None:
    (tmp_path / "text.sqlite").write_text("no database " * 100)
    with pytest.raises(InputError, match="a decisions file"):
        DecisionIntake(tmp_path / "text.sqlite", figures)
    other = sqlite3.connect(tmp_path / "other.sqlite")
    other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(InputError, match="another database"):
        DecisionIntake(tmp_path / "other.sqlite", figures)
    intake = DecisionIntake(tmp_path / "later.sqlite", figures)
    intake.decision_log._db.execute("PRAGMA user_version = 3")
    intake.close()
    with pytest.raises(InputError, match="version 3"):
        DecisionIntake(tmp_path / "later.sqlite", figures)
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkError):
        DecisionIntake(tmp_path / "file" / "d.sqlite", figures)


def test_bad_input_is_refused(intake: DecisionIntake) -> None:
    with pytest.raises(UnknownError, match="no rater 'Dan'"):
        intake.decide("Dan", 0, "atypical")
    with pytest.raises(UnknownError, match="`index` must be from 0 to 79"):
        intake.decide("Ada", 80, "atypical")
    with pytest.raises(InputError, match="`decision` must be atypical or normal"):
        intake.decide("Ada", 0, "maybe")
    with pytest.raises(InputError, match="`note` must be at most 2000"):
        intake.decide("Ada", 0, "atypical", "x" * 2001)
    for name in ("", "  ", "x" * 65, "a\nb", "a\u202eb"):
        with pytest.raises(InputError, match="`rater` must be 1 to 64 visible characters"):
            intake.join(name)
    assert not intake.join(" Ada ")
    assert intake.decision_log.page(None, None, 0, 10) == []


def test_usual_place_is_in_the_home(figures: ReviewFigures, own_home: Path) -> None:
    assert decisions_file(figures) == own_home / "reviews" / f"{figures.fingerprint}.sqlite"
