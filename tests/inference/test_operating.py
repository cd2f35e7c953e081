"""Operating points against brute force and hand-computed values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from atypia.base.errors import InputError
from atypia.inference.bundles.operating import balanced_point, risk_point, sensitivity_point, specificity_point

SCORED = st.lists(st.tuples(st.integers(0, 1), st.integers(1, 9)), min_size=2, max_size=14)


def rates(labels: np.ndarray, p: np.ndarray, threshold: float) -> tuple[float, float]:
    """Sensitivity and specificity, written out again."""
    return float((p[labels == 1] >= threshold).mean()), float((p[labels == 0] < threshold).mean())


def arrays(rows: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    labels, tenths = np.array(rows).T
    assume(0 < labels.sum() < len(labels))
    return labels, tenths / 10


@settings(max_examples=150, deadline=None)
@given(SCORED)
def test_balanced_reaches_what_no_threshold_exceeds(rows: list[tuple[int, int]]) -> None:
    labels, p = arrays(rows)
    point = balanced_point(labels, p)
    assert (point.sensitivity, point.specificity) == rates(labels, p, point.threshold)
    assert point.balanced_accuracy == pytest.approx(
        max(sum(rates(labels, p, t)) / 2 for t in np.arange(21) / 20 + 0.025)
    )
    assert 0 < point.threshold < 1 and point.threshold not in p


@settings(max_examples=150, deadline=None)
@given(SCORED, st.sampled_from([0.07, 0.5, 0.8, 0.9, 1.0]))
def test_fixed_shares_lose_as_little_as_possible(rows: list[tuple[int, int]], target: float) -> None:
    labels, p = arrays(rows)
    all_rates = [rates(labels, p, t) for t in np.arange(21) / 20 + 0.025]
    point = sensitivity_point(labels, p, target)
    assert (point.sensitivity, point.specificity) == rates(labels, p, point.threshold)
    assert (point.specificity, point.sensitivity) == max((sp, se) for se, sp in all_rates if se >= target)
    point = specificity_point(labels, p, target)
    assert (point.sensitivity, point.specificity) == rates(labels, p, point.threshold)
    assert (point.sensitivity, point.specificity) == max((se, sp) for se, sp in all_rates if sp >= target)


def test_by_hand() -> None:
    labels, p = [0, 0, 0, 0, 1, 1, 1, 1], [0.1, 0.2, 0.3, 0.6, 0.4, 0.7, 0.8, 0.9]
    # From 0.3 to 0.4 and from 0.6 to 0.7 the balanced accuracy is 7/8; the ranges are equally wide, up to rounding.
    best = balanced_point(labels, p)
    assert best.balanced_accuracy == 0.875 and min(abs(best.threshold - 0.35), abs(best.threshold - 0.65)) < 1e-12
    point = sensitivity_point(labels, p, 0.75)
    assert (point.name, point.threshold, point.specificity) == ("sensitivity-0.75", pytest.approx(0.65), 1.0)
    point = sensitivity_point(labels, p, 0.76)
    assert (point.threshold, point.sensitivity, point.specificity) == (pytest.approx(0.35), 1.0, 0.75)
    point = specificity_point(labels, p, 1.0)
    assert (point.name, point.threshold, point.sensitivity) == ("specificity-1.00", pytest.approx(0.65), 0.75)
    assert specificity_point(labels, p, 0.125).name == "specificity-0.125"
    assert set(point.as_dict()) == {"threshold", "sensitivity", "specificity", "balanced_accuracy"}


def test_the_widest_best_range_wins() -> None:
    assert balanced_point([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.9]).threshold == pytest.approx(0.6)


def test_a_range_of_several_gaps_avoids_the_score_in_its_middle() -> None:
    # 0.25 to 0.75 is one range of best thresholds; its middle is the score that both classes share.
    point = balanced_point([0, 0, 1, 1], [0.25, 0.5, 0.5, 0.75])
    assert point.balanced_accuracy == 0.75 and point.threshold == 0.375
    # With a score elsewhere in the range its middle is free.
    assert balanced_point([0, 0, 1, 1], [0.25, 0.375, 0.375, 0.75]).threshold == 0.5


def test_saturated_and_adjacent_probabilities() -> None:
    assert balanced_point([0, 1], [0.0, 1.0]).threshold == 0.5
    above = np.nextafter(0.5, 1)
    point = balanced_point([0, 1], [0.5, above])
    assert (point.threshold, point.balanced_accuracy) == (above, 1.0)
    with pytest.raises(InputError, match=r"`specificity-1\.00` must be within reach"):
        specificity_point([0, 1], [1.0, 0.5], 1.0)
    with pytest.raises(InputError, match=r"`sensitivity-0\.90` must be within reach"):
        sensitivity_point([0, 1], [0.5, 0.0], 0.9)


def test_refused() -> None:
    with pytest.raises(InputError, match="`labels` must be of both classes, got 0 atypical, 2 normal"):
        balanced_point([0, 0], [0.1, 0.2])
    with pytest.raises(InputError, match=r"`probabilities` must be between 0 and 1, got 1\.5"):
        balanced_point([0, 1], [0.1, 1.5])
    with pytest.raises(InputError, match="`probabilities` must be as long as `labels`"):
        balanced_point([0, 1], [0.1])
    for target in (0.0, 1.01, -1.0, np.nan):
        with pytest.raises(InputError, match="`sensitivity` must be above 0 and at most 1"):
            sensitivity_point([0, 1], [0.1, 0.2], target)


# Conformal risk control -----------------------------------------------------------------------


def test_risk_by_hand() -> None:
    labels = [0] * 4 + [1] * 9
    p = [0.05, 0.1, 0.29, 0.6, *(0.2 + 0.05 * i for i in range(9))]
    # Nine positives: (misses + 1) / 10 ≤ 0.3 allows two misses, 0.2 one, 0.1 none.
    assert [risk_point(labels, p, limit).sensitivity for limit in (0.3, 0.2, 0.1)] == pytest.approx([7 / 9, 8 / 9, 1])
    assert risk_point(labels, p, 0.3).name == "missed-0.30" and 0.29 < risk_point(labels, p, 0.3).threshold < 0.31
    # Four negatives: (false alarms + 1) / 5 ≤ 0.4 allows one.
    point = risk_point(labels, p, 0.4, "false-alarms")
    assert point.specificity == 0.75 and point.name == "false-alarms-0.40"
    with pytest.raises(
        InputError, match=r"at least 19 figures of its class for missed-0\.05, got 9; fix: raise the limit"
    ):
        risk_point(labels, p, 0.05)
    with pytest.raises(InputError, match="`risk` must be one of missed, false-alarms, got fnr"):
        risk_point(labels, p, 0.1, "fnr")
    with pytest.raises(InputError, match=r"`missed` must be between 0 and 1, got 1"):
        risk_point(labels, p, 1)


@pytest.mark.parametrize(("of", "limit"), [("missed", 0.1), ("false-alarms", 0.2)])
def test_the_expected_risk_on_new_figures_is_within_the_limit_and_close_to_it(of: str, limit: float) -> None:
    rng = np.random.default_rng(7)
    risks, naive = [], []
    for _ in range(400):
        labels = np.repeat([0, 1], [40, 24])
        scores = rng.normal(labels * 1.2, 1)
        new = np.repeat([0, 1], 400)
        others = 1 / (1 + np.exp(-rng.normal(new * 1.2, 1)))
        p = 1 / (1 + np.exp(-scores))
        for found, threshold in (
            (risks, risk_point(labels, p, limit, of).threshold),
            (naive, (sensitivity_point if of == "missed" else specificity_point)(labels, p, 1 - limit).threshold),
        ):
            wrong = others[new == 1] < threshold if of == "missed" else others[new == 0] >= threshold
            found.append(float(wrong.mean()))
    n = 24 if of == "missed" else 40
    error = 3 * np.std(risks) / np.sqrt(len(risks))
    assert limit - 2 / (n + 1) - error < np.mean(risks) < limit + error  # Angelopoulos et al., theorems 1 and 2
    assert np.mean(naive) > np.mean(risks)
