"""A decision fitted to a laboratory: what moves it, what does not, and what it becomes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atypia.base.errors import InputError
from atypia.inference.bundles.calibration import Isotonic, Platt, Temperature
from atypia.inference.bundles.decision import Decision, fit_decision
from atypia.inference.bundles.laboratory import (
    CONTRADICTED,
    LABORATORIES_KEY,
    LEAST,
    MOVED,
    NO_EVIDENCE,
    NOT_TOLD_APART,
    SETS_FROM,
    TOO_FEW,
    Own,
    fit_laboratory,
    judge,
    moved_calibration,
    own_novelty,
    prior_for,
    reference_of,
)
from atypia.inference.bundles.novelty import Novelty
from atypia.inference.bundles.reference import CLASSES_KEY, log_odds
from atypia.statistics.laboratories import AffineMap, LaboratoryPrior

PRIOR = LaboratoryPrior(0.3, 0.5, 0.1, 0.0)


def drawn(seed: int, normal: int, atypical: int, shift: float = 0.0, apart: float = 2.0):
    """Logits and labels of a laboratory whose scores are ``shift`` higher."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([False, True], [normal, atypical])
    return rng.normal(labels * apart - apart / 2 + shift, 1.0), labels


@pytest.fixture(scope="module")
def decision() -> Decision:
    return fit_decision(*drawn(0, 400, 200))


def fitted(decision: Decision, logits, labels, prior=PRIOR, cases=None):
    known = reference_of(decision)
    assert known is not None and known[1]
    cases = np.arange(len(labels)).astype(str) if cases is None else cases
    return fit_laboratory(decision, logits, labels, cases, known[0], prior)


def accuracy(decision: Decision, logits, labels) -> float:
    called = decision.apply(logits).decision == 1
    return (called[labels].mean() + (~called[~labels]).mean()) / 2


def test_a_shifted_laboratory_is_met(decision: Decision) -> None:
    found = fitted(decision, *drawn(1, 80, 40, shift=1.2))
    assert found.judged.outcome == MOVED and found.changed
    logits, labels = drawn(2, 4000, 4000, shift=1.2)
    assert accuracy(found.decision, logits, labels) > accuracy(decision, logits, labels) + 0.03
    assert found.decision.threshold == decision.threshold, "its meaning moves, not its number"
    assert dict(found.decision.points) == dict(decision.points)


def test_where_nothing_is_other_nothing_moves(decision: Decision) -> None:
    outcomes = [fitted(decision, *drawn(seed, 40, 20)).judged for seed in range(40)]
    assert sum(one.outcome == NO_EVIDENCE for one in outcomes) > 20
    assert all(one.map == AffineMap(1.0, 0.0) for one in outcomes if one.outcome == NO_EVIDENCE)


@pytest.mark.parametrize(("normal", "atypical"), [(30, LEAST - 2), (0, 30), (30, 0), (0, 0)])
def test_too_few_change_nothing_and_say_what_is_missing(decision: Decision, normal: int, atypical: int) -> None:
    found = fitted(decision, *drawn(3, normal, atypical, shift=3.0))
    assert found.judged.outcome == TOO_FEW and not found.changed and found.decision is decision
    assert found.judged.more == (max(LEAST - normal, 0), max(LEAST - atypical, 0))


def test_labels_that_contradict_the_scores_change_nothing(decision: Decision) -> None:
    logits, labels = drawn(4, 40, 40)
    assert fitted(decision, logits, ~labels).judged.outcome == NOT_TOLD_APART


@pytest.mark.parametrize(("near", "outcome"), [(12, CONTRADICTED), (2, MOVED)])
def test_cases_that_speak_against_the_move_count_where_they_are_more_than_chance(
    decision: Decision, near: int, outcome: str
) -> None:
    """Normal figures far above the others raise their mean; the threshold that follows loses the atypical ones near it."""
    logits = np.concatenate([np.full(20, -3.0), np.full(12, 6.0), np.full(near, 0.7), np.full(30 - near, 6.0)])
    logits += np.tile([-0.2, 0.2], 40)[: len(logits)]
    labels = np.arange(len(logits)) >= 32
    judged = fitted(decision, logits, labels).judged
    assert judged.outcome == outcome and judged.evidence > 1


