"""Orders, filters, blind mode, and what raters agree on."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from atypia.base.errors import InputError
from atypia.review.decisions.listing import FigureQuery, rater_disagreement, select
from atypia.review.figures.figures import ReviewFigures


def ids(client, **params) -> list[int]:
    """Indices of a list."""
    return [one["index"] for one in client.get("/figures", params={"limit": 1000, **params})["figures"]]


def test_orders(scored: ReviewFigures, reviewing: Callable) -> None:
    client = reviewing(scored, "Ada", "Ben")
    known = np.arange(79)
    assert ids(client, sort="p") == [*known[np.argsort(scored.p[:79], kind="stable")], 79]
    assert ids(client, sort="p", descending=True)[-1] == 79  # what is unknown comes last either way
    by_doubt = ids(client, sort="uncertainty", descending=True)
    assert abs(scored.p[by_doubt[0]] - 0.5) == pytest.approx(np.nanmin(np.abs(scored.p - 0.5)))
    assert {i % 10 for i in ids(client, sort="label-disagreement", descending=True)[:8]} == {5}
    assert ids(client, sort="index", descending=True) == list(range(79, -1, -1))
    cases = [client.review.figures.case.at(i) for i in ids(client, sort="case")]
    assert cases == sorted(cases)
    for rater, decision in (("Ada", "atypical"), ("Ben", "normal")):
        client.decide(rater, 40, decision)
        client.decide(rater, 20, "normal")
    assert ids(client, sort="rater-disagreement", descending=True)[:2] == [40, 20]


def test_filters(scored: ReviewFigures, reviewing: Callable) -> None:
    client = reviewing(scored, "Ada", "Ben")
    client.decide("Ada", 4, "atypical")
    client.decide("Ben", 5, "atypical")
    assert ids(client, decision="atypical", rater="Ada") == [4]
    assert ids(client, decision=["atypical", "none"], rater="Ada") == list(range(80))
    assert 4 not in ids(client, undecided=True, rater="Ada") and 5 in ids(client, undecided=True, rater="Ada")
    assert ids(client, call="atypical") == [i for i in range(80) if scored.p[i] >= 0.5]
    assert ids(client, case="s0-case-3", domain="scanner 0") == []
    assert ids(client, case=["s0-case-3"]) == list(range(30, 40))


def test_blind_mode_leaks_nothing(scored: ReviewFigures, reviewing: Callable) -> None:
    client = reviewing(scored, "Ada", "Ben")
    client.decide("Ben", 7, "atypical", note="Ben's own")
    client.decide("Ada", 7, "normal")
    client.post("/arbitration", {"rater": "Ben", "index": 7, "decision": "atypical"})
    page = client.get("/figures", params={"blind": True, "rater": "Ada", "limit": 100})
    for figure in (*page["figures"], client.get("/figures/7", params={"blind": True, "rater": "Ada"})):
        hidden = ("p", "call", "uncertainty", "novelty", "label", "votes", "disagreement", "settled")
        assert [figure[name] for name in hidden] == [None] * len(hidden)
        assert figure["others"] == {} and figure["figure_id"].startswith("figure ")
    text = json.dumps(page)
    assert "s0-0" not in text and "Ben" not in text
    order = [one["index"] for one in page["figures"]]
    assert sorted(order) == list(range(80)) and order != list(range(80))  # files are often sorted by class
    names = [one["figure_id"] for one in page["figures"]]
    assert names == [f"figure {rank}" for rank in range(1, 81)]
    for params in ({"sort": "p"}, {"sort": "rater-disagreement"}, {"call": "atypical"}):
        answer = client.http.get("/figures", params={"blind": True, **params})
        assert answer.status_code == 422 and "blind" in answer.json()["detail"]
    queue = client.get("/queue", params={"blind": True, "rater": "Ada", "limit": 5})
    assert queue["reason"] == {} and all(one["p"] is None for one in queue["figures"])
    assert client.http.get("/queue", params={"blind": True, "kind": "label-errors"}).status_code == 422
    assert client.decide("Ada", 9, "normal", blind=True)["figure_id"].startswith("figure ")


def test_rater_disagreement_counts_the_data_s_votes(figures: ReviewFigures, reviewing: Callable) -> None:
    from dataclasses import replace

    import pyarrow as pa

    votes = pa.chunked_array([pa.array([[1, 0, None], [1, 1, 1], None] + [[0, None, None]] * 77, pa.list_(pa.int8()))])
    client = reviewing(replace(figures, votes=votes), "Ada")
    client.decide("Ada", 1, "normal")
    client.decide("Ada", 3, "unsure")
    found = rater_disagreement(client.review.figures, client.review.intake.decision_state)
    assert found[:2].tolist() == [1.0, 0.5]  # one of two; three of four: 1 - |2 * 3/4 - 1|
    assert np.isnan(found[2:]).all()
    assert client.get("/figures/0")["votes"] == [1, 0, None]


def test_agreement_against_scikit_learn(client) -> None:
    rng = np.random.default_rng(0)
    said = rng.choice(["atypical", "normal", "unsure"], (2, 40), p=[0.4, 0.5, 0.1])
    for rater, decisions in zip(("Ada", "Ben"), said, strict=True):
        for index, decision in enumerate(decisions.tolist()):
            client.decide(rater, index, decision)
    report = client.get("/consensus")
    both = (said != "unsure").all(axis=0)
    assert report["figures_with_two"] == both.sum()
    (pair,) = report["pairs"]
    assert (pair["first"], pair["second"], pair["figures"]) == ("Ada", "Ben", both.sum())
    assert pair["kappa"] == pytest.approx(cohen_kappa_score(said[0][both], said[1][both]))
    row = report["against_others"][0]
    truth, own = said[1][both] == "atypical", said[0][both] == "atypical"
    assert row["sensitivity"] == pytest.approx(own[truth].mean())
    assert row["specificity"] == pytest.approx((~own[~truth]).mean())
    # With two raters a class vote against an abstention is a majority of one.
    ties = (said[0] != said[1]) & both
    assert report["ties"] == ties.sum()
    assert report["majority"]["atypical"] == int(((said == "atypical").any(axis=0) & ~ties).sum())


def test_one_rater_has_no_agreement(client) -> None:
    client.decide("Ada", 0, "atypical")
    report = client.get("/consensus")
    assert report["fleiss_kappa"] is None and report["majority"]["atypical"] == 1


def test_arbitration_settles(client) -> None:
    for rater, decision in (("Ada", "atypical"), ("Ben", "normal")):
        client.decide(rater, 11, decision)
    queue = client.get("/arbitration")
    assert (queue["total"], queue["figures"][0]["others"]) == (1, {"Ada": "atypical", "Ben": "normal"})
    settled = client.post(
        "/arbitration", {"rater": "Ben", "index": 11, "decision": "atypical", "note": "seen together"}
    )
    assert settled["previous"] is None
    assert client.get("/arbitration")["total"] == 0
    assert client.get("/consensus")["majority"]["atypical"] == 1
    assert client.get("/figures/11", params={"rater": "Ben"})["decision"] == "normal"
    assert client.post("/decisions/undo", {"rater": "Ben"}, 200)["kind"] == "arbitration"
    assert client.get("/arbitration")["total"] == 1


def test_seen_previous(client) -> None:
    first = client.decide("Ada", 2, "atypical", seen_previous=0)
    stale = {"rater": "Ada", "index": 2, "decision": "normal", "seen_previous": 0}
    assert "another window" in client.post("/decisions", stale, 409)["detail"]
    client.decide("Ada", 2, "normal", seen_previous=first["id"])
    assert client.get("/figures/2", params={"rater": "Ada"})["event"] == first["id"] + 1


def test_progress_of_raters(client) -> None:
    client.decide("Ada", 1, "unsure")
    assert client.get("/raters")[0] == {
        "name": "Ada", "decided": 1, "counts": {"atypical": 0, "normal": 0, "unsure": 1, "not-mitosis": 0},
        "rate": {"value": None, "low": None, "high": None}, "assigned": 0,
    }  # fmt: skip
    assert client.post("/raters", {"name": " Zoë "})["name"] == "Zoë"
    client.post("/raters", {"name": "Zoë"}, 200)


def test_select_refuses_what_blind_mode_hides(figures: ReviewFigures, client) -> None:
    with pytest.raises(InputError, match="`sort` must be index or case in blind mode"):
        select(figures, client.review.intake.decision_state, FigureQuery(sort="novelty", blind=True))
