"""Novelty: hand-computed distances, an independent implementation, what is far and what is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atypia.base.errors import InputError
from atypia.inference.bundles.novelty import BASIS, CENTRES, MEAN, PREFIX, VARIANCES, Novelty, fit_novelty

SIDE_PX = 64


def features(n: int, seed: int, d: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Labels and features of two classes that vary along ten directions, a little along all, about a point far off."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(n) % 4 == 0).astype(int)
    axes = np.linalg.qr(np.random.default_rng(99).normal(size=(d, d)))[0]
    z = rng.normal(size=(n, d)) * np.r_[np.linspace(4, 1, 10), np.full(d - 10, 0.1)]
    z[:, 0] += 5 * labels
    return z @ axes.T + 3.0, labels


@pytest.fixture(scope="module")
def fitted() -> Novelty:
    return fit_novelty(*features(800, 0), features(1500, 1)[0], quantile=0.95, k=10)


def test_by_hand() -> None:
    # Axes x and y; class centres at (0, 0) and (4, 0); variances 1 and 4; z lies outside.
    novelty = Novelty(
        mean=np.array([1.0, 1.0, 1.0]),
        basis=np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),
        centres=np.array([[0.0, 0.0], [4.0, 0.0]]),
        variances=np.array([1.0, 4.0]),
        inside=2.0,
        outside=0.5,
        limit=2.0,
        quantile=0.9,
    )
    x = np.array([[1.0, 1.0, 1.0], [2.0, 5.0, 1.0], [6.0, 1.0, 2.0], [1.0, 1.0, 4.0]])
    # M²: 0; 1 + 16/4; (5 − 4)² from the other centre; 0. ‖r‖²: 0; 0; 1; 9.
    assert novelty.distances(x).tolist() == [[0, 0], [5, 0], [1, 1], [0, 9]]
    expected = np.sqrt([0, 5 / 2 / 2, (1 / 2 + 1 / 0.5) / 2, 9 / 0.5 / 2])
    np.testing.assert_allclose(novelty.apply(x), expected)
    assert novelty.refused(novelty.apply(x)).tolist() == [False, False, False, True]


def test_an_independent_implementation_agrees(fitted: Novelty) -> None:
    from scipy.spatial.distance import cdist
    from sklearn.covariance import LedoitWolf
    from sklearn.decomposition import PCA

    x, y = features(800, 0)
    new = features(50, 5)[0] * 1.5
    pca = PCA(10, svd_solver="full").fit(x)
    z = pca.transform(x)
    centres = np.stack([z[y == 0].mean(0), z[y == 1].mean(0)])
    precision = LedoitWolf(assume_centered=True).fit(z - centres[y]).precision_

    def parts(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        t = pca.transform(rows)
        rest = rows - pca.inverse_transform(t)
        return cdist(t, centres, "mahalanobis", VI=precision).min(axis=1) ** 2, (rest**2).sum(axis=1)

    (a, b), (inside, outside) = (part.mean() for part in parts(x)), parts(new)
    np.testing.assert_allclose(fitted.apply(new), np.sqrt((inside / a + outside / b) / 2), rtol=1e-4)


def test_a_training_figure_has_about_one_and_the_limit_holds(fitted: Novelty) -> None:
    assert np.sqrt(np.mean(fitted.apply(features(800, 0)[0]) ** 2)) == pytest.approx(1, abs=1e-4)
    new = features(4000, 2)[0]
    share = fitted.refused(fitted.apply(new)).mean()
    # Both the limit (1500 figures) and the share (4000) are counted.
    assert abs(share - 0.05) < 4 * np.sqrt(0.05 * 0.95 * (1 / 1500 + 1 / 4000))


def test_both_ways_of_being_unlike_are_noticed(fitted: Novelty) -> None:
    x = features(20, 3)[0]
    x = x[[fitted.apply(x).argmin()]]
    far_inside = x + 40 * fitted.basis[-1]
    outside = np.linalg.svd(fitted.basis.astype(float))[2][-1]
    far_outside = x + 5 * outside
    for moved in (far_inside, far_outside, 0 * x, -x, 10 * x):
        assert fitted.refused(fitted.apply(moved)).all()
    assert not fitted.refused(fitted.apply(x + 0.01 * outside)).any()


@pytest.mark.parametrize("kind", ["rotated", "scaled", "shifted"])
def test_coordinates_do_not_matter(fitted: Novelty, kind: str) -> None:
    turn = np.linalg.qr(np.random.default_rng(7).normal(size=(40, 40)))[0]
    change = {"rotated": lambda x: x @ turn, "scaled": lambda x: 200 * x, "shifted": lambda x: x - 20}[kind]
    (x, y), val, new = features(800, 0), features(1500, 1)[0], 1.3 * features(60, 4)[0]
    other = fit_novelty(change(x), y, change(val), quantile=0.95, k=10)
    np.testing.assert_allclose(other.apply(change(new)), fitted.apply(new), rtol=1e-3)
    assert other.limit == pytest.approx(fitted.limit, rel=1e-3)


def test_batches_and_types_make_no_difference(fitted: Novelty) -> None:
    new = features(70, 6)[0].astype(np.float16)
    whole = fitted.apply(new)
    np.testing.assert_allclose(np.r_[fitted.apply(new[:1]), fitted.apply(new[1:])], whole, rtol=1e-12)
    np.testing.assert_array_equal(fitted.apply(new.astype(np.float32)), whole)
    assert fitted.apply(new[:0]).shape == (0,) and whole.dtype == np.float64


def test_more_rows_than_are_held_at_a_time(monkeypatch: pytest.MonkeyPatch, fitted: Novelty) -> None:
    monkeypatch.setattr("atypia.inference.bundles.novelty.ROWS", 97)
    again = fit_novelty(*features(800, 0), features(1500, 1)[0], quantile=0.95, k=10)
    new = features(300, 8)[0]
    np.testing.assert_allclose(again.apply(new), fitted.apply(new), rtol=1e-5)


def test_saved_and_read_again(fitted: Novelty, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    tensors = fitted.tensors()
    assert all(name.startswith(PREFIX) and tensor.dtype == np.float32 for name, tensor in tensors.items())
    save_file({**tensors, "head.bias": np.zeros(1)}, tmp_path / "model.safetensors")
    again = Novelty.from_tensors(fitted.as_dict(), load_file(tmp_path / "model.safetensors"))
    new = features(30, 9)[0]
    np.testing.assert_array_equal(again.apply(new), fitted.apply(new))
    assert again.as_dict() == fitted.as_dict()


def test_few_figures_and_flat_directions() -> None:
    x, y = features(12, 0)
    few = fit_novelty(x, y, features(5, 1)[0], k=64)
    assert few.basis.shape == (11, 40) and few.limit == few.apply(features(5, 1)[0]).max()
    # Three directions and no more: what leaves their subspace is far, whatever the component count.
    flat = np.c_[np.random.default_rng(0).normal(size=(200, 3)), np.zeros((200, 5))]
    thin = fit_novelty(flat[:100], np.arange(100) % 2, flat[100:], k=64)
    assert thin.basis.shape == (3, 8)
    assert thin.apply(flat[:1] + 0.5 * np.eye(8)[3])[0] > 20 * thin.limit


def test_refused_when_fitting() -> None:
    x, y = features(40, 0)
    cases: tuple[tuple[tuple[Any, ...], str], ...] = (
        ((x, y[:-1], x), r"`features` must be of shape \(39, d\)"),
        ((x, 0 * y, x), "`labels` must be of both classes"),
        ((x, y, x[:0]), "held-out figures, got quantile 0.999, k 64, 0 held-out figures"),
        ((x, y, x, 1.0), "quantile 1.0"),
        ((x, y, x, 0.9, 0), "k 0"),
        ((x, y, x[:, 1:]), r"`features` must be of shape \(n, 40\)"),
        ((0 * x + 2, y, x), "`features` must be of figures that differ"),
        ((np.outer(y, np.ones(3)), y, np.ones((2, 3))), "`features` must be different within a class"),
        ((np.where(x > x.max() - 1e-9, np.nan, x), y, x), "`features` must be finite, got NaN or infinity in 1 row"),
    )
    for arguments, message in cases:
        given: Any = arguments  # the checker narrows the tuples to what they hold
        with pytest.raises(InputError, match=message):
            fit_novelty(*given)


def test_refused_when_applying_and_reading(fitted: Novelty) -> None:
    with pytest.raises(InputError, match=r"`features` must be of shape \(n, 40\), got \(3, 39\)"):
        fitted.apply(np.zeros((3, 39)))
    with pytest.raises(InputError, match="`features` must be finite"):
        fitted.apply(np.full((1, 40), np.inf))
    tensors, values = fitted.tensors(), fitted.as_dict()
    for name in (MEAN, BASIS, CENTRES, VARIANCES):
        with pytest.raises(InputError, match="`novelty` must be values and tensors as saved"):
            Novelty.from_tensors(values, {key: tensor for key, tensor in tensors.items() if key != name})
    with pytest.raises(InputError, match="`novelty` must be values and tensors as saved"):
        Novelty.from_tensors({"limit": 1.0}, tensors)
    with pytest.raises(InputError, match="`novelty tensors` must be"):
        Novelty.from_tensors(values, {**tensors, MEAN: tensors[MEAN][1:]})
    for changed in ({**values, "limit": 0.0}, {**values, "inside": np.nan}):
        with pytest.raises(InputError, match="`novelty` must be finite, with scales above 0"):
            Novelty.from_tensors(changed, tensors)
    with pytest.raises(InputError, match="`novelty` must be finite, with scales above 0"):
        Novelty.from_tensors(values, {**tensors, VARIANCES: 0 * tensors[VARIANCES]})


def filtered(images: np.ndarray) -> np.ndarray:
    """Channel means of random rectified filters at two scales: what an untrained network's first layers see."""
    rng = np.random.default_rng(11)
    found = []
    for step, filters in ((1, 24), (3, 24)):
        patches = np.lib.stride_tricks.sliding_window_view(images[:, ::step, ::step], (5, 5), axis=(1, 2))
        flat = patches[:, ::2, ::2].reshape(len(images), -1, 75) / 255.0
        weights = rng.normal(size=(75, filters))
        found.append(np.maximum((flat - 0.5) @ weights, 0).mean(axis=1))
    return np.concatenate(found, axis=1)


