"""Metrics against hand-computed numbers and two independent implementations."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as sk
from torchmetrics.functional import classification as tm

from atypia.base.errors import InputError
from atypia.statistics import metrics as m
from atypia.statistics.confusion import confusion

# Ten figures, four of them positive. At threshold 0.5: TP 3, FN 1, FP 2, TN 4.
LABELS = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
P = np.array([0.9, 0.8, 0.6, 0.3, 0.7, 0.6, 0.4, 0.2, 0.1, 0.05])
DECISIONS = (P >= 0.5).astype(int)

DECIDING = ("balanced_accuracy", "sensitivity", "specificity", "f1", "weighted_f1", "accuracy", "precision", "npv")


@st.composite
def problems(draw: st.DrawFn, levels: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels of both classes, probabilities (with ties where ``levels`` is given) and decisions."""
    n = draw(st.integers(2, 60))
    labels = draw(arrays(np.int64, n, elements=st.integers(0, 1)))
    assume(0 < labels.sum() < n)
    if levels is None:
        p = draw(arrays(np.float64, n, elements=st.floats(0, 1)))
    else:
        p = draw(arrays(np.int64, n, elements=st.integers(0, levels))) / levels
    return labels, p, draw(arrays(np.int64, n, elements=st.integers(0, 1)))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (m.sensitivity, 3 / 4),
        (m.specificity, 4 / 6),
        (m.balanced_accuracy, (3 / 4 + 4 / 6) / 2),
        (m.accuracy, 7 / 10),
        (m.precision, 3 / 5),
        (m.npv, 4 / 5),
        (m.f1, 6 / 9),
        (m.weighted_f1, 0.4 * 6 / 9 + 0.6 * 8 / 11),
    ],
)
def test_decision_metrics_by_hand(function: Callable[..., float], expected: float) -> None:
    assert function(LABELS, DECISIONS) == pytest.approx(expected, abs=1e-15)


def test_auroc_by_hand() -> None:
    # Of 24 pairs: 0.9 and 0.8 beat all 6; 0.6 beats 4 and ties 1; 0.3 beats 3.
    assert m.auroc(LABELS, P) == (6 + 6 + 4.5 + 3) / 24


def test_average_precision_by_hand() -> None:
    # Thresholds that gain a positive: 0.9 (1/1), 0.8 (2/2), 0.6 with its tie (3/5), 0.3 (4/7).
    assert m.average_precision(LABELS, P) == pytest.approx((1 + 1 + 3 / 5 + 4 / 7) / 4, abs=1e-15)


def test_brier_by_hand() -> None:
    assert m.brier([1, 0], [0.75, 0.5]) == pytest.approx((0.0625 + 0.25) / 2)


def test_ece_by_hand() -> None:
    # Two bins: [0, 0.5) holds 0.1 and 0.3 (one positive), [0.5, 1] holds 0.5, 0.9 and 1.0 (two positives).
    p = [0.1, 0.3, 0.5, 0.9, 1.0]
    labels = [0, 1, 0, 1, 1]
    assert m.ece(labels, p, bins=2) == pytest.approx(2 / 5 * abs(0.2 - 0.5) + 3 / 5 * abs(0.8 - 2 / 3))
    assert m.ece(labels, p, bins=1) == pytest.approx(abs(np.mean(p) - np.mean(labels)))


def test_roc_curve_by_hand() -> None:
    fpr, tpr, thresholds = m.roc_curve([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.8])
    np.testing.assert_array_equal(fpr, [0, 0, 0.5, 1])
    np.testing.assert_array_equal(tpr, [0, 0.5, 1, 1])
    np.testing.assert_array_equal(thresholds, [np.inf, 0.8, 0.4, 0.1])


