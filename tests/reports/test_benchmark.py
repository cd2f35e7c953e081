"""Benchmark tables: what becomes a column, what a note, and which numbers stand where."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pytest

from atypia.base.errors import InputError
from atypia.evaluation.rows import RESULTS_SCHEMA
from atypia.evaluation.summary import summarise
from atypia.reports.drawing.values import Spread
from atypia.reports.study.benchmark import HEADLINE, REPORTED, benchmark_table
from atypia.statistics.metrics import METRICS


def row(fold: int, value: float, **changes: Any) -> dict[str, Any]:
    given = {
        "run_id": f"run-{fold}",
        "model": "EfficientNet-Lite0",
        "backbone": "efficientnet-lite0",
        "adaptation": "probe",
        "recipe": "probe",
        "protocol": "official",
        "train_data": "ami-br",
        "dataset": "ami-br",
        "part": "test",
        "fold": f"fold-{fold}",
        "metric": "balanced_accuracy",
        "value": value,
        "n": 826,
        "n_positive": 184,
        "threshold": 0.5,
        "predictions": "0" * 32,
    }
    return {**given, **changes}


def summary(*rows: dict[str, Any], ddof: int = 0) -> pa.Table:
    return summarise(pa.Table.from_pylist(list(rows), schema=RESULTS_SCHEMA), ddof)


VIT = {"model": "ViT-S/14", "backbone": "vit-s14"}
BA = ["balanced_accuracy"]


def test_one_model_as_text() -> None:
    found = summary(row(1, 0.6, part="val", n=592, n_positive=164), row(2, 0.7, part="val"), row(1, 0.65), row(2, 0.65))
    assert benchmark_table(found, BA, warnings=["cases are shared", "cases are shared"]).render("text") == (
        "EfficientNet-Lite0\n"
        "\n"
        "data set  part        figures  positive             BA\n"
        "--------  ----------  -------  --------  -------------\n"
        "ami-br    validation  592–826   164–184  0.650 ± 0.050\n"
        "ami-br    test            826       184  0.650 ± 0.000\n"
        "\n"
        "mean ± population sd (ddof 0) over 2 runs; threshold 0.5; backbone efficientnet-lite0; adaptation\n"
        "  probe; recipe probe; protocol official; trained on ami-br\n"
        "warning: cases are shared\n"
    )


def test_several_models_are_compared_within_a_part_of_a_data_set() -> None:
    found = summary(
        row(1, 0.6), row(1, 0.65, **VIT), row(1, 0.9, dataset="atnorm-br"), row(1, 0.8, dataset="atnorm-br", **VIT)
    )
    table = benchmark_table(found, BA)
    assert table.title == "Results"
    assert [column.title for column in table.columns] == ["model", "data set", "part", "figures", "positive", "BA"]
    assert table.best() == {(1, 5), (2, 5)}


def test_what_tells_classifiers_apart_is_a_column_and_what_does_not_is_a_note() -> None:
    table = benchmark_table(summary(row(1, 0.6), row(1, 0.5, recipe="probe-banerjee", backbone="other")), BA)
    assert [column.name for column in table.columns][:3] == ["backbone", "recipe", "dataset"]
    assert table.notes == ["threshold 0.5; adaptation probe; protocol official; trained on ami-br"]


def test_numbers_of_runs_that_differ_are_a_column() -> None:
    table = benchmark_table(summary(row(1, 0.6), row(2, 0.7), row(1, 0.5, **VIT)), BA)
    runs = [column.name for column in table.columns].index("n_runs")
    assert [line[runs] for line in table.rows] == [2, 1]
    assert table.notes[0].startswith("mean ± population sd (ddof 0) over runs; ")
    last = table.rows[1][-1]
    assert isinstance(last, Spread)
    assert math.isnan(last.sd)


def test_the_divisor_is_stated_for_people_and_scripts() -> None:
    table = benchmark_table(summary(row(1, 0.6), row(2, 0.7), ddof=1), BA)
    assert "mean ± sample sd (ddof 1) over 2 runs" in table.render("markdown")
    assert "balanced_accuracy_mean,balanced_accuracy_sd_ddof1" in table.render("csv")


def test_thresholds_that_differ_are_said_to() -> None:
    table = benchmark_table(summary(row(1, 0.6), row(2, 0.7, threshold=0.4)), BA)
    assert "each run's own threshold" in table.notes[0]


def test_undefined_metrics_are_shown_and_explained() -> None:
    text = benchmark_table(summary(row(1, math.nan), row(2, 0.7)), BA).render("text")
    assert "n/a\n" in text
    assert "n/a: undefined in at least one run, because a class is absent" in text
    hidden = benchmark_table(summary(row(1, 0.6), row(1, math.nan, metric="precision")), BA)
    assert not any(note.startswith("n/a") for note in hidden.notes), "of a metric that the table does not show"


def test_a_metric_that_was_not_computed_is_empty() -> None:
    table = benchmark_table(summary(row(1, 0.6)), ["auroc", *BA])
    assert table.rows[0][-2] is None
    assert table.rows[0][-1] is not None


def test_domains_are_rows_and_the_worst_is_named() -> None:
    found = summary(row(1, 0.6), row(1, 0.7, domain="A"), row(1, 0.55, domain="B"), row(1, 0.8, domain="C"))
    table = benchmark_table(found, BA, domains=True)
    assert [line[2] for line in table.rows] == ["A", "B", "C"]
    assert table.notes[-1] == "worst BA of EfficientNet-Lite0 on ami-br (test): 0.550 on B"
    assert benchmark_table(found, BA).rows[0][2] == 826


def test_domains_are_in_order_and_shown_without_what_all_share() -> None:
    first, second = "Aperio CS2 | B | human | breast", "Aperio XT | A | human | breast"
    found = summary(
        row(1, 0.6, part="val", domain=second),
        row(1, 0.7, domain=second),
        row(1, 0.5, part="val", domain=first),
        row(1, 0.55, domain=first),
        row(1, 0.8, domain=second, **VIT),
    )
    table = benchmark_table(found, BA, domains=True)
    place = [column.name for column in table.columns].index("domain")
    assert [(line[place - 1], line[place]) for line in table.rows] == [
        ("validation", first),
        ("validation", second),
        ("test", first),
        ("test", second),
        ("test", second),
    ]
    text, csv = table.render("text"), table.render("csv")
    assert (
        "Aperio CS2 | B " in text
        and "Aperio XT | A " in text
        and "| human" not in text.partition("\n\n")[2].partition("\n\n")[0]
    )
    assert "domains are shown without what all share: human | breast" in table.notes
    assert "worst BA of EfficientNet-Lite0 on ami-br (test): 0.550 on Aperio CS2 | B" in table.notes
    assert csv.count(first) == 2 and csv.count(second) == 3


def test_nothing_to_show_is_said() -> None:
    assert benchmark_table(summary(row(1, 0.6)), BA, domains=True).notes == ["no domain is known"]
    assert benchmark_table(summary(row(1, 0.6)).slice(0, 0), BA).notes == ["no results"]


def test_lower_is_better_where_it_is() -> None:
    found = summary(row(1, 0.2, metric="brier"), row(1, 0.1, metric="brier", **VIT))
    table = benchmark_table(found, ["brier"])
    assert {i for i, _ in table.best()} == {1}


def test_mixed_divisors_and_unknown_metrics_are_refused() -> None:
    mixed = pa.concat_tables([summary(row(1, 0.6)), summary(row(1, 0.6, **VIT), ddof=1)])
    with pytest.raises(InputError, match=r"`ddof` must be one value in a table, got \[0, 1\]"):
        benchmark_table(mixed, BA)
    with pytest.raises(InputError, match="unknown metric 'ba'"):
        benchmark_table(summary(row(1, 0.6)), ["ba"])


def test_the_reported_metrics_exist_and_start_with_the_headline() -> None:
    assert REPORTED[: len(HEADLINE)] == HEADLINE
    assert set(REPORTED) <= set(METRICS)
    assert len(set(REPORTED)) == 10
