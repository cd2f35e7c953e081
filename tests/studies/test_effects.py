"""Main effects of factors, against direct computation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from atypia.reports.study.plots import effect_forest
from atypia.reports.study.statistics import effects_table, moved_table
from atypia.statistics.metrics import auroc, balanced_accuracy
from atypia.studies.findings.compute import study_findings
from atypia.studies.findings.effects import pairs_of
from atypia.studies.findings.schema import Effect, Findings

from .predicted import complete_study, figures, noisy

CROSSED = {
    "good a": {"view": "whole", "labels": "hard"},
    "fair a": {"view": "middle", "labels": "hard"},
    "poor a": {"view": "whole", "labels": "soft"},
    "dull a": {"view": "middle", "labels": "soft"},
}
"""All rows of one backbone: that of a label's last word."""


def pooled(row: str, manifest: object) -> np.ndarray:
    return np.stack([noisy(row, fold, manifest) for fold in range(3)]).mean(axis=0)  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    out = tmp_path_factory.mktemp("crossed")
    plan = complete_study(out, figures("own", 150, 0), rows=tuple(CROSSED), factors=CROSSED, common=60)
    return study_findings(plan, out)[1]


def effect(found: Findings, factor: str, metric: str) -> Effect:
    (one,) = [e for e in found.effects if (e.place, e.factor, e.metric) == (0, factor, metric)]
    return one


def test_an_effect_is_the_mean_over_pairs_that_differ_in_nothing_else(found: Findings) -> None:
    test = figures("own", 150, 0).take(np.arange(60))
    ba = {row: balanced_accuracy(test.labels, pooled(row, test) >= 0.5) for row in CROSSED}
    area = {row: auroc(test.labels, pooled(row, test)) for row in CROSSED}
    view, labels = effect(found, "view", "balanced_accuracy"), effect(found, "labels", "balanced_accuracy")
    assert (view.level, view.reference, view.n_pairs) == ("middle", "whole", 2)
    assert (labels.level, labels.reference, labels.n_pairs) == ("soft", "hard", 2)
    gaps = [ba["fair a"] - ba["good a"], ba["dull a"] - ba["poor a"]]
    assert view.value.estimate == pytest.approx(np.mean(gaps))
    assert (view.least, view.most) == pytest.approx((min(gaps), max(gaps)))
    assert labels.value.estimate == pytest.approx((ba["poor a"] - ba["good a"] + ba["dull a"] - ba["fair a"]) / 2)
    of_area = effect(found, "view", "auroc")
    assert of_area.value.estimate == pytest.approx(
        (area["fair a"] - area["good a"] + area["dull a"] - area["poor a"]) / 2
    )
    assert view.value.low < view.value.estimate < view.value.high
    assert view.value.n_cases == 20
    # Backbone, adaptation and decision are the same in all rows.
    assert {one.factor for one in found.effects} == {"view", "labels"}


def test_the_interval_of_one_pair_is_that_of_its_difference(tmp_path: Path) -> None:
    rows = tuple(CROSSED)[:2]
    plan = complete_study(tmp_path, figures("own", 150, 0), rows=rows, factors=CROSSED, common=60, baseline="good a")
    found = study_findings(plan, tmp_path)[1]
    (one,) = [d for d in found.differences if d.place == 0 and d.metric == "balanced_accuracy"]
    value = effect(found, "view", "balanced_accuracy").value
    assert (value.estimate, value.low, value.high) == pytest.approx((one.value.estimate, one.value.low, one.value.high))


def test_rows_are_paired_by_every_other_level() -> None:
    def row(view: str, backbone: str, decision: str = "fixed") -> dict[str, str]:
        return {"view": view, "backbone": backbone, "decision": decision, "": ""}

    levels = {
        0: row("whole", "a"), 1: row("middle", "a"), 2: row("whole", "b"), 3: row("middle", "c"),
        4: row("whole", "a", "fitted"), 5: {"backbone": "b", "decision": "fixed", "": ""},
    }  # fmt: skip
    assert pairs_of(levels) == {
        ("view", "middle", "whole"): [(1, 0)],
        ("backbone", "b", "a"): [(2, 0)],
        ("backbone", "c", "a"): [(3, 1)],
        ("decision", "fitted", "fixed"): [(4, 0)],
    }


def test_ways_to_adapt_are_compared_with_the_probe() -> None:
    rows = [("full", "a"), ("lora", "b"), ("probe", "a"), ("probe", "b")]
    levels = {number: {"adaptation": how, "backbone": which, "": ""} for number, (how, which) in enumerate(rows)}
    found = pairs_of(levels)
    assert found["adaptation", "full", "probe"] == [(0, 2)]
    assert found["adaptation", "lora", "probe"] == [(1, 3)]
    assert found["backbone", "b", "a"] == [(3, 2)]


def test_the_report_shows_effects(found: Findings) -> None:
    table = effects_table(found, "mine")
    places = {one.place for one in found.effects}
    assert len(table.rows) == len(found.effects) == 2 * 2 * len(places)
    assert len(moved_table(found, "mine").rows) == 2 * len(places)
    forest = effect_forest(found)
    assert forest is not None
    assert [row.label for row in forest.rows] == ["middle less whole", "soft less hard"]
    assert [row.detail for row in forest.rows] == ["view, 2 pairs", "labels, 2 pairs"]
    value = effect(found, "view", "balanced_accuracy").value
    point = forest.rows[0].points[0]
    assert point is not None
    assert (point.value, point.low, point.high) == (value.estimate, value.low, value.high)


def test_nothing_crossed_has_no_effects(tmp_path: Path) -> None:
    plan = complete_study(tmp_path, figures("own", 120, 0))
    assert study_findings(plan, tmp_path)[1].effects == ()