@settings(max_examples=60, deadline=None)
@given(problems())
def test_decision_metrics_agree_with_scikit_learn(problem: tuple[np.ndarray, ...]) -> None:
    labels, _, decisions = problem
    assert m.balanced_accuracy(labels, decisions) == pytest.approx(sk.balanced_accuracy_score(labels, decisions))
    assert m.sensitivity(labels, decisions) == pytest.approx(sk.recall_score(labels, decisions))
    assert m.specificity(labels, decisions) == pytest.approx(sk.recall_score(labels, decisions, pos_label=0))
    assert m.accuracy(labels, decisions) == pytest.approx(sk.accuracy_score(labels, decisions))
    assert m.f1(labels, decisions) == pytest.approx(sk.f1_score(labels, decisions, zero_division=0.0))
    weighted = sk.f1_score(labels, decisions, average="weighted", zero_division=0.0)
    assert m.weighted_f1(labels, decisions) == pytest.approx(weighted)
    if decisions.any():
        assert m.precision(labels, decisions) == pytest.approx(sk.precision_score(labels, decisions))
    if not decisions.all():
        assert m.npv(labels, decisions) == pytest.approx(sk.precision_score(labels, decisions, pos_label=0))


@settings(max_examples=60, deadline=None)
@given(st.one_of(problems(), problems(levels=4)))
def test_score_metrics_agree_with_scikit_learn(problem: tuple[np.ndarray, ...]) -> None:
    labels, p, _ = problem
    assert m.auroc(labels, p) == pytest.approx(sk.roc_auc_score(labels, p), abs=1e-12)
    assert m.average_precision(labels, p) == pytest.approx(sk.average_precision_score(labels, p), abs=1e-12)
    assert m.brier(labels, p) == pytest.approx(sk.brier_score_loss(labels, p), abs=1e-12)
    fpr, tpr, _ = m.roc_curve(labels, p)
    assert sk.auc(fpr, tpr) == pytest.approx(m.auroc(labels, p), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(problems(levels=64))  # multiples of 1/64: no value on an edge of the 15 bins but 0 and 1
def test_metrics_agree_with_torchmetrics(problem: tuple[np.ndarray, ...]) -> None:
    labels, p, decisions = problem
    y, scores, decided = torch.tensor(labels), torch.tensor(p), torch.tensor(decisions)
    assert m.auroc(labels, p) == pytest.approx(float(tm.binary_auroc(scores, y)), abs=1e-6)
    assert m.average_precision(labels, p) == pytest.approx(float(tm.binary_average_precision(scores, y)), abs=1e-6)
    below = np.minimum(p, 127 / 128)  # torchmetrics gives a probability of 1 a bin of its own
    calibration = tm.binary_calibration_error(torch.tensor(below), y, n_bins=15, norm="l1")
    assert m.ece(labels, below) == pytest.approx(float(calibration), abs=1e-6)
    assert m.specificity(labels, decisions) == pytest.approx(float(tm.binary_specificity(decided, y)), abs=1e-6)
    assert m.f1(labels, decisions) == pytest.approx(float(tm.binary_f1_score(decided, y)), abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(problems(levels=6))
def test_turning_the_classes_round_swaps_what_it_should(problem: tuple[np.ndarray, ...]) -> None:
    labels, p, decisions = problem
    assert m.sensitivity(labels, decisions) == m.specificity(1 - labels, 1 - decisions)
    assert m.balanced_accuracy(labels, decisions) == m.balanced_accuracy(1 - labels, 1 - decisions)
    assert m.balanced_accuracy(labels, decisions) == pytest.approx(1 - m.balanced_accuracy(labels, 1 - decisions))
    assert m.weighted_f1(labels, decisions) == pytest.approx(m.weighted_f1(1 - labels, 1 - decisions))
    assert m.auroc(labels, p) == m.auroc(1 - labels, -p)
    assert m.auroc(labels, -p) == pytest.approx(1 - m.auroc(labels, p), abs=1e-15)
    assert m.brier(labels, p) == pytest.approx(m.brier(1 - labels, 1 - p))


@pytest.mark.filterwarnings("ignore::atypia.statistics.metrics.UndefinedMetricWarning")
@settings(max_examples=40, deadline=None)
@given(problems(levels=5), st.randoms(use_true_random=False))
def test_order_and_monotone_maps_do_not_matter(problem: tuple[np.ndarray, ...], random: object) -> None:
    labels, p, decisions = problem
    order = np.arange(len(labels))
    random.shuffle(order)  # type: ignore[attr-defined]
    for name, value in m.compute(labels, p, decisions).items():
        again = m.compute(labels[order], p[order], decisions[order], [name])[name]
        assert again == pytest.approx(value, nan_ok=True, abs=1e-12)
    assert m.auroc(labels, np.exp(3 * p) - 7) == m.auroc(labels, p)
    assert m.average_precision(labels, np.exp(3 * p) - 7) == m.average_precision(labels, p)


def test_scores_of_any_range_are_ranked_but_never_taken_for_probabilities() -> None:
    logits = np.log(P / (1 - P)) * 50
    assert m.auroc(LABELS, logits) == m.auroc(LABELS, P)
    with pytest.raises(InputError, match=r"`probabilities` must be between 0 and 1, got .*; fix: pass no logits"):
        m.brier(LABELS, logits)
    with pytest.raises(InputError, match="between 0 and 1"):
        m.ece(LABELS, logits)


ONLY_POSITIVE, ONLY_NEGATIVE, EMPTY = [1, 1], [0, 0], []


@pytest.mark.parametrize(
    ("labels", "undefined"),
    [
        (ONLY_POSITIVE, {"balanced_accuracy", "specificity", "auroc"}),
        (ONLY_NEGATIVE, {"balanced_accuracy", "sensitivity", "auroc", "average_precision", "f1"}),
        (EMPTY, set(m.METRICS)),
    ],
)
def test_an_undefined_metric_is_nan_with_a_warning_and_never_zero(labels: list[int], undefined: set[str]) -> None:
    p = [0.2, 0.9][: len(labels)]
    decisions = [0, 1][: len(labels)]
    for name in m.METRICS:
        if name in undefined:
            with pytest.warns(m.UndefinedMetricWarning, match="is undefined: "):
                assert math.isnan(m.compute(labels, p, decisions, [name])[name])
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                assert math.isfinite(m.compute(labels, p, decisions, [name])[name])


def test_precision_and_npv_are_undefined_where_nothing_is_decided_so() -> None:
    with pytest.warns(m.UndefinedMetricWarning, match="precision is undefined: nothing was decided positive"):
        assert math.isnan(m.precision([0, 1], [0, 0]))
    with pytest.warns(m.UndefinedMetricWarning, match="NPV is undefined: nothing was decided negative"):
        assert math.isnan(m.npv([0, 1], [1, 1]))


def test_f1_is_zero_not_undefined_where_every_positive_is_missed() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert m.f1([0, 1], [0, 0]) == 0.0


def test_a_warning_points_at_the_caller() -> None:
    for function in (m.sensitivity, m.auroc):
        with pytest.warns(m.UndefinedMetricWarning) as caught:
            function([], [])
        assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("labels", "decisions", "message"),
    [
        ([0, 1], [0, 1, 1], r"`decisions` must be as long as `labels` \(2\), got 3; fix: align them by figure"),
        ([0, 2], [0, 1], r"`labels` must be 0 or 1, got 2; fix: "),
        ([0, 1], [0.2, 0.7], r"`decisions` must be 0 or 1, got 0.2; fix: pass no probabilities"),
        ([0.0, np.nan], [0, 1], r"`labels` must be 0 or 1, got nan"),
        ([0, None], [0, 1], r"`labels` must be 0 or 1, got object values; fix: drop figures without a label"),
        (["atypical", "normal"], [0, 1], r"`labels` must be 0 or 1, got <U8 values"),
        ([[0, 1]], [0, 1], r"`labels` must be of shape \(n,\), got shape \(1, 2\)"),
        ([0, 1], 1, r"`decisions` must be of shape \(n,\), got shape \(\)"),
    ],
)
def test_bad_labels_and_decisions_are_refused(labels: object, decisions: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        m.balanced_accuracy(labels, decisions)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([0.1, np.nan], r"`scores` must be finite, got NaN or infinity in 1 of 2"),
        ([0.1, np.inf], r"`scores` must be finite"),
        ([0.1], r"`scores` must be as long as `labels` \(2\), got 1"),
        ([0.1, None], r"`scores` must be numbers, got object values"),
        ([[0.1, 0.2]], r"`scores` must be of shape \(n,\)"),
    ],
)
def test_bad_scores_are_refused(scores: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        m.auroc([0, 1], scores)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message):
        m.roc_curve([0, 1], scores)  # type: ignore[arg-type]


