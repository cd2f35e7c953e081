"""What a report shows, against direct computation: pooling, intervals, differences, folds, ranks, raters, the cache."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pydantic import TypeAdapter

from atypia.base import records as r
from atypia.base import runs
from atypia.evaluation import rows as e
from atypia.evaluation.published import published_folds
from atypia.evaluation.rows import write_rows
from atypia.statistics.agreement import agreement, vote_matrix
from atypia.statistics.delong import auroc_interval, compare_aurocs
from atypia.statistics.differences.crossvalidation import corrected_t
from atypia.statistics.differences.multiple import holm, rank_models
from atypia.statistics.differences.paired import mcnemar, swap_test
from atypia.statistics.intervals import Bootstrap, difference_intervals, metric_intervals
from atypia.statistics.metrics import METRICS, average_precision, balanced_accuracy, ece, roc_curve
from atypia.statistics.resampling import PredictedLabels, metric_statistic
from atypia.studies.findings import compute as module
from atypia.studies.findings.comparisons import is_baseline
from atypia.studies.findings.compute import KEPT, about_study, findings_key, study_findings
from atypia.studies.findings.fold_tests import FoldResults, adaptation_tests, ranks
from atypia.studies.findings.keys import Group, group_of
from atypia.studies.findings.schema import COMMON, HELD_OUT, Findings, Place, Series
from atypia.studies.findings.scoring import draws_for, mean_auroc_interval, rate_statistic, thinned
from atypia.studies.plan import Plan
from atypia.studies.run import Status, study_status

from .predicted import complete_study, figures, held_out, noisy

HEADLINE = ("balanced_accuracy", "sensitivity", "specificity", "auroc")


def test_a_common_test_part_is_the_mean_of_the_fold_models(tmp_path: Path) -> None:
    train, other = figures("own", 120, 0), figures("other", 60, 1, cases=None)
    plan = complete_study(tmp_path, train, [other])
    _, found = study_findings(plan, tmp_path)
    assert [(p.dataset, p.part, p.pooling, p.n, p.n_cases, p.n_known) for p in found.places] == [
        ("own", "test", COMMON, 30, 20, 30), ("other", "external", COMMON, 60, 60, 0), ("own", "val", HELD_OUT, 90, 20, 90),
    ]  # fmt: skip
    assert [s.label for s in found.series] == ["good", "fair", "poor"]

    test = train.take(np.arange(30))
    each = np.stack([noisy("fair", fold, test) for fold in range(3)])
    (score,) = [s for s in found.scores if (s.series, s.place) == (1, 0)]
    p, options = each.mean(axis=0), Bootstrap(draws=2000)
    pooled = metric_intervals(test.labels, PredictedLabels(p, (p >= 0.5).astype(int)), test.cases, HEADLINE, options)
    several = metric_intervals(
        test.labels, PredictedLabels(each, (each >= 0.5).astype(int)), test.cases, HEADLINE[:3], options
    )
    for name in HEADLINE:
        assert score.pooled[name].estimate == pytest.approx(pooled[name].estimate, abs=1e-12)
        assert (score.pooled[name].low, score.pooled[name].high) == pytest.approx((pooled[name].low, pooled[name].high))
    for name in HEADLINE[:3]:
        assert score.each[name].estimate == pytest.approx(several[name].estimate)
        assert score.each[name].se == pytest.approx(several[name].se)
    assert score.value("balanced_accuracy") == score.each["balanced_accuracy"].estimate
    values = [balanced_accuracy(test.labels, row >= 0.5) for row in each]
    assert score.runs["balanced_accuracy"].mean == pytest.approx(np.mean(values))
    assert score.runs["balanced_accuracy"].sd == pytest.approx(np.std(values))
    assert score.confusion == (
        int(((p >= 0.5) & (test.labels == 1)).sum()), int(((p < 0.5) & (test.labels == 1)).sum()),
        int(((p >= 0.5) & (test.labels == 0)).sum()), int(((p < 0.5) & (test.labels == 0)).sum()),
    )  # fmt: skip
    assert score.curves is not None
    assert score.curves.average_precision == pytest.approx(average_precision(test.labels, p))
    assert score.curves.ece == pytest.approx(ece(test.labels, p))
    fpr, tpr, _ = roc_curve(test.labels, p)
    assert score.curves.roc.x == pytest.approx(fpr.round(4))
    assert score.curves.roc.y == pytest.approx(tpr.round(4))
    assert [d.domain for d in score.domains] == ["scanner 0", "scanner 1"]
    assert sum(d.n for d in score.domains) == 30


def test_validation_parts_are_out_of_fold(tmp_path: Path) -> None:
    train = figures("own", 120, 0)
    _, found = study_findings(complete_study(tmp_path, train), tmp_path)
    p = np.full(120, np.nan)
    for fold in range(3):
        held = held_out(120, 30, 3, fold)
        p[held] = noisy("good", fold, train.take(held))
    (score,) = [s for s in found.scores if s.series == 0 and found.places[s.place].part == runs.VALIDATION]
    assert score.each == {}
    assert score.n == 90
    expected = balanced_accuracy(train.labels[30:], p[30:] >= 0.5)
    assert score.pooled["balanced_accuracy"].estimate == pytest.approx(expected)


def test_differences_are_paired_and_corrected_over_the_table(tmp_path: Path) -> None:
    train = figures("own", 120, 0)
    plan = complete_study(tmp_path, train, baseline="poor")
    _, found = study_findings(plan, tmp_path)
    assert found.baseline
    assert {found.series[d.reference].label for d in found.differences} == {"poor"}
    test = train.take(np.arange(30))
    good, poor = (np.mean([noisy(row, fold, test) for fold in range(3)], axis=0) for row in ("good", "poor"))
    first, second = (PredictedLabels(p, (p >= 0.5).astype(int)) for p in (good, poor))
    by = {(d.series, d.place, d.metric): d for d in found.differences}
    ba, area = by[0, 0, "balanced_accuracy"], by[0, 0, "auroc"]
    interval = difference_intervals(test.labels, first, second, test.cases, ["balanced_accuracy"])["balanced_accuracy"]
    assert (ba.value.estimate, ba.value.low, ba.value.high) == pytest.approx(
        (interval.estimate, interval.low, interval.high)
    )
    swapped = swap_test(test.labels, first, second, test.cases, ["balanced_accuracy"])["balanced_accuracy"]
    assert ba.p == pytest.approx(swapped.p)
    assert area.p == pytest.approx(compare_aurocs(test.labels, good, poor, test.cases).p)
    assert ba.p_mcnemar == pytest.approx(mcnemar(test.labels, first.decisions, second.decisions, "mid-p").p)
    assert [d.p_holm for d in found.differences] == pytest.approx(holm([d.p for d in found.differences]).tolist())
    # Fold by fold, on the validation parts only: the test part is one and the same.
    assert {found.places[d.place].part for d in found.folds} == {runs.VALIDATION}
    (fold,) = [d for d in found.folds if (d.series, d.metric) == (0, "balanced_accuracy")]
    gaps = []
    for number in range(3):
        held = train.take(held_out(120, 30, 3, number))
        values = [balanced_accuracy(held.labels, noisy(row, number, held) >= 0.5) for row in ("good", "poor")]
        gaps.append(values[0] - values[1])
    assert fold.outcome.p == pytest.approx(corrected_t(gaps, 60, 30).p)


def test_fitted_thresholds_are_rows_of_their_own(tmp_path: Path) -> None:
    train = figures("own", 120, 0)
    plan = complete_study(tmp_path, train, decisions=("fixed", "fitted"), rows=("good",))
    _, found = study_findings(plan, tmp_path)
    assert [(s.label, s.decision) for s in found.series] == [
        ("good · fixed threshold", "fixed"), ("good · fitted threshold", "fitted"),
    ]  # fmt: skip
    fixed, fitted = (next(s for s in found.scores if (s.series, s.place) == (n, 0)) for n in (0, 1))
    assert fixed.threshold == 0.5
    assert fitted.threshold != 0.5
    assert fitted.pooled["auroc"].estimate == fixed.pooled["auroc"].estimate


def test_a_row_whose_label_looks_like_a_decision_of_the_baseline_is_a_row_of_its_own(tmp_path: Path) -> None:
    labels = ("good", "good · other threshold")
    plan = complete_study(tmp_path, figures("own", 120, 0), decisions=("fixed", "fitted"), rows=labels, baseline="good")
    _, found = study_findings(plan, tmp_path)
    assert [is_baseline(one, "good") for one in found.series] == [True, True, False, False]
    assert {found.series[one.reference].row for one in found.differences} == {"good"}
    assert {found.series[one.reference].row for one in found.folds} == {"good"}


def test_rows_are_told_apart_by_share_and_training_set(tmp_path: Path) -> None:
    train = figures("own", 60, 0)
    plan = complete_study(tmp_path, train, rows=("good",), folds=1)
    fractions = Plan(**{**vars(plan), "protocol": ("monte-carlo", {})})
    training = plan.trainings[0]
    assert group_of(fractions, training, "repeat-1-fraction-0.1") == Group(fraction=0.1)
    assert group_of(fractions, training, "repeat-1-fraction-0.1").words() == "10 % of the data"
    assert group_of(plan, training, "fold-1").words() == ""
    single = Plan(**{**vars(plan), "protocol": ("cross-domain", {})})
    assert group_of(single, training, "scanner-0-repeat-2").words() == "on scanner-0"
    assert group_of(single, training, "scanner-0-repeat-2").words({"scanner-0": "Scanner 0"}) == "on Scanner 0"
    two = replace(plan, trainings=(training, replace(training, data="x")))
    assert group_of(two, two.trainings[1], "fold-1").words() == "on x"
    # Two sets of one name are told apart by what they hold.
    same = replace(fractions, trainings=(training, replace(training, manifest="other")))
    groups = [group_of(same, one, "repeat-1-fraction-0.5") for one in same.trainings]
    assert groups[0] != groups[1]
    assert groups[0].words() == "on own, 50 % of the data"
    assert groups[0].words(fraction=False) == "on own"


def test_raters_and_gallery_are_about_the_figures_of_the_place(tmp_path: Path) -> None:
    train = figures("own", 90, 0, root=tmp_path / "images")
    _, found = study_findings(complete_study(tmp_path / "out", train), tmp_path / "out")
    test = train.take(np.arange(30))
    direct = agreement(vote_matrix(test.table[r.VOTES].to_pylist()))
    (raters,) = [one for one in found.raters if one.place == 0]
    assert (raters.fleiss, raters.level, raters.scores) == (direct.fleiss, direct.human_level, direct.scores)
    (gallery,) = found.galleries
    p = np.mean([noisy("good", fold, test) for fold in range(3)], axis=0)
    wrong = (p >= 0.5) != (test.labels == 1)
    assert gallery.n_missed + gallery.n_alarms == wrong.sum()
    shown = [*gallery.missed, *gallery.alarms]
    assert {crop.figure_id for crop in shown} <= {test.ids[i] for i in np.flatnonzero(wrong)}
    assert [crop.p for crop in gallery.missed] == sorted(crop.p for crop in gallery.missed)
    assert [crop.p for crop in gallery.alarms] == sorted((crop.p for crop in gallery.alarms), reverse=True)
    assert all(crop.jpeg.startswith("/9j/") for crop in shown)
    assert all(1 <= crop.also_wrong <= 3 for crop in shown)


def test_crops_that_are_not_at_hand_are_said(tmp_path: Path) -> None:
    _, found = study_findings(complete_study(tmp_path, figures("own", 90, 0)), tmp_path)
    assert found.galleries[0].absent == "the images of own are not on this machine"
    assert not any(crop.jpeg for crop in found.galleries[0].missed)


def test_findings_are_kept_until_their_predictions_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = complete_study(tmp_path, figures("own", 90, 0))
    results, found = study_findings(plan, tmp_path)
    key = findings_key(plan, tmp_path)
    monkeypatch.setattr(module, "collect_study", lambda *_, **__: pytest.fail("read again"))
    kept, again = study_findings(plan, tmp_path)
    assert TypeAdapter(Findings).dump_json(again) == TypeAdapter(Findings).dump_json(found)
    assert kept.rows.to_pylist() == results.rows.to_pylist()
    assert kept.runs.to_pylist() == results.runs.to_pylist()
    monkeypatch.undo()
    # A table that somebody changed or removed is computed from the predictions again.
    for change in (lambda path: path.unlink(), lambda path: write_rows(path, results.rows.slice(1))):
        change(tmp_path / "results.parquet")
        assert study_findings(plan, tmp_path)[0].rows.to_pylist() == results.rows.to_pylist()
    (tmp_path / KEPT).write_text("damaged", "utf-8")
    assert asdict(study_findings(plan, tmp_path)[1])["places"] == asdict(found)["places"]
    path = next(tmp_path.glob("runs/*/fold-1/predictions.parquet"))
    from atypia.inference.predictions import read_predictions, write_predictions

    table, _ = read_predictions(path)
    changed = table.set_column(1, table.schema.field(1), pa.array(1 - table[r.P_ATYPICAL].to_numpy()))
    decided = (changed[r.P_ATYPICAL].to_numpy() >= 0.5).astype(np.int8)
    changed = changed.set_column(2, table.schema.field(2), pa.array(decided))
    write_predictions(path, changed)
    assert findings_key(plan, tmp_path) != key
    _, other = study_findings(plan, tmp_path)
    assert other.scores != found.scores


def test_what_a_report_says_of_the_study(tmp_path: Path) -> None:
    plan = complete_study(tmp_path, figures("own", 90, 0), protocol=("kfold", {"folds": 3, "by": None}))
    status = study_status(plan, tmp_path)
    failed = Status(status.counts, status.rows, [("good", "fold-1", "abc", "why")], {"weights": ["uni"]}, {}, None)
    about = about_study(plan, tmp_path, failed, ["doubt", "doubt"])
    assert about.counts["done"] == 9
    assert about.seconds == 18.0
    assert about.protocol == "kfold (folds 3)"
    assert about.environments == (({"python": "3.11"}, 9),)
    assert about.warnings == ("doubt",)
    assert (about.failures[0].reason, about.lacking) == ("why", {"weights": ("uni",)})
    assert str(tmp_path) not in "".join(about.commands)
    assert about.study_yaml == "name: mine\nsummary: a test\n"
    assert about.summary == "a test"
    sized = replace(plan, study={"name": "mine", "summary": "a test", "sizes": {"smoke": {"summary": "less of it"}}})
    assert about_study(sized, tmp_path, study_status(sized, tmp_path)).summary == "a test. At this size: less of it"


def published_results() -> tuple[pa.Table, list[Series], list[Place]]:
    """The AMi-Br benchmark's published folds as result rows of a study."""
    rows, series = [], []
    places = [Place(name, runs.TEST, COMMON, 100, 30, 10, 100) for name in ("ami-br", "atnorm-br", "atnorm-md")]
    base = dict.fromkeys(e.RESULTS_SCHEMA.names)
    for adaptation in ("full", "probe", "lora"):
        for model in published_folds("banerjee", "ami-br", "balanced_accuracy", adaptation):
            series.append(Series(f"{model} {adaptation}", f"{model} {adaptation}", "", model, adaptation))
            for place in places:
                values = published_folds("banerjee", place.dataset, "balanced_accuracy", adaptation)[model]
                rows += [
                    {**base, e.MODEL: series[-1].model, e.TRAIN_DATA: "ami-br", r.DATASET: place.dataset,
                     r.PART: runs.TEST, r.FOLD: f"fold-{fold + 1}", e.METRIC: "balanced_accuracy", e.VALUE: value,
                     e.N: 100, e.N_POSITIVE: 30, e.PREDICTIONS: "x"}
                    for fold, value in enumerate(values)
                ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=e.RESULTS_SCHEMA), series, places


