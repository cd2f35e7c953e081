"""Distances of feature sets and memorisation, against naive and independent implementations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from atypia.base.errors import InputError
from atypia.synthesis.measures.memorisation import QUANTILE, downscale_crops, memorisation
from atypia.synthesis.measures.quality import frechet_distance, kernel_distance, overlap


def naive_frechet(a: Any, b: Any) -> float:
    ca, cb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.asarray(sqrtm(ca @ cb)).real
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(ca + cb - 2 * root))


@pytest.mark.parametrize(("n", "m", "d"), [(60, 40, 5), (40, 60, 3), (12, 9, 6)])
def test_frechet_distance_is_the_textbook_one(n: int, m: int, d: int) -> None:
    rng = np.random.default_rng(n)
    a, b = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)), rng.normal(1, 2, size=(m, d))
    assert frechet_distance(a, b) == pytest.approx(naive_frechet(a, b), rel=1e-5)


def test_frechet_distance_of_lines_by_hand() -> None:
    a, b = np.array([[0.0], [2.0]]), np.array([[5.0], [9.0]])  # means 1 and 7, standard deviations √2 and 2√2
    assert frechet_distance(a, b) == pytest.approx(36 + 2)


def test_frechet_distance_with_fewer_figures_than_features() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(10, 40))
    assert frechet_distance(a, a[::-1]) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a + 3) == pytest.approx(9 * 40)


def naive_kernel(a: Any, b: Any) -> float:
    def k(x: Any, y: Any) -> float:
        return float((x @ y / len(x) + 1) ** 3)

    n = len(a)
    within = sum(k(s[i], s[j]) for s in (a, b) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    return within - 2 * sum(k(x, y) for x in a for y in b) / n**2


def test_kernel_distance_is_the_double_sum() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(7, 3)), rng.normal(0.5, size=(7, 3))
    found = kernel_distance(a, b, subset=100, repeats=3)
    assert (found.mean, found.subset) == (pytest.approx(naive_kernel(a, b)), 7)
    assert found.sd == pytest.approx(0, abs=1e-12)


def test_kernel_distance_is_unbiased() -> None:
    rng = np.random.default_rng(2)
    same = kernel_distance(rng.normal(size=(900, 4)), rng.normal(size=(900, 4)), subset=100, repeats=200)
    other = kernel_distance(rng.normal(size=(900, 4)), rng.normal(1, size=(900, 4)), subset=100, repeats=200)
    assert abs(same.mean) < 0.15 < other.mean


def naive_overlap(a: Any, b: Any, k: int) -> tuple[float, float, float, float]:
    def radius(points: Any, i: int) -> float:
        return sorted(np.linalg.norm(points[i] - p) for j, p in enumerate(points) if j != i)[k - 1]

    ra, rb = [radius(a, i) for i in range(len(a))], [radius(b, j) for j in range(len(b))]
    inside = np.array([[np.linalg.norm(x - y) <= ra[i] for i, x in enumerate(a)] for y in b])
    within = np.array([[np.linalg.norm(x - y) <= rb[j] for j, y in enumerate(b)] for x in a])
    return inside.any(1).mean(), within.any(1).mean(), inside.sum() / (k * len(b)), inside.any(0).mean()


@pytest.mark.parametrize("k", [1, 3])
def test_overlap_is_the_naive_one(k: int) -> None:
    rng = np.random.default_rng(k)
    a, b = rng.normal(size=(30, 2)), rng.normal(0.7, 0.8, size=(20, 2))
    found = overlap(a, b, k)
    wanted = naive_overlap(a, b, k)
    assert (found.precision, found.recall, found.density, found.coverage) == pytest.approx(wanted)


def test_overlap_by_hand() -> None:
    real, made = np.array([[0.0], [1.0], [5.0]]), np.array([[0.5], [20.0]])
    found = overlap(real, made, 1)  # balls of radius 1, 1, 4 and of 19.5, 19.5
    assert found.precision == 0.5, "0.5 lies in two balls, 20 in none"
    assert found.recall == 1.0
    assert found.density == pytest.approx((2 + 0) / 2)
    assert found.coverage == pytest.approx(2 / 3)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(8, 30), st.integers(1, 5), st.floats(0.1, 50))
def test_a_set_covers_itself_at_any_scale(seed: int, n: int, k: int, scale: float) -> None:
    points = np.random.default_rng(seed).normal(size=(n, 3))
    found = overlap(points * scale, points * scale, k)
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)
    shifted = overlap(points * scale, points * scale + 1e6, k)
    assert (shifted.precision, shifted.recall, shifted.coverage, shifted.density) == (0, 0, 0, 0)
    assert frechet_distance(points, points) == pytest.approx(0, abs=1e-9)


def test_too_few_figures_are_not_defined() -> None:
    with pytest.warns(RuntimeWarning, match="too small for k = 5"):
        found = overlap(np.zeros((3, 2)), np.random.default_rng(0).normal(size=(9, 2)), 5)
    assert np.isnan(found.precision) and np.isnan(found.coverage) and not np.isnan(found.recall)


@pytest.mark.parametrize(
    ("real", "made", "said"),
    [
        (np.zeros((5, 2)), np.zeros((5, 3)), "`made` must be of 2 features, got 3"),
        (np.zeros((5, 2)), np.full((5, 2), np.nan), "`made` must be finite"),
        (np.zeros(5), np.zeros((5, 1)), r"`real` must be of shape \(n, d\), n ≥ 2"),
    ],
)
def test_bad_features(real: Any, made: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        frechet_distance(real, made)


# Memorisation ---------------------------------------------------------------------------------


def crops(count: int, seed: int) -> np.ndarray:
    """Smooth random pictures: noise of a few pixels, enlarged."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return np.repeat(np.repeat(coarse, 8, 1), 8, 2)


def test_turned_copies_are_found_and_fresh_pictures_are_not() -> None:
    real, made = crops(120, 0), crops(40, 1)
    copied = {3: 17, 8: 90, 20: 5}
    for position, source in copied.items():
        made[position] = np.rot90(real[source, :, ::-1], position % 4)
    found = memorisation(made, real)
    said = {int(i): int(found.nearest[i]) for i in np.flatnonzero(found.copies)}
    assert copied.items() <= said.items()
    assert len(said) <= 6, "of fresh pictures about one in a hundred counts as a copy"
    assert found.distances[list(copied)].max() < 1, "scaling down rounds"
    assert found.limit == pytest.approx(np.quantile(found.real, QUANTILE))
    told = found.as_dict()
    assert (told["copies"], told["share"], told["expected_share"]) == (len(said), len(said) / 40, 0.01)


def test_distances_are_those_of_a_loop_over_views() -> None:
    real, made = crops(6, 2), crops(3, 3)
    a, b = downscale_crops(real).astype(float), downscale_crops(made).astype(float)
    views = [np.rot90(v, k, (0, 1)) for k in range(4) for v in (b[1], b[1][:, ::-1])]
    wanted = min(np.sqrt(((view - x) ** 2).mean()) for view in views for x in a)
    assert memorisation(made, real).distances[1] == pytest.approx(wanted)


def test_crops_of_one_case_do_not_say_how_far_real_ones_are_apart() -> None:
    real = crops(20, 4)
    twins = np.concatenate([real, real])
    cases = np.array([f"case-{i % 20}" for i in range(40)])
    assert memorisation(real[:2], twins).limit == pytest.approx(0, abs=1e-3)
    assert memorisation(real[:2], twins, cases).limit > 10
    with pytest.raises(InputError, match="training crops` must be of at least two cases"):
        memorisation(real[:2], real, np.array(["one"] * 20))
