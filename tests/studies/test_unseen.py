"""Domains that were left out one at a time, against direct computation on the same draws."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from atypia.base import records as r
from atypia.base import runs
from atypia.data.manifest import Manifest
from atypia.inference.predictions import predictions_table
from atypia.statistics.casestats import Among, jackknife_values
from atypia.statistics.intervals import Bootstrap, bootstrap_intervals, metric_intervals
from atypia.statistics.metrics import METRICS, auroc, balanced_accuracy, sensitivity
from atypia.statistics.resampling import PredictedLabels as Said
from atypia.statistics.resampling import metric_statistic
from atypia.studies import files
from atypia.studies.findings import unseen
from atypia.studies.findings.pooling import Pool
from atypia.studies.findings.schema import Unseen
from atypia.studies.findings.unseen import unseen_domains
from atypia.studies.plan import Plan, PlannedTraining, Run
from atypia.studies.table import RunPredictions

SEEDS = (0, 1)
BASE, BETTER = "base", "better"
TIES = 0.02
"""Ends differ by the draws that equal the estimate: whole sums find them all, means of floats miss some."""
FLOATS = npt.NDArray[np.float64]


def figures(lacking: str | None = None) -> Manifest:
    """Three scanners with 6, 7 and 8 cases; a case is on two scanners; one scanner may lack positives."""
    rows = []
    for d, scanner in enumerate(("a", "b", "c")):
        for i in range(60 + 10 * d):
            case = "shared" if d < 2 and i % 20 == 0 else f"{scanner}-{i % (6 + d)}"
            rows.append(
                {r.FIGURE_ID: f"{scanner}{i:03d}", r.DATASET: "set", r.IMAGE: f"{scanner}{i}.png", r.CASE_ID: case,
                 r.SCANNER: scanner, r.LABEL: int(i % 3 == 0 and scanner != lacking)}
            )  # fmt: skip
    return Manifest.from_rows(rows, "set")


def said(manifest: Manifest, row: str, seed: int) -> FLOATS:
    """Probabilities that follow the labels, with noise of their own for each row and seed."""
    noise = np.random.default_rng([len(row), seed]).normal(0, 0.3 if row == BETTER else 0.5, len(manifest))
    return np.clip(0.5 + (manifest.labels - 0.5) * 0.5 + noise, 0.001, 0.999)


def threshold_of(scanner: str, seed: int) -> float:
    return 0.4 + 0.1 * seed + 0.05 * "abc".index(scanner)


def found_in(
    manifest: Manifest, out: Path, protocol: Any = ("lodo", {"by": "scanner"}), baseline: str | None = BASE
) -> tuple[list[Unseen], list[str]]:
    """What a study of two rows and two seeds says of its left-out scanners."""
    manifest.save(out / files.MANIFESTS / f"{manifest.fingerprint}.parquet")
    recipe = {"backbone": "tiny-cnn", "adaptation": "probe"}
    trainings = tuple(
        PlannedTraining(row, row, {}, "probe", recipe, manifest.fingerprint, "set", "split", seed)
        for row in (BASE, BETTER)
        for seed in SEEDS
    )
    scanners = np.array(manifest.table[r.SCANNER].to_pylist())
    plan = Plan("s", "full", {}, protocol, trainings, (), {}, {}, (), ("fixed",), baseline, {})
    pool = Pool(plan, out)
    for number, training in enumerate(trainings):
        for scanner in "abc":
            where = np.flatnonzero(scanners == scanner)
            p, threshold = said(manifest, training.label, training.seed)[where], threshold_of(scanner, training.seed)
            table = predictions_table(manifest.take(where), p, threshold, fold=scanner, part=runs.TEST, run_id="x")
            run = Run(f"{number}{scanner}", number, scanner, (0, 0, len(where)))
            pool.add(RunPredictions(run, training, (table,), (manifest.fingerprint,), ()), {"fixed": None})
    limits: list[str] = []
    series = tuple(pool.series().values())
    return unseen_domains(pool, tuple(pool.places()), series, limits), limits


class Directly:
    """A mean over scanners and seeds as a function of case weights, by repeating figures."""

    def __init__(self, manifest: Manifest, metric: str, row: str, less: str | None = None) -> None:
        self.manifest, self.metric, self.row, self.less = manifest, metric, row, less
        self.codes = np.unique(manifest.table[r.CASE_ID].to_pylist(), return_inverse=True)[1]
        self.scanners = np.array(manifest.table[r.SCANNER].to_pylist())

    def of(self, weights: FLOATS) -> FLOATS:
        return np.array([self.one(w, self.row) - (self.one(w, self.less) if self.less else 0.0) for w in weights])

    def one(self, weights: FLOATS, row: str) -> float:
        values = []
        for scanner in "abc":
            own = np.flatnonzero(self.scanners == scanner)
            picked = np.repeat(own, weights[self.codes[own]].astype(int))
            y = self.manifest.labels[picked]
            for seed in SEEDS:
                p = said(self.manifest, row, seed)[picked]
                values.append(auroc(y, p) if self.metric == "auroc" else
                              balanced_accuracy(y, p >= threshold_of(scanner, seed)))  # fmt: skip
        return float(np.mean(values))

    def without_each(self) -> FLOATS:
        return jackknife_values(self, int(self.codes.max()) + 1, len(self.codes))


@pytest.mark.filterwarnings("ignore::atypia.statistics.metrics.UndefinedMetricWarning")
def test_each_domain_counts_alike_and_every_model_decides_at_its_own_threshold(tmp_path: Path) -> None:
    manifest = figures()
    found, limits = found_in(manifest, tmp_path)
    assert [(one.series, one.place, one.reference) for one in found] == [(0, 0, None), (1, 0, 0)]
    assert limits == []
    base, better = found
    assert base.gain == {}
    assert [(d.name, d.n, d.n_positive, d.n_cases, d.n_models) for d in better.domains] == [
        ("a", 60, 20, 7, 2), ("b", 70, 24, 8, 2), ("c", 80, 27, 8, 2),
    ]  # fmt: skip
    assert better.domains[1].threshold == pytest.approx(0.5)
    scanners = np.array(manifest.table[r.SCANNER].to_pylist())
    for one in better.domains:
        own = scanners == one.name
        each = np.stack([said(manifest, BETTER, seed)[own] for seed in SEEDS])
        decided = np.stack([p >= threshold_of(one.name, seed) for p, seed in zip(each, SEEDS, strict=True)])
        cases = [c for c, mine in zip(manifest.table[r.CASE_ID].to_pylist(), own, strict=True) if mine]
        for name in ("auroc", "balanced_accuracy", "sensitivity", "specificity"):
            expected = metric_intervals(manifest.labels[own], Said(each, decided.astype(int)), cases, [name])[name]
            got = one.values[name]
            assert (got.estimate, got.se) == pytest.approx((expected.estimate, expected.se))
            assert (got.low, got.high) == pytest.approx((expected.low, expected.high), abs=TIES)
    n_cases = len(set(manifest.table[r.CASE_ID].to_pylist()))
    for metric in ("auroc", "balanced_accuracy"):
        mean = np.mean([one.values[metric].estimate for one in better.domains])
        assert better.mean[metric].estimate == pytest.approx(mean)
        gain = mean - np.mean([one.values[metric].estimate for one in base.domains])
        assert better.gain[metric].estimate == pytest.approx(gain)
        direct = {"mean": Directly(manifest, metric, BETTER), "gain": Directly(manifest, metric, BETTER, BASE)}
        draws = better.mean[metric].draws
        expected = bootstrap_intervals(direct, len(manifest), n_cases, Bootstrap(draws=draws))
        for got, name in ((better.mean[metric], "mean"), (better.gain[metric], "gain")):
            assert (got.low, got.high) == pytest.approx((expected[name].low, expected[name].high), abs=TIES)
            assert (got.se, got.n_cases) == (pytest.approx(expected[name].se), n_cases)
        worst = better.worst(metric)
        assert worst is not None
        assert worst.values[metric].estimate == min(one.values[metric].estimate for one in better.domains)


@pytest.mark.filterwarnings("ignore::atypia.statistics.metrics.UndefinedMetricWarning")
def test_a_domain_without_positives_is_undefined_and_out_of_the_mean(tmp_path: Path) -> None:
    manifest = figures(lacking="b")
    (base, _), _ = found_in(manifest, tmp_path)
    a, b, c = base.domains
    assert math.isnan(b.values["auroc"].estimate) and math.isnan(b.values["sensitivity"].estimate)
    assert not math.isnan(b.values["specificity"].estimate)
    values = [one.values["sensitivity"].estimate for one in (a, c)]
    assert base.mean["sensitivity"].estimate == pytest.approx(np.mean(values))
    own = np.array(manifest.table[r.SCANNER].to_pylist()) == "a"
    direct = [sensitivity(manifest.labels[own], said(manifest, BASE, s)[own] >= threshold_of("a", s)) for s in SEEDS]
    assert values[0] == pytest.approx(np.mean(direct))
    worst = base.worst("auroc")
    assert worst is not None and worst.name in ("a", "c")
    assert Unseen(0, 0, (b,), {}).worst("auroc") is None


def test_only_left_out_domains_have_them_and_only_a_baseline_is_compared_with(tmp_path: Path) -> None:
    assert found_in(figures(), tmp_path, ("kfold", {})) == ([], [])
    found, _ = found_in(figures(), tmp_path, baseline=None)
    assert [one.reference for one in found] == [None, None]
    by_domain, _ = found_in(figures(), tmp_path, ("lodo", {}))
    assert [one.name for one in by_domain[0].domains] == ["a", "b", "c"]


def test_what_would_cost_too_much_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = found_in(figures(), tmp_path)
    monkeypatch.setattr(unseen, "AUROC_BUDGET", 1.0)
    found, limits = found_in(figures(), tmp_path)
    assert set(limits) == {"domains left out: AUROC without intervals"}
    for one, before in zip(found, whole, strict=True):
        assert one.mean["auroc"].estimate == before.mean["auroc"].estimate
        assert one.mean["auroc"].method == "none" and math.isnan(one.mean["auroc"].low)
        assert one.mean["balanced_accuracy"] == before.mean["balanced_accuracy"]


def test_a_statistic_of_some_cases_is_one_of_all() -> None:
    rng = np.random.default_rng(0)
    labels, p, codes = rng.integers(0, 2, 50), rng.random(50), np.arange(50) % 5
    alone = metric_statistic(METRICS["auroc"], labels, p, codes)
    where = np.array([0, 2, 3, 6, 7])
    among = Among(alone, where, 8)
    weights = rng.integers(1, 4, (20, 8)).astype(float)
    assert among.of(weights) == pytest.approx(alone.of(weights[:, where]))
    assert among.without_each() == pytest.approx(jackknife_values(among, 8, 50))
