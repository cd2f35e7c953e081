"""Which figures to label first."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from atypia.statistics.labelling import spread_over_scores

numbers = st.lists(st.floats(-10, 10), min_size=1, max_size=60)


@settings(deadline=None)
@given(numbers, st.integers(0, 80), st.floats(-10, 10), st.data())
def test_none_twice_none_labelled_and_as_many_as_there_are(scores, limit, threshold, data):
    done = np.array(data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores))))
    found = spread_over_scores(np.array(scores), limit, threshold, labelled=done)
    assert len(set(found.tolist())) == len(found) == min(limit, int((~done).sum()))
    assert not done[found].any()


def test_every_beginning_is_spread():
    scores = np.linspace(-3, 3, 640)
    found = spread_over_scores(scores, 64, 0.0)
    for n in (8, 16, 32, 64):
        assert abs(scores[found[:n]].mean()) < 0.4
        assert np.bincount(np.searchsorted([-1.5, 0, 1.5], scores[found[:n]]), minlength=4).min() >= n // 4 - 1
    assert abs(scores[found[0]]) < 0.1, "the range of the threshold comes first"


def test_ranges_hold_equally_many_wherever_they_lie():
    scores = np.arange(154.0)
    found = np.sort(spread_over_scores(scores, 100, 70.0))
    assert abs(scores[found].mean() - scores.mean()) < 1


def test_what_is_labelled_is_not_covered_again():
    scores = np.arange(100.0)
    done = np.zeros(100, bool)
    done[:50] = True
    assert spread_over_scores(scores, 10, 0.0, done).min() >= 50


def test_figures_without_a_score_are_passed_over():
    assert spread_over_scores(np.array([np.nan, 1.0]), 5, 0.0).tolist() == [1]