def test_published_folds_give_the_published_p_values() -> None:
    rows, series, places = published_results()
    index = {one.model: number for number, one in enumerate(series)}
    where = {place.dataset: number for number, place in enumerate(places)}
    results = FoldResults(rows, places, lambda row: (where[row[r.DATASET]], index[row[e.MODEL]]))
    tests = {(t.place, t.first, t.second): t for t in adaptation_tests(results, series)}
    printed = {
        ("probe", "lora"): ("5.82e-11", "1.16e-10", "5.82e-11"),
        ("full", "probe"): ("2.91e-08", "2.91e-08", "2.91e-08"),
        ("full", "lora"): ("0.7348", "0.0610", "0.0903"),
    }
    for (first, second), values in printed.items():
        for place, text in enumerate(values):
            by_fold, by_row = tests[place, first, second].tests
            form = ".4f" if text.startswith("0") else ".2e"
            assert format(by_fold.outcome.p, form) == text
            assert by_row.outcome.p > by_fold.outcome.p
    assert tests[0, "probe", "lora"].n_first == 7
    assert tests[0, "full", "lora"].n_first == 3


def test_ranks_need_three_rows_and_five_blocks() -> None:
    rng = np.random.default_rng(0)
    values = rng.uniform(0.5, 0.9, (5, 3))
    base = dict.fromkeys(e.RESULTS_SCHEMA.names)
    place = Place("set", runs.TEST, COMMON, 100, 30, 10, 100)
    series = [Series(name, name, "", name, "probe") for name in "abc"]
    rows = [
        {**base, e.MODEL: name, e.TRAIN_DATA: "own", r.DATASET: "set", r.PART: runs.TEST, r.DOMAIN: domain,
         r.FOLD: "fold-1", e.METRIC: "balanced_accuracy", e.VALUE: value, e.N: n, e.N_POSITIVE: positive,
         e.PREDICTIONS: "x"}
        for j, name in enumerate("abc")
        for domain, value, n, positive in [
            *((f"domain {i}", values[i, j], 40, 10) for i in range(5)),
            ("small", 1.0, 8, 4), ("undefined", math.nan, 40, 0),
        ]
    ]  # fmt: skip
    table = pa.Table.from_pylist(rows, schema=e.RESULTS_SCHEMA)
    (ranked,) = ranks(FoldResults(table, [place], lambda row: (0, "abc".index(row[e.MODEL]))), series)
    assert ranked.blocks == tuple(f"set: domain {i}" for i in range(5))
    assert ranked.left_out == 2
    assert ranked.ranking == rank_models(values, list("abc"))
    table = table.filter(pc.is_in(table[e.MODEL], pa.array(["a", "b"])))  # pyright: ignore[reportAttributeAccessIssue]
    assert ranks(FoldResults(table, [place], lambda row: (0, "ab".index(row[e.MODEL]))), series[:2]) == ()


