"""Samplers: weights by hand, frequencies, and that a draw depends on seed, epoch and state alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from atypia.base.errors import InputError
from atypia.methods.catalogue import SAMPLERS
from atypia.methods.head import inverse_class_weights
from atypia.methods.sampler import Population, Sampler, hard_mask
from atypia.methods.samplers.domain_aware import domain_aware_weights


def _population(labels: list[int], domains: list[int] | None = None, slides: list[int] | None = None) -> Population:
    n = len(labels)
    y = np.array(labels, dtype=np.int8)
    return Population(
        rows=np.arange(n) + 100,
        labels=y,
        targets=y.astype(np.float64),
        domains=np.array(domains if domains is not None else [0] * n, dtype=np.int64),
        slides=np.array(slides if slides is not None else range(n), dtype=np.int64),
    )


def _sampler(population: Population, seed: int = 0, batch_size: int = 1, **config: Any) -> Sampler[Any]:
    entry = SAMPLERS[config.get("name", "uniform")]
    return entry(entry.Options(**config), population, seed, batch_size)


def test_class_weights_by_hand() -> None:
    assert inverse_class_weights(np.array([0, 0, 0, 1], dtype=np.int8)).tolist() == [1 / 3, 1 / 3, 1 / 3, 1.0]


def test_domain_weights_by_hand() -> None:
    labels = np.array([0, 0, 0, 1], dtype=np.int8)
    weights = domain_aware_weights(labels, np.array([5, 5, -1, 5]))
    # 1/(3·3), 1/(3·3), 1/(3·1), 1/(1·3), with mean 2/9: an unknown domain counts as one.
    assert weights.tolist() == pytest.approx([0.5, 0.5, 1.5, 1.5])
    assert weights.mean() == pytest.approx(1)


def test_rarer_classes_and_rarer_domains_weigh_more() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random(500) < 0.15).astype(np.int8)
    domains = rng.choice(4, 500, p=[0.6, 0.25, 0.1, 0.05])
    weights = domain_aware_weights(labels, domains)
    for domain in range(4):
        inside = domains == domain
        assert weights[inside & (labels == 1)].min() > weights[inside & (labels == 0)].max()
    by_domain = [weights[(domains == d) & (labels == 0)][0] for d in range(4)]
    assert by_domain == sorted(by_domain)


@pytest.mark.parametrize("name", ["uniform", "inverse-class"])
def test_a_curriculum_begins_with_what_a_classifier_is_sure_of(name: str) -> None:
    judged = np.array([np.nan] * 6 + [0.95, 0.8, 0.6, 0.4])
    population = replace(_population([0, 0, 0, 0, 1, 1] + [1] * 4), judged=judged)
    curriculum = {"start": 0.9, "end": 0.5, "epochs": 4}
    sampler = _sampler(population, name=name, draws=400, curriculum=curriculum)
    drawn = [set(sampler.draw(epoch).tolist()) for epoch in range(6)]
    real = set(range(6))
    assert drawn[0] == real | {6} and drawn[1] == real | {6, 7}
    assert drawn[3] == real | {6, 7, 8} and drawn[5] == real | {6, 7, 8}  # 0.4 is below the end
    assert all(len(sampler.draw(epoch)) == 400 for epoch in (0, 5))
    assert (
        sampler.draw(2).tolist() == _sampler(population, name=name, draws=400, curriculum=curriculum).draw(2).tolist()
    )
    sampler = _sampler(population, name="uniform", draws=4000, curriculum=curriculum, hard_share=0.1, hard_factor=5.0)
    sampler.difficulty = np.array([0.0] * 6 + [1.0, 0, 0, 0])
    counts = np.bincount(sampler.draw(0), minlength=10)
    assert counts[6] > 3 * counts[:6].max() / 2 and not counts[7:].any()


def test_a_curriculum_without_judged_figures_is_refused() -> None:
    with pytest.raises(InputError, match=r"judged.*fix: add a set"):
        _sampler(_population([0, 1]), curriculum={})


def test_hard_mask_marks_the_share() -> None:
    difficulty = np.array([0.1, 0.9, 0.5, 0.9, 0.2, 0.3, 0.4, 0.0, 0.6, 0.7])
    assert np.flatnonzero(hard_mask(difficulty, 0.3)).tolist() == [1, 3, 9]
    assert np.flatnonzero(hard_mask(np.full(4, 0.5), 0.5)).tolist() == [0, 1]  # ties by position
    assert not hard_mask(difficulty, 0.0).any()


def test_uniform_draws_everything_once_in_another_order_every_epoch() -> None:
    sampler = _sampler(_population([0, 1] * 10))
    first, second = sampler.draw(0), sampler.draw(1)
    assert sorted(first.tolist()) == list(range(20))
    assert first.tolist() != second.tolist()
    longer = _sampler(_population([0, 1] * 2), draws=10).draw(0)
    assert np.bincount(longer).tolist() in (
        [3, 3, 2, 2],
        [3, 2, 3, 2],
        [3, 2, 2, 3],
        [2, 3, 3, 2],
        [2, 3, 2, 3],
        [2, 2, 3, 3],
    )


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_draw_depends_on_seed_epoch_and_state_alone(name: str) -> None:
    population = _population([0, 0, 0, 1] * 10, [0, 1] * 20, list(range(8)) * 5)
    sampler = _sampler(population, 3, name=name, hard_share=0.3)
    for epoch in range(4):
        sampler.draw(epoch)  # what was drawn before leaves no trace
    fresh = _sampler(population, 3, name=name, hard_share=0.3)
    assert np.array_equal(sampler.draw(7), fresh.draw(7))
    assert not np.array_equal(sampler.draw(7), _sampler(population, 4, name=name).draw(7))
    fresh.difficulty = np.linspace(0, 1, 40)
    assert not np.array_equal(sampler.draw(7), fresh.draw(7))


def test_inverse_class_draws_both_classes_alike() -> None:
    population = _population([0] * 180 + [1] * 20)
    drawn = _sampler(population, name="inverse-class", draws=4000).draw(0)
    assert stats.binomtest(int((population.labels[drawn] == 1).sum()), 4000, 0.5).pvalue > 1e-3


def test_mining_doubles_the_hard_ones() -> None:
    population = _population([0, 1] * 50)
    sampler = _sampler(population, name="inverse-class", draws=20_000, hard_share=0.3, hard_factor=2.0)
    plain = np.bincount(sampler.draw(0), minlength=100)
    assert stats.chisquare(plain).pvalue > 1e-3  # nothing is mined before the first refresh
    sampler.difficulty = np.where(np.arange(100) < 30, 0.9, 0.1)
    counts = np.bincount(sampler.draw(0), minlength=100)
    expected = np.where(np.arange(100) < 30, 2.0, 1.0)
    assert stats.chisquare(counts, 20_000 * expected / expected.sum()).pvalue > 1e-3


def test_mining_works_with_the_uniform_sampler() -> None:
    sampler = _sampler(_population([0, 1] * 50), draws=20_000, hard_share=0.3)
    sampler.difficulty = np.where(np.arange(100) < 30, 0.9, 0.1)
    share = float((sampler.draw(0) < 30).mean())
    assert share == pytest.approx(60 / 130, abs=0.02)


def test_pseudo_epoch_frequencies() -> None:
    # Slide 0: one positive, nine negatives. Slide 1: ninety of both. Slide 2: negatives only.
    labels = [1] + [0] * 9 + [1] * 90 + [0] * 90 + [0] * 10
    slides = [0] * 10 + [1] * 180 + [2] * 10
    population = _population(labels, slides=slides)
    drawn = _sampler(population, name="pseudo-epoch", draws=30_000, positive_share=0.5).draw(0)
    by_slide = np.bincount(population.slides[drawn], minlength=3)
    assert stats.chisquare(by_slide).pvalue > 1e-3  # a slide uniformly, however many figures it has
    for slide, expected in ((0, 0.5), (1, 0.5), (2, 0.0)):
        inside = drawn[population.slides[drawn] == slide]
        assert float(population.labels[inside].mean()) == pytest.approx(expected, abs=0.02)
    # Within a slide and class uniformly: every one of slide 1's positives.
    counts = np.bincount(drawn, minlength=200)[10:100]
    assert stats.chisquare(counts).pvalue > 1e-3


def test_pseudo_epoch_takes_the_share_that_is_asked_for() -> None:
    population = _population([0, 1] * 30, slides=[0] * 30 + [1] * 30)
    drawn = _sampler(population, name="pseudo-epoch", draws=8000, positive_share=0.25).draw(0)
    assert float(population.labels[drawn].mean()) == pytest.approx(0.25, abs=0.02)


def test_pseudo_epoch_mines_within_slide_and_class() -> None:
    population = _population([1, 1, 0, 0, 0], slides=[0] * 5)
    sampler = _sampler(population, name="pseudo-epoch", draws=20_000, hard_share=0.2, hard_factor=3.0)
    sampler.difficulty = np.array([0.0, 0.9, 0.0, 0.0, 0.0])
    share = np.bincount(sampler.draw(0), minlength=5) / 20_000
    assert share.tolist() == pytest.approx([0.125, 0.375, 1 / 6, 1 / 6, 1 / 6], abs=0.015)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if SAMPLERS[name].both_classes])
def test_one_class_is_refused(name: str) -> None:
    with pytest.raises(
        InputError, match=rf"`training part` must be of both classes for sampler {name}, got no positive"
    ):
        _sampler(_population([0, 0, 0], [0, 1, 2]), name=name)
    with pytest.raises(InputError, match="no negative figure"):
        _sampler(_population([1, 1, 1], [0, 1, 2]), name=name)


def test_domain_batches_hold_several_domains_and_both_classes() -> None:
    """Domain 0 has 90 % of the figures, domain 3 no positive, and five figures have no known domain."""
    domains = [0] * 180 + [1] * 10 + [2] * 6 + [3] * 4 + [-1] * 5
    labels = [1, 0] * 98 + [0] * 4 + [1, 0, 0, 1, 0]
    population = _population(labels, domains)
    sampler = _sampler(population, batch_size=12, name="domain-batches", domains=3, draws=1200)
    drawn = sampler.draw(0).reshape(-1, 12)
    assert (np.bincount(population.domains[drawn].ravel() + 1) / 100).tolist() == pytest.approx(
        [3, *[2.25] * 4], abs=0.4
    )
    for batch in drawn:
        codes = population.domains[batch]
        counts = {code: int((codes == code).sum()) for code in set(codes.tolist())}
        assert len(counts) == 4 and set(counts.values()) == {3} and counts.keys() >= {-1}
        for code in counts.keys() - {3}:
            assert 1 <= population.labels[batch][codes == code].sum() <= 2  # half of three, up or down
    assert len(np.unique(drawn)) > 150  # not the same few again and again


def test_domain_batches_never_ask_for_more_domains_than_fit() -> None:
    population = _population([0, 1] * 20, [0, 1, 2, 3, 4] * 8)
    for batch_size, expected in ((4, 2), (6, 3), (40, 5)):
        batch = _sampler(population, batch_size=batch_size, name="domain-batches", draws=batch_size).draw(0)
        assert len(set(population.domains[batch].tolist())) == expected  # two figures of each at least
    fewer = _sampler(population, batch_size=9, name="domain-batches", draws=10).draw(0)
    assert len(fewer) == 10


def test_domain_batches_take_the_share_of_positives() -> None:
    population = _population([0, 1] * 20, [0, 0, 1, 1] * 10)
    sampler = _sampler(population, batch_size=16, name="domain-batches", positive_share=0.25, draws=160)
    assert [int(population.labels[batch].sum()) for batch in sampler.draw(0).reshape(-1, 16)] == [4] * 10


def test_one_known_domain_and_no_figures_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"`data` must be of at least two known domains .*, got 1; fix: use inverse-class"
    ):
        _sampler(_population([0, 1, 1], [0, 0, -1]), name="domain-aware")
    with pytest.raises(InputError, match=r"`training part` must be of at least one figure, got none"):
        _sampler(_population([]))
