"""The API: what is told of figures, and how decisions go in."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image


def test_session(client) -> None:
    session = client.get("/session")
    assert session["figures"] == 80
    assert session["has"] == {
        "p": False, "label": True, "votes": False, "features": False, "slides": False, "novelty": False
    }  # fmt: skip
    assert session["raters"] == ["Ada", "Ben"]
    assert session["domains"] == ["scanner 0", "scanner 1"]
    assert session["decisions"] == ["atypical", "normal", "unsure", "not-mitosis"]


def test_window_of_figures(client) -> None:
    page = client.get("/figures", params={"offset": 78, "limit": 10, "rater": "Ada"})
    assert (page["total"], page["offset"], len(page["figures"])) == (80, 78, 2)
    figure = page["figures"][0]
    assert (figure["index"], figure["figure_id"], figure["label"], figure["p"]) == (78, "s0-078", 1, None)
    assert client.get("/figures", params={"case": ["s0-case-1", "s0-case-2"]})["total"] == 20


def test_crop_is_the_image(client, small_csv) -> None:
    answer = client.http.get("/figures/5/crop")
    assert answer.headers["content-type"] == "image/png"
    shown = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert np.array_equal(shown, np.asarray(Image.open(small_csv.parent / "s0-005.png")))
    again = client.http.get("/figures/5/crop", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_decide_and_undo(client) -> None:
    first = client.decide("Ada", 3, "atypical", note="two poles")
    assert (first["id"], first["previous"], first["figure_id"]) == (1, None, "s0-003")
    second = client.decide("Ada", 3, "normal")
    assert (second["previous"], second["note"]) == ("atypical", "two poles")
    undone = client.post("/decisions/undo", {"rater": "Ada"}, 200)
    assert (undone["undone"], undone["index"], undone["decision"]) == (second["id"], 3, "atypical")
    client.post("/decisions/undo", {"rater": "Ada"}, 200)
    assert client.get("/figures/3", params={"rater": "Ada"})["decision"] is None
    assert "nothing" in client.post("/decisions/undo", {"rater": "Ada"}, 409)["detail"]
    assert [event["kind"] for event in client.get("/decisions")] == ["decision", "decision", "undo", "undo"]


@pytest.mark.parametrize("index", [True, False, "3", 3.0, 3.5, None, [3], -1, 80, 2**60])
def test_an_index_is_a_whole_number(client, index: object) -> None:
    body = {"rater": "Ada", "index": index, "decision": "normal"}
    status = 404 if index == 80 and index is not True else 422
    assert "index" in client.post("/decisions", body, status)["detail"]
    assert "index" in client.post("/arbitration", body, status)["detail"]
    assert client.get("/decisions") == []


@pytest.mark.parametrize("more", [{"blind": "yes"}, {"blind": 1}, {"seen_previous": True}, {"note": 5}, {"rater": 1}])
def test_values_are_of_their_type(client, more: dict[str, object]) -> None:
    client.post("/decisions", {"rater": "Ada", "index": 0, "decision": "normal", **more}, 422)
    assert client.get("/decisions") == []


@pytest.mark.parametrize("decision", ["Atypical", "AMF", "", "not mitosis", "none", 1, True])
def test_decisions_have_one_spelling(client, decision: object) -> None:
    body = {"rater": "Ada", "index": 0, "decision": decision}
    assert "decision" in client.post("/decisions", body, 422)["detail"]