def odd_images() -> dict[str, np.ndarray]:
    """What is no crop of a figure: blank, noise, photographs."""
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(12)
    shape = (4, SIDE_PX, SIDE_PX, 3)
    photographs = [
        np.asarray(Image.fromarray(image[y : y + 256, x : x + 256]).resize((SIDE_PX, SIDE_PX)))
        for image in load_sample_images().images
        for y, x in ((0, 0), (100, 200), (170, 380))
    ]
    return {
        "white": np.full(shape, 255, np.uint8),
        "black": np.zeros(shape, np.uint8),
        "empty glass": (242 + rng.normal(0, 2, shape)).clip(0, 255).astype(np.uint8),
        "noise": rng.integers(0, 256, shape, dtype=np.uint8),
        "photographs": np.stack(photographs),
    }


@pytest.mark.real
def test_real_crops_are_near_and_blanks_noise_and_photographs_far(real_root: Path) -> None:
    folder = real_root / "AMi-Br_Benchmark" / "AMi-Br"
    paths = sorted(folder.glob("Atypical/*.png"))[::4] + sorted(folder.glob("Normal/*.png"))[::8]
    crops = np.stack([np.asarray(Image.open(path).convert("RGB").crop((32, 32, 96, 96))) for path in paths])
    labels = np.array([path.parent.name == "Atypical" for path in paths])
    x = np.concatenate([filtered(crops[start : start + 50]) for start in range(0, len(crops), 50)])
    train, val, new = (np.arange(len(x)) % 3 == part for part in range(3))
    novelty = fit_novelty(x[train], labels[train], x[val], quantile=0.98, k=24)
    assert novelty.refused(novelty.apply(x[new])).mean() < 0.07
    for name, images in odd_images().items():
        assert novelty.refused(novelty.apply(filtered(images))).all(), name