def test_other_bad_arguments_are_refused() -> None:
    with pytest.raises(InputError, match=r"`bins` must be at least 1, got 0"):
        m.ece([0, 1], [0.1, 0.2], bins=0)
    with pytest.raises(InputError, match=r"`labels` must be of both classes, got 2 positives, 0 negatives"):
        m.roc_curve([1, 1], [0.1, 0.2])
    with pytest.raises(InputError, match="unknown metric 'auc'; did you mean 'auroc'"):
        m.compute([0, 1], [0.1, 0.2], [0, 0], ["auc"])


def test_every_entry_of_the_registry_is_whole_and_computes() -> None:
    values = m.compute(LABELS, P, DECISIONS)
    assert list(values) == list(m.METRICS)
    for name, metric in m.METRICS.items():
        assert metric.name == name
        assert metric.needs in {"decisions", "scores", "probabilities"}
        assert all((metric.title, metric.short, metric.formula, metric.source))
        given_values = DECISIONS if metric.needs == "decisions" else P
        assert metric.function(LABELS, given_values) == values[name]
        assert 0 <= values[name] <= 1
    assert len({metric.short for metric in m.METRICS.values()}) == len(m.METRICS)


def test_the_named_direction_is_that_of_a_perfect_classifier() -> None:
    perfect = m.compute(LABELS, LABELS.astype(float), LABELS)
    hopeless = m.compute(LABELS, 1.0 - LABELS, 1 - LABELS)
    for name, metric in m.METRICS.items():
        assert (perfect[name] > hopeless[name]) == metric.higher_is_better, name
        assert perfect[name] == float(metric.higher_is_better), name