def test_a_model_that_hardly_tells_classes_apart_is_left_alone() -> None:
    weak = fit_decision(*drawn(5, 400, 200, apart=0.6))
    assert fitted(weak, *drawn(6, 80, 80, shift=2.0, apart=0.6)).judged.outcome == NOT_TOLD_APART


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(5, 40), st.integers(5, 40))
def test_the_order_of_figures_does_not_matter(seed: int, normal: int, atypical: int) -> None:
    logits, labels = drawn(seed, normal, atypical, shift=0.8)
    cases = np.random.default_rng(seed).choice(list("abcdefg"), len(labels))
    reference = reference_of(fit_decision(*drawn(0, 60, 60)))
    assert reference is not None
    mixed = np.random.default_rng(seed).permutation(len(labels))
    one = judge(Own(labels, logits, cases), reference[0], 0.0, PRIOR)
    assert judge(Own(labels[mixed], logits[mixed], cases[mixed]), reference[0], 0.0, PRIOR) == one


def test_figures_of_one_case_are_weaker_evidence(decision: Decision) -> None:
    logits, labels = drawn(7, 20, 20, shift=0.7)
    shared = replace(PRIOR, case_share=0.5)
    alone = fitted(decision, logits, labels, shared).judged
    together = fitted(decision, logits, labels, shared, np.array(["one"] * len(labels))).judged
    assert together.evidence < alone.evidence


@pytest.mark.parametrize("kind", ["platt", "temperature", "isotonic"])
def test_moved_calibrations_move_log_odds(kind: str) -> None:
    logits, labels = drawn(8, 200, 200)
    calibration = fit_decision(logits, labels, calibration=kind).calibration
    moved = moved_calibration(calibration, AffineMap(0.8, -0.4))
    at = np.array(calibration.logits) if isinstance(calibration, Isotonic) else logits
    np.testing.assert_allclose(log_odds(moved.apply(at)), 0.8 * log_odds(calibration.apply(at)) - 0.4, atol=1e-9)
    assert moved_calibration(calibration, AffineMap(1.0, 0.0)) is calibration
    assert isinstance(moved, Isotonic if kind == "isotonic" else Platt)


def test_own_prediction_sets_begin_with_enough_figures(decision: Decision) -> None:
    assert fitted(decision, *drawn(9, SETS_FROM, SETS_FROM - 1)).sets == (True, False)
    found = fitted(decision, *drawn(10, 400, 400, shift=1.0)).decision
    logits, labels = drawn(11, 4000, 4000, shift=1.0)
    assert found.conformal is not None
    sets = found.conformal.sets(found.calibration.apply(logits), 0.9)
    assert 0.86 < sets.atypical[labels].mean() < 0.94 and 0.86 < sets.normal[~labels].mean() < 0.94


def test_the_limit_of_novelty_is_raised_for_many_not_for_one_and_never_lowered() -> None:
    axis = np.eye(3, dtype=np.float32)
    novelty = Novelty(axis[0] * 0, axis[:1], axis[:2, :1], np.ones(1, np.float32), 1.0, 1.0, 2.0, 0.999)
    own = np.random.default_rng(0).lognormal(0.0, 0.2, 100)
    assert own_novelty(novelty, own) is novelty
    stray = own_novelty(novelty, np.append(own, [500.0, 400.0]))
    assert stray.limit < 4, "two strange images do not lift it to their own novelty"
    raised = own_novelty(novelty, own * 3)
    assert raised.limit > 3 and np.mean(own * 3 > raised.limit) < 0.03
    assert own_novelty(novelty, own[:10] * 3) is novelty


def test_what_a_decision_was_fitted_on_is_known_or_read_off_its_sets(decision: Decision) -> None:
    exact = reference_of(decision)
    about = reference_of(replace(decision, fitted={}))
    assert exact is not None and about is not None and exact[1] and not about[1]
    for one, other in zip(exact[0], about[0], strict=True):
        assert other.mean == pytest.approx(one.mean, abs=0.25) and other.sd == pytest.approx(one.sd, rel=0.25)
    assert reference_of(Decision()) is None
    with pytest.raises(InputError, match="mean, sd and figures"):
        reference_of(replace(decision, fitted={CLASSES_KEY: {"normal": {}}}))


def test_the_prior_is_the_models_own_or_the_default(decision: Decision) -> None:
    prior, known_from = prior_for(decision)
    assert known_from.startswith("the default: ") and 0.05 < prior.location < 1
    own = {"location": 0.2, "together": 0.0, "scale": 0.1, "case_share": 0.3, "from": "six"}
    assert prior_for(replace(decision, fitted={LABORATORIES_KEY: own})) == (
        LaboratoryPrior(0.2, 0.0, 0.1, 0.3),
        "of the model: six",
    )
    with pytest.raises(InputError, match="no 'scale'"):
        prior_for(replace(decision, fitted={LABORATORIES_KEY: {k: v for k, v in own.items() if k != "scale"}}))


def test_temperature_becomes_a_line() -> None:
    assert moved_calibration(Temperature(2.0), AffineMap(1.0, 0.5)) == Platt(0.5, 0.5)
