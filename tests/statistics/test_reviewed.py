"""The rate of a case that was reviewed in part: its limits, its coverage, what it must not do."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtri

from atypia.base.errors import InputError
from atypia.base.seeds import generator
from atypia.statistics import reviewed
from atypia.statistics.error_rates import ErrorRates
from atypia.statistics.rates import corrected_rate, exact_interval
from atypia.statistics.reviewed import ReviewedCounts, reviewed_rate

ERRORS = ErrorRates(0.8, 0.9, (0.3, 0.25), 0.75, 4.0)


def test_without_review_it_is_the_corrected_rate_and_with_all_decided_the_exact_one() -> None:
    none = reviewed_rate(ReviewedCounts(0, 0, (20, 80), (20, 80)), ERRORS)
    assert none == corrected_rate(20, 100, ERRORS)
    everything = reviewed_rate(ReviewedCounts(9, 91, (20, 80), (0, 0)), ERRORS)
    assert (everything.rate, everything.low, everything.high) == (0.09, *exact_interval(9, 100))
    # One decided, or one open, changes little: nothing jumps where another formula takes over.
    first = reviewed_rate(ReviewedCounts(0, 1, (20, 80), (20, 79)), ERRORS)
    last = reviewed_rate(ReviewedCounts(9, 90, (20, 80), (0, 1)), ERRORS)
    assert (first.low, first.high) == pytest.approx((none.low, none.high), abs=0.02)
    assert (last.low, last.high) == pytest.approx((everything.low, everything.high), abs=0.02)


def test_the_point_is_what_is_decided_and_what_calls_are_worth() -> None:
    known = ErrorRates(0.8, 0.9)  # nothing is uncertain about them
    # Called 15 of 100: Rogan and Gladen's rate is 0.05 / 0.7. Of 7 and 53 others so many are atypical:
    rate = 0.05 / 0.7
    value = rate * 0.8 / (rate * 0.8 + (1 - rate) * 0.1)
    missed = rate * 0.2 / (rate * 0.2 + (1 - rate) * 0.9)
    found = reviewed_rate(ReviewedCounts(5, 35, (15, 85), (7, 53)), known)
    assert found.rate == pytest.approx((5 + 7 * value + 53 * missed) / 100)
    assert found.low < found.rate < found.high
    narrower = reviewed_rate(ReviewedCounts(8, 82, (15, 85), (1, 9)), ERRORS)
    wider = reviewed_rate(ReviewedCounts(1, 9, (15, 85), (13, 77)), ERRORS)
    assert narrower.high - narrower.low < wider.high - wider.low


def test_decided_figures_without_a_call_count_and_large_cases_are_quick_to_tell() -> None:
    found = reviewed_rate(ReviewedCounts(30, 10, (10, 10), (10, 10)), ERRORS)  # 40 missed by the detector
    assert found.rate > 0.6
    many = reviewed_rate(ReviewedCounts(5_000, 35_000, (15_000, 85_000), (7_000, 53_000)), ERRORS)
    assert many.low < many.rate < many.high < many.low + 0.2
    # A coin says nothing of 100 figures, but two open ones are not much.
    coin = ErrorRates(0.5, 0.5, (0.3, 0.3))
    assert not reviewed_rate(ReviewedCounts(0, 0, (50, 50), (50, 50)), coin).says
    assert np.isnan(reviewed_rate(ReviewedCounts(1, 1, (50, 50), (49, 49)), coin).rate)


def test_counts_must_fit() -> None:
    with pytest.raises(InputError, match=r"counts.*must be at least 0.*fix: count again"):
        ReviewedCounts(-1, 0, (1, 1), (1, 1))
    with pytest.raises(InputError, match=r"`rest` a part of `called`"):
        ReviewedCounts(0, 0, (1, 1), (2, 1))
    with pytest.raises(InputError, match=r"decided figures with a call.*got 2 of 1"):
        ReviewedCounts(0, 1, (1, 1), (0, 0))
    with pytest.raises(InputError, match=r"confidence.*must be between 0 and 1, got 95"):
        reviewed_rate(ReviewedCounts(0, 1, (1, 1), (1, 0)), ERRORS, 95)


@pytest.mark.parametrize("order", ["at random", "most uncertain", "highest", "clearest"])
def test_the_interval_holds_the_rate_however_figures_were_chosen(order: str) -> None:
    """30 cases of unseen laboratories; ``tools/review_simulation.py`` has the long table."""
    rng = generator(3, "coverage", order)
    held = []
    for number in range(30):
        rate, figures = (0.1, 0.3)[number % 2], 60
        z = rng.normal(size=2) * np.sqrt(4 / rng.chisquare(4))
        hit = ndtri(0.8) + 0.3 * z[0]
        false = ndtri(0.1) + 0.25 * (0.75 * z[0] + np.sqrt(1 - 0.75**2) * z[1])
        truth = rng.random(figures) < rate
        scores = rng.normal(size=figures) + np.where(truth, hit, false)
        keys = {"at random": rng.random(figures), "most uncertain": np.abs(scores), "highest": -scores,
                "clearest": -np.abs(scores)}  # fmt: skip
        decided = np.zeros(figures, np.bool_)
        decided[np.argsort(keys[order])[:24]] = True
        called = scores > 0
        counts = ReviewedCounts(
            int((decided & truth).sum()), int((decided & ~truth).sum()),
            (int(called.sum()), int((~called).sum())), (int((called & ~decided).sum()), int((~called & ~decided).sum())),
        )  # fmt: skip
        found = reviewed_rate(counts, ERRORS)
        held.append(found.low <= rate <= found.high)
    assert np.mean(held) >= 0.85


@pytest.mark.parametrize(
    ("decided", "called", "rest"),
    [
        ((2, 8), (90, 10), (80, 10)),
        ((0, 5), (0, 100), (0, 95)),
        ((0, 5), (3, 97), (3, 92)),
        ((5, 35), (15, 85), (7, 53)),
    ],
)
def test_the_ends_hardly_depend_on_the_draws(
    monkeypatch: pytest.MonkeyPatch, decided: tuple[int, int], called: tuple[int, int], rest: tuple[int, int]
) -> None:
    known = ErrorRates(0.747, 0.871, (0.41, 0.35), freedom=3)  # as of four laboratories: long tails
    found = reviewed_rate(ReviewedCounts(*decided, called, rest), known)
    monkeypatch.setattr(reviewed, "SAMPLES", 2**21)
    exact = reviewed_rate(ReviewedCounts(*decided, called, rest), known)
    assert found.says == exact.says
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=0.004)
