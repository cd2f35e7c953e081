"""What to look at next."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from atypia.base.errors import InputError
from atypia.data.crops.store import open_store
from atypia.data.images.geometry import CropGeometry
from atypia.data.sources.opening import open_data
from atypia.review.figures.features import find_features
from atypia.review.figures.figures import ReviewFigures
from atypia.review.figures.learning import calibration_queue, label_errors, value_queue, weighted_k_centre
from atypia.review.figures.opening import Opening, open_figures

NOBODY = np.zeros(80, bool)


def test_k_centre_by_hand() -> None:
    points = np.array([[0.0], [1.0], [4.0], [10.0]])
    weights = np.array([1.0, 0.9, 0.5, 0.15])
    rows, distances = weighted_k_centre(points, weights, np.empty((0, 1)), 3)
    # First the largest weight; then 0.9 * 1, 0.5 * 4 and 0.15 * 10; then 0.9 * 1 and 0.15 * 6, the first of equals.
    assert rows.tolist()[:2] == [0, 2] and distances.tolist()[:2] == [np.inf, 4.0]
    assert rows[2] in (1, 3)
    after, _ = weighted_k_centre(points, weights, np.array([[4.0]]), 1)
    assert after.tolist() == [0]  # 1 * 4 > 0.9 * 3 > 0.15 * 6 > 0
    everything, _ = weighted_k_centre(points, weights, np.empty((0, 1)), 9)
    assert sorted(everything.tolist()) == [0, 1, 2, 3]


def test_without_features_by_uncertainty(scored: ReviewFigures) -> None:
    decided = NOBODY.copy()
    first = value_queue(scored, None, decided, 5)
    assert "least sure" in first.note
    bits = scored.uncertainty[first.indices]
    assert bits.tolist() == sorted(bits, reverse=True) and bits[0] == np.nanmax(scored.uncertainty)
    decided[first.indices] = True
    assert not set(value_queue(scored, None, decided, 5).indices) & set(first.indices)


def test_a_queue_to_calibrate_by_is_spread_over_the_scores(scored: ReviewFigures) -> None:
    figures = replace(scored, p=np.linspace(0.01, 0.99, 80), threshold=0.5)
    queue = calibration_queue(figures, NOBODY, 16)
    assert np.bincount((figures.p[queue.indices] * 4).astype(int), minlength=4).tolist() == [4, 4, 4, 4]
    assert abs(figures.p[queue.indices[0]] - 0.5) < 0.07 and len(queue.reasons) == 16
    decided = NOBODY.copy()
    decided[queue.indices] = True
    assert not set(calibration_queue(figures, decided, 30).indices) & set(queue.indices)
    with pytest.raises(InputError, match="queue to calibrate by"):
        calibration_queue(replace(figures, p=np.full(80, np.nan)), NOBODY, 5)


def test_features_spread_the_queue(scored: ReviewFigures) -> None:
    figures = replace(scored, p=np.full(80, 0.5))
    clusters = np.arange(80) // 20
    rng = np.random.default_rng(0)
    features = rng.normal(0, 0.1, (80, 4)) + 10 * np.eye(4)[clusters]
    queue = value_queue(figures, features, NOBODY, 4)
    assert sorted(clusters[queue.indices]) == [0, 1, 2, 3]
    decided = clusters == 0
    after = value_queue(figures, features, decided, 3)
    assert sorted(clusters[after.indices]) == [1, 2, 3]
    features[5] = np.nan  # quarantined
    assert 5 not in value_queue(figures, features, NOBODY, 80).indices


@pytest.fixture
def planted(scored: ReviewFigures) -> tuple[ReviewFigures, set[int]]:
    """Labels of which six were turned round, and a classifier that knows better."""
    rng = np.random.default_rng(3)
    truth = scored.label.copy()
    wrong = {2, 13, 27, 33, 48, 71}
    label = truth.copy()
    label[list(wrong)] ^= 1
    p = np.clip(np.where(truth == 1, 0.85, 0.15) + rng.normal(0, 0.1, 80), 0.01, 0.99)
    return replace(scored, label=label, p=p), wrong


def test_cleanlab_finds_planted_errors(planted: tuple[ReviewFigures, set[int]]) -> None:
    figures, wrong = planted
    found = label_errors(figures)
    assert set(found.indices[:6].tolist()) == wrong
    assert (np.diff(found.quality) >= 0).all() and found.quality[0] < 0.3


def test_queues_through_the_api(planted: tuple[ReviewFigures, set[int]], reviewing: Callable) -> None:
    figures, wrong = planted
    client = reviewing(figures, "Ada")
    answer = client.get("/queue", params={"kind": "label-errors", "rater": "Ada", "limit": 6})
    assert {one["index"] for one in answer["figures"]} == wrong
    assert "probability of atypical" in answer["reason"][str(answer["figures"][0]["index"])]
    assert "held-out predictions" in answer["note"]
    first = answer["figures"][0]["index"]
    client.decide("Ada", first, "atypical")
    again = client.get("/queue", params={"kind": "label-errors", "rater": "Ada"})
    assert first not in {one["index"] for one in again["figures"]}
    spread = client.get("/queue", params={"rater": "Ada", "limit": 3, "kind": "calibration"})
    assert len(spread["figures"]) == 3 and "calibrate" in spread["note"]
    value = client.get("/queue", params={"rater": "Ada", "limit": 3})
    assert len(value["figures"]) == 3 and set(value["reason"]) == {str(one["index"]) for one in value["figures"]}


def test_what_is_not_known_is_told(figures: ReviewFigures, client) -> None:
    with pytest.raises(InputError, match="`probabilities` must be known"):
        value_queue(figures, None, NOBODY, 5)
    with pytest.raises(InputError, match="`labels and probabilities` must be known, of both classes, got none"):
        label_errors(figures)
    assert client.http.get("/queue", params={"kind": "label-errors"}).status_code == 422


def test_features_come_from_the_cache(small_csv: Path, trained_folder: Path, own_home: Path) -> None:
    from atypia.backbones.features import open_features

    manifest = open_data(str(small_csv))
    assert find_features(manifest) is None
    features = open_features(open_store(manifest, CropGeometry(32)), "tiny-cnn")
    found = find_features(manifest, (trained_folder / "fold-1",))
    assert found is not None and np.array_equal(found, features.values)
    figures = open_figures(Opening((str(trained_folder),)))
    assert "differ most" in value_queue(figures, found, NOBODY, 3).note
    shutil.rmtree(own_home / "cache" / "crops")
    assert find_features(manifest) is None
