"""Matching of detections against brute force and MIDOG's procedure; F1, FROC and interval by hand."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atypia.base.errors import InputError
from atypia.statistics.detection import RADIUS_UM, SlideHits, detection_quality, froc_curve, match_detections


def brute_force(places: np.ndarray, targets: np.ndarray, radius: float) -> int:
    """The most pairs of any assignment, by trying all."""
    near = np.hypot(*(places[:, None] - targets[None]).transpose(2, 0, 1)) <= radius
    fewer, more = (near, near.T)[:: 1 if len(places) <= len(targets) else -1]
    return max(
        (sum(fewer[i, j] for i, j in enumerate(chosen)) for chosen in permutations(range(len(more)), len(fewer))),
        default=0,
    )


def midog(places: np.ndarray, targets: np.ndarray, radius: float) -> int:
    """Hits as MIDOG's evaluation counts them: each target in its order takes the nearest free detection."""
    free, hits = set(range(len(places))), 0
    for target in targets:
        away = np.hypot(*(places - target).T) if len(places) else np.zeros(0)
        near = [k for k in np.argsort(away, kind="stable").tolist() if away[k] <= radius and k in free]
        if near:
            free.remove(near[0])
            hits += 1
    return hits


PLACES = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6)), max_size=6).map(
    lambda found: np.array(found, float).reshape(-1, 2)
)


@settings(max_examples=200, deadline=None)
@given(places=PLACES, targets=PLACES, seed=st.integers(0, 1000))
def test_hits_are_the_most_that_any_matching_has_at_every_score(
    places: np.ndarray, targets: np.ndarray, seed: int
) -> None:
    scores = np.random.default_rng(seed).permutation(len(places)) / 10
    found = match_detections(places, scores, targets, 3.0)
    assert (np.diff(found.scores) <= 0).all()
    for least in scores.tolist():
        hits, false, missed = found.counts(least)
        taken = places[scores >= least]
        assert hits == brute_force(taken, targets, 3.0) >= midog(taken, targets, 3.0)
        assert (hits + false, hits + missed) == (len(taken), len(targets))


def test_apart_from_crowds_it_is_midog_s_number() -> None:
    rng = np.random.default_rng(0)
    lattice = np.array([(x, y) for x in range(0, 900, 30) for y in range(0, 900, 30)], float)
    targets = lattice[rng.random(len(lattice)) < 0.4] + rng.uniform(-4, 4, (1, 2))
    places = lattice[rng.random(len(lattice)) < 0.5]
    places = places + rng.normal(0, 5, places.shape)
    found = match_detections(places, rng.random(len(places)), targets, RADIUS_UM)
    assert found.counts()[0] == midog(places, targets, RADIUS_UM) > 80


def test_order_costs_no_hit() -> None:
    """MIDOG's procedure gives the first target the detection that the second one needs."""
    targets, places = np.array([[0.0, 0], [6, 0]]), np.array([[4.0, 0], [-6, 0]])
    assert midog(places, targets, 7.5) == 1
    assert match_detections(places, np.array([0.9, 0.8]), targets, 7.5).counts() == (2, 0, 0)


def test_a_second_detection_of_a_figure_is_false() -> None:
    found = match_detections(
        np.array([[0, 0], [1, 0], [50, 0]]), np.array([0.5, 0.9, 0.7]), np.array([[0, 0], [90, 0]]), 7.5
    )
    assert found.counts() == (1, 2, 1) and found.counts(0.8) == (1, 0, 1)
    assert found.adds.tolist() == [True, False, False]


def test_f1_and_froc_by_hand() -> None:
    one = SlideHits(np.array([0.9, 0.8, 0.7, 0.2]), np.array([True, False, True, False]), 3, mm2=1.0)
    two = SlideHits(np.array([0.85, 0.7]), np.array([True, False]), 1, mm2=1.0)
    found = detection_quality([one, two], 0.5, rates=(0.4, 0.5, 1.0, 9.0))
    assert (found.hits, found.false_positives, found.missed) == (3, 2, 1)
    assert found.f1 == pytest.approx(6 / 9) and found.precision == 0.6 and found.recall == 0.75
    rate, sensitivity = froc_curve([one, two])
    assert rate.tolist() == [0, 0, 0, 0.5, 1.0, 1.5]  # nothing; 0.9, 0.85, 0.8, 0.7 (both slides), 0.2
    assert sensitivity.tolist() == [0, 0.25, 0.5, 0.5, 0.75, 0.75]
    assert found.sensitivities == (0.5, 0.5, 0.75, 0.75) and found.froc == pytest.approx(0.625)


def test_the_interval_is_of_slides() -> None:
    rng = np.random.default_rng(1)
    slides = []
    for _ in range(12):
        adds = rng.random(20) < rng.uniform(0.4, 0.9)
        slides.append(SlideHits(np.linspace(1, 0.5, 20), adds, 20, 2.0))
    found = detection_quality(slides)
    assert found.interval is not None
    assert found.interval.low < found.f1 < found.interval.high and found.interval.n_cases == 12
    assert found.interval.estimate == pytest.approx(found.f1)
    assert detection_quality(slides[:1]).interval is None


def test_what_is_undefined_is_nan() -> None:
    nothing = match_detections(np.zeros((0, 2)), np.zeros(0), np.zeros((0, 2)), 7.5)
    found = detection_quality([nothing])
    assert all(math.isnan(value) for value in (found.f1, found.precision, found.recall, found.froc))
    only_false = match_detections(np.zeros((1, 2)), np.ones(1), np.zeros((0, 2)), 7.5, mm2=2.0)
    assert detection_quality([only_false]).f1 == 0 and math.isnan(detection_quality([only_false]).recall)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(InputError, match=r"scores` must be one a detection \(2\)"):
        match_detections(np.zeros((2, 2)), np.zeros(3), np.zeros((1, 2)), 1.0)
    with pytest.raises(InputError, match="must be finite"):
        match_detections(np.full((1, 2), np.nan), np.zeros(1), np.zeros((1, 2)), 1.0)
    with pytest.raises(InputError, match="`radius` must be a positive number, got 0"):
        match_detections(np.zeros((1, 2)), np.zeros(1), np.zeros((1, 2)), 0)
    with pytest.raises(InputError, match="`slides` must be at least one"):
        detection_quality([])
