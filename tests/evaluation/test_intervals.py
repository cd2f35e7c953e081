"""Bootstrap of cases: against SciPy draw by draw, by coverage, and where there is no interval."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from atypia.base.errors import InputError
from atypia.base.seeds import generator
from atypia.statistics import metrics
from atypia.statistics.casestats import Sums
from atypia.statistics.intervals import Bootstrap, Interval, bootstrap_intervals, difference_intervals, metric_intervals
from atypia.statistics.metrics import METRICS, UndefinedMetricWarning, compute
from atypia.statistics.resampling import PredictedLabels, case_codes, metric_statistic

Figures = tuple[npt.NDArray[Any], npt.NDArray[Any], PredictedLabels, PredictedLabels]


def figures(n: int = 120, cases: int = 24, seed: int = 0, grid: int = 40) -> Figures:
    """Labels, cases and two classifiers whose probabilities have ties."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.35).astype(int)
    case = rng.permutation(np.arange(n) % cases)
    effect = rng.normal(0, 0.1, cases)[case]
    first = np.round(np.clip(0.3 * y + 0.6 * rng.random(n) + effect, 0, 1) * grid) / grid
    second = np.round(np.clip(0.15 * y + 0.7 * rng.random(n) + effect, 0, 1) * grid) / grid
    return (
        y,
        np.array([f"case {c:03d}" for c in case]),
        *(PredictedLabels(p, (p >= 0.5).astype(int)) for p in (first, second)),
    )


def by_scipy(
    statistic: Callable[[npt.NDArray[np.int64]], float], cases: npt.NDArray[Any], options: Bootstrap
) -> tuple[float, float]:
    """SciPy's interval of a statistic of row numbers, cases drawn from the same stream."""
    names = np.unique(cases)
    rows = [np.flatnonzero(cases == name) for name in names]
    result = stats.bootstrap(
        (np.arange(len(names)),),
        lambda picked: statistic(np.concatenate([rows[i] for i in picked])),
        n_resamples=options.draws,
        vectorized=False,
        confidence_level=options.level,
        method="BCa" if options.method == "bca" else "percentile",
        rng=generator(options.seed, "case bootstrap", len(names)),
    )
    return result.confidence_interval.low, result.confidence_interval.high


def value(name: str, y: npt.NDArray[Any], predicted: PredictedLabels, rows: npt.NDArray[np.int64]) -> float:
    p, d = np.asarray(predicted.probabilities)[rows], np.asarray(predicted.decisions)[rows]
    return compute(y[rows], p, d, [name])[name]


@pytest.mark.parametrize("method", ["bca", "percentile"])
@pytest.mark.parametrize("name", ["balanced_accuracy", "auroc", "average_precision", "brier", "ece", "weighted_f1"])
def test_intervals_are_scipys_on_the_same_draws(name: str, method: Literal["bca", "percentile"]) -> None:
    y, cases, first, _ = figures()
    options = Bootstrap(draws=300, level=0.9, method=method, seed=7)

    found = metric_intervals(y, first, cases, [name], options)[name]

    assert (found.low, found.high) == pytest.approx(
        by_scipy(lambda i: value(name, y, first, i), cases, options), abs=1e-9
    )
    assert found.estimate == pytest.approx(value(name, y, first, np.arange(len(y))))
    assert (found.n, found.n_cases, found.draws, found.undefined) == (120, 24, 300, 0)


def test_each_figure_its_own_case_is_the_ordinary_bootstrap() -> None:
    y, _, first, _ = figures(n=60)
    cases, options = np.arange(60), Bootstrap(draws=300)

    found = metric_intervals(y, first, cases, ["auroc"], options)["auroc"]

    assert (found.low, found.high) == pytest.approx(by_scipy(lambda i: value("auroc", y, first, i), cases, options))