def test_rates_of_several_models_are_their_mean_and_tie_exactly() -> None:
    rng = np.random.default_rng(0)
    labels, codes = rng.random(60) < 0.4, np.arange(60) % 12
    decisions = rng.random((3, 60)) < 0.3 + 0.4 * labels
    weights = rng.integers(0, 4, (50, 12)).astype(float)
    for metric in HEADLINE[:3]:
        found = rate_statistic(metric, labels, decisions.sum(axis=0), codes, 3)
        single = [metric_statistic(METRICS[metric], labels, row, codes) for row in decisions]
        assert found.of(weights) == pytest.approx(np.mean([one.of(weights) for one in single], axis=0))
        assert found.without_each() == pytest.approx(np.mean([one.without_each() for one in single], axis=0))
        assert found.of(np.ones((1, 12)))[0] == found.of(np.full((1, 12), 3.0))[0]


def test_mean_of_equal_aurocs_has_the_interval_of_one() -> None:
    rng = np.random.default_rng(0)
    labels, cases = rng.random(80) < 0.4, np.arange(80) % 30
    scores = rng.random(80) + labels * 0.5
    one = auroc_interval(labels, scores, cases)
    three = mean_auroc_interval(labels, np.stack([scores] * 3), cases, 30)
    assert (three.estimate, three.low, three.high) == pytest.approx((one.estimate, one.low, one.high))


