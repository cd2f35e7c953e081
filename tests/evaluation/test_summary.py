"""Summaries: means and spreads by hand, what NaN and single runs do, the worst domain."""

from __future__ import annotations

import math
import statistics
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atypia.base.errors import InputError
from atypia.evaluation import summary as s
from atypia.evaluation.rows import RESULTS_SCHEMA


def row(fold: int, value: float, **changes: Any) -> dict[str, Any]:
    given = {
        "run_id": f"run-{fold}",
        "model": "ViT-S/14",
        "dataset": "ami-br",
        "part": "test",
        "fold": f"fold-{fold}",
        "metric": "balanced_accuracy",
        "value": value,
        "n": 100,
        "n_positive": 20,
        "threshold": 0.5,
        "predictions": "0" * 32,
    }
    return {**given, **changes}


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=RESULTS_SCHEMA)


def test_mean_and_both_deviations_by_hand() -> None:
    rows = table(*(row(i, v) for i, v in enumerate([0.6, 0.7, 0.8])))
    population, sample = (s.summarise(rows, ddof).to_pylist() for ddof in (0, 1))
    assert len(population) == len(sample) == 1
    assert population[0]["mean"] == pytest.approx(0.7)
    assert population[0]["sd"] == pytest.approx(math.sqrt(0.02 / 3))
    assert sample[0]["sd"] == pytest.approx(0.1)
    assert (population[0]["ddof"], sample[0]["ddof"]) == (0, 1)
    assert (population[0]["minimum"], population[0]["maximum"]) == (0.6, 0.8)
    assert (population[0]["n_runs"], population[0]["n_undefined"]) == (3, 0)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=12))
def test_deviations_agree_with_the_standard_library(values: list[float]) -> None:
    rows = table(*(row(i, v) for i, v in enumerate(values)))
    for ddof, reference in ((0, statistics.pstdev), (1, statistics.stdev)):
        found = s.summarise(rows, ddof).to_pylist()[0]
        assert found["mean"] == pytest.approx(statistics.fmean(values), abs=1e-12)
        assert found["sd"] == pytest.approx(reference(values), abs=1e-9)


def test_one_run_has_a_mean_but_no_spread() -> None:
    for ddof in (0, 1):
        found = s.summarise(table(row(1, 0.6)), ddof).to_pylist()[0]
        assert found["mean"] == 0.6
        assert math.isnan(found["sd"])


def test_undefined_in_one_run_is_undefined_in_the_mean_and_counted() -> None:
    found = s.summarise(table(row(1, 0.6), row(2, math.nan), row(3, 0.8))).to_pylist()[0]
    assert all(math.isnan(found[name]) for name in ("mean", "sd", "minimum", "maximum"))
    assert (found["n_runs"], found["n_undefined"]) == (3, 1)


def test_what_differs_is_never_averaged_together() -> None:
    keys = ["model", "backbone", "adaptation", "recipe", "protocol", "train_data", "dataset", "part", "domain"]
    rows = [row(1, 0.5)] + [row(1, 0.1, **{key: "other"}) for key in keys]
    found = s.summarise(table(*rows))
    assert found["n_runs"].to_pylist() == [1] * 10
    assert found["mean"].to_pylist() == [0.5] + [0.1] * 9


def test_counts_and_thresholds_that_differ_between_runs_are_shown_as_such() -> None:
    same = s.pivot(s.summarise(table(row(1, 0.5), row(2, 0.5))))[0]
    assert (same.n, same.n_positive, same.threshold) == ((100, 100), (20, 20), 0.5)
    rows = table(row(1, 0.5, n=80, n_positive=30, threshold=0.4), row(2, 0.5))
    other = s.pivot(s.summarise(rows))[0]
    assert (other.n, other.n_positive, other.threshold) == ((80, 100), (20, 30), None)


def test_the_same_result_twice_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"`rows` must be one per run, fold and metric, got 1 repeated; fix: read each"
    ):
        s.summarise(table(row(1, 0.5), row(1, 0.6)))


@pytest.mark.parametrize("ddof", [-1, 2, 0.5])
def test_other_divisors_are_refused(ddof: Any) -> None:
    with pytest.raises(InputError, match=r"`ddof` must be 0 or 1, got .*; fix: 0 is the population sd"):
        s.summarise(table(row(1, 0.5)), ddof)


def test_nothing_gives_nothing() -> None:
    empty = s.summarise(RESULTS_SCHEMA.empty_table())
    assert empty.schema.equals(s.SUMMARY_SCHEMA)
    assert empty.num_rows == 0
    assert s.pivot(empty) == []
    assert s.worst_domains(empty).num_rows == 0


def test_a_pivot_gathers_the_metrics_of_a_subject_in_order() -> None:
    rows = table(
        row(1, 0.5, model="b"), row(1, 0.7, model="b", metric="auroc"), row(1, 0.6, model="a"), row(2, 0.8, model="a")
    )
    first, second = s.pivot(s.summarise(rows))
    assert first.subject["model"] == "b"
    assert {name: cell.mean for name, cell in first.cells.items()} == {"balanced_accuracy": 0.5, "auroc": 0.7}
    assert second.cells["balanced_accuracy"].mean == pytest.approx(0.7)
    assert second.cells["balanced_accuracy"].n_runs == 2
    assert second.subject["domain"] is None


def test_overall_and_domains_part_the_rows() -> None:
    found = s.summarise(table(row(1, 0.5), row(1, 0.6, domain="a"), row(1, 0.4, domain="b")))
    assert s.overall(found)["mean"].to_pylist() == [0.5]
    assert s.by_domain(found)["domain"].to_pylist() == ["a", "b"]


def test_the_worst_domain_of_each_model() -> None:
    values = {("m", "a"): 0.8, ("m", "b"): 0.6, ("m", "c"): math.nan, ("k", "a"): 0.55, ("k", "b"): 0.7}
    rows = table(
        row(1, 0.1, model="m"), *(row(1, v, model=model, domain=domain) for (model, domain), v in values.items())
    )
    worst = s.worst_domains(s.summarise(rows)).to_pylist()
    assert [(w["model"], w["domain"], w["mean"]) for w in worst] == [("m", "b", 0.6), ("k", "a", 0.55)]


def test_the_worst_domain_of_an_error_is_the_highest() -> None:
    rows = table(*(row(1, v, metric="brier", domain=d) for d, v in (("a", 0.1), ("b", 0.3), ("c", 0.2))))
    assert s.worst_domains(s.summarise(rows), "brier")["domain"].to_pylist() == ["b"]
    assert s.worst_domains(s.summarise(rows), "auroc").num_rows == 0
    with pytest.raises(InputError, match="unknown metric"):
        s.worst_domains(s.summarise(rows), "briar")


def test_a_model_that_is_undefined_on_every_domain_has_no_worst() -> None:
    rows = table(row(1, math.nan, domain="a"), row(1, math.nan, domain="b"))
    assert s.worst_domains(s.summarise(rows)).num_rows == 0


def test_order_of_rows_changes_no_number() -> None:
    rng = np.random.default_rng(0)
    rows = [row(i, float(rng.random()), model=model) for model in "abc" for i in range(5)]
    forward, backward = s.summarise(table(*rows)), s.summarise(table(*rows[::-1]))
    by_model = {r["model"]: (r["mean"], r["sd"]) for r in backward.to_pylist()}
    for found in forward.to_pylist():
        assert by_model[found["model"]] == pytest.approx((found["mean"], found["sd"]))
    assert forward["model"].to_pylist() == ["a", "b", "c"]