@pytest.mark.parametrize("name", ["balanced_accuracy", "auroc"])
def test_differences_are_paired(name: str) -> None:
    y, cases, first, second = figures()
    options = Bootstrap(draws=300)

    found = difference_intervals(y, first, second, cases, [name], options)[name]

    expected = by_scipy(lambda i: value(name, y, first, i) - value(name, y, second, i), cases, options)
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-9)
    turned = difference_intervals(y, second, first, cases, [name], options)[name]
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))


@pytest.mark.parametrize("name", list(METRICS))
def test_every_metric_equals_itself_on_repeated_figures(name: str) -> None:
    y, cases, first, _ = figures(n=70, cases=9, seed=3)
    codes, n_cases = case_codes(cases, len(y))
    metric = METRICS[name]
    values = first.decisions if metric.needs == "decisions" else first.probabilities
    weights = np.random.default_rng(1).integers(0, 4, (12, n_cases)).astype(float)
    weights[0] = 0  # nothing drawn: undefined
    by_repeating = metrics.Metric("another name", "", "", metric.needs, True, "", "", metric.function)

    fast = metric_statistic(metric, y, values, codes)
    slow = metric_statistic(by_repeating, y, values, codes)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        np.testing.assert_allclose(fast.of(weights), slow.of(weights), atol=1e-12)
        np.testing.assert_allclose(fast.without_each(), slow.without_each(), atol=1e-12)
    assert np.isnan(fast.of(weights)[0])


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_auroc_of_weights_and_left_out_cases(data: st.DataObject) -> None:
    n = data.draw(st.integers(2, 14))
    y = np.array(data.draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)))
    scores = np.array(data.draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))) / 4
    codes, cases = case_codes(data.draw(st.lists(st.integers(0, 4), min_size=n, max_size=n)), n)
    fast = metric_statistic(METRICS["auroc"], y, scores, codes)

    expected = []
    for case in range(cases):
        kept = codes != case
        p, q = scores[kept & (y == 1)], scores[kept & (y == 0)]
        wins = (p[:, None] > q).sum() + (p[:, None] == q).sum() / 2
        expected.append(wins / (len(p) * len(q)) if len(p) * len(q) else np.nan)

    np.testing.assert_allclose(fast.without_each(), expected, atol=1e-12)
    np.testing.assert_allclose(fast.of(1 - np.eye(cases)), expected, atol=1e-12)


def test_several_models_are_averaged_on_the_same_draws() -> None:
    y, cases, first, second = figures()
    both = PredictedLabels(
        np.stack([first.probabilities, second.probabilities]), np.stack([first.decisions, second.decisions])
    )
    options = Bootstrap(draws=300)

    found = metric_intervals(y, both, cases, ["auroc"], options)["auroc"]

    def mean(rows: npt.NDArray[np.int64]) -> float:
        return (value("auroc", y, first, rows) + value("auroc", y, second, rows)) / 2

    assert (found.low, found.high) == pytest.approx(by_scipy(mean, cases, options), abs=1e-9)


def test_the_order_of_rows_and_the_other_metrics_do_not_matter() -> None:
    y, cases, first, _ = figures()
    options = Bootstrap(draws=200)
    turned = np.random.default_rng(0).permutation(len(y))
    p, d = np.asarray(first.probabilities)[turned], np.asarray(first.decisions)[turned]

    alone = metric_intervals(y, first, cases, ["auroc"], options)["auroc"]
    among = metric_intervals(y[turned], PredictedLabels(p, d), cases[turned], ["brier", "auroc"], options)["auroc"]

    assert (alone.low, alone.high) == pytest.approx((among.low, among.high))