def test_booleans_lists_and_small_integers_are_the_same_labels() -> None:
    expected = m.compute(LABELS, P, DECISIONS)
    assert m.compute(LABELS.astype(bool).tolist(), P.tolist(), DECISIONS.astype(np.int8)) == expected


def test_confusion_of_many_draws_equals_one_draw_at_a_time() -> None:
    rng = np.random.default_rng(0)
    picks = rng.integers(0, len(LABELS), (40, len(LABELS)))
    counts = np.stack([np.bincount(pick, minlength=len(LABELS)) for pick in picks])
    together = confusion(LABELS, DECISIONS, counts)
    for name in DECIDING:
        values = getattr(together, name)
        assert values.shape == (40,)
        for value, pick in zip(values, picks, strict=True):
            single = getattr(confusion(LABELS[pick], DECISIONS[pick]), name)
            assert value == pytest.approx(float(single), nan_ok=True)


def test_confusion_counts_in_64_bits_and_refuses_bad_multiplicities() -> None:
    many = np.full((1, len(LABELS)), 2_000_000_000, dtype=np.int32)
    assert confusion(LABELS, DECISIONS, many).tp[0] == 6_000_000_000
    for bad in (np.ones((2, 3), int), np.ones(10, int), np.ones((1, 10)), np.full((1, 10), -1)):
        with pytest.raises(InputError, match=r"`multiplicities` must be integers ≥ 0 of shape \(draws, 10\)"):
            confusion(LABELS, DECISIONS, bad)  # type: ignore[arg-type]


def test_auroc_is_exact_on_a_large_tied_input() -> None:
    # 200,000 × 200,000 pairs: twice U needs 37 bits; half of all pairs tie, the rest are won.
    n = 200_000
    labels = np.repeat([1, 0], n)
    scores = np.concatenate([np.repeat([1.0, 0.5], n // 2), np.full(n, 0.5)])
    assert m.auroc(labels, scores) == 0.75
