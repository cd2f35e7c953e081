"""Robustness of features: what is handed to the package, and its values against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from atypia.base import extras
from atypia.base.errors import AbsentError, InputError
from atypia.evaluation import robustness
from atypia.evaluation.robustness import NEIGHBOURS, balanced_pairs, comparable, encoder_robustness

Drawn = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def drawn(by_class: float, by_domain: float, n: int = 240) -> Drawn:
    """Features that show the class and the domain, each as strongly as is asked."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, n)
    cases = rng.integers(0, 24, n)
    domains = cases % 3
    features = rng.normal(size=(n, 12)) + 5 * rng.normal(size=12)
    features[:, 0] += by_class * labels
    features[:, 1:4] += by_domain * np.eye(3)[domains]
    return features, labels, np.array(["a", "b", "c"])[domains], np.array([f"case {case}" for case in cases])


def kinds(labels: np.ndarray, domains: np.ndarray, cases: np.ndarray, row: int) -> tuple[np.ndarray, np.ndarray]:
    apart = cases != cases[row]
    same, here = labels == labels[row], domains == domains[row]
    return apart & same & ~here, apart & ~same & here


def distances(features: np.ndarray) -> np.ndarray:
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    return 1 - unit @ unit.T


@pytest.mark.parametrize("strength", [(3.0, 0.0), (0.0, 3.0), (1.0, 1.0)])
def test_the_package_computes_what_the_papers_define(
    strength: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("croma", reason="the package croma is not installed (atypia[robustness])")
    monkeypatch.setattr(robustness, "K", (7,))
    features, labels, domains, cases = drawn(*strength)
    found = encoder_robustness(features, labels, domains.tolist(), cases.tolist())
    far = distances(features)
    first = second = telling = n = 0
    margins, medians = [], []
    for pair in balanced_pairs(labels, domains, cases):
        near = far[np.ix_(pair, pair)]
        of = []
        for row in range(len(pair)):
            same, other = kinds(labels[pair], domains[pair], cases[pair], row)
            apart = cases[pair] != cases[pair][row]
            order = np.argsort(np.where(apart, near[row], np.inf), kind="stable")[:7]
            first, second = first + int(same[order].sum()), second + int(other[order].sum())
            telling += bool((same | other)[order].any())
            close, fore = (np.sort(near[row][kind])[:NEIGHBOURS].mean() for kind in (same, other))
            of.append((fore - close) / (fore + close))
        n += len(pair)
        margins += of
        medians.append(np.median(of))
    assert found.ri == pytest.approx(first / (first + second), abs=1e-9)
    assert found.support == pytest.approx(telling / n)
    assert found.croma == pytest.approx(np.median(medians), abs=1e-7)
    assert found.dominated == pytest.approx(np.mean(np.array(margins) <= 0))
    assert (found.domains, found.pairs, found.k) == (3, 3, 7)
    assert found.tail < found.croma and 0 <= found.mari <= 1


def test_pairs_are_balanced_and_chance_is_a_half() -> None:
    features, labels, domains, cases = drawn(0, 0, 3000)
    rare = np.random.default_rng(1).random(3000) < np.where(labels == 1, 0.25, 1)
    features, labels, domains, cases = features[rare], labels[rare], domains[rare], cases[rare]
    for pair in balanced_pairs(labels, domains, cases):
        cells = [((labels[pair] == y) & (domains[pair] == d)).sum() for y in (0, 1) for d in set(domains[pair])]
        assert len(set(cells)) == 1 and cells[0] > 50
        assert comparable(labels[pair], domains[pair], cases[pair]).all()
    assert [p.tolist() for p in balanced_pairs(labels, domains, cases)] == [
        p.tolist() for p in balanced_pairs(labels, domains, cases)
    ]
    pytest.importorskip("croma", reason="the package croma is not installed (atypia[robustness])")
    found = encoder_robustness(features, labels, domains.tolist(), cases.tolist())
    assert found.ri == pytest.approx(0.5, abs=0.05) and found.mari == pytest.approx(0.5, abs=0.05)
    assert found.croma == pytest.approx(0, abs=0.02)


def test_class_and_domain_are_told_apart() -> None:
    pytest.importorskip("croma", reason="the package croma is not installed (atypia[robustness])")
    by_class, by_domain = (
        encoder_robustness(f, y, d.tolist(), c.tolist()) for f, y, d, c in (drawn(9, 0), drawn(0, 9))
    )
    assert by_class.ri > 0.9 and by_class.croma > 0.05 and by_class.dominated < 0.05
    assert by_domain.ri < 0.1 and by_domain.croma < -0.05 and by_domain.dominated > 0.95


def test_figures_without_neighbours_of_either_kind_are_left_out() -> None:
    _, labels, domains, cases = drawn(1, 1)
    domains = domains.copy()
    domains[:6] = "lonely"  # too few figures of each class
    one_class = labels.copy()
    one_class[domains == "c"] = 0  # a domain without the other class
    kept = comparable(one_class, domains, cases)
    assert not kept[:6].any() and not kept[domains == "c"].any() and kept.sum() > 100
    for row in np.flatnonzero(kept):
        same, other = kinds(one_class[kept], domains[kept], cases[kept], int(kept[:row].sum()))
        assert same.sum() >= NEIGHBOURS and other.sum() >= NEIGHBOURS
    assert not comparable(labels, np.array(["one"] * len(labels)), cases).any()


def test_what_cannot_be_compared_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels, domains, cases = drawn(1, 1)
    for changed, said in (
        ((features[:-1], labels, domains, cases), "one for each of 239 figures"),
        ((features[0], labels, domains, cases), "of shape"),
        ((np.where(features > 9, np.nan, features) * np.inf, labels, domains, cases), "finite"),
        ((features, labels, np.array(["one"] * 240), cases), "two with more than"),
        ((features, labels * 0, domains, cases), "two with more than"),
    ):
        with pytest.raises(InputError, match=said):
            encoder_robustness(*changed)
    monkeypatch.setattr(extras, "installed", lambda module: module != "croma")
    with pytest.raises(AbsentError, match=r"pip install 'atypia\[robustness\]'"):
        encoder_robustness(features, labels, domains.tolist(), cases.tolist())