def test_drawing_cases_is_wider_than_drawing_figures_where_figures_of_a_case_resemble_each_other() -> None:
    rng = np.random.default_rng(0)
    right = np.repeat(rng.random(40) < 0.7, 10)  # a case is right or wrong as a whole
    y = np.tile([0, 1], 200)
    given_ = PredictedLabels(np.where(right, y, 1 - y) * 0.8 + 0.1, np.where(right, y, 1 - y))

    by_case = metric_intervals(y, given_, np.repeat(np.arange(40), 10), ["balanced_accuracy"])["balanced_accuracy"]
    by_figure = metric_intervals(y, given_, np.arange(400), ["balanced_accuracy"])["balanced_accuracy"]

    assert by_case.se / by_figure.se == pytest.approx(np.sqrt(10), rel=0.1)
    assert by_case.high - by_case.low > 2.5 * (by_figure.high - by_figure.low)


def test_coverage_of_the_truth_by_cases_is_near_nominal_and_by_figures_is_not() -> None:
    rng = np.random.default_rng(11)
    repeats, n_cases, size = 150, 40, 6
    covered = {"case": 0, "figure": 0}
    for repeat in range(repeats):
        skill = np.repeat(rng.beta(3, 1, n_cases), size)  # P(right) has mean 0.75
        y = np.tile([0, 1], n_cases * size // 2)
        d = np.where(rng.random(len(y)) < skill, y, 1 - y)
        options = Bootstrap(draws=400, seed=repeat)
        for unit, cases in (("case", np.repeat(np.arange(n_cases), size)), ("figure", np.arange(len(y)))):
            found = metric_intervals(y, PredictedLabels(d * 0.5, d), cases, ["balanced_accuracy"], options)
            covered[unit] += found["balanced_accuracy"].low <= 0.75 <= found["balanced_accuracy"].high

    assert 0.89 <= covered["case"] / repeats <= 0.99
    assert covered["figure"] < covered["case"]


# Where there is no interval -------------------------------------------------------------------


def undefined(y: Any, p: Any, cases: Any, name: str, why: str, **options: Any) -> Interval:
    p = np.asarray(p)
    with pytest.warns(UndefinedMetricWarning, match=f"interval of {name} is undefined: .*{why}"):
        found = metric_intervals(y, PredictedLabels(p, (p >= 0.5).astype(int)), cases, [name], Bootstrap(**options))[
            name
        ]
    assert np.isnan([found.low, found.high]).all()
    return found


def test_a_class_in_too_few_cases_leaves_no_interval() -> None:
    y = [1, 1, 0, 0, 0, 0, 0, 0]
    found = undefined(y, np.linspace(0.9, 0.1, 8), list("aabbccdd"), "auroc", "draws: a class is in too few cases")

    # The one case with positives is missing from (1 − 1/4)⁴ = 32 % of the draws.
    assert found.undefined / found.draws == pytest.approx(0.75**4, abs=0.04)
    assert found.estimate == 1.0


def test_few_undefined_draws_are_left_out_and_counted() -> None:
    y, cases, first, _ = figures(n=60, cases=6, seed=2)
    y = np.where(np.isin(cases, ["case 000", "case 001", "case 002", "case 003"]), y, 0)
    options = Bootstrap(draws=1000, method="percentile")

    found = metric_intervals(y, first, cases, ["sensitivity"], options)["sensitivity"]

    assert 0 < found.undefined <= 50
    assert found.low < found.estimate < found.high


def test_other_reasons_for_no_interval() -> None:
    p = [0.2, 0.3, 0.8, 0.9]
    undefined([0, 0, 0, 0], p, list("abcd"), "auroc", "the metric itself")
    assert np.isnan(undefined([0, 1, 0, 1], p, list("aaaa"), "auroc", "one case only").se)
    undefined([0, 1] * 6, [0.1, 0.9] * 6, np.repeat(np.arange(6), 2), "auroc", "all draws are equal")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"draws": 10}, "`draws` must be at least 100, got 10; fix: use 2000"),
        ({"level": 95}, "`level` must be between 0 and 1, got 95"),
        ({"method": "basic"}, "`method` must be bca or percentile, got basic"),
        ({"most_undefined": -1}, "`most_undefined` must be between 0 and 1, got -1"),
    ],
)
def test_wrong_options(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Bootstrap(**changes)


def test_wrong_input() -> None:
    y, cases, first, _ = figures()
    p, d = np.asarray(first.probabilities), np.asarray(first.decisions)
    with pytest.raises(
        InputError,
        match="`cases` must be known for every figure, got 1 missing; fix: where the case is unknown, use the slide",
    ):
        metric_intervals(y, first, np.array([None, *cases[1:]], dtype=object))
    with pytest.raises(InputError, match=r"`cases` must be one per figure \(120\), got shape \(3,\)"):
        metric_intervals(y, first, cases[:3])
    with pytest.raises(InputError, match="`predicted` must be probabilities and decisions of one shape"):
        metric_intervals(y, PredictedLabels(p, np.stack([d, d])), cases)
    with pytest.raises(InputError, match="`probabilities` must be between 0 and 1"):
        metric_intervals(y, PredictedLabels(p + 1, d), cases)
    with pytest.raises(InputError, match="`decisions` must be 0 or 1"):
        metric_intervals(y, PredictedLabels(p, p), cases, ["auroc"])
    with pytest.raises(InputError, match="unknown metric 'auc'; did you mean"):
        metric_intervals(y, first, cases, ["auc"])
    with pytest.raises(InputError, match="`labels` must be of at least one figure"):
        metric_intervals([], PredictedLabels([], []), [])


def test_models_in_another_order_are_the_same_classifier() -> None:
    """Their means differ by rounding alone, −5.6e-17 once, which is no difference and has no interval."""
    rng = np.random.default_rng(3)
    y, cases = (rng.random(90) < 0.3).astype(int), np.arange(90) % 15
    p = np.clip(rng.random((5, 90)) * 0.7 + 0.3 * y, 0, 1)
    first = PredictedLabels(p, (p >= 0.5).astype(int))
    for order in ([4, 3, 2, 1, 0], [2, 0, 4, 1, 3], [1, 2, 3, 4, 0]):
        second = PredictedLabels(p[order], (p[order] >= 0.5).astype(int))
        for name in METRICS:
            with pytest.warns(UndefinedMetricWarning, match=f"interval of {name} is undefined: all draws are equal"):
                found = difference_intervals(y, first, second, cases, [name], Bootstrap(draws=200))[name]
            assert (found.estimate, found.se) == (0.0, 0.0), name
            assert np.isnan([found.low, found.high]).all(), name


def test_a_difference_is_told_from_rounding_however_the_models_are_ordered() -> None:
    """One decision of one model differs: a real difference, with the same interval in any order of the models."""
    rng = np.random.default_rng(4)
    y, cases = (rng.random(90) < 0.3).astype(int), np.arange(90) % 15
    p = rng.random((5, 90))
    d = (p >= 0.5).astype(int)
    changed = d.copy()
    changed[0, 7] = 1 - changed[0, 7]
    ends = []
    for order in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 4, 1, 3]):
        found = difference_intervals(
            y,
            PredictedLabels(p, d),
            PredictedLabels(p[order], changed[order]),
            cases,
            ["accuracy"],
            Bootstrap(draws=500),
        )["accuracy"]
        assert abs(found.estimate) == pytest.approx(1 / (5 * 90)) and 0.0 in (found.low, found.high)
        ends.append((found.low, found.high))
    np.testing.assert_allclose(ends, [ends[0]] * 3, rtol=1e-9)


def test_a_statistic_of_small_numbers_keeps_its_spread() -> None:
    """The tolerance follows the scale: values of 1e-9 that differ by a tenth do differ."""
    values = np.random.default_rng(0).uniform(0.9e-9, 1.1e-9, (40, 1))
    mean = Sums(np.hstack([values, np.ones((40, 1))]), lambda sums: sums[:, 0] / sums[:, 1])
    found = bootstrap_intervals({"mean": mean}, 40, 40, Bootstrap(draws=500))["mean"]
    assert 0.9e-9 < found.low < found.estimate < found.high < 1.1e-9
