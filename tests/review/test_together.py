"""Tags, several figures at once, assignments, added figures; files of the first version."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from atypia.base.errors import InputError
from atypia.review.decisions.exchange import decisions_csv, read_decisions
from atypia.review.decisions.intake import ConflictError, DecisionIntake
from atypia.review.decisions.log import file_events
from atypia.review.decisions.schema import FIRST_COLUMNS, SCHEMA_VERSION
from atypia.review.figures.figures import ReviewFigures
from atypia.review.media.crops import striped_beyond

from .conftest import Client
from .regions import region_of


@pytest.fixture
def on_slide(tmp_path: Path) -> ReviewFigures:
    return region_of(tmp_path)


def test_tags_are_kept_undone_exported_and_taken_in(client: Client) -> None:
    intake = client.review.intake
    client.decide("Ada", 3, "atypical", tags=["lagging", "bridge"])
    client.decide("Ada", 3, "atypical", note="two poles")  # keeps the tags
    assert intake.decision_state.tags("Ada", 3) == ["bridge", "lagging"]
    shown = client.get("/figures/3", params={"rater": "Ada"})
    assert (shown["tags"], shown["note"]) == (["bridge", "lagging"], "two poles")
    assert client.get("/figures/3", params={"rater": "Ben"})["others_tags"] == {"Ada": ["bridge", "lagging"]}
    assert client.get("/figures/3", params={"rater": "Ben", "blind": True})["others_tags"] == {}
    found = client.get("/figures", params={"rater": "Ada", "tag": "bridge"})
    assert [one["index"] for one in found["figures"]] == [3]
    table = decisions_csv(intake)
    assert table.splitlines()[0] == "figure_id,rater,decision,note,time,tags"
    assert table.splitlines()[1].endswith(",bridge;lagging")
    intake.take_over("Eve", read_decisions(table.encode(), "Eve"))
    assert intake.decision_state.tags("Eve", 3) == ["bridge", "lagging"]
    client.decide("Ada", 3, "atypical", tags=[])
    assert intake.decision_state.tags("Ada", 3) == []
    undone = client.post("/decisions/undo", {"rater": "Ada"}, 200)
    assert undone["tags"] == ["bridge", "lagging"]
    for tags in (["a;b"], ["x" * 41], [str(i) for i in range(13)], ["\u0000"]):
        with pytest.raises(InputError, match="tag"):
            intake.decide("Ada", 3, "atypical", tags=tags)


def test_several_at_once_are_undone_at_once(client: Client) -> None:
    state = client.review.intake.decision_state
    client.decide("Ada", 5, "normal")
    client.decide("Ada", 6, "atypical")
    answer = client.post("/decisions/several", {"rater": "Ada", "indices": [5, 6, 7, 8], "decision": "atypical"})
    assert answer["changed"] == 3 and set(answer["events"]) == {"5", "7", "8"}, "6 was decided so before"
    assert [state.decision("Ada", i) for i in (5, 6, 7, 8)] == ["atypical"] * 4
    undone = client.post("/decisions/undo", {"rater": "Ada"}, 200)
    assert {one["index"]: one["decision"] for one in undone["figures"]} == {5: "normal", 7: None, 8: None}
    assert [state.decision("Ada", i) for i in (5, 6, 7, 8)] == ["normal", "atypical", None, None]
    assert client.post("/decisions/undo", {"rater": "Ada"}, 200)["index"] == 6
    client.post("/decisions/several", {"rater": "Ada", "indices": [1, 999], "decision": "normal"}, 404)
    assert state.decision("Ada", 1) is None, "all or none"


def test_figures_are_assigned_to_raters(client: Client) -> None:
    state = client.review.intake.decision_state
    client.post("/assignments", {"rater": "Ada", "indices": [1, 2, 3], "to": ["Ben"]})
    found = client.get("/figures", params={"rater": "Ben", "assigned": True})
    assert [one["index"] for one in found["figures"]] == [1, 2, 3]
    assert {one["name"]: one["assigned"] for one in client.get("/raters")} == {"Ada": 0, "Ben": 3}
    client.post("/assignments", {"rater": "Ada", "indices": [2], "to": []})
    assert state.assigned_to("Ben") == {1, 3}
    client.post("/decisions/undo", {"rater": "Ada"}, 200)
    client.post("/decisions/undo", {"rater": "Ada"}, 200)
    assert state.assigned_to("Ben") == set()
    client.post("/assignments", {"rater": "Ada", "indices": [2], "to": ["Nobody"]}, 404)


def test_a_missed_mitosis_is_added_and_withdrawn(
    on_slide: ReviewFigures, reviewing: Callable[..., Client], tmp_path: Path
) -> None:
    client = reviewing(on_slide, "Ada", "Ben")
    before = client.review.figures.shuffled.tolist()
    new = {"rater": "Ada", "slide": 0, "x_px": 333.0, "y_px": 444.0}
    added = client.post("/figures", new)
    n = len(on_slide)
    assert (added["index"], added["figure_id"], added["added"], added["p"]) == (n, "added-1", True, None)
    assert client.review.figures.fingerprint == on_slide.fingerprint, "the decisions still belong to the same figures"
    assert client.review.figures.shuffled.tolist()[:n] == before, "the order of blind mode stays"
    client.decide("Ada", n, "atypical")
    assert client.http.get(f"/figures/{n}/crop").status_code == 200
    listed = client.get("/slides/0/figures", params={"rater": "Ada"})[-1]
    assert (listed["x_px"], listed["decision"], listed["added"]) == (333.0, "atypical", True)
    client.decide("Ben", n, "normal")
    client.post("/decisions/undo", {"rater": "Ada"}, 200)  # the decision
    assert client.post("/decisions/undo", {"rater": "Ada"}, 409)["detail"].endswith("nothing to undo")  # Ben's stands
    client.post("/decisions/undo", {"rater": "Ben"}, 200)
    assert client.post("/decisions/undo", {"rater": "Ada"}, 200)["kind"] == "addition"
    assert client.get("/figures")["total"] == n
    client.post("/figures", {**new, "x_px": 5000.0}, 422)
    client.post("/figures", {**new, "x_px": 30.0, "y_px": 20.0})
    client.decide("Ada", n + 1, "normal")
    client.review.close()
    again = DecisionIntake(tmp_path / "decisions.sqlite", on_slide)
    try:
        assert again.figures.ids.to_pylist()[n:] == ["added-1", "added-2"]
        assert again.figures.x_px.tolist()[n:] == [333.0, 30.0]
        assert again.decision_state.withdrawn == [n]
        assert again.decision_state.decision("Ada", n + 1) == "normal"
        with pytest.raises(ConflictError):
            again.undo("Ben")
    finally:
        again.close()


def test_a_crop_beyond_the_slide_is_striped(on_slide: ReviewFigures, reviewing: Callable[..., Client]) -> None:
    client = reviewing(on_slide, "Ada")
    corner = client.post("/figures", {"rater": "Ada", "slide": 0, "x_px": 10.0, "y_px": 300.0})
    assert corner["beyond"] is True
    assert client.get("/figures/0")["beyond"] is False
    pixels = client.review.crops.pixels(corner["index"])
    assert set(np.unique(pixels[:, :50])) == {200, 226}
    field = np.full((8, 8, 3), 7, np.uint8)
    assert striped_beyond(field, (50.0, 50.0), (100, 100)) is field
    wide = client.review.crops.pixels(0, 3.0)
    assert len(wide) == 3 * len(client.review.crops.pixels(0))


def test_a_file_of_the_first_version_is_opened_and_kept(figures: ReviewFigures, tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    intake = DecisionIntake(path, figures)
    intake.join("Ada")
    intake.decide("Ada", 0, "atypical", "first")
    intake.decide("Ada", 1, "normal")
    intake.undo("Ada")
    intake.close()
    columns = ", ".join(FIRST_COLUMNS)
    db = sqlite3.connect(path)
    db.executescript(
        f"CREATE TABLE older ({columns}); INSERT INTO older SELECT {columns} FROM log; DROP TABLE log;"
        "CREATE TABLE log (id INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, rater TEXT NOT NULL REFERENCES raters "
        "(name), figure_id TEXT NOT NULL, kind TEXT NOT NULL, decision TEXT, previous TEXT, note TEXT, previous_note TEXT, "
        f"undoes INTEGER REFERENCES log (id)) STRICT; INSERT INTO log SELECT {columns} FROM older; DROP TABLE older;"
        "CREATE TRIGGER log_no_update BEFORE UPDATE ON log BEGIN SELECT RAISE(ABORT, 'append-only'); END;"
        "CREATE TRIGGER log_no_delete BEFORE DELETE ON log BEGIN SELECT RAISE(ABORT, 'append-only'); END;"
        "PRAGMA user_version = 1;"
    )
    db.close()
    before = file_events(path)
    assert len(before) == 3 and before[0].tags is None
    intake = DecisionIntake(path, figures)
    try:
        assert intake.whole_log() == before
        assert intake.decision_state.decision("Ada", 0) == "atypical"
        event = intake.decide("Ada", 2, "atypical", tags=["ring"])
        assert (event.id, event.tags) == (4, "ring")
        assert intake.decision_log._db.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            intake.decision_log._db.execute("DELETE FROM log")
        assert intake.decision_log._db.execute("PRAGMA foreign_key_check").fetchall() == []
    finally:
        intake.close()