def test_work_is_bounded() -> None:
    assert draws_for(50, 10) == 2000
    assert draws_for(1_000_000, 100) == 400
    assert 400 < draws_for(20_000, 20) < 2000
    x = np.linspace(0, 1, 5000)
    line = thinned(x, np.sqrt(x))
    assert len(line.x) <= 160
    assert (line.x[0], line.x[-1], line.y[-1]) == (0.0, 1.0, 1.0)
    assert np.abs(np.interp(x, line.x, line.y) - np.sqrt(x)).max() < 0.02


def test_rows_below_the_detailed_ones_are_about_the_same_number(tmp_path: Path) -> None:
    plan = complete_study(tmp_path, figures("own", 60, 0), rows=[f"row {i}" for i in range(15)], folds=2)
    _, found = study_findings(plan, tmp_path)
    order = found.at(0)
    assert [len(one.each) for one in order] == [4] * 15
    values = [one.value("balanced_accuracy") for one in order]
    assert values == sorted(values, reverse=True)
    for one in order:
        assert one.each["balanced_accuracy"].estimate == pytest.approx(one.runs["balanced_accuracy"].mean)
        assert one.each["auroc"].estimate == pytest.approx(one.runs["auroc"].mean)
        assert one.each["balanced_accuracy"].method == "bca"
    assert [one.pooled["balanced_accuracy"].method for one in order] == ["bca"] * 12 + ["none"] * 3
    assert [one.curves is not None for one in order] == [True] * 6 + [False] * 9
