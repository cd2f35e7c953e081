"""The rate of all figures on the server and in the report: decided ones as decided, the others by the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from atypia.inference.bundles.bundle import load_bundle
from atypia.inference.bundles.left_out import LEFT_OUT_KEY
from atypia.inference.classifier import Classifier, find_model
from atypia.inference.export.derived import save_derived
from atypia.review.decisions.state import DecisionState
from atypia.review.figures.figures import ReviewFigures
from atypia.review.report.final import make_report
from atypia.review.report.whole import NO_MODEL, errors_of, whole_of
from atypia.statistics.error_rates import ErrorRates, KnownErrors
from atypia.statistics.rates import exact_interval, expected_rate
from atypia.statistics.reviewed import ReviewedCounts, reviewed_rate

from .conftest import Client

KNOWN = KnownErrors(ErrorRates(0.8, 0.9, (0.3, 0.3)), 0.25, "five laboratories")


@pytest.fixture
def shipped(scored: ReviewFigures) -> ReviewFigures:
    """Predictions that say they are the shipped model's."""
    return replace(scored, models=("atypia",), threshold=Classifier.load("atypia").threshold)


def test_the_rule(scored: ReviewFigures, reviewing: Callable[..., Client]) -> None:
    client = reviewing(scored, "Ada")
    for index in range(6):
        client.decide("Ada", index, "atypical" if index < 2 else "normal")
    client.decide("Ada", 6, "not-mitosis")
    client.decide("Ada", 7, "unsure")  # stays the model's
    state = client.review.intake.decision_state
    found = whole_of(scored, state, KNOWN, "Ada")
    assert found is not None
    p = scored.p[:-1]  # the last one has none
    called = np.delete(p, 6) >= 0.5
    rest = p[7:] >= 0.5
    counts = ReviewedCounts(2, 4, (int(called.sum()), int((~called).sum())), (int(rest.sum()), int((~rest).sum())))
    told = reviewed_rate(counts, KNOWN.errors or ErrorRates(0.5, 0.5))
    expected = (2 + 72 * expected_rate(p[7:], 0.25, 0.25)) / 78
    assert (found.decided, found.by_model, found.left_out) == (6, 72, 1)
    assert found.rate == pytest.approx(expected)
    assert (found.rate_low, found.rate_high) == pytest.approx((min(told.low, expected), max(told.high, expected)))
    assert found.text.startswith("All 78 figures, 72 of them decided by the model alone, 1 more decided by nobody: ")
    assert "count as decided" in found.notes[0] and "from five laboratories" in found.notes[1]
    everybody = whole_of(scored, state, KNOWN)
    assert everybody == found, "one rater is the consensus"


def test_when_all_is_decided_no_model_is_needed(scored: ReviewFigures) -> None:
    from atypia.review.decisions.words import code_of

    state = DecisionState(80)
    state.join("Ada")
    state.codes("Ada")[:] = code_of("normal")
    state.codes("Ada")[:8] = code_of("atypical")
    found = whole_of(scored, state, KnownErrors(None, None, "nothing is known"))
    assert found is not None and found.text.startswith("All 80 figures are decided: 10.0 % atypical")
    assert (found.rate_low, found.rate_high) == exact_interval(8, 80)


def test_the_model_is_found_by_its_name_or_nothing_is_said(shipped: ReviewFigures, scored: ReviewFigures) -> None:
    known = errors_of(shipped)
    assert known.errors is not None and known.prior is not None
    assert errors_of(scored).words == NO_MODEL
    assert errors_of(replace(shipped, threshold=None)).errors is None, "models with different thresholds"
    absent = errors_of(replace(shipped, models=("theirs",)), "atypia")  # another model than the calls'
    assert absent.errors is None and "name its folder with --model" in absent.words
    assert "average" in errors_of(replace(shipped, models=("atypia+theirs",))).words
    state = DecisionState(80)
    told = whole_of(scored, state, errors_of(scored))
    assert told is not None and not told.says and told.text.startswith("No rate of all 79 figures: the probabilities")


def test_a_threshold_that_a_table_rounded_is_the_model_s_and_another_one_is_told(
    shipped: ReviewFigures, tmp_path: Path
) -> None:
    first = load_bundle(find_model("atypia"))
    facts = {key: value for key, value in first.decision.fitted.items() if key != LEFT_OUT_KEY}  # as most trainings'
    mine = replace(first, name="mine", decision=replace(first.decision, fitted=facts))
    place = save_derived(find_model("atypia"), mine, tmp_path / "mine")
    for model, where in (("mine", place), ("atypia", None)):
        exact = replace(shipped, models=(model,))
        known = errors_of(exact, where)
        assert known.errors is not None and "none of this model's" not in known.words
        assert errors_of(replace(exact, threshold=round(first.threshold, 6)), where) == known
    other = errors_of(replace(shipped, threshold=0.33))
    assert other.errors is not None and "threshold, 0.33, is none of this model's" in other.words


def test_server_and_report_say_the_same(shipped: ReviewFigures, reviewing: Callable[..., Client]) -> None:
    client = reviewing(shipped, "Ada", "Ben")
    for index in range(20):
        client.decide("Ada", index, "atypical" if index % 5 == 0 else "normal")
    own, all_ = client.get("/rates", params={"rater": "Ada"})["whole"], client.get("/rates")["whole"]
    assert own == all_ and own["says"] and own["decided"] == 20 and own["by_model"] == 59
    assert client.get("/rates", params={"rater": "Ben"})["whole"]["by_model"] == 79
    review = client.review
    case = make_report(review.figures, review.intake.decision_state, review.intake.whole_log(), review.slides).case
    assert case.whole is not None and case.whole.as_dict() == own
    page = client.http.get("/exports/report.html").text
    assert own["text"] in page and "count as decided" in page
    assert client.get("/exports/report.json")["whole"] == own


def test_without_probabilities_there_is_none(client: Client) -> None:
    assert client.get("/rates")["whole"] is None
    assert client.get("/exports/report.json")["whole"] is None
