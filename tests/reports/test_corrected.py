"""The corrected rate in the summary, the page and the JSON of a case."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from atypia.base.errors import InputError
from atypia.reports.case.corrected import DISAGREEING, RateCorrection
from atypia.reports.case.page import CasePage
from atypia.reports.case.summary import CaseSummary
from atypia.statistics.error_rates import ErrorRates, KnownErrors
from atypia.statistics.rates import corrected_rate, expected_rate, likeliest_rate
from atypia.workflows.predict import AVERAGED, correction_for

from .rows import results

ERRORS = ErrorRates(0.8, 0.9, (0.2, 0.2))
KNOWN = KnownErrors(ERRORS, 0.25, "two trials")
P = [0.9] * 17 + [0.1] * 83


def test_counts_and_probabilities_are_corrected() -> None:
    page = CasePage("case", limit=0, correction=RateCorrection(KNOWN, 0.2))
    page.add(None, results([*P, 0.99], [*["atypical"] * 17, *["normal"] * 83, "refused"]))  # the refused one counts not
    found: dict[str, Any] = json.loads(page.summary.to_json())["corrected"]
    expected = corrected_rate(17, 100, ERRORS)
    assert (found["rogan_gladen"], found["rate_low"], found["rate_high"]) == (
        expected.rate,
        expected.low,
        expected.high,
    )
    assert found["likeliest_rate"] == pytest.approx(likeliest_rate(np.array(P), 0.25), abs=1e-3)
    assert found["rate"] == pytest.approx(expected_rate(np.array(P), 0.25, 0.2), abs=1e-3)
    assert found["rate_low"] <= found["rate"] <= found["rate_high"]
    sentence = page.summary.corrected_sentence()
    assert sentence is not None
    assert re.fullmatch(
        r"Corrected for the classifier's errors: \d+\.\d % atypical \(95 % interval \d+\.\d to \d+\.\d %\)\.", sentence
    )
    html = page.html().replace("&#39;", "'")
    assert sentence in html and "from two trials" in html and sentence.split(":")[0] in page.summary.to_text()
    assert "which hold where 20 % of the figures are atypical (the given prevalence)" in html


def test_estimates_that_disagree_are_named() -> None:
    agreeing, apart = (CaseSummary(RateCorrection(KNOWN)) for _ in range(2))
    agreeing.add(results(P))
    apart.add(results([0.5] * 100))  # all just reach the threshold: counts say nearly all, the mean says few
    assert not any(note.startswith(DISAGREEING) for note in agreeing.notes)
    (note,) = (note for note in apart.notes if note.startswith(DISAGREEING))
    found = json.loads(apart.to_json())["corrected"]
    assert found["rate_low"] == found["rate"] < corrected_rate(100, 100, ERRORS).low
    assert "--prevalence" in note and "atypia calibrate" in note


def test_it_says_why_there_is_none() -> None:
    coin = CaseSummary(RateCorrection(KnownErrors(ErrorRates(0.55, 0.5), 0.25, "a coin")))
    coin.add(results(P))
    assert "nothing can be said of the true rate" in str(coin.corrected_sentence())
    assert json.loads(coin.to_json())["corrected"]["rate"] is None
    unknown = CaseSummary(RateCorrection(KnownErrors(None, None, "the model records no errors")))
    unknown.add(results(P))
    assert unknown.corrected_sentence() == "No corrected rate: the model records no errors."
    counts = CaseSummary(RateCorrection(KnownErrors(ERRORS, None, "two trials")))  # no prior: from the counts alone
    counts.add(results(P))
    assert "errors: 10.0 % atypical" in str(counts.corrected_sentence()) and "Rogan" in counts.notes[2]
    none = CaseSummary(RateCorrection(KNOWN))
    assert none.corrected_sentence() == "No corrected rate: no figure was classified." and none.notes
    assert "corrected" not in CaseSummary().as_dict() and CaseSummary().corrected_sentence() is None


def test_averages_of_networks_are_not_corrected() -> None:
    several: Any = SimpleNamespace(
        passes=8, members=[SimpleNamespace(decision=SimpleNamespace(fitted={}, points={}, threshold=0.5))]
    )
    assert correction_for(several).known.words == AVERAGED


def test_a_prevalence_must_make_sense() -> None:
    with pytest.raises(InputError, match=r"prevalence.*must be between 0 and 1, got 20.*fix: give a share"):
        RateCorrection(KNOWN, 20)
    with pytest.raises(
        InputError,
        match=r"prevalence.*must be left out.*got the errors of an average of several networks or views are not recorded; fix: name one model with a fitted decision, and no average \(--tta",
    ):
        RateCorrection(KnownErrors(None, None, AVERAGED), 0.2)
