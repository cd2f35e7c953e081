"""The shifted validation of a study, and what heads on frozen features can do about laboratories."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from atypia.base import records as r
from atypia.base.errors import InputError
from atypia.data.phantom.dataset import write_phantom
from atypia.inference.predictions import read_predictions
from atypia.methods.catalogue import PROBES
from atypia.methods.head import FeatureRows
from atypia.methods.probes.atypia import group_weights
from atypia.reports.study.unseen import unseen_table
from atypia.studies.findings.compute import study_findings
from atypia.studies.ledger import Ledger
from atypia.studies.plan import Plan
from atypia.studies.run import run_study
from atypia.studies.schema import StudyConfig
from atypia.studies.shifted import planned_shifts, shifted_set
from atypia.training.schema import copied_view

from .small import plan_of

SHIFT = "dark"


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path]:
    """A plain head, and one with group DRO and two copies of each figure, on phantom laboratories left out."""
    folder = tmp_path_factory.mktemp("shifted")
    write_phantom(folder / "phantom", 96, 2)
    given = {
        "name": "shifted", "summary": "a test", "baseline": "plain",
        "data": {"train": str(folder / "phantom" / "manifest.parquet"), "shifts": [SHIFT]},
        "protocol": {"name": "lodo", "options": {"by": "domain"}},
        "models": [
            {"recipe": "probe", "backbones": ["tiny-cnn"], "label": "plain"},
            {"recipe": "probe", "backbones": ["tiny-cnn"], "label": "all",
             "set": {"options.groups": "dro", "copies": ["view-0.5", "stain-ruifrok"]}},
        ],
        "sizes": {"smoke": {"set": {"geometry.out_px": 32, "input_px": 32, "options.strengths": [0.1]}}},
    }  # fmt: skip
    plan, out = plan_of(given, folder)
    plan.save(out)
    done = run_study(plan, out, "inline")
    assert not done.failed, done.failed
    return plan, out


def test_left_out_figures_are_scored_under_the_change(studied: tuple[Plan, Path]) -> None:
    plan, out = studied
    ((changed, shift),) = plan.shifts.items()
    assert shift == SHIFT and plan.tests[changed].endswith(f", {SHIFT}")
    run = plan.to_do()[0]
    folder = Ledger(out).folder(run.id)
    own, _ = read_predictions(folder / run.fold / "predictions.parquet")
    (path,) = folder.glob("evaluations/*/*.parquet")
    scored, _ = read_predictions(path)
    test = [row for row in own.to_pylist() if row["part"] == "test"]
    assert set(scored["part"].to_pylist()) == {"test"}
    before = {row[r.FIGURE_ID]: row[r.P_ATYPICAL] for row in test}
    after = {row[r.FIGURE_ID].removesuffix(f"~{SHIFT}"): row[r.P_ATYPICAL] for row in scored.to_pylist()}
    assert before.keys() == after.keys()
    assert max(abs(before[one] - after[one]) for one in before) > 0.01, "other crops give other probabilities"
    assert run_study(plan, out, "inline").kept, "nothing is done twice"


def test_the_report_has_mean_and_worst_of_both(studied: tuple[Plan, Path]) -> None:
    plan, out = studied
    _, found = study_findings(plan, out)
    assert len({one.place for one in found.unseen}) == 2 and len(found.unseen) == 4
    for one in found.unseen:
        worst = one.worst("auroc")
        assert worst is not None and worst.values["auroc"].estimate <= one.mean["auroc"].estimate
    table = unseen_table(found, "shifted")
    assert table.columns[0].title == "crops"
    rows = [dict(zip([c.name for c in table.columns], row, strict=True)) for row in table.rows]
    assert sum(row["left_out"] == "worst" for row in rows) == 4
    assert {str(row["crops"]).endswith(SHIFT) for row in rows} == {True, False}
    assert any("minus that of plain" in str(row["left_out"]) for row in rows)


def test_one_training_set_and_known_changes_only(tmp_path: Path) -> None:
    manifest = write_phantom(tmp_path / "phantom", 24, 1)
    assert shifted_set(manifest, "blur").fingerprint != shifted_set(manifest, "jpeg").fingerprint
    two = {"train": [{"phantom": {"n": 24}}, {"phantom": {"n": 24, "seed": 1}}], "shifts": ["blur"]}
    base = {"name": "s", "summary": "x", "protocol": {"name": "lodo"}, "models": [{"recipe": "probe"}]}
    with pytest.raises(InputError, match=r"`data.train` must be one set where `shifts` are given, got 2 sets"):
        planned_shifts(StudyConfig.model_validate({**base, "data": two}).data, manifest, tmp_path)
    with pytest.raises(ValueError, match=r"`shift` must be one of .*fog"):
        StudyConfig.model_validate({**base, "data": {"train": "x", "shifts": ["fog"]}})
    assert copied_view("view-0.75") == 0.75
    for wrong in ("view-0", "view-2", "view-x"):
        with pytest.raises(ValueError, match=r"`copies` must be view-SHARE"):
            copied_view(wrong)


def test_laboratories_weigh_the_same_and_group_dro_lifts_the_worst() -> None:
    weights = group_weights(np.array([0, 0, 0, 0, 1, 1], np.int8), np.array([0, 0, 0, 1, 0, 1]))
    assert weights.sum() == pytest.approx(6) and weights[:4].sum() == pytest.approx(weights[4:].sum())
    assert weights[:3].sum() == pytest.approx(weights[3]) and weights[4] == pytest.approx(weights[5])
    # A small domain whose classes lie the other way round on the first axis, and are told apart by the second.
    rng = np.random.default_rng(0)
    sizes, labels, domains, x = (400, 80), [], [], []
    for domain, size in enumerate(sizes):
        y = np.arange(size) % 2
        sign = np.where(y == 1, 1.0, -1.0)
        first = (1.5 if domain == 0 else -1.0) * sign
        x.append(np.column_stack([first, 0.8 * sign]) + rng.normal(size=(size, 2)))
        labels.append(y)
        domains.append(np.full(size, f"domain {domain}"))
    values, y, of = np.concatenate(x), np.concatenate(labels).astype(np.int8), np.concatenate(domains)
    cases = np.arange(len(y)).astype(str)
    probe, rows = PROBES["atypia"], [FeatureRows(np.arange(len(y)), np.empty(0, np.int64))]
    worst = {}
    for groups in ("none", "balanced", "dro"):
        options = probe.parse_options({"strengths": [0.01], "groups": groups, "dro_step": 2.0})
        (head,) = probe.fit_folds(values, y, cases, rows, 0, options, domains=of)
        right = (head.logits(values) > 0) == (y == 1)
        worst[groups] = min(right[of == name].mean() for name in set(of.tolist()))
        assert ("domain_weights" in head.info) == (groups == "dro")
    assert worst["none"] < worst["balanced"] <= worst["dro"] + 0.02
    assert worst["dro"] > worst["none"] + 0.1
