"""Generated figures in studies: planned, made, added, and compared in pairs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from atypia.base import records as r
from atypia.base.artifacts import read_json
from atypia.base.errors import InputError
from atypia.cli.synth import app
from atypia.data.manifest import Manifest
from atypia.engines.tasks import Setup
from atypia.reports.study.synthetic_gain_plots import synthetic_gain_plots
from atypia.studies.files import load_study
from atypia.studies.findings.synthetic_gain import synthetic_gains, synthetic_gains_table
from atypia.studies.plan import Plan, make_plan
from atypia.studies.run import run_study
from atypia.studies.table import collect_study

from .toys import SIDE

GENERATOR = {
    "generator": "tiny",
    "steps": 3,
    "set": {
        "geometry.out_px": SIDE, "autoencoder.channels": [8, 16], "autoencoder.groups": 4, "denoiser.layers": 1,
        "denoiser.heads": 2, "denoiser.head_dim": 16, "denoiser.patch": 4, "turns": False,
        "pretrain.autoencoder.epochs": 1, "pretrain.denoiser.epochs": 0, "finetune.denoiser.epochs": 1,
    },
}  # fmt: skip


def values(toys: Path, **changes: Any) -> dict[str, Any]:
    """A probe with and without generated figures."""
    probe = {"recipe": "probe", "backbones": ["tiny-cnn"], "set": {"geometry.out_px": 32}}
    return {
        "name": "small",
        "summary": "a test",
        "data": {"train": str(toys)},
        "protocol": {"name": "kfold", "options": {"folds": 2}},
        "synthetic": {"plain": GENERATOR, "picked": {**GENERATOR, "oversample": 2.0, "drop_copies": True, "min_p": 0.0,
                                                     "judge_set": {"backbone": "tiny-cnn", "geometry.out_px": 32}}},
        "models": [
            {**probe, "label": "real only"},
            {**probe, "label": "balanced", "synthetic": "plain"},
            {**probe, "label": "half · real only", "positives": 0.5},
            {**probe, "label": "half · picked", "positives": 0.5, "synthetic": "picked"},
        ],
        "baseline": "real only",
        "sizes": {"smoke": {}},
        **changes,
    }  # fmt: skip


def planned(given: dict[str, Any], folder: Path) -> tuple[Plan, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "small.yaml").write_text(yaml.safe_dump(given), "utf-8")
    out = folder / "out"
    return make_plan(load_study(str(folder / "small.yaml")).sized("smoke"), out), out


def test_generated_figures_are_part_of_a_run_s_identity(toys: Path, tmp_path: Path) -> None:
    def ids(name: str, **changes: Any) -> dict[tuple[str, str], str]:
        plan, _ = planned(values(toys, **changes), tmp_path / name)
        return {(plan.trainings[run.training].label, run.fold): run.id for run in plan.runs}

    first = ids("a")
    assert len(set(first.values())) == 8
    assert ids("b") == first
    stronger = {"plain": {**GENERATOR, "guidance": 4.0}, "picked": values(toys)["synthetic"]["picked"]}
    changed = ids("c", synthetic=stronger)
    assert {key for key in first if changed[key] != first[key]} == {("balanced", f"fold-{i}") for i in (1, 2)}
    # Rows without generated figures are the runs of a study that knows none.
    plain = [row for row in values(toys)["models"] if "synthetic" not in row and "positives" not in row]
    without = ids("d", synthetic={}, models=plain)
    assert without == {key: first[key] for key in without}

    plan, out = planned(values(toys), tmp_path / "a")
    plan.save(out)
    assert Plan.load(out) == plan
    sizes = {plan.trainings[run.training].label: run.sizes[0] for run in plan.runs if run.fold == "fold-1"}
    assert sizes["half · real only"] == sizes["real only"] - 4


def test_a_study_makes_what_it_adds_and_compares_in_pairs(toys: Path, tmp_path: Path) -> None:
    plan, out = planned(values(toys), tmp_path)
    plan.save(out)
    ran = run_study(plan, out, "inline", Setup(None))
    assert not ran.failed and len(ran.done) == 8

    for run in plan.runs:
        label = plan.trainings[run.training].label
        manifest = Manifest.load(out / "runs" / run.id / "manifest.parquet")
        made = int(manifest.synthetic.sum())
        assert (made > 0) == (label in ("balanced", "half · picked")), label
        split = read_json(out / "runs" / run.id / run.fold / "split.json")["folds"][0]
        synthetic = {figure for figure, is_made in zip(manifest.ids, manifest.synthetic, strict=True) if is_made}
        assert not synthetic & {*split["val"], *split["test"]}
        labels = manifest.take(manifest.rows_of(split["train"])).labels
        if label == "balanced":
            assert (labels == 0).sum() == (labels == 1).sum()

    collect_study(plan, out)
    found = synthetic_gains(out, ["auroc"])
    assert [(one.row, one.against, one.positives, one.folds) for one in found] == [
        ("balanced", "real only", 1.0, 2), ("half · picked", "half · real only", 0.5, 2)
    ]  # fmt: skip
    assert (found[0].n_positives, found[1].n_positives) == (8, 4)
    assert found[0].mean == pytest.approx(np.mean(found[0].each))
    assert synthetic_gains_table(found).num_rows == 2

    (chart,) = synthetic_gain_plots(found)
    assert [(row.label, row.detail) for row in chart.rows] == [
        ("balanced", "8 positives per fold"), ("half · picked", "4 positives per fold")
    ]  # fmt: skip
    assert [row.points[0].value for row in chart.rows if row.points[0]] == [one.mean for one in found]
    ended = CliRunner().invoke(app, ["gain", str(out), "--metric", "auroc"])
    assert ended.exit_code == 0
    assert "no difference" in (out / "gains" / "gain-auroc.svg").read_text("utf-8")


def test_what_cannot_be_planned(toys: Path, tmp_path: Path) -> None:
    unknown = values(toys)
    unknown["models"][1]["synthetic"] = "other"
    with pytest.raises(InputError, match=r"`synthetic` must be a key of the study's `synthetic` \(picked, plain\)"):
        planned(unknown, tmp_path / "a")
    changed = values(
        toys, synthetic={"plain": {"generator": "runs/{fold}", "set": {"turns": True}}, "picked": GENERATOR}
    )
    with pytest.raises(InputError, match="without changes of trained generators"):
        planned(changed, tmp_path / "b")


def test_trained_generators_are_used_where_they_are_named(toys: Path, trained: Path, tmp_path: Path) -> None:
    """The fold's own generator, and no other: the study's split is that of the training."""
    own = {"generator": str(trained / "{fold}"), "steps": 3}
    models = [row for row in values(toys)["models"] if row["label"] in ("real only", "balanced")]
    plan, out = planned(values(toys, synthetic={"plain": own}, models=models), tmp_path)
    plan.save(out)
    ran = run_study(plan, out, "inline", Setup(None))
    assert not ran.failed
    (run,) = (run for run in plan.runs if plan.trainings[run.training].label == "balanced" and run.fold == "fold-2")
    manifest = Manifest.load(out / "runs" / run.id / "manifest.parquet")
    folds = set(manifest.table[r.GENERATOR_FOLD].to_pylist())
    assert folds == {None, "fold-2"}

    wrong = {"plain": {**own, "generator": str(trained / "{fold}" / "..") + "/fold-1"}}
    plan, out = planned(values(toys, synthetic=wrong, models=models), tmp_path / "wrong")
    plan.save(out)
    ran = run_study(replace(plan), out, "inline", Setup(None))
    assert any("generator-across-parts" in reason for reason in ran.failed.values())
    with pytest.raises(InputError, match=r"`results` must be in .*; fix: run `atypia study report small` first"):
        synthetic_gains(out)
